"""Failures that a person can act on: what happened, where, and how to mend it.

The exit code of each class is the command line's (see docs/ARCHITECTURE.md).
"""

from __future__ import annotations


class MarqueeError(Exception):
    """A failure told in one paragraph.

    ``what`` names the fault and the value, ``where`` the file, artefact or setting,
    ``remedy`` what the reader can do about it.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what = what.strip().rstrip(".")
        self.where = where
        self.remedy = remedy.strip().rstrip(".")
        super().__init__(what, where, remedy)

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.remedy:
            parts.append(self.remedy[0].upper() + self.remedy[1:])
        return ". ".join(parts) + "."

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.remedy)


def _rebuild(kind: type[MarqueeError], what: str, where: str, remedy: str) -> MarqueeError:
    return kind(what, where=where, remedy=remedy)


class UsageError(MarqueeError):
    """The command, its arguments or what they name are at fault."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration is at fault."""


class SourceError(UsageError):
    """The source data are at fault."""


class DownloadError(MarqueeError):
    """Something outside could not be reached just now: worth another try."""


class ArtefactError(MarqueeError):
    """An artefact is missing, damaged, or does not belong with another one."""


class StorageError(MarqueeError):
    """Object storage cannot be reached, or refuses."""


class TrainingError(MarqueeError):
    """A model could not be trained."""


class PublicationError(MarqueeError):
    """The lists failed their audit or could not be published."""


class LockHeldError(MarqueeError):
    """Another run holds the lock."""

    exit_code = 4


class RegistryError(MarqueeError):
    """MLflow cannot be reached, refuses, or lacks what was asked for."""
