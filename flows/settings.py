"""Where settings come from: a TOML file, the environment, the command line. The only reader of either.

Precedence, lowest first: defaults, the TOML file, ``MARQUEE_SECTION__KEY`` in the environment (``MARQUEE_HOME``,
``MARQUEE_SEED`` for what has no section), overrides by the caller. ``MARQUEE_CONFIG`` names the file where the caller
names none. What the settings mean is the business of ``recsys/config.py``.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from recsys.config import Config
from recsys.errors import ConfigError

PREFIX = "MARQUEE_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"

Tree = dict[str, Any]
Origins = dict[tuple[str, ...], str]


def load_config(
    file: Path | None = None,
    home: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> Config:
    """The configuration, with an absolute ``home``.

    Args:
        file: a TOML file (None: what ``MARQUEE_CONFIG`` names, else none).
        home: wins over every other word on ``home``.
        overrides: nested settings that win over file and environment, such as ``{"export": {"n": 10}}``.
        environment: to read instead of the process's.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown, or a value does not fit.
    """
    environment = os.environ if environment is None else environment
    file = config_file(file, environment)
    tree, origins = _read_toml(file) if file else ({}, {})
    _lay_over(tree, origins, *_read_environment(environment))
    _lay_over(tree, origins, dict(overrides or {}), {})
    if home is not None:
        tree["home"] = home
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise _told(error, origins, str(file) if file else "the configuration") from None
    return config.model_copy(update={"home": Path(os.path.abspath(config.home.expanduser()))})  # noqa: PTH100


def config_file(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Path | None:
    """The configuration file that is read: the one given, else what ``MARQUEE_CONFIG`` names."""
    named = (os.environ if environment is None else environment).get(CONFIG_VARIABLE)
    return file or (Path(named) if named else None)


def _read_toml(file: Path) -> tuple[Tree, Origins]:
    try:
        tree = tomllib.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            f"the configuration file cannot be read ({error.strerror})", where=str(file), remedy="check --config"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError("the configuration file is not UTF-8", where=str(file), remedy="save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"this is not TOML: {error}", where=str(file), remedy='text needs quotes: kind = "files"'
        ) from None
    return tree, {}


def _read_environment(environment: Mapping[str, str]) -> tuple[Tree, Origins]:
    tree: Tree = {}
    origins: Origins = {}
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE:
            continue
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        if len(path) == 1 and path[0] not in Config.model_fields:
            continue  # not a setting: such as where the tests' data lie
        spot = tree
        for part in path[:-1]:
            spot = spot.setdefault(part, {})
            if not isinstance(spot, dict):
                raise ConfigError(
                    f"another variable gives {part} a value of its own",
                    where=f"{name} in the environment",
                    remedy="unset one of the two",
                )
        spot[path[-1]] = _coerced(environment[name], _annotation(path))
        origins[path] = f"{name} in the environment"
    return tree, origins


def _annotation(path: tuple[str, ...]) -> Any:
    """The declared type of a setting (``str`` where there is none: an unknown key is refused later)."""
    model: Any = Config
    for part in path:
        if not (isinstance(model, type) and issubclass(model, BaseModel)) or part not in model.model_fields:
            return str
        model = model.model_fields[part].annotation
    return model


def _coerced(text: str, annotation: Any) -> Any:
    """An environment variable's text as its setting's type wants it; pydantic does the rest (numbers, booleans)."""
    if NoneType in get_args(annotation) and text.strip().lower() in ("", "none", "null"):
        return None
    if not {get_origin(annotation), annotation} & {tuple, list, dict}:
        return text
    if text.strip()[:1] in ("[", "{"):
        try:
            return json.loads(text)
        except json.JSONDecodeError:
            return text  # pydantic says what it wants instead
    return [part.strip() for part in text.split(",") if part.strip()] if get_origin(annotation) is not dict else text


def _lay_over(tree: Tree, origins: Origins, above: Mapping[str, Any], above_origins: Origins) -> None:
    for key, value in above.items():
        below = tree.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping) and key != "columns":
            _lay_over(below, {}, value, {})
        else:
            tree[key] = dict(value) if isinstance(value, Mapping) else value
    origins.update(above_origins)


def _told(error: ValidationError, origins: Origins, file: str) -> ConfigError:
    """The first fault as a person needs it: the key, its section, what is wrong, what would be right."""
    faults = sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    fault = faults[0]
    path = tuple(str(part) for part in fault["loc"])
    more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
    where = next((told for origin, told in origins.items() if _related(origin, path)), file)
    section = f"in [{'.'.join(path[:-1])}]" if path[:-1] else "at the top level"
    if fault["type"] == "extra_forbidden":
        known = _known_keys(path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        hint = f"the nearest known one is {near[0]}" if near else f"known there: {', '.join(known)}"
        return ConfigError(f"unknown key {path[-1]} {section}{more}", where=where, remedy=hint)
    return ConfigError(
        f"{path[-1]} {section} is {_shown(fault['input'])}: {_sentence(fault['msg'])}{more}",
        where=where,
        remedy=f"mend {path[-1]} {section}",
    )


def _related(origin: tuple[str, ...], path: tuple[str, ...]) -> bool:
    shared = min(len(origin), len(path))
    return origin[:shared] == path[:shared]


def _known_keys(section: tuple[str, ...]) -> list[str]:
    model = _annotation(section) if section else Config
    return sorted(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:]


def tracking_uri(config: Config) -> str:
    """MLflow's address: as configured, else SQLite under home."""
    return config.tracking.uri or f"sqlite:///{config.home / 'mlflow' / 'mlflow.db'}"


def process_environment(config: Config) -> dict[str, str]:
    """What Prefect, MLflow, Great Expectations and matplotlib must find in the environment before they are imported.

    All that they write lies under home; none of them reports to anybody; the terminal stays ours.
    """
    home = config.home
    return {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_PROFILES_PATH": str(home / "prefect" / "profiles.toml"),
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home / 'prefect' / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # flows/prefect_server.py starts one where none is there
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # never pickle
        "PREFECT_LOGGING_EXTRA_LOGGERS": "marquee",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "PREFECT_CLIENT_MAX_RETRIES": "2",
        "PREFECT_API_REQUEST_TIMEOUT": "30",
        "PREFECT_CLI_PROMPT": "false",
        "GX_ANALYTICS_ENABLED": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_TRACKING_URI": tracking_uri(config),
        "MPLCONFIGDIR": str(home / "cache" / "matplotlib"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "NUMBA_CACHE_DIR": str(home / "cache" / "numba"),
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


USER_MAY_SET = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_CLIENT_MAX_RETRIES", "PREFECT_API_REQUEST_TIMEOUT")
"""Where a value in the environment already is respected."""


def prepare_environment(config: Config) -> None:
    """Set the process's environment (and so that of its children) as :func:`process_environment` says."""
    for name, value in process_environment(config).items():
        if name not in USER_MAY_SET or not os.environ.get(name):
            os.environ[name] = value


def prefect_api_url() -> str | None:
    """The Prefect server that the environment names, if any."""
    return os.environ.get("PREFECT_API_URL") or None


def use_prefect_api(url: str | None) -> None:
    """Point Prefect at a server (None: at one of its own, for as long as the process lives). Before it is imported."""
    if url:
        os.environ["PREFECT_API_URL"] = url
    else:
        os.environ.pop("PREFECT_API_URL", None)
