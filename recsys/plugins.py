"""Models brought from elsewhere into the ring: ``module:attribute`` names a :class:`recsys.rivals.Family`.

Such a model is tuned, fitted and measured like any rival of ours. Knows nothing of where models are kept.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from recsys.errors import UsageError
from recsys.rivals import FAMILIES, Family


@dataclass(frozen=True)
class NamedFamily:
    """A rival under the name that results show."""

    name: str
    spec: str
    """A name of ours, or ``module:attribute``."""
    family: Family

    @property
    def code(self) -> str | None:
        """A digest of the source of a model brought along, and of what it uses of its own package; None for ours."""
        module = self.spec.partition(":")[0]
        if self.name == self.spec:
            return None
        files = sorted(path for path in _sources(module, set()) if path.is_file())
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:32]


def _sources(module: str, known: set[str]) -> set[Path]:
    """The files of a module and of all that it takes from its own top-level package."""
    known.add(module)
    loaded = sys.modules[module]
    used = {value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None) for value in
            vars(loaded).values()}  # fmt: skip
    package = module.partition(".")[0]
    files = {Path(loaded.__file__)} if loaded.__file__ else set()
    for name in sorted(name for name in used if isinstance(name, str) and name.partition(".")[0] == package):
        if name not in known and name in sys.modules:
            files |= _sources(name, known)
    return files


def resolve(spec: str, *, also: Sequence[str] = ()) -> NamedFamily:
    """The rival that a specification names: one of ours, or ``module:attribute`` of a module that can be imported.

    The current directory can be imported from. A module's last part is the rival's short name: ``sasrec`` for
    ``benchmarks.rivals.sasrec:FAMILY``.

    Args:
        spec: what to resolve.
        also: other names that the caller knows, for the hint in the message.

    Raises:
        UsageError: there is no such rival, the module cannot be imported, or the attribute is no Family.
    """
    if ":" not in spec:
        if spec not in FAMILIES:
            raise _unknown(spec, (*FAMILIES, *also))
        return NamedFamily(spec, spec, FAMILIES[spec])
    module, _, attribute = spec.partition(":")
    name = module.rpartition(".")[2]
    if name in FAMILIES or name in also:
        raise UsageError(f"{spec!r} would be shown as {name}, which is a model of ours", remedy="rename its module")
    return NamedFamily(name, spec, _imported(module, attribute, spec))


def _imported(module: str, attribute: str, spec: str) -> Family:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a stranger's module does when it is imported, it is that module's fault
        raise UsageError(
            f"{spec!r} cannot be imported ({type(error).__name__}: {error})",
            remedy="name it module:attribute, of a module that is installed or lies under the current directory",
        ) from error
    if not isinstance(found, Family):
        raise UsageError(
            f"{spec!r} is a {type(found).__name__}, not a recsys.rivals.Family",
            remedy="let the attribute be a Family: how to fit, load and tune the model",
        )
    return found


def _unknown(spec: str, known: Sequence[str]) -> UsageError:
    near = difflib.get_close_matches(spec, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return UsageError(
        f"{spec!r} is not a model",
        where="--models",
        remedy=f"{hint}known are {', '.join(known)}, and module:attribute for one of your own",
    )
