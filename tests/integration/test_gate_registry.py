"""The gate from models to MLflow: decided by the night's own steps, kept by a real registry (SQLite), read back."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli.app import run as run_command
from recsys.artefacts import ArtefactRef
from recsys.config import BaselinesConfig, Config, SourceConfig
from recsys.data.split import Split
from recsys.data.synthetic import write_synthetic
from recsys.rivals import fit_family
from recsys.selection import Decision
from tasks.baselines import fit_baselines
from tasks.ingest import ingest
from tasks.manifest import write_run_manifest
from tasks.refit import refit_winner
from tasks.registry import close_night, current_champion, open_night, past_runs, register_model
from tasks.registry.connection import connect
from tasks.registry.versions import read_version
from tasks.run import Run
from tasks.selection import decide, evaluate_candidates
from tasks.split import make_split
from tasks.trained import Trained
from tasks.validate import validate

pytestmark = pytest.mark.slow  # MLflow and Great Expectations, four times over

BASE = {"baselines": BaselinesConfig(models=("popularity", "ease"))}


@dataclass
class Night:
    run: Run
    trained: Trained
    decision: Decision
    model: ArtefactRef
    version: str


def night(home: Path, number: int, ratings: Path, *, leaked: bool = False, **settings) -> Night:
    source = SourceConfig(kind="files", ratings=str(ratings))
    config = Config(home=home, source=source, **{**BASE, **settings})
    run = Run(run_id=f"night-{number}", run_date=date(2026, 11, number), config=config, started_at=datetime.now(UTC))
    run = open_night.fn(run)
    validated = validate.fn(run, ingest.fn(run))
    split = make_split.fn(run, validated)
    trained = Trained(split=split, baselines=fit_baselines.fn(run, split))
    if leaked:
        trained = trained.model_copy(update={"autoencoder": _leaked(run, split)})
    evaluation = evaluate_candidates.fn(run, trained)
    decision = decide.fn(run, trained, evaluation)
    model = refit_winner.fn(run, validated, trained, evaluation, decision)
    version = register_model.fn(run, model, decision)
    write_run_manifest.fn(run, decision)
    close_night.fn(run, "FINISHED")
    return Night(run, trained, decision, model, version)


def _leaked(run: Run, split_ref: ArtefactRef) -> ArtefactRef:
    """An autoencoder of one epoch whose weights were fitted on the test window too: a bug in a trainer."""
    from recsys.config import AutoencoderConfig
    from recsys.models.autoencoder_training import resolve, train_user_autoencoder
    from recsys.tracker import NullTracker

    seen = Split.load(Path(split_ref.path)).interactions
    settings = resolve(
        AutoencoderConfig(epochs=40, sequence_channel=False),
        n_users=seen.n_users,
        n_items=seen.n_items,
        n_interactions=len(seen.item_nums),
        ordered=True,
    )
    trained = train_user_autoencoder(
        seen, settings=settings, validation=None, device="cpu", seed=0, tracker=NullTracker()
    )
    with run.store.create("user_autoencoder", {"split": split_ref.digest}, {"leaked": True}) as (draft, ref):
        (draft.path / "fit").mkdir()
        trained.model.save(draft.path / "fit")
    return ref


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    ratings, _ = write_synthetic(folder, users=300, items=150, interactions=15_000, seed=3, format="parquet")
    return ratings


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def nights(home, service, tmp_path_factory):
    """The first; its recipe on newer data; another recipe, worse; a model that has seen the test window."""
    folder = tmp_path_factory.mktemp("older")
    table = pq.read_table(service)
    older = folder / "older.parquet"
    newest = np.quantile(table["timestamp"].to_numpy(), 0.97)
    pq.write_table(table.filter(pa.array(table["timestamp"].to_numpy() < newest)), older)
    first = night(home, 1, older)
    refreshed = night(home, 2, service)
    other = night(home, 3, service, baselines=BaselinesConfig(models=("popularity", "ease"), max_items=70))
    leaked = night(home, 4, service, leaked=True)
    return first, refreshed, other, leaked


def test_the_same_recipe_on_newer_data_is_a_refresh_and_takes_over(nights):
    first, refreshed, _, _ = nights
    assert first.decision.outcome == "first"
    assert refreshed.decision.refresh
    assert refreshed.decision.outcome == "promote"
    assert refreshed.decision.serves == first.decision.serves
    assert refreshed.decision.against == first.version
    assert "The champion's recipe on newer data takes its place" in refreshed.decision.reason


def test_another_recipe_is_no_refresh_and_has_to_prove_itself(nights):
    _, refreshed, other, _ = nights
    assert not other.decision.refresh
    assert other.decision.outcome == "keep"
    assert other.decision.interval.low < -other.run.config.gate.tolerance
    assert other.decision.against == refreshed.version


def test_a_leaked_network_is_refused_for_a_look_and_the_champion_serves(nights):
    _, refreshed, _, leaked = nights
    verdict = next(v for v in leaked.decision.verdicts if v.family == "user_autoencoder")
    assert [guardrail.name for guardrail in verdict.failed] == ["plausible"]
    assert leaked.decision.verdicts[0] == verdict
    assert leaked.decision.outcome == "unchanged"
    assert "too good to be true, look for a leak" in leaked.decision.reason
    champion = current_champion(leaked.run)
    assert champion.version.version == refreshed.version


def test_decision_interval_and_reason_are_tags_of_the_run_and_of_the_version(nights):
    _, refreshed, other, _ = nights
    registry = connect(refreshed.run.config)
    for made in (refreshed, other):
        decision = made.decision
        run = registry.client.get_run(made.run.tracking_run_id).data
        version = registry.client.get_model_version(registry.model_name, made.version)
        for tags in (run.tags, version.tags):
            assert tags["marquee.outcome"] == decision.outcome
            assert tags["marquee.reason"] == decision.reason
            assert tags["marquee.serves"] == decision.serves
            assert tags["marquee.metric"] == "ndcg_at_10"
            assert float(tags["marquee.difference"]) == decision.interval.mean
            assert float(tags["marquee.difference_low"]) == decision.interval.low
            assert float(tags["marquee.difference_high"]) == decision.interval.high
        assert run.metrics["gate_difference"] == pytest.approx(decision.interval.mean)
        assert read_version(registry, made.version).reason == decision.reason


def test_a_champion_that_serves_again_keeps_the_reason_of_its_promotion(nights):
    _, refreshed, _, leaked = nights
    assert leaked.version == refreshed.version
    registry = connect(refreshed.run.config)
    assert read_version(registry, leaked.version).reason == refreshed.decision.reason
    assert registry.client.get_run(leaked.run.tracking_run_id).data.tags["marquee.outcome"] == "unchanged"


def test_the_runs_manifest_holds_the_whole_decision(nights):
    other = nights[2]
    manifest = json.loads((other.run.folder / "run_manifest.json").read_text())
    assert manifest["decision"]["reason"] == other.decision.reason
    assert manifest["decision"]["interval"] == other.decision.interval.model_dump()
    names = {guardrail["name"] for verdict in manifest["decision"]["verdicts"] for guardrail in verdict["guardrails"]}
    assert {"coverage", "gini", "cold_share", "group_loss", "title_loss", "same_list", "plausible"} >= names - {
        "finite",
        "beats_popularity",
    }


def test_past_runs_tell_what_was_decided(nights):
    runs = past_runs(nights[0].run.config)
    assert [run.run_id for run in runs] == ["night-4", "night-3", "night-2", "night-1"]
    other = runs[1].decision
    assert (other.outcome, other.serves) == ("keep", nights[2].decision.serves)
    assert other.difference == nights[2].decision.interval.mean
    assert runs[3].decision.difference is None
    assert runs[2].decision.refresh


def test_marquee_runs_shows_the_decisions_as_text_and_as_json(nights, home, capsys):
    assert run_command(["runs", "--home", str(home)]) == 0
    shown = capsys.readouterr().out
    interval = nights[2].decision.interval
    for text in ("night-3", "keep", f"{interval.mean:+.4f}", "refreshed on newer data"):
        assert text in shown
    assert run_command(["runs", "--home", str(home), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    row = next(row for row in rows if row["run_id"] == "night-3")
    assert row["decision"]["difference_low"] == interval.low
    assert row["decision"]["reason"] == nights[2].decision.reason


def test_models_without_a_recipe_of_their_own_are_never_refreshes(nights):
    """A bundle of an older Marquee has none: the next night's model has to prove itself."""
    from recsys.artefacts import read_manifest
    from tasks.recipe import recipe

    first, refreshed, other, _ = nights
    family = first.decision.serves
    assert read_manifest(first.model).summary["recipe"] == recipe(refreshed.run, family)
    assert recipe(refreshed.run, family) != recipe(other.run, family)
    seeded = refreshed.run.model_copy(update={"config": refreshed.run.config.model_copy(update={"seed": 1})})
    assert recipe(seeded, family) != recipe(refreshed.run, family)


def test_a_closed_form_model_serves_what_it_was_refitted_on(nights):
    """What serves after a refresh has read the newest data."""
    from recsys.bundle import load_bundle
    from recsys.families import load_scorer

    refreshed = nights[1]
    bundle = load_bundle(Path(refreshed.model.path), load_scorer=load_scorer)
    split = Split.load(Path(refreshed.trained.split.path))
    family = refreshed.decision.serves
    params = refreshed.trained.tuned()[family]["params"]
    fresh = fit_family(family, params, split.interactions, max_items=refreshed.run.config.baselines.max_items)
    block = split.interactions.select(np.arange(5))
    assert np.array_equal(bundle.serving.scores(block), fresh.scores(block))
