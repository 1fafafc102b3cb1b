"""The Ray engine on a real cluster of this machine: two workers do what the local engine does."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recsys import columns
from recsys.artefacts import ArtefactRef, read_manifest
from recsys.autoencoder_copies import fit_copies
from recsys.bundle import BundleInfo, SplitFacts, load_bundle, write_bundle
from recsys.config import AutoencoderConfig, ComputeConfig, Config, ExportConfig, SourceConfig
from recsys.data.ids import IdMap
from recsys.data.ingest import ingest
from recsys.data.split import Split, align_titles
from recsys.errors import SourceError, TrainingError
from recsys.families import load_scorer
from recsys.histories import Histories
from recsys.listing import Listing
from recsys.models.user_autoencoder import UserAutoencoder
from recsys.workers import ChildResult
from tasks import engines
from tasks.autoencoder import train_autoencoder
from tasks.engines import ray_cluster
from tasks.events import EpochEnded, Event, EventTracker, Note, listening
from tasks.run import Run

pytestmark = pytest.mark.ray

RAY = ComputeConfig(engine="ray", workers=2, device="cpu", threads=2)
LOCAL = ComputeConfig(device="cpu", threads=2)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster for all tests here; afterwards nothing of it is left."""
    ray_cluster.connect(RAY)
    started = psutil.Process().children(recursive=True)
    folder = ray_cluster._folder
    yield
    engines.end()
    _, alive = psutil.wait_procs(started, timeout=20)
    assert not alive, "processes of the cluster are left"
    assert folder is not None
    assert not folder.exists()


def night(home: Path, compute: ComputeConfig) -> Run:
    settings = AutoencoderConfig(
        epochs=30, patience=30, hidden_size=16, embedding_size=8, batch_size=16, companion=False
    )  # fmt: skip
    config = Config(home=home, autoencoder=settings, compute=compute)
    return Run(run_id="one", run_date=date(2026, 11, 24), config=config, started_at=datetime.now(UTC))


def split(run: Run) -> ArtefactRef:
    """90 users × 10 interactions over 30 titles; the last two of each are test, the two before validation."""
    rng = np.random.default_rng(0)
    rows = [((rng.integers(30) + np.arange(10) * 3) % 30).tolist() for _ in range(90)]
    items = IdMap.of([f"m{number:02d}" for number in range(30)])
    titles = pa.table(
        {f.name: items.ids if f.name == "item_id" else pa.nulls(30, f.type) for f in columns.TITLES},
        schema=columns.TITLES,
    )
    part = np.tile(np.repeat([0, 1, 2], [6, 2, 2]), 90).astype(np.int8)
    users = IdMap.of([f"u{number:02d}" for number in range(90)])
    made = Split(users, items, Histories.of_lists(rows, 30), part, titles, "per-user-temporal")
    with run.store.create("split", {}, {}) as (draft, ref):
        made.save(draft.path)
        draft.rows["interactions"] = len(part)
    return ref


@dataclass
class Heard:
    notes: list[str] = field(default_factory=list)
    epochs: list[EpochEnded] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Note):
            self.notes.append(event.text)
        if isinstance(event, EpochEnded):
            self.epochs.append(event)


def report(ref: ArtefactRef) -> dict[str, Any]:
    return json.loads(ref.file("autoencoder.json").read_text())  # type: ignore[no-any-return]


def curves(ref: ArtefactRef) -> list[list[float]]:
    told = report(ref)
    return [[epoch["loss"] for epoch in told[copy]["curve"]] for copy in ("train", "fit")]


@dataclass(frozen=True)
class Trained:
    """The user autoencoder of one and the same split, from both engines."""

    split: Split
    local: ArtefactRef
    ray: ArtefactRef
    heard: Heard
    """What was heard of the ranks."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    homes = [tmp_path_factory.mktemp(name) for name in ("local", "ray")]
    runs = [night(home, compute) for home, compute in zip(homes, (LOCAL, RAY), strict=True)]
    splits = [split(run) for run in runs]
    heard = Heard()
    alone = train_autoencoder.fn(runs[0], splits[0])
    with listening(heard):
        together = train_autoencoder.fn(runs[1], splits[1])
    return Trained(Split.load(Path(splits[0].path)), alone, together, heard)


def test_the_cluster_listens_on_loopback_only() -> None:
    ours = psutil.Process().children(recursive=True)
    places = {c.laddr.ip for p in ours for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    assert places <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_two_ranks_have_the_loss_curve_of_one_process_with_twice_the_batch(trained: Trained) -> None:
    """A rank has half of every batch of 16. Both engines add the same floats, in another order."""
    assert trained.ray.digest != trained.local.digest, "the order of additions is in the bytes, so it is in the name"
    assert read_manifest(trained.ray).configuration["workers"] == 2
    for ours, theirs in zip(curves(trained.ray), curves(trained.local), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    numbers = [event.number for event in trained.heard.epochs]
    assert numbers == list(range(1, len(numbers) + 1))
    assert read_manifest(trained.ray).summary["cost"]["peak_rss_bytes"] > 200 << 20


def test_a_rank_that_is_killed_is_replaced_and_the_run_completes(tmp_path: Path, trained: Trained) -> None:
    run = night(tmp_path, RAY)
    killed: list[int] = []

    def kill_a_rank(event: Event) -> None:
        if isinstance(event, EpochEnded) and event.number == 3 and not killed:
            ranks = [p for p in psutil.Process().children(recursive=True) if "TrainWorker" in " ".join(p.cmdline())]
            assert len(ranks) == 2
            killed.append(ranks[-1].pid)
            os.kill(killed[0], signal.SIGKILL)

    heard = Heard()
    with listening(heard), listening(kill_a_rank):
        ref = train_autoencoder.fn(run, split(run))
    assert killed
    assert any("was lost: new ones go on" in note for note in heard.notes)
    assert any("goes on after epoch" in note for note in heard.notes)
    for ours, theirs in zip(curves(ref), curves(trained.local), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def listing(trained: Trained, autoencoder: ArtefactRef, folder: Path) -> Listing:
    """Lists of the 90 users, four to a block, so that Ray has ranges of 64 and 26."""
    made, scorer = trained.split, UserAutoencoder.load(autoencoder.file("fit"))
    info = BundleInfo(
        family="user_autoencoder",
        run_date=date(2026, 11, 24),
        seed=0,
        ordered=True,
        positive_from=4.0,
        split=SplitFacts(strategy="per-user-temporal", test_fraction=0.2, validation_fraction=0.2, seed=0),
    )
    write_bundle(
        folder, info, items=made.items, titles=made.titles, users=made.users, histories=made.interactions,
        measured=scorer, serving=scorer,
    )  # fmt: skip
    return Listing(
        bundle=load_bundle(folder, load_scorer=load_scorer, verified=False),
        users=made.users,
        histories=made.interactions,
        titles=made.titles,
        listable=np.ones(len(made.items), np.bool_),
        space=np.eye(len(made.items), dtype=np.float32),
        export=ExportConfig(n=8, block_size=1),
        model_version="1",
        run_date=date(2026, 11, 24),
    )


def rows_of(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(part) for part in sorted(folder.glob("part-*.parquet")))


def test_two_workers_write_the_very_rows_that_one_process_writes(trained: Trained, tmp_path: Path) -> None:
    lists = listing(trained, trained.local, tmp_path / "bundle")
    done: list[int] = []
    here = lists.write(tmp_path / "here")
    there = engines.write_lists(RAY, lists, tmp_path / "there", done.append)
    assert there == here
    assert done[-1] == 90
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [
        "part-00000-000.parquet",
        "part-00001-000.parquet",
    ]
    assert rows_of(tmp_path / "there").equals(rows_of(tmp_path / "here"))
    assert not list(tmp_path.glob(".listing-*"))


def test_the_lists_of_a_model_trained_and_served_on_ray_are_those_of_one_machine(
    trained: Trained, tmp_path: Path
) -> None:
    """Scores may differ by 1e-3 of their spread (float additions); titles only where scores tie within that."""
    listing(trained, trained.local, tmp_path / "a").write(tmp_path / "here")
    engines.write_lists(RAY, listing(trained, trained.ray, tmp_path / "b"), tmp_path / "there", lambda _: None)
    here, there = (rows_of(tmp_path / name) for name in ("here", "there"))
    for column in (columns.USER_ID, columns.RANK):
        assert here[column].equals(there[column])
    scores, others = here[columns.SCORE].to_numpy(), there[columns.SCORE].to_numpy()
    tolerance = 1e-3 * scores.std()
    np.testing.assert_allclose(others, scores, atol=tolerance)
    moved = np.flatnonzero(here[columns.ITEM_ID].to_numpy() != there[columns.ITEM_ID].to_numpy())
    assert len(moved) < 0.02 * len(scores)
    near = np.minimum(
        *(np.abs(np.diff(scores, append=np.inf, prepend=np.inf))[place:][: len(scores)] for place in (0, 1))
    )
    assert (near[moved] <= 2 * tolerance).all(), "titles changed places although their scores differ"


def test_many_files_read_on_ray_are_the_same_dataset(tmp_path: Path) -> None:
    for number in range(5):
        rows = [f"u{k % 23},m{(k * 7 + number) % 41},{k % 5 + 1},{1_700_000_000 + k}" for k in range(200)]
        spoilt = ["u1,m1,good,1700000000"] if number == 3 else []
        text = "\n".join(["userId,movieId,rating,timestamp", *rows, *spoilt])
        (tmp_path / f"ratings-{number}.csv").write_text(text + "\n")
    source = SourceConfig(kind="files", ratings=f"{tmp_path}/ratings-*.csv")
    here = ingest(source, tmp_path / "here")
    there = ingest(source, tmp_path / "there", reader=engines.reader_of_files(RAY))
    assert there.dataset.digest == here.dataset.digest
    assert (there.rows, there.rejected) == (here.rows, 1) == (1_000, 1)
    (tmp_path / "ratings-2.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SourceError, match=r"ratings-2\.csv"):
        ingest(source, tmp_path / "there", reader=engines.reader_of_files(RAY))


def test_a_trainer_of_its_own_is_a_task_with_the_same_bytes(trained: Trained, tmp_path: Path) -> None:
    """As the content CNN and NCF are: the same function, somewhere on the cluster."""
    folder = tmp_path / "split"
    trained.split.save(folder)
    heard = Heard()
    with listening(heard):
        done = alone_on_ray(folder, tmp_path, night(tmp_path, RAY).config.autoencoder)
    assert len(heard.epochs) > 4
    assert done.peak_rss_bytes > 100 << 20
    model = tmp_path / "work" / "train" / "model.safetensors"
    assert model.read_bytes() == trained.local.file("train/model.safetensors").read_bytes()


def test_what_a_trainer_refuses_is_said(tmp_path: Path) -> None:
    histories, items = Histories.of_lists([[0]] * 20, 5), IdMap.of([f"m{n}" for n in range(5)])
    users, titles = IdMap.of([f"u{n:02d}" for n in range(20)]), align_titles(columns.TITLES.empty_table(), items)
    Split(users, items, histories, np.zeros(20, np.int8), titles, "random").save(tmp_path / "split")
    with pytest.raises(TrainingError, match="no user has two positive interactions"):
        alone_on_ray(tmp_path / "split", tmp_path, AutoencoderConfig())


def alone_on_ray(folder: Path, work: Path, config: AutoencoderConfig) -> ChildResult[Any]:
    return engines.train(
        RAY, fit_copies, folder, work / "work", config, identity="x", device="cpu", precision="float32", seed=0,
        name="user autoencoder", threads=1, tracker=EventTracker("user_autoencoder"), log=work / "log.txt",
    )  # fmt: skip
