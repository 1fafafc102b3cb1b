"""The parameters of flows, as Prefect's form shows them to somebody who has not read the code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from flows.settings import load_config
from recsys.config import Config, SourceKind
from recsys.errors import ConfigError

ConfigFile = Annotated[
    str | None,
    Field(title="Configuration file", description="A TOML file on the worker's machine. None: the defaults."),
]
Home = Annotated[
    str | None,
    Field(title="Home", description="The directory that everything is written to. None: as configured (./.marquee)."),
]
RunDate = Annotated[
    str | None,
    Field(
        title="Night",
        description="The night that the lists are for, YYYY-MM-DD. None: today (UTC).",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
    ),
]
Source = Annotated[
    SourceKind | None, Field(title="Source", description="Where ratings come from. None: as configured.")
]
ListLength = Annotated[
    int | None, Field(title="List length", description="Titles per user. None: as configured (20).", ge=1, le=1000)
]
AllowRowChange = Annotated[
    bool,
    Field(
        title="Allow a jump in rows",
        description="Go on although the number of ratings changed by more than half since the last good night.",
    ),
]
Settings = Annotated[
    dict[str, Any],
    Field(
        title="Other settings",
        description='Any setting of the configuration, as {"section.key": value}: {"ncf.epochs": 10, "export.n": 50}.',
    ),
]
Digest = Annotated[
    str | None, Field(title="Artefact", description="The digest of what to start from. None: the latest.")
]


def config_of(config_file: str | None, home: str | None, settings: Mapping[str, Any], **named: Any) -> Config:
    """The configuration that a flow's parameters mean.

    Args:
        config_file: TOML file.
        home: directory.
        settings: dotted keys and values.
        named: ``section__key=value``; None means "as configured".

    Raises:
        ConfigError: see :func:`flows.settings.load_config`.
    """
    overrides: dict[str, Any] = {}
    dotted = {key.replace("__", "."): value for key, value in named.items() if value is not None}
    for key, value in {**settings, **dotted}.items():
        *sections, last = key.split(".")
        spot = overrides
        for section in sections:
            spot = spot.setdefault(section, {})
            if not isinstance(spot, dict):
                raise ConfigError(f"{key} lies under a setting that has a value", where="settings")
        spot[last] = value
    return load_config(Path(config_file) if config_file else None, Path(home) if home else None, overrides)
