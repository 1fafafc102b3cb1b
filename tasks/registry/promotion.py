"""Who is champion: registering a version and moving the aliases, one at a time.

champion serves, challenger is the newest that was not promoted, previous is what served before. MLflow moves an alias
without comparing what it replaces, so moves take turns under a lock of the home, and a decision that was made against
another champion is not carried out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from recsys.artefacts import ArtefactRef, verify
from recsys.bundle import BundleInfo
from recsys.errors import ArtefactError, LockHeldError, UsageError
from recsys.model_card import model_card
from tasks.registry.connection import Registry
from tasks.registry.gate import decision_tags
from tasks.registry.package import save_package
from tasks.registry.runs import CODE, RUN_DATE, RUN_ID
from tasks.registry.versions import (
    DIGEST,
    FAMILY,
    PROMOTED,
    REASON,
    VersionInfo,
    alias_version,
    fetch,
    find_version,
    list_versions,
    read_version,
)

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DECIDED_IN, DECISION = "marquee.decided_in", "marquee.decision"
TURN_SECONDS = 60.0


class Verdict(BaseModel):
    """The gate's decision, as far as the registry heeds it; anything else in it is kept beside the version."""

    model_config = ConfigDict(frozen=True, extra="allow")

    promote: bool
    reason: str
    against: str | None = None
    """The champion's version that it was compared with (None: there was none)."""


class Champion(BaseModel):
    """What serves. ``version`` and ``bundle`` are None where there is nothing that could."""

    model_config = ConfigDict(frozen=True)

    version: VersionInfo | None = None
    bundle: ArtefactRef | None = None
    """Its bundle, verified, on this machine."""
    note: str | None = None
    """An alarm: why ``previous`` stands in, or nobody does."""


def register(
    registry: Registry, run_id: str, tracking_run_id: str, bundle: ArtefactRef, verdict: Verdict
) -> VersionInfo:
    """Make a bundle a version, and move the aliases as the gate decided. The same bundle again makes no second one.

    Args:
        registry: MLflow.
        run_id: Marquee's run.
        tracking_run_id: the night's MLflow run.
        bundle: the ``model`` artefact.
        verdict: the gate's decision. Where the champion is no longer the version that it was compared with
            (someone promoted meanwhile), the bundle becomes the challenger instead, and its reason says so.

    Raises:
        ArtefactError: the bundle is damaged. Nothing was registered.
        RegistryError: MLflow does not answer. No alias was moved, or all were.
    """
    verify(bundle)
    with registry.doing("registering the model"), _turn(registry, TURN_SECONDS):
        version = find_version(registry, bundle.digest)
        if version is None:
            version = _create(registry, run_id, tracking_run_id, bundle, verdict)
        tags = registry.client.get_model_version(registry.model_name, version).tags
        if tags.get(DECIDED_IN) != run_id:
            _carry_out(registry, run_id, version, verdict)
        return read_version(registry, version)


def _create(registry: Registry, run_id: str, tracking_run_id: str, bundle: ArtefactRef, verdict: Verdict) -> str:
    from mlflow.exceptions import MlflowException

    client, name = registry.client, registry.model_name
    info = BundleInfo.model_validate_json(bundle.file("bundle.json").read_bytes())
    card = model_card(info, model_name=name, digest=bundle.digest, reason=verdict.reason)
    code = {CODE: registry.client.get_run(tracking_run_id).data.tags.get(CODE, "unknown")}
    tags = {DIGEST: bundle.digest, FAMILY: info.family, RUN_ID: run_id, RUN_DATE: info.run_date.isoformat(), **code}
    logged = client.create_logged_model(
        registry.experiment_id, name=name, source_run_id=tracking_run_id, tags=tags, model_type=info.family
    )
    with tempfile.TemporaryDirectory(dir=registry.home / "mlflow", prefix=".package-") as folder:
        package = Path(folder) / "model"
        save_package(package, bundle, run_id=tracking_run_id, model_id=logged.model_id)
        (package / "README.md").write_text(card, encoding="utf-8")
        client.log_model_artifacts(logged.model_id, str(package))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_text(tracking_run_id, card, "model_card.md")
    try:
        client.create_registered_model(name, description="Marquee's recommender: see the champion's model card.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    created = client.create_model_version(
        name,
        source=f"models:/{logged.model_id}",
        run_id=tracking_run_id,
        tags=tags,  # with the version, not after it: a kill between would leave one that no rerun finds
        description=card[:4_900],
        model_id=logged.model_id,
        await_creation_for=None,
    )
    return str(created.version)


def _carry_out(registry: Registry, run_id: str, version: str, verdict: Verdict) -> None:
    standing = _standing(registry)
    promote, reason = verdict.promote, verdict.reason
    if promote and standing not in {verdict.against, version}:
        promote = False
        reason = (
            f"It was to be promoted over version {verdict.against or 'none'}, but the champion is version "
            f"{standing or 'none'} by now; compare them and promote by hand. ({reason})"
        )
    if promote:
        _crown(registry, version, standing)
    elif version != standing:
        registry.client.set_registered_model_alias(registry.model_name, CHALLENGER, version)
    figures = verdict.model_dump()
    decided = {**decision_tags(figures), REASON: reason, DECISION: verdict.model_dump_json()}
    if figures.get("outcome") == "unchanged" and version == standing:
        decided = {}  # how it came to serve is what a champion is asked for, not that it still does
    tags = {**decided, DECIDED_IN: run_id}  # last: it seals
    for key, value in tags.items():
        registry.client.set_model_version_tag(registry.model_name, version, key, value[:5_000])


def _standing(registry: Registry) -> str | None:
    """The version that serves now: not the champion's number where its files are damaged."""
    standing = champion(registry).version
    return standing.version if standing else None


def _crown(registry: Registry, version: str, standing: str | None) -> None:
    """Make a version the champion, and what served until now previous. Every step may be done again after a kill."""
    client, name = registry.client, registry.model_name
    if standing is not None and standing != version:
        client.set_registered_model_alias(name, PREVIOUS, standing)
    client.set_registered_model_alias(name, CHAMPION, version)
    client.set_model_version_tag(name, version, PROMOTED, datetime.now(UTC).isoformat(timespec="seconds"))
    if alias_version(registry, CHALLENGER) == version:
        client.delete_registered_model_alias(name, CHALLENGER)


def champion(registry: Registry) -> Champion:
    """What serves: the champion, or ``previous`` where the champion was deleted or is damaged.

    Raises:
        RegistryError: MLflow does not answer.
    """
    with registry.doing("reading the champion"):
        trouble = []
        for alias in (CHAMPION, PREVIOUS):
            number = alias_version(registry, alias)
            if number is None:
                trouble.append(f"no version is {alias}")
                continue
            version = read_version(registry, number)
            try:
                bundle = fetch(registry, version)
            except ArtefactError as error:
                trouble.append(f"version {number} ({alias}) is damaged: {error}")
                continue
            note = f"{trouble[0]}; version {number} ({alias}) serves in its place" if trouble else None
            return Champion(version=version, bundle=bundle, note=note)
        lost = any("damaged" in text for text in trouble) or any(v.promoted for v in list_versions(registry, 200))
        return Champion(note=f"no registered model can serve: {'; '.join(trouble)}" if lost else None)


def promote(registry: Registry, version: str) -> VersionInfo:
    """Make a version the champion by hand; the champion until now becomes ``previous``.

    Raises:
        UsageError: no such version.
        ArtefactError: its files are damaged. Nothing was moved.
        LockHeldError: another promotion is under way.
    """
    with registry.doing("promoting"), _turn(registry, 0):
        info = read_version(registry, version)
        fetch(registry, info)
        _crown(registry, info.version, _standing(registry))
        return read_version(registry, info.version)


def roll_back(registry: Registry) -> VersionInfo:
    """Make ``previous`` the champion again; the champion until now becomes ``previous``.

    Raises:
        UsageError: there is no previous champion.
        ArtefactError: its files are damaged. Nothing was moved.
        LockHeldError: another promotion is under way.
    """
    with registry.doing("rolling back"), _turn(registry, 0):
        number = alias_version(registry, PREVIOUS)
        if number is None or number == alias_version(registry, CHAMPION):
            raise UsageError(
                "there is no previous champion to go back to",
                where=registry.model_name,
                remedy="name a version: marquee promote VERSION",
            )
        fetch(registry, read_version(registry, number))
        _crown(registry, number, _standing(registry))
        return read_version(registry, number)


@contextmanager
def _turn(registry: Registry, seconds: float) -> Iterator[None]:
    lock = FileLock(registry.home / "mlflow" / ".aliases.lock", timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        raise LockHeldError(
            "another promotion is under way",
            where=registry.model_name,
            remedy="see who is champion when it is done, and decide again",
        ) from None
    try:
        yield
    finally:
        lock.release()
