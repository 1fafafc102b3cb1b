"""The registry against a real MLflow on SQLite: nothing twice, aliases as decided, and what serves can always be had.

One database for the module (making one takes seconds); every test has an experiment, a model and a home of its own.
"""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from recsys import columns
from recsys.artefacts import ArtefactRef, ArtefactStore
from recsys.bundle import BundleInfo, SplitFacts, load_bundle, per_user_table, write_bundle
from recsys.config import Config, GateConfig, TrackingConfig
from recsys.data.ids import IdMap
from recsys.data.split import align_titles
from recsys.errors import ArtefactError, ConfigError, LockHeldError, RegistryError, UsageError
from recsys.families import load_scorer
from recsys.histories import Histories
from recsys.models.linear import Ease
from tasks import registry as steps
from tasks.events import EpochEnded, Event, StageEnded, emit, listening
from tasks.registry import ModelReport, Verdict, promotion
from tasks.registry.connection import Registry, connect, without_credentials
from tasks.registry.package import REQUIREMENTS
from tasks.registry.promotion import champion, promote, register, roll_back
from tasks.registry.runs import close_dead_runs, log, model_run, process_tags
from tasks.registry.tracker import RunTracker, live
from tasks.registry.versions import find_version, list_versions, read_version
from tasks.run import Run, stage_records

ITEMS = IdMap.of([str(number) for number in range(12)])
USERS = IdMap.of([f"u{number}" for number in range(40)])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def run(tmp_path: Path, database: str) -> Run:
    name = tmp_path.name  # the test's
    tracking = TrackingConfig(uri=database, experiment=name, model_name=name)
    config = Config(home=tmp_path, tracking=tracking)
    return Run(run_id="night-1", run_date=date(2026, 11, 20), config=config, started_at=datetime.now(UTC))


@pytest.fixture
def registry(run: Run) -> Registry:
    return connect(run.config)


@pytest.fixture
def night(run: Run) -> Run:
    return steps.open_night.fn(run)


def make_model(home: Path, name: str, lift: float = 0.0, **changes: Any) -> ArtefactRef:
    rng = np.random.default_rng(0)
    histories = Histories.of_lists([rng.permutation(12)[:5].tolist() for _ in range(40)], 12)
    scorer = Ease.fit(histories, l2=1.0)
    figures = np.clip(rng.random(40) + lift, 0, 1).astype(np.float32)
    info = BundleInfo(
        family="ease",
        run_date=date(2026, 11, 20),
        seed=0,
        ordered=True,
        positive_from=4.0,
        split=SplitFacts(strategy="per-user-temporal", test_fraction=0.2, validation_fraction=0.2, seed=0),
        digests={"validated": "v1"},
        metrics={"ndcg_at_10": float(figures.mean())},
        licence="CC0",
    )
    titles = columns.TITLES.empty_table()
    with ArtefactStore(home).create("model", {}, {"name": name}) as (draft, ref):
        write_bundle(
            draft.path,
            info.model_copy(update=changes),
            items=ITEMS,
            titles=align_titles(titles, ITEMS),
            users=USERS,
            histories=histories,
            measured=scorer,
            serving=scorer,
            per_user=per_user_table(USERS.ids.to_pylist(), {"ndcg_at_10": figures}),
        )
    return ref


def decide(promote_it: bool, against: str | None = None, reason: str = "because") -> Verdict:
    return Verdict(promote=promote_it, reason=reason, against=against)


def enter(registry: Registry, night: Run, name: str, verdict: Verdict, run_id: str | None = None) -> str:
    bundle = make_model(night.home, name)
    return register(registry, run_id or f"run-of-{name}", str(night.tracking_run_id), bundle, verdict).version


def aliases(registry: Registry) -> dict[str, str]:
    held = registry.client.get_registered_model(registry.model_name).aliases
    return {alias: str(version) for alias, version in held.items()}


def package_of(registry: Registry, version: str) -> Path:
    source = registry.client.get_model_version_download_uri(registry.model_name, version)
    return Path(source.removeprefix("file://"))


def damage(folder: Path) -> None:
    victim = next(folder.rglob("model.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1])


# Nights and models


def test_a_night_is_one_run_that_says_what_it_is(night: Run, registry: Registry) -> None:
    entry = registry.client.get_run(night.tracking_run_id)
    assert entry.info.status == "RUNNING"
    assert entry.data.tags["marquee.run_id"] == "night-1"
    assert entry.data.tags["marquee.run_date"] == "2026-11-20"
    assert entry.data.tags["marquee.code_version"]
    assert entry.data.params["ncf.batch_size"] == "128"
    assert not any("sqlite" in value for value in entry.data.params.values())
    again = steps.open_night.fn(night.model_copy(update={"tracking_run_id": None}))
    assert again.tracking_run_id == night.tracking_run_id
    steps.close_night.fn(night, "FINISHED", {"ndcg_at_10": 0.3, "undefined": float("nan")}, {"decision": "kept"})
    (past,) = steps.past_runs(night.config)
    assert (past.run_id, past.status, past.metrics) == ("night-1", "FINISHED", {"ndcg_at_10": 0.3})
    assert past.tags["decision"] == "kept"
    assert past.seconds is not None
    assert {record.stage for record in stage_records(night)} == {"tracking"}


def test_the_data_set_is_named_once(night: Run, registry: Registry) -> None:
    with night.store.create("validated", {}, {}) as (draft, ref):
        draft.rows["ratings.parquet"] = 7
        draft.summary.update(licence="CC BY 4.0", citation="Somebody (2026)", users=3)
    for _ in range(2):
        steps.log_dataset_input.fn(night, ref)
    entry = registry.client.get_run(night.tracking_run_id)
    (given,) = entry.inputs.dataset_inputs
    assert given.dataset.digest == ref.digest
    assert '"ratings.parquet":7' in given.dataset.profile
    assert entry.data.tags["marquee.dataset"] == ref.digest
    assert entry.data.tags["marquee.licence"] == "CC BY 4.0"


def test_a_model_is_a_nested_run_with_its_curves(night: Run, registry: Registry) -> None:
    report = ModelReport(
        name="ncf",
        params={"epochs": 3, "hidden_size": 64, "layers": [64, 32]},
        metrics={"ndcg_at_10": 0.25, "cold recall@20": 0.1},
        epochs=[{"loss": 3.0, "ndcg_at_10": 0.1}, {"loss": float("nan"), "ndcg_at_10": 0.2}, {"loss": 1.0}],
    )
    ids = {str(steps.log_model_runs.fn(night, [report, ModelReport(name="ease")])) for _ in range(2)}
    assert len(ids) == 1
    run_id = steps.log_model_runs.fn(night, [report])["ncf"]
    entry = registry.client.get_run(run_id)
    assert entry.data.tags["mlflow.parentRunId"] == night.tracking_run_id
    assert entry.data.params == {"epochs": "3", "hidden_size": "64", "layers": "[64,32]"}
    assert entry.data.metrics["cold recall_20"] == 0.1
    assert entry.info.status == "FINISHED"
    losses = registry.client.get_metric_history(run_id, "loss")
    assert [(m.step, m.value) for m in losses] == [(1, 3.0), (3, 1.0)]
    assert {f.path for f in registry.client.list_artifacts(run_id)} == {"curves.svg"}


def test_epochs_arrive_live_from_two_threads_and_are_not_written_twice(night: Run, registry: Registry) -> None:
    def train(stage: str, error: str | None) -> None:
        for number in range(1, 31):
            emit(EpochEnded(stage, number, 30, {"loss": 1 / number}))
        emit(StageEnded(stage, 1.0, None, False, error))

    with steps.live_tracking(night):
        trainers = [threading.Thread(target=train, args=args) for args in (("ae", None), ("cnn", "killed"))]
        for trainer in trainers:
            trainer.start()
        for trainer in trainers:
            trainer.join()
    for name, status in (("ae", "FINISHED"), ("cnn", "FAILED")):
        run_id = model_run(registry, night, str(night.tracking_run_id), name)
        history = registry.client.get_metric_history(run_id, "loss")
        assert sorted(m.step for m in history) == list(range(1, 31))
        assert registry.client.get_run(run_id).info.status == status
    epochs = [{"loss": 1 / number} for number in range(1, 33)]
    run_id = steps.log_model_runs.fn(night, [ModelReport(name="ae", epochs=epochs)])["ae"]
    assert sorted(m.step for m in registry.client.get_metric_history(run_id, "loss")) == list(range(1, 33))


def test_a_tracker_writes_after_some_seconds_and_at_the_end(night: Run, registry: Registry) -> None:
    run_id = model_run(registry, night, str(night.tracking_run_id), "ae")
    tracker = RunTracker(registry, run_id, "ae", flush_seconds=3600)
    tracker.params({"embedding_size": 8})
    tracker.note("few users: smaller batches")
    tracker.epoch(1, 10, {"loss": 2.0})
    assert registry.client.get_run(run_id).data.metrics == {}
    assert tracker.finish("FINISHED")
    data = registry.client.get_run(run_id).data
    assert (data.metrics, data.params) == ({"loss": 2.0}, {"embedding_size": "8"})
    assert data.tags["mlflow.note.content"] == "few users: smaller batches"


def test_training_outlives_mlflow(night: Run, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    gone = replace(registry, uri=f"http://127.0.0.1:{free_port()}")
    gone = replace(gone, client=mlflow.MlflowClient(tracking_uri=gone.uri))
    heard: list[Event] = []
    with listening(heard.append):
        tracker = RunTracker(gone, "0" * 32, "ae", flush_seconds=0)
        for number in range(1, 6):
            tracker.epoch(number, 5, {"loss": 1.0})
        assert not tracker.finish("FINISHED")
        with live(gone, night, str(night.tracking_run_id)):
            emit(EpochEnded("cnn", 1, 1, {"loss": 1.0}))
    notes = [event for event in heard if "MLflow is not told" in getattr(event, "text", "")]
    assert [note.stage for note in notes] == ["ae", "cnn"]  # type: ignore[union-attr]  # once each


def test_closing_a_night_closes_its_models(night: Run, registry: Registry) -> None:
    run_id = model_run(registry, night, str(night.tracking_run_id), "ae")
    steps.close_night.fn(night, "KILLED")
    assert {registry.client.get_run(i).info.status for i in (run_id, night.tracking_run_id)} == {"KILLED"}
    steps.close_night.fn(night.model_copy(update={"tracking_run_id": None}), "FAILED")  # never opened: nothing to do


def test_runs_of_the_dead_are_closed_and_those_of_the_living_are_not(night: Run, registry: Registry) -> None:
    ended = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    started = psutil.Process(ended.pid).create_time()
    mine = process_tags()
    of_ended = {**mine, "marquee.pid": str(ended.pid), "marquee.process_started": repr(started)}
    elsewhere = {**mine, "marquee.host": "another-machine"}
    long_ago = int((time.time() - 72 * 3600) * 1000)
    client, experiment = registry.client, registry.experiment_id
    made = {
        "living": client.create_run(experiment, tags=of_ended),
        "reused number": client.create_run(experiment, tags={**mine, "marquee.process_started": "1.0"}),
        "elsewhere": client.create_run(experiment, tags=elsewhere),
        "elsewhere, long ago": client.create_run(experiment, tags=elsewhere, start_time=long_ago),
        "a person's": client.create_run(experiment),
    }
    names = {entry.info.run_id: name for name, entry in made.items()}
    assert {names[i] for i in close_dead_runs(registry)} == {"reused number", "elsewhere, long ago"}
    ended.kill()
    ended.wait()
    assert {names[i] for i in close_dead_runs(registry)} == {"living"}
    assert client.get_run(made["living"].info.run_id).info.status == "KILLED"
    assert client.get_run(night.tracking_run_id).info.status == "RUNNING"


def test_steps_need_an_open_night(run: Run) -> None:
    with pytest.raises(RegistryError, match="open_night"):
        steps.log_model_runs.fn(run, [ModelReport(name="ncf")])


# Versions and aliases


def test_the_same_bundle_is_registered_once(night: Run, registry: Registry) -> None:
    bundle = make_model(night.home, "m")
    verdict = {"promote": True, "reason": "the first", "low": 0.01, "outcome": "promoted"}
    assert [steps.register_model.fn(night, bundle, verdict) for _ in range(2)] == ["1", "1"]
    assert steps.register_model.fn(night, bundle, decide(True).model_dump_json()) == "1"
    (version,) = list_versions(registry)
    assert (version.digest, version.family, version.aliases) == (bundle.digest, "ease", ("champion",))
    assert version.reason == "the first"
    tags = registry.client.get_model_version(registry.model_name, "1").tags
    assert '"low":0.01' in tags["marquee.decision"]
    card = registry.client.get_model_version(registry.model_name, "1").description
    assert "CC0" in card
    assert "the first" in card
    assert find_version(registry, bundle.digest) == "1"
    assert steps.version_to_serve(night, bundle) == "1"


def test_aliases_move_as_decided(night: Run, registry: Registry) -> None:
    assert enter(registry, night, "a", decide(True)) == "1"
    assert aliases(registry) == {"champion": "1"}
    enter(registry, night, "b", decide(False, "1", "worse"))
    assert aliases(registry) == {"champion": "1", "challenger": "2"}
    enter(registry, night, "c", decide(False, "1"))
    assert aliases(registry) == {"champion": "1", "challenger": "3"}
    enter(registry, night, "d", decide(True, "1"))
    assert aliases(registry) == {"champion": "4", "previous": "1", "challenger": "3"}
    enter(registry, night, "c", decide(True, "4"), "a later run")  # the same bundle wins on a later night
    assert aliases(registry) == {"champion": "3", "previous": "4"}
    assert [(v.version, v.promoted) for v in list_versions(registry)] == [
        ("4", True),
        ("3", True),
        ("2", False),
        ("1", True),
    ]
    enter(registry, night, "c", decide(False, "3", "the champion again"), "one more")
    assert aliases(registry) == {"champion": "3", "previous": "4"}


def test_a_decision_against_a_past_champion_is_not_carried_out(night: Run, registry: Registry) -> None:
    enter(registry, night, "a", decide(True))
    enter(registry, night, "b", decide(True, "1"))
    version = enter(registry, night, "c", decide(True, "1", "better than 1"))
    assert aliases(registry) == {"champion": "2", "previous": "1", "challenger": "3"}
    assert "the champion is version 2 by now" in read_version(registry, version).reason


@pytest.mark.parametrize("place", ["_carry_out", "_crown"])
def test_a_kill_while_registering_leaves_no_second_version(
    night: Run, registry: Registry, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    enter(registry, night, "a", decide(True))
    whole = getattr(promotion, place)

    def killed(*args: Any) -> None:
        if place == "_crown":
            whole(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(promotion, place, killed)
    with pytest.raises(KeyboardInterrupt):
        enter(registry, night, "b", decide(True, "1"))
    monkeypatch.undo()
    assert enter(registry, night, "b", decide(True, "1")) == "2"
    assert len(list_versions(registry)) == 2
    assert aliases(registry) == {"champion": "2", "previous": "1"}


def test_a_damaged_bundle_is_not_registered(night: Run, registry: Registry) -> None:
    bundle = make_model(night.home, "m")
    damage(Path(bundle.path))
    with pytest.raises(ArtefactError, match="safetensors"):
        register(registry, "r", str(night.tracking_run_id), bundle, decide(True))
    assert list_versions(registry) == []


def test_promotion_by_hand_and_the_way_back(night: Run, registry: Registry) -> None:
    enter(registry, night, "a", decide(True))
    enter(registry, night, "b", decide(False, "1"))
    with pytest.raises(UsageError, match="no previous champion"):
        roll_back(registry)
    promoted = steps.promote_version(night.config, "challenger")
    assert (promoted.version, promoted.aliases) == ("2", ("champion",))
    assert aliases(registry) == {"champion": "2", "previous": "1"}
    assert steps.promote_version(night.config, "v2").aliases == ("champion",)  # again: nothing moves
    assert aliases(registry) == {"champion": "2", "previous": "1"}
    assert steps.rollback_champion(night.config).version == "1"
    assert aliases(registry) == {"champion": "1", "previous": "2"}
    for unknown in ("9", "nobody"):
        with pytest.raises(UsageError, match=unknown):
            promote(registry, unknown)


def test_of_two_promotions_at_once_one_is_told(night: Run, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(registry, night, "a", decide(True))
    enter(registry, night, "b", decide(False, "1"))
    inside, go_on = threading.Event(), threading.Event()
    crown = promotion._crown

    def slow(*args: Any) -> None:
        inside.set()
        go_on.wait(30)
        crown(*args)

    monkeypatch.setattr(promotion, "_crown", slow)
    first = threading.Thread(target=promote, args=(registry, "2"))
    first.start()
    assert inside.wait(30)
    for late in (lambda: promote(registry, "1"), lambda: roll_back(registry)):
        with pytest.raises(LockHeldError, match="another promotion"):
            late()
    go_on.set()
    first.join()
    assert aliases(registry)["champion"] == "2"


# What serves


def test_before_the_first_there_is_no_champion(night: Run) -> None:
    found = steps.current_champion(night)
    assert (found.version, found.bundle, found.note) == (None, None, None)


def test_the_champion_is_brought_from_mlflow_when_this_machine_lacks_it(night: Run, registry: Registry) -> None:
    enter(registry, night, "a", decide(True))
    found = champion(registry)
    assert found.bundle is not None
    local = Path(found.bundle.path)
    files = {path.relative_to(local): path.read_bytes() for path in local.rglob("*") if path.is_file()}
    damage(local)
    healed = champion(registry)
    assert healed == found
    assert {path.relative_to(local): path.read_bytes() for path in local.rglob("*") if path.is_file()} == files
    assert [path.name for path in local.parent.iterdir()] == [local.name]


def lose_version(registry: Registry, version: str) -> None:
    registry.client.delete_model_version(registry.model_name, version)


def lose_files(registry: Registry, version: str) -> None:
    digest = read_version(registry, version).digest
    damage(registry.home / "artefacts" / "model" / digest)
    damage(package_of(registry, version))


@pytest.mark.parametrize("loss", [lose_version, lose_files])
def test_previous_stands_in_for_a_lost_champion(
    night: Run, registry: Registry, loss: Callable[[Registry, str], None]
) -> None:
    enter(registry, night, "a", decide(True))
    enter(registry, night, "b", decide(True, "1"))
    loss(registry, "2")
    heard: list[Event] = []
    with listening(heard.append):
        found = steps.current_champion(night)
    assert found.version is not None
    assert found.version.version == "1"
    assert found.note is not None
    assert "version 1 (previous) serves in its place" in found.note
    assert [getattr(event, "text", "") for event in heard] == [found.note]
    enter(registry, night, "c", decide(True, "1"))  # compared with what stood in: promoted
    assert aliases(registry) == {"champion": "3", "previous": "1"}


def test_with_nothing_left_the_next_good_model_becomes_champion(night: Run, registry: Registry) -> None:
    enter(registry, night, "a", decide(True))
    lose_files(registry, "1")
    with pytest.raises(ArtefactError):
        promote(registry, "1")
    found = champion(registry)
    assert found.version is None
    assert "version 1 (champion) is damaged" in str(found.note)
    enter(registry, night, "b", decide(True))
    assert aliases(registry) == {"champion": "2"}


def test_only_a_registered_model_is_served(night: Run, registry: Registry) -> None:
    bundle = make_model(night.home, "m")
    with pytest.raises(UsageError, match="no gate has seen it"):
        steps.version_to_serve(night, bundle)
    enter(registry, night, "a", decide(True))
    steps.register_model.fn(night, bundle, decide(False, "1"))
    heard: list[Event] = []
    with listening(heard.append):
        assert steps.version_to_serve(night, bundle) == "2"
    assert [getattr(e, "text", "") for e in heard] == ["version 2 is not the champion (version 1 is)"]


# The model as MLflow loads it


def test_the_model_answers_by_user_and_by_history_whatever_the_batch(
    night: Run, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    enter(registry, night, "a", decide(True))
    model = mlflow.pyfunc.load_model(f"models:/{registry.model_name}@champion")
    found = champion(registry)
    assert found.bundle is not None
    bundle = load_bundle(Path(found.bundle.path), load_scorer=load_scorer)
    asked: list[tuple[str | None, list[str] | None]] = [
        ("u1", None),
        (None, ["3", "nope", "1"]),
        ("nobody", None),
        (None, None),
        ("u2", ["5"]),
        ("u3", []),
        (None, ["nope"]),
    ]
    frame = pd.DataFrame({"user_id": [user for user, _ in asked], "history": [history for _, history in asked]})
    answers = model.predict(frame, params={"n": 4})
    assert list(answers["basis"]) == ["user", "history", "popular", "popular", "history", "user", "popular"]
    known = bundle.answer_users(["u1", "u3"], 4)
    visitors = bundle.score_users([["3", "1"], ["5"], []], 4)
    expected = [known[0], visitors[0], visitors[2], visitors[2], visitors[1], known[1], visitors[2]]
    assert answers["item_ids"].tolist() == [answer.item_ids for answer in expected]
    assert answers["scores"].tolist() == [answer.scores for answer in expected]
    for size in (1, 7, 1000):
        batch = pd.concat([frame] * 143)[:size].reset_index(drop=True)
        lists = model.predict(batch, params={"n": 4})["item_ids"].tolist()
        assert lists == (answers["item_ids"].tolist() * 143)[:size]
    assert [len(items) for items in model.predict(pd.DataFrame({"user_id": ["u1"]}))["item_ids"]] == [7]
    assert list(model.predict(pd.DataFrame({"history": [["1"]]}), params={"n": 1})["basis"]) == ["history"]
    for wrong, params, told in (
        (pd.DataFrame({"history": ["1"]}), {}, "history must be a list of item ids, not str"),
        (pd.DataFrame({"user_id": ["u1"]}), {"n": 0}, "n is 0"),
        (pd.DataFrame({"viewer": ["u1"]}), {}, "rows need a user_id or a history"),
    ):
        with pytest.raises(mlflow.exceptions.MlflowException, match=told):
            model.predict(wrong, params=params)


def test_a_version_carries_its_code_and_no_pickle(night: Run, registry: Registry) -> None:
    enter(registry, night, "a", decide(True))
    package = package_of(registry, "1")
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert {"code/recsys/bundle.py", "pyfunc_model.py", "input_example.json", "README.md"} <= files
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".pt", ".pth", ".bin", ".pyc"))]
    requirements = (package / "requirements.txt").read_text().split()
    assert "safetensors==" in " ".join(requirements)
    assert all("==" in line and "+" not in line for line in requirements)
    assert str(night.home) not in (package / "requirements.txt").read_text()


LOADED = """
import importlib, importlib.util, json, sys
from recsys.families import FAMILIES
import recsys.bundle
for name in {place.split(":")[0] for place in FAMILIES.values()}:
    if importlib.util.find_spec(name):
        importlib.import_module(name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def test_the_requirements_name_whatever_of_our_dependencies_a_model_loads() -> None:
    names = {re.split(r"[^\w-]", line)[0].lower() for line in metadata.requires("marquee") or () if "extra" not in line}
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", LOADED], text=True))
    places = metadata.packages_distributions()
    used = {name.lower() for module in loaded for name in places.get(module, ())}
    assert used & names <= set(REQUIREMENTS)


# Two versions side by side


def test_the_better_of_two_versions_is_told_with_its_interval(night: Run, registry: Registry) -> None:
    for name, lift in (("a", 0.0), ("b", 0.1), ("c", 0.0)):
        bundle = make_model(night.home, name, lift)
        register(registry, name, str(night.tracking_run_id), bundle, decide(name == "a"))
    found = steps.compare_versions(night.config, "champion", "2")
    assert (found.a.version, found.b.version, found.users) == ("1", "2", 40)
    a, b = found.metrics["ndcg_at_10"]
    assert a is not None
    assert b is not None
    assert found.difference == pytest.approx(b - a, abs=1e-6)
    assert found.low is not None
    assert found.high is not None
    assert 0 < found.low < found.difference < found.high
    assert found.verdict == "version 2 is better than version 1"
    assert found.notes == ()
    assert steps.compare_versions(night.config, "2", "1").verdict == "version 1 is worse than version 2"
    same = steps.compare_versions(night.config, "1", "3")
    assert (same.difference, same.verdict) == (0.0, "versions 1 and 3 cannot be told apart")


def test_what_makes_a_comparison_unfair_is_said(night: Run, registry: Registry) -> None:
    other_split = SplitFacts(strategy="random", test_fraction=0.2, validation_fraction=0.2, seed=0)
    changes: dict[str, dict[str, Any]] = {
        "plain": {},
        "other night": {"digests": {"validated": "v2"}, "positive_from": 3.0},
        "other split": {"split": other_split, "metrics": {"ndcg_at_10": 0.5, "recall_at_20": 0.4}},
    }
    for name, change in changes.items():
        bundle = make_model(night.home, name, **change)
        register(registry, name, str(night.tracking_run_id), bundle, decide(False))
    night_notes = " ".join(steps.compare_versions(night.config, "1", "2").notes)
    assert "different nights" in night_notes
    assert "positive from different values" in night_notes
    found = steps.compare_versions(night.config, "1", "3")
    assert "differently cut" in found.notes[0]
    assert found.metrics["recall_at_20"] == (None, 0.4)
    gate = GateConfig(metric="mrr_at_10")
    unmeasured = steps.compare_versions(night.config.model_copy(update={"gate": gate}), "1", "2")
    assert (unmeasured.users, unmeasured.difference) == (0, None)
    assert "no user has mrr_at_10" in unmeasured.verdict
    with pytest.raises(UsageError, match="7"):
        steps.compare_versions(night.config, "1", "7")


# The way to MLflow


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_a_server_that_is_not_there_is_told_within_seconds(tmp_path: Path) -> None:
    uri = f"http://alice:secret@127.0.0.1:{free_port()}"
    began = time.monotonic()
    with pytest.raises(RegistryError) as told:
        connect(Config(home=tmp_path, tracking=TrackingConfig(uri=uri)))
    assert time.monotonic() - began < 15
    text = str(told.value)
    assert text.startswith(f"MLflow at {without_credentials(uri)}: reaching it failed")
    assert "marquee up" in text
    assert "secret" not in text
    assert "alice" not in text
    assert "\n" not in text


def test_an_address_that_is_none_is_a_fault_of_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\[tracking\] uri"):
        connect(Config(home=tmp_path, tracking=TrackingConfig(uri="mlruns")))


def test_a_deleted_experiment_is_named(run: Run, registry: Registry) -> None:
    registry.client.delete_experiment(registry.experiment_id)
    elsewhere = run.config.model_copy(update={"home": run.home / "other"})
    with pytest.raises(RegistryError, match="experiments restore"):
        connect(elsewhere)


def test_an_unreadable_database_is_told_in_one_paragraph(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    config = Config(home=tmp_path, tracking=TrackingConfig(uri=f"sqlite:///{tmp_path / 'mlflow.db'}"))
    with pytest.raises(RegistryError) as told:
        connect(config)
    assert "\n" not in str(told.value)


def test_nothing_is_written_outside_home(run: Run, night: Run, registry: Registry) -> None:
    log(registry, str(night.tracking_run_id), metrics={"x": 1.0})
    registry.client.log_text(night.tracking_run_id, "x", "x.txt")
    assert list((run.home / "mlflow" / "artifacts").rglob("x.txt"))
    assert not Path("mlruns").exists()
    assert not Path("mlflow.db").exists()


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://a:b@host:5000/x", "http://host:5000/x"),
        ("postgresql://a:b@host/db", "postgresql://host/db"),
        ("sqlite:////x/y.db", "sqlite:////x/y.db"),
    ],
)
def test_credentials_are_not_shown(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown
