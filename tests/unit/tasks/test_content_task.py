"""The content CNN's step, with real child processes: what it leaves, reused, killed, resumed, byte for byte."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pytest

from recsys import columns, content_copies
from recsys.artefacts import ArtefactRef, read_manifest, verify
from recsys.config import ComputeConfig, Config, ContentConfig
from recsys.content_copies import fit_content
from recsys.data.ids import IdMap
from recsys.data.split import Split
from recsys.errors import ArtefactError, TrainingError
from recsys.histories import Histories
from recsys.models.content_cnn import ContentCnn
from recsys.tracker import NullTracker
from tasks.content import KIND, checkpoint_folder, train_content_cnn
from tasks.events import EpochEnded, Note, listening
from tasks.run import Run, stage_records

N_USERS, N_ITEMS = 60, 80
SMALL = ContentConfig(
    output_size=8, embedding_size=8, channels=4, epochs=3, vocabulary_size=300, max_tokens=12, cold_fraction=0.3
)


def run_in(home: Path, *, device: str = "cpu", seed: int = 0, content: ContentConfig = SMALL) -> Run:
    config = Config(home=home, content=content, seed=seed, compute=ComputeConfig(device=device, threads=1))
    return Run(run_id="r", run_date=date(2026, 1, 2), config=config, started_at=datetime(2026, 1, 2, tzinfo=UTC))


def made_split() -> Split:
    """Titles of four genres, users of one genre each, nine in ten of the likes within it."""
    rng = np.random.default_rng(0)
    genre = np.arange(N_ITEMS) % 4
    rows = [
        [
            *rng.permutation(np.flatnonzero(genre == user % 4))[:12].tolist(),
            *rng.permutation(np.flatnonzero(genre != user % 4))[:2].tolist(),
        ]
        for user in range(N_USERS)
    ]
    users = IdMap.of([f"u{number:03}" for number in range(N_USERS)])
    items = IdMap.of([f"i{number:03}" for number in range(N_ITEMS)])
    lists = {name: [[] for _ in range(N_ITEMS)] for name in ("cast", "directors", "tags", "regions")}
    titles = pa.table(
        {
            **{field.name: pa.nulls(N_ITEMS, field.type) for field in columns.TITLES},
            **{name: pa.array(values, pa.list_(pa.string())) for name, values in lists.items()},
            "item_id": items.ids,
            "genres": pa.array([[f"genre {g}"] for g in genre], pa.list_(pa.string())),
            "plot": pa.array([f"a story of kind {g}" for g in genre]),
        },
        schema=columns.TITLES,
    )
    histories = Histories.of_lists([rng.permutation(row).tolist() for row in rows], N_ITEMS)
    part = np.tile(np.array([0] * 9 + [1] * 2 + [2] * 3, np.int8), N_USERS)
    return Split(users, items, histories, part, titles, "per-user-temporal")


def split_in(run: Run, split: Split) -> ArtefactRef:
    with run.store.create("split", {}, {}) as (draft, ref):
        split.save(draft.path)
        draft.rows["titles"] = N_ITEMS
    return ref


def bytes_of(ref: ArtefactRef) -> dict[str, str]:
    return {name: entry.sha256 for name, entry in read_manifest(ref).files.items()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, ArtefactRef, ArtefactRef, list[object]]:
    """A run, its split, the artefact, and what was heard meanwhile."""
    run = run_in(tmp_path_factory.mktemp("home"))
    given = split_in(run, made_split())
    heard: list[object] = []
    with listening(heard.append):
        return run, given, train_content_cnn.fn(run, given), heard


def test_it_leaves_two_models_and_a_report(whole: tuple[Run, ArtefactRef, ArtefactRef, list[object]]) -> None:
    run, given, ref, heard = whole
    manifest = verify(ref)
    assert manifest.parents == {"split": given.digest}
    files = {"model.json", "model.safetensors", "vocabulary.json"}
    assert set(manifest.files) == {f"{copy}/{name}" for copy in ("measured", "final") for name in files} | {
        "content.json"
    }
    report = json.loads(ref.file("content.json").read_text())
    assert report["settings"]["epochs"] == 3
    assert {"content_cnn", "bag_of_tokens", "tfidf_neighbours", "tfidf_ridge", "random"} == set(report["cold"])
    assert report["figures"]["cold_recall_at_20"] == report["cold"]["content_cnn"]["recall_at_20"]
    assert len(report["final"]["curve"]) == report["settings"]["kept_epochs"]
    assert manifest.summary["cold"] == report["cold"]
    epochs = [event for event in heard if isinstance(event, EpochEnded)]
    assert {event.stage for event in epochs} == {KIND}
    assert [event.number for event in epochs] == list(range(1, len(epochs) + 1))
    assert not checkpoint_folder(run, ref.digest).exists()


def test_genres_place_titles_that_nobody_rated(whole: tuple[Run, ArtefactRef, ArtefactRef, list[object]]) -> None:
    _, _, ref, _ = whole
    cold = json.loads(ref.file("content.json").read_text())["cold"]
    assert cold["content_cnn"]["ndcg_at_10"] > cold["random"]["ndcg_at_10"] + 0.2


def test_both_copies_stand_in_one_space(whole: tuple[Run, ArtefactRef, ArtefactRef, list[object]]) -> None:
    _, _, ref, _ = whole
    measured, final = (ContentCnn.load(ref.file(name)) for name in ("measured", "final"))
    users = made_split().train
    first, second = measured.user_vectors(users), final.user_vectors(users)
    cosines = (first * second).sum(axis=1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    assert np.median(cosines) > 0.8


def test_a_second_call_reuses_it(whole: tuple[Run, ArtefactRef, ArtefactRef, list[object]]) -> None:
    run, given, ref, _ = whole
    heard: list[object] = []
    with listening(heard.append):
        assert train_content_cnn.fn(run, given) == ref
    assert not [event for event in heard if isinstance(event, EpochEnded)]
    (record,) = stage_records(run)
    assert record.reused
    assert record.rows == N_ITEMS
    assert record.artefact == ref


def test_a_device_that_is_missing_is_told_and_the_bytes_are_the_same(
    whole: tuple[Run, ArtefactRef, ArtefactRef, list[object]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recsys.devices._cuda_count", lambda: 0)
    run = run_in(tmp_path, device="cuda")
    heard: list[object] = []
    with listening(heard.append):
        again = train_content_cnn.fn(run, split_in(run, made_split()))
    assert [event.text for event in heard if isinstance(event, Note) and "no CUDA device" in event.text]
    assert bytes_of(again) == bytes_of(whole[2])


def test_a_killed_process_is_named_and_the_next_run_goes_on_to_the_same_bytes(
    whole: tuple[Run, ArtefactRef, ArtefactRef, list[object]], tmp_path: Path
) -> None:
    run = run_in(tmp_path)
    given = split_in(run, made_split())

    def kill_in_epoch_two(event: object) -> None:
        if isinstance(event, EpochEnded) and event.number == 2:
            (child,) = [p for p in psutil.Process().children() if "child_main" in " ".join(p.cmdline())]
            os.kill(child.pid, signal.SIGKILL)

    with listening(kill_in_epoch_two), pytest.raises(TrainingError, match="content CNN was killed by SIGKILL"):
        train_content_cnn.fn(run, given)
    assert run.store.latest(KIND) is None
    assert "SIGKILL" in (stage_records(run)[0].error or "")
    heard: list[object] = []
    with listening(heard.append):
        ref = train_content_cnn.fn(run, given)
    assert any("goes on after epoch" in event.text for event in heard if isinstance(event, Note))
    assert bytes_of(ref) == bytes_of(whole[2])


class CutOff:
    """A tracker that stops everything at an epoch of both copies counted together."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self.seen: list[int] = []

    def params(self, values: object) -> None:
        pass

    def epoch(self, number: int, total: int, metrics: object) -> None:
        self.seen.append(number)
        if number == self._epoch:
            raise InterruptedError

    def note(self, text: str) -> None:
        pass


@pytest.mark.usefixtures("one_thread")
def test_what_finished_before_it_was_cut_off_is_not_trained_again(
    whole: tuple[Run, ArtefactRef, ArtefactRef, list[object]], tmp_path: Path
) -> None:
    _, given, ref, _ = whole
    options: dict[str, Any] = {"identity": ref.digest, "device": "cpu", "precision": "float32", "seed": 0}
    with pytest.raises(InterruptedError):
        fit_content(Path(given.path), tmp_path, SMALL, tracker=CutOff(4), **options)
    tracker = CutOff(99)
    report = fit_content(Path(given.path), tmp_path, SMALL, tracker=tracker, **options)
    assert min(tracker.seen) >= 4
    assert report == json.loads(ref.file("content.json").read_text())
    for copy in ("measured", "final"):
        weights = (tmp_path / copy / "model.safetensors").read_bytes()
        assert weights == ref.file(f"{copy}/model.safetensors").read_bytes()


def test_a_damaged_split_is_refused(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    given = split_in(run, made_split())
    (Path(given.path) / "titles.parquet").write_bytes(b"")
    with pytest.raises(ArtefactError, match=r"titles\.parquet"):
        train_content_cnn.fn(run, given)


def test_titles_without_any_metadata_are_no_failure(tmp_path: Path) -> None:
    split = made_split()
    bare = split.titles
    for name in ("genres", "plot"):
        place = bare.schema.get_field_index(name)
        kind = bare.schema.field(place).type
        empty = pa.array([[]] * N_ITEMS, kind) if pa.types.is_list(kind) else pa.nulls(N_ITEMS, kind)
        bare = bare.set_column(place, bare.schema.field(place), empty)
    folder = tmp_path / "split"
    folder.mkdir()
    Split(split.users, split.items, split.interactions, split.part, bare, split.strategy).save(folder)
    report = fit_content(
        folder, tmp_path / "work", SMALL, identity="x", device="cpu", precision="float32", seed=0, tracker=NullTracker()
    )
    assert np.isfinite(report["curve"][-1]["loss"])
    model = ContentCnn.load(tmp_path / "work" / "final")
    assert np.isfinite(model.scores(split.train)).all()


def test_few_titles_are_enough(tmp_path: Path) -> None:
    """So few that none is held out: all epochs are run, and there are no figures of cold titles."""
    users, items = IdMap.of(["a", "b"]), IdMap.of(["x", "y", "z"])
    histories = Histories.of_lists([[0, 1], [1, 2]], 3)
    titles = made_split().titles.slice(0, 3).set_column(0, columns.TITLES.field(0), items.ids)
    few = SMALL.model_copy(update={"cold_fraction": 0.1})
    folder = tmp_path / "split"
    folder.mkdir()
    Split(users, items, histories, np.zeros(4, np.int8), titles, "per-user-temporal").save(folder)
    report = fit_content(
        folder, tmp_path / "work", few, identity="x", device="cpu", precision="float32", seed=0, tracker=NullTracker()
    )
    assert report["figures"] == {}
    assert report["settings"]["kept_epochs"] == 3


def test_rivals_that_would_cost_too_much_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    split = made_split()
    monkeypatch.setattr(content_copies, "_RIVAL_TITLES", 10)
    draw = content_copies.draw_cold(split.train, fraction=0.1, seed=0)
    vocabulary = content_copies.Vocabulary.train(split.titles)
    assert content_copies.rivals(vocabulary.encode(split.titles), draw) == {}
