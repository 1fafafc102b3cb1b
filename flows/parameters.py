"""The parameters of flows: their types and bounds, which Prefect enforces, and the configuration that they mean."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from flows.settings import load_config
from recsys.config import Config, SourceKind
from recsys.errors import ConfigError

# What each is for stands in the flows' docstrings: that is where Prefect's form takes its words from.
ConfigFile = str | None
Home = str | None
RunDate = Annotated[str | None, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Source = SourceKind | None
ListLength = Annotated[int | None, Field(ge=1, le=1000)]
Settings = dict[str, Any]
Digest = Annotated[str | None, Field(pattern=r"^[0-9a-f]{4,32}$")]


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
