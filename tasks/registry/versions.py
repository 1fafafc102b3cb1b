"""Versions of the registered model: what they are, and their bundles brought to this machine."""

from __future__ import annotations

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from recsys.artefacts import ArtefactRef, ArtefactStore, verify
from recsys.errors import ArtefactError, UsageError
from tasks.registry.connection import Registry
from tasks.registry.runs import RUN_DATE, RUN_ID

DIGEST, FAMILY, PROMOTED, REASON = "marquee.model_digest", "marquee.family", "marquee.promoted", "marquee.reason"


class VersionInfo(BaseModel):
    """A version of the registered model."""

    model_config = ConfigDict(frozen=True)

    version: str
    digest: str
    """Of the ``model`` artefact that it is."""
    family: str
    run_id: str
    """Marquee's run that registered it."""
    run_date: str
    tracking_run_id: str
    created_at: datetime
    aliases: tuple[str, ...]
    promoted: bool
    """Whether it became the champion, then or later."""
    reason: str


def find_version(registry: Registry, digest: str) -> str | None:
    """The number of the version that a bundle is, or None."""
    found = registry.client.search_model_versions(
        f"name = '{registry.model_name}' and tags.`{DIGEST}` = '{digest}'", max_results=10
    )
    return max((str(entry.version) for entry in found), key=int, default=None)


def alias_version(registry: Registry, alias: str) -> str | None:
    """The version that an alias names, or None (never set, or its version was deleted)."""
    from mlflow.exceptions import MlflowException

    try:
        return str(registry.client.get_model_version_by_alias(registry.model_name, alias).version)
    except MlflowException as error:
        if error.error_code in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            return None
        raise


def read_version(registry: Registry, version: str) -> VersionInfo:
    """A version by its number or alias.

    Raises:
        UsageError: there is none.
    """
    from mlflow.exceptions import MlflowException

    number = version.removeprefix("v") if version.removeprefix("v").isdigit() else alias_version(registry, version)
    try:
        if number is None:
            raise UsageError(f"no version is called {version!r}", where=registry.model_name, remedy=_SEE)
        entry = registry.client.get_model_version(registry.model_name, number)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UsageError(f"there is no version {version}", where=registry.model_name, remedy=_SEE) from None
    held = registry.client.get_registered_model(registry.model_name).aliases  # a version's own list comes back empty
    return _info(entry, held)


_SEE = "see `marquee runs` and MLflow's model page for those there are"


def _info(entry: Any, held: dict[str, Any]) -> VersionInfo:
    tags = entry.tags
    return VersionInfo(
        version=str(entry.version),
        digest=tags.get(DIGEST, ""),
        family=tags.get(FAMILY, ""),
        run_id=tags.get(RUN_ID, ""),
        run_date=tags.get(RUN_DATE, ""),
        tracking_run_id=entry.run_id or "",
        created_at=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
        aliases=tuple(sorted(alias for alias, number in held.items() if str(number) == str(entry.version))),
        promoted=PROMOTED in tags,
        reason=tags.get(REASON, ""),
    )


def list_versions(registry: Registry, limit: int = 20) -> list[VersionInfo]:
    """The newest versions, newest first."""
    with registry.doing("reading the versions"):
        found = registry.client.search_model_versions(
            f"name = '{registry.model_name}'", max_results=limit, order_by=["version_number DESC"]
        )
        held = registry.client.get_registered_model(registry.model_name).aliases if found else {}
        return [_info(entry, held) for entry in found]


def fetch(registry: Registry, version: VersionInfo) -> ArtefactRef:
    """A version's bundle on this machine, verified: from the artefact store, else brought from MLflow into it.

    Raises:
        ArtefactError: MLflow's copy is missing or damaged too.
    """
    ref = ArtefactStore(registry.home).ref("model", version.digest)
    try:
        if verify(ref).digest == version.digest:
            return ref
    except ArtefactError:
        pass  # not here, or damaged: MLflow keeps a copy
    target = Path(ref.path)
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        found = _download(registry, version, draft)
        if verify(ArtefactRef(kind="model", path=str(found), digest=version.digest)).digest != version.digest:
            raise ArtefactError("it is another model than was registered", where=f"version {version.version}")
        shutil.rmtree(target, ignore_errors=True)
        found.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return ref


def _download(registry: Registry, version: VersionInfo, folder: Path) -> Path:
    import mlflow

    folder.mkdir(parents=True)
    source = registry.client.get_model_version_download_uri(registry.model_name, version.version)
    try:
        found = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{source.rstrip('/')}/artifacts/{version.digest}",
            dst_path=str(folder),
            tracking_uri=registry.uri,
        )
    except (mlflow.exceptions.MlflowException, OSError) as error:
        raise ArtefactError(
            f"its files cannot be read ({str(error).splitlines()[0][:200]})",
            where=f"version {version.version} of {registry.model_name} in MLflow",
            remedy="promote another version, or run a night",
        ) from error
    return Path(found)
