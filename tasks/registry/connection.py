"""The way to MLflow: where it lies, bounded patience, and one paragraph when it does not answer."""

from __future__ import annotations

import logging
import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from filelock import FileLock

from recsys.artefacts import fsync
from recsys.config import Config
from recsys.errors import ConfigError, MarqueeError, RegistryError

PROBES = 3
PROBE_SECONDS = 5.0
SETUP_SECONDS = 120.0

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",  # 7 with MLflow's own back-off are four minutes a call
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",  # of a silent socket, so a large upload may last longer
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Set before MLflow is imported, where the operator has not chosen otherwise."""


@dataclass(frozen=True)
class Registry:
    """MLflow, reached: its client, our experiment and our registered model."""

    uri: str
    experiment: str
    experiment_id: str
    model_name: str
    home: Path
    client: Any
    """``mlflow.MlflowClient``"""

    @property
    def shown(self) -> str:
        """The address as it may be shown: without credentials."""
        return without_credentials(self.uri)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Turn MLflow's failures in the block into one :class:`RegistryError`: what could not be done, where, why."""
        with mlflow_errors(self.uri, what):
            yield


def connect(config: Config) -> Registry:
    """Reach MLflow; the experiment is made if need be. One connection per process and address.

    Without ``[tracking] uri`` it is SQLite and plain files under ``<home>/mlflow``.

    Raises:
        RegistryError: MLflow does not answer within seconds.
        ConfigError: the URI is none that MLflow understands.
    """
    home = config.home.absolute()
    uri = config.tracking.uri or default_uri(home)
    registry = _connect(uri, config.tracking.experiment, config.tracking.model_name, home)
    import mlflow

    mlflow.set_tracking_uri(uri)  # MLflow's registry store asks the process-wide setting, whatever its client was given
    return registry


def default_uri(home: Path) -> str:
    """The tracking URI of a home without a server."""
    return f"sqlite:///{home.absolute() / 'mlflow' / 'mlflow.db'}"


def artifact_root(home: Path) -> Path:
    """Where a home without a server keeps MLflow's files."""
    return home.absolute() / "mlflow" / "artifacts"


@lru_cache(maxsize=8)
def _connect(uri: str, experiment: str, model_name: str, home: Path) -> Registry:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    served = urlsplit(uri).scheme in {"http", "https"}
    if served:
        probe(uri)
    elif not urlsplit(uri).scheme:
        raise ConfigError(
            f"{uri!r} is no MLflow address",
            where="[tracking] uri",
            remedy="write http://host:port, sqlite:////path/to/mlflow.db, or leave it out",
        )
    import mlflow

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    location = None if served else (artifact_root(home) / experiment).as_uri()
    lock = FileLock(home / "mlflow" / ".setup.lock", timeout=SETUP_SECONDS)  # SQLite's schema is made by one only
    with mlflow_errors(uri, "preparing the experiment"), lock:
        if uri == default_uri(home):
            _whole_database(home / "mlflow" / "mlflow.db")
        client = mlflow.MlflowClient(tracking_uri=uri)
        experiment_id = _experiment(client, experiment, location)
    return Registry(uri, experiment, experiment_id, model_name, home, client)


def _whole_database(path: Path) -> None:
    """Make the database of a home where there is none, in one piece.

    MLflow builds its schema by dozens of migrations; a process killed among them would leave a database that MLflow
    refuses. So they are made on a draft, which takes the name when it is whole.
    """
    for left_over in path.parent.glob(f".{path.name}.*"):
        left_over.unlink()
    if path.exists():
        return
    import mlflow

    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{draft}").search_experiments(max_results=1)
    fsync(draft)
    draft.rename(path)


def _experiment(client: Any, name: str, location: str | None) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was quicker
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise RegistryError(
            f"the experiment {name!r} has been deleted",
            where="MLflow",
            remedy=f"restore it (mlflow experiments restore -x {found.experiment_id}) or name another in [tracking]",
        )
    return str(found.experiment_id)


def probe(uri: str) -> None:
    """Ask a server whether it is there. Any answer will do.

    Raises:
        RegistryError: there was none in a few tries.
    """
    address = without_credentials(uri).rstrip("/") + "/health"
    reason = ""
    for attempt in range(PROBES):
        if attempt:
            time.sleep(2.0**attempt / 2)
        try:
            with urllib.request.urlopen(address, timeout=PROBE_SECONDS):
                return
        except urllib.error.HTTPError:
            return  # it answers; whether it lets us in shows at the first real request
        except (OSError, ValueError) as error:
            reason = str(getattr(error, "reason", error))
    raise _unreachable(uri, "reaching it", reason)


@contextmanager
def mlflow_errors(uri: str, what: str) -> Iterator[None]:
    """Turn MLflow's failures in the block into one :class:`RegistryError`."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MarqueeError:
        raise
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        raise _unreachable(uri, what, str(error)) from error


_REMEDIES = {
    "database is locked": "another process is writing to it: try again, or run a server (marquee up)",
    "out-of-date database schema": "run `mlflow db upgrade` on it, with the MLflow of this environment",
    "No space left": "make room on that disk and run again",
    "file is not a database": "that file is damaged or something else: move it away, and a new one is made",
    "attempt to write a readonly": "make the database and its directory writable",
    "401": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
}


def _unreachable(uri: str, what: str, reason: str) -> RegistryError:
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    short = lines[0].replace(uri, without_credentials(uri))[:300] if lines else "no reason given"
    with suppress(ValueError):
        if password := urlsplit(uri).password:
            short = short.replace(password, "***")
    default = "see that it runs (marquee up starts one) and that [tracking] uri is right, then run again"
    if not uri.startswith("http"):
        default = "see that the database's directory is there and writable, then run again"
    remedy = next((text for sign, text in _REMEDIES.items() if sign in reason), default)
    return RegistryError(f"{what} failed ({short})", where=f"MLflow at {without_credentials(uri)}", remedy=remedy)


def without_credentials(uri: str) -> str:
    """A URI without user name and password."""
    parts = urlsplit(uri)
    if parts.username is None and parts.password is None:
        return uri
    place = parts.hostname or ""
    return urlunsplit(parts._replace(netloc=f"{place}:{parts.port}" if parts.port else place))
