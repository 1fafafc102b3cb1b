"""The autoencoder's step, with real child processes: reused, killed, resumed, refitted."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pytest

from recsys import autoencoder_copies, columns
from recsys.artefacts import ArtefactRef, read_manifest, verify
from recsys.config import AutoencoderConfig, ComputeConfig, Config
from recsys.data.ids import IdMap
from recsys.data.split import Split
from recsys.errors import ArtefactError, TrainingError
from recsys.families import load_scorer
from recsys.histories import Histories
from tasks.autoencoder import checkpoint_folder, refit_autoencoder, train_autoencoder
from tasks.events import EpochEnded, Event, EventTracker, Note, StageEnded, listening
from tasks.run import Run, stage_records

COPIES = ("train", "fit", "companion/train", "companion/fit")


def night(home: Path, **settings: int) -> Run:
    chosen = {"epochs": 4, "hidden_size": 16, "embedding_size": 8, "batch_size": 8, **settings}
    config = Config(
        home=home,
        autoencoder=AutoencoderConfig(**chosen),  # type: ignore[arg-type]
        compute=ComputeConfig(device="cpu", threads=2),
    )
    return Run(run_id="one", run_date=date(2026, 1, 1), config=config, started_at=datetime.now(UTC))


def split(run: Run) -> ArtefactRef:
    """40 users × 10 interactions over 30 titles; the last two of each are test, the two before validation."""
    rng = np.random.default_rng(0)
    rows = [((rng.integers(30) + np.arange(10) * 3) % 30).tolist() for _ in range(40)]
    histories = Histories.of_lists(rows, 30)
    items = IdMap.of([f"m{number:02d}" for number in range(30)])
    titles = pa.table(
        {field.name: items.ids if field.name == "item_id" else pa.nulls(30, field.type) for field in columns.TITLES},
        schema=columns.TITLES,
    )
    part = np.tile(np.repeat([0, 1, 2], [6, 2, 2]), 40).astype(np.int8)
    made = Split(
        IdMap.of([f"u{number:02d}" for number in range(40)]), items, histories, part, titles, "per-user-temporal"
    )
    with run.store.create("split", {}, {}) as (draft, ref):
        made.save(draft.path)
        draft.rows["interactions"] = len(part)
    return ref


def test_two_copies_a_report_and_a_record(tmp_path: Path) -> None:
    run = night(tmp_path)
    given = split(run)
    heard: list[Event] = []
    with listening(heard.append):
        ref = train_autoencoder.fn(run, given)
    manifest = verify(ref)
    assert manifest.parents == {"split": given.digest}
    assert manifest.rows == {"interactions": 400}
    assert set(manifest.files) == {
        "autoencoder.json",
        *(f"{copy}/model.{kind}" for copy in COPIES for kind in ("json", "safetensors")),
    }
    report = json.loads(ref.file("autoencoder.json").read_text())
    assert report["settings"]["hidden_size"] == 16
    assert len(report["train"]["curve"]) == report["train"]["epochs"] <= 4
    assert {"loss", "ndcg_at_10"} == set(report["train"]["curve"][0])
    best = report["train"]["curve"][report["train"]["best_epoch"] - 1]["ndcg_at_10"]
    assert manifest.summary["validation"] == {"ndcg_at_10": best}
    epochs = [event.number for event in heard if isinstance(event, EpochEnded)]
    made = [told[copy]["epochs"] for told in (report, report["companion"]) for copy in ("train", "fit")]
    assert epochs == list(range(1, sum(made) + 1))
    assert {report["variant"], report["companion"]["variant"]} == {"ordered", "unordered"}
    other = report["companion"]["train"]["curve"][report["companion"]["train"]["best_epoch"] - 1]["ndcg_at_10"]
    assert best >= other, "the better one is the user autoencoder"
    assert {event.stage for event in heard if isinstance(event, EpochEnded | StageEnded)} == {"user_autoencoder"}
    assert not checkpoint_folder(run, ref.digest).exists()
    (record,) = stage_records(run)
    assert (record.artefact, record.rows, record.reused) == (ref, 400, False)
    assert record.peak_rss_bytes > 50 << 20
    users = Split.load(Path(given.path)).fit
    for copy in COPIES:
        assert load_scorer("user_autoencoder", ref.file(copy)).scores(users).shape == (40, 30)

    assert train_autoencoder.fn(run, given) == ref
    assert stage_records(run)[0].reused


def test_a_killed_trainer_is_named_and_the_next_run_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    straight = night(tmp_path / "straight", epochs=12)
    expected = train_autoencoder.fn(straight, split(straight))

    run = night(tmp_path / "killed", epochs=12)
    given = split(run)

    def kill_in_epoch_three(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.number == 3:
            (child,) = [p for p in psutil.Process().children() if "child_main" in " ".join(p.cmdline())]
            os.kill(child.pid, signal.SIGKILL)

    with listening(kill_in_epoch_three), pytest.raises(TrainingError, match="user autoencoder was killed by SIGKILL"):
        train_autoencoder.fn(run, given)
    assert "SIGKILL" in (stage_records(run)[0].error or "")
    assert not list((tmp_path / "killed" / "artefacts" / "user_autoencoder").glob("*"))

    notes: list[str] = []
    with listening(lambda event: notes.append(event.text) if isinstance(event, Note) else None):
        ref = train_autoencoder.fn(run, given)
    assert any("goes on after epoch" in note for note in notes)
    assert read_manifest(ref).files == read_manifest(expected).files


def test_what_finished_before_a_kill_is_not_trained_again(tmp_path: Path) -> None:
    run = night(tmp_path)
    given = split(run)
    seen: list[EpochEnded] = []

    def kill_in_the_second_copy(event: Event) -> None:
        if isinstance(event, EpochEnded):
            seen.append(event)
            if "ndcg_at_10" not in event.metrics:
                for child in psutil.Process().children():
                    if "child_main" in " ".join(child.cmdline()):
                        child.kill()

    with listening(kill_in_the_second_copy), pytest.raises(TrainingError, match="SIGKILL"):
        train_autoencoder.fn(run, given)
    again: list[EpochEnded] = []
    with listening(lambda event: again.append(event) if isinstance(event, EpochEnded) else None):
        train_autoencoder.fn(run, given)
    first_copy = sum("ndcg_at_10" in event.metrics for event in seen)
    assert min(event.number for event in again) > first_copy, "the first copy was trained again"


def test_the_serving_copy_is_fitted_on_everything(tmp_path: Path) -> None:
    run = night(tmp_path)
    given = split(run)
    ref = train_autoencoder.fn(run, given)
    refit_autoencoder(run, given, ref, tmp_path / "serving", EventTracker("refit"))
    refit_autoencoder(run, given, ref, tmp_path / "again", EventTracker("refit"))
    for tower in ("companion_autoencoder", "user_autoencoder"):
        made = tmp_path / "serving" / tower
        assert sorted(path.name for path in made.iterdir()) == ["model.json", "model.safetensors"]
        again = tmp_path / "again" / tower / "model.safetensors"
        assert (made / "model.safetensors").read_bytes() == again.read_bytes()
        fit = ref.file("fit/model.safetensors" if tower == "user_autoencoder" else "companion/fit/model.safetensors")
        assert (made / "model.safetensors").read_bytes() != fit.read_bytes()
        assert load_scorer(tower, made).n_items == 30


def test_a_damaged_split_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    run = night(tmp_path)
    given = split(run)
    given.file("part.npy").write_bytes(b"other")
    with pytest.raises(ArtefactError, match=r"part\.npy"):
        train_autoencoder.fn(run, given)


def test_a_missing_device_is_said_and_the_cpu_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recsys.devices._cuda_count", lambda: 0)
    run = night(tmp_path)
    run = run.model_copy(update={"config": run.config.model_copy(update={"compute": ComputeConfig(device="cuda")})})
    notes: list[str] = []
    with listening(lambda event: notes.append(event.text) if isinstance(event, Note) else None):
        train_autoencoder.fn(run, split(run))
    assert any("no CUDA device was found" in note for note in notes)


@pytest.mark.usefixtures("one_thread")
def test_copies_made_in_this_process_are_those_of_a_child(tmp_path: Path) -> None:
    """The trainer's own function, called directly, so that its lines are covered and its result can be compared."""
    run = night(tmp_path)
    given = split(run)
    ref = train_autoencoder.fn(run, given)
    options = {"identity": ref.digest, "device": "cpu", "precision": "float32", "seed": 0}
    report = autoencoder_copies.fit_copies(
        Path(given.path), tmp_path / "here", run.config.autoencoder, tracker=EventTracker("x"), **options
    )
    assert report == json.loads(ref.file("autoencoder.json").read_text())
    autoencoder_copies.refit_copy(
        Path(given.path), tmp_path / "here", tmp_path / "here", tracker=EventTracker("x"), **options
    )
    for copy in COPIES:
        assert (tmp_path / "here" / copy / "model.safetensors").read_bytes() == ref.file(
            f"{copy}/model.safetensors"
        ).read_bytes()
    for tower in ("user_autoencoder", "companion_autoencoder"):
        assert (tmp_path / "here" / "serving" / tower / "model.safetensors").is_file()
