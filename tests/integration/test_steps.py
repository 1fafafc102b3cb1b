"""The steps after training, with closed-form models only, on a made-up service: real MLflow, real files."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.artefacts import read_manifest
from recsys.config import BaselinesConfig, Config, ExportConfig, SourceConfig
from recsys.errors import PublicationError
from recsys.lock import hold
from recsys.look import recommended, sample_users, similar_to
from recsys.publish.files import FileSink
from tasks.baselines import fit_baselines
from tasks.export import audit_and_publish, recommend
from tasks.ingest import ingest
from tasks.manifest import write_run_manifest
from tasks.refit import refit_winner
from tasks.registry import close_night, current_champion, open_night, register_model
from tasks.run import Run
from tasks.selection import decide, evaluate_candidates
from tasks.split import make_split
from tasks.trained import Trained
from tasks.validate import validate

SOURCE = SourceConfig(kind="synthetic", users=150, items=90, interactions=6_000)


@dataclass
class Night:
    run: Run
    decision: object
    model: object
    lists: object
    publication: object
    manifest: dict


def night(home, run_id: str, **settings) -> Night:
    base = {"source": SOURCE, "baselines": BaselinesConfig(models=("popularity", "ease", "order_ridge"))}
    config = Config(home=home, **{**base, **settings})
    run = Run(run_id=run_id, run_date=date(2026, 11, 24), config=config, started_at=datetime.now(UTC))
    with hold(home, run_id):
        run = open_night.fn(run)
        validated = validate.fn(run, ingest.fn(run))
        split = make_split.fn(run, validated)
        trained = Trained(split=split, baselines=fit_baselines.fn(run, split))
        evaluation = evaluate_candidates.fn(run, trained)
        decision = decide.fn(run, trained, evaluation)
        model = refit_winner.fn(run, validated, trained, evaluation, decision)
        register_model.fn(run, model, decision)
        champion = current_champion(run)
        lists = recommend.fn(run, validated, champion.bundle, champion.version.version)
        publication = audit_and_publish.fn(run, validated, lists)
        manifest = write_run_manifest.fn(run, decision, publication)
        close_night.fn(run, "FINISHED")
    return Night(run, decision, model, lists, publication, manifest)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def first(home):
    return night(home, "first")


def test_the_first_night_publishes_the_best_and_says_why(first, home):
    assert first.decision.outcome == "first"
    assert first.decision.serves == max(
        first.manifest["metrics"], key=lambda m: first.manifest["metrics"][m]["ndcg_at_10"]
    )
    assert "first champion" in first.decision.reason
    latest = json.loads((home / "runs" / "latest.json").read_text())
    assert latest["status"] == "published"
    assert latest["publication"]["generation"] == first.lists.digest == latest["served"]
    table = pq.read_table(latest["publication"]["path"])
    ratings = {(u, i) for u, i in zip(*_pairs(home), strict=True)}
    lists = set(zip(table["user_id"].to_pylist(), table["item_id"].to_pylist(), strict=True))
    assert len(lists) == table.num_rows == 150 * 20
    assert not lists & ratings
    assert set(table["model_version"].to_pylist()) == {"1"}


def _pairs(home):
    (path,) = (home / "artefacts" / "validated").glob("*/ratings.parquet")
    table = pq.read_table(path)
    return table["user_id"].to_pylist(), table["item_id"].to_pylist()


def test_what_is_published_can_be_looked_at(first, home):
    user = sample_users(home, 1)[0]
    line = recommended(home, user).lines[0]
    assert line.rank == 1
    assert line.reason
    assert similar_to(home, line.item_id).lines[0].score <= 1.0001


def test_the_same_night_again_makes_nothing_anew(first, home):
    again = night(home, "second")
    assert again.decision.outcome == "unchanged"
    assert again.publication == first.publication
    made = {record["stage"] for record in again.manifest["stages"] if not record["reused"]}
    assert made <= {"tracking", "decide"}
    assert again.manifest["publication"]["model_version"] == "1"


def test_two_homes_publish_the_same_bytes(first, home, tmp_path):
    other = night(tmp_path / "elsewhere", "other")
    assert other.publication.digest == first.publication.digest
    assert other.publication.generation == first.publication.generation


def test_a_worse_challenger_is_kept_out_and_the_champion_serves(first, home):
    from recsys.config import GateConfig

    kept = night(home, "strict", gate=GateConfig(max_same_list=1e-9), export=ExportConfig(n=5))
    assert kept.decision.outcome == "keep"
    assert not kept.decision.promote
    assert kept.publication.model_version == "1"
    assert read_manifest(kept.lists).rows["recommendations"] == 150 * 5
    night(home, "back")


def test_a_run_without_the_lock_publishes_nothing(first, home):
    served = FileSink(home).current()
    part = read_manifest(first.lists)
    assert part.rows["recommendations"] == 3_000
    run = first.run.model_copy(update={"run_id": "intruder"})
    ref = recommend.fn(
        run.model_copy(update={"run_date": date(2026, 11, 25)}),
        run.store.ref("validated", part.parents["validated"]),
        first.model,
        "1",
    )
    with pytest.raises(PublicationError, match="no longer holds the lock"):
        audit_and_publish.fn(run, run.store.ref("validated", part.parents["validated"]), ref)
    assert FileSink(home).current() == served


def test_damaged_lists_are_not_published(first, home):
    ref = first.lists
    path = ref.file("listable.parquet")
    original = path.read_bytes()
    path.write_bytes(bytes(np.frombuffer(original, np.uint8) ^ np.uint8(1)))
    try:
        with pytest.raises(Exception, match="sha256"):
            audit_and_publish.fn(
                first.run, first.run.store.ref("validated", read_manifest(ref).parents["validated"]), ref
            )
    finally:
        path.write_bytes(original)
