"""The second stage's step, with real towers and real child processes: made, reused, refused, resumed, served."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys import columns
from recsys.artefacts import ArtefactRef, digest_of, read_manifest, verify
from recsys.config import AutoencoderConfig, BaselinesConfig, ComputeConfig, Config, ContentConfig, NcfConfig
from recsys.data.ids import IdMap
from recsys.data.split import Split
from recsys.errors import ArtefactError, TrainingError
from recsys.families import load_scorer
from recsys.histories import Histories
from tasks.autoencoder import refit_autoencoder, train_autoencoder
from tasks.baselines import fit_baselines
from tasks.content import train_content_cnn
from tasks.events import EpochEnded, Event, EventTracker, listening
from tasks.ncf import KIND, ncf_configuration, serve_ncf, train_ncf
from tasks.run import Run, stage_records

Towers = tuple[ArtefactRef, ArtefactRef, ArtefactRef]


def night(home: Path, **ncf: object) -> Run:
    config = Config(
        home=home,
        autoencoder=AutoencoderConfig(epochs=2, hidden_size=16, embedding_size=8, batch_size=16),
        content=ContentConfig(epochs=1, embedding_size=8, channels=4, vocabulary_size=300, max_tokens=16),
        baselines=BaselinesConfig(models=("popularity",)),
        ncf=NcfConfig(**{"epochs": 2, "hidden_size": 8, "candidates": 20, "batch_size": 16, **ncf}),  # type: ignore[arg-type]
        compute=ComputeConfig(device="cpu", threads=2),
    )
    return Run(run_id="one", run_date=date(2026, 1, 1), config=config, started_at=datetime.now(UTC))


def split(run: Run, seed: int = 0) -> ArtefactRef:
    """60 users × 10 interactions over 40 titles; the last two of each are test, the two before validation."""
    rng = np.random.default_rng(seed)
    histories = Histories.of_lists([((rng.integers(40) + np.arange(10) * 3) % 40).tolist() for _ in range(60)], 40)
    items = IdMap.of([f"m{number:02d}" for number in range(40)])
    known = {columns.ITEM_ID: items.ids, columns.TITLE: pa.array([f"The film {number % 7}" for number in range(40)])}
    table = pa.table(
        {field.name: known.get(field.name, pa.nulls(40, field.type)) for field in columns.TITLES}, schema=columns.TITLES
    )
    part = np.tile(np.repeat([0, 1, 2], [6, 2, 2]), 60).astype(np.int8)
    made = Split(IdMap.of([f"u{n:02d}" for n in range(60)]), items, histories, part, table, "per-user-temporal")
    with run.store.create("split", {}, {"seed": seed}) as (draft, ref):
        made.save(draft.path)
        draft.rows.update(interactions=600, titles=40)
    return ref


def towers(run: Run, given: ArtefactRef) -> Towers:
    return train_autoencoder.fn(run, given), train_content_cnn.fn(run, given), fit_baselines.fn(run, given)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ArtefactRef, Towers]:
    folder = tmp_path_factory.mktemp("home")
    run = night(folder)
    given = split(run)
    return folder, given, towers(run, given)


def test_it_is_made_whole_reported_and_reused(home: tuple[Path, ArtefactRef, Towers]) -> None:
    folder, given, made = home
    run = night(folder)
    heard: list[Event] = []
    with listening(heard.append):
        ref = train_ncf.fn(run, given, *made)
    manifest = verify(ref)
    assert manifest.parents == {
        "split": given.digest,
        "autoencoder": made[0].digest,
        "content": made[1].digest,
        "baselines": made[2].digest,
    }
    report = json.loads(ref.file("ncf.json").read_text())
    assert report["settings"]["epochs"] == 2
    assert set(report["curve"][0]) == {"loss", "ndcg_at_10"}
    assert manifest.summary["validation"] == report["validation"]
    assert [event.number for event in heard if isinstance(event, EpochEnded)] == list(range(1, 11))  # five networks
    matrix = ref.file("measured/towers/ease/model.safetensors")
    assert matrix.samefile(made[2].file("ease/fit/model.safetensors"))  # linked, not written again
    histories = Split.load(Path(given.path)).fit
    scores = load_scorer("ncf", ref.file("measured")).scores(histories)
    assert scores.shape == (60, 40)
    assert np.isfinite(scores).all()
    assert not (folder / "checkpoints" / KIND).exists() or not list((folder / "checkpoints" / KIND).iterdir())

    again = train_ncf.fn(run, given, *made)
    assert again == ref
    assert stage_records(run)[-1].reused


def test_towers_of_another_split_are_refused(home: tuple[Path, ArtefactRef, Towers]) -> None:
    folder, _, made = home
    run = night(folder, epochs=1)
    other = split(run, seed=1)
    with pytest.raises(ArtefactError, match="fitted on split"):
        train_ncf.fn(run, other, *made)


def test_a_damaged_tower_is_named(home: tuple[Path, ArtefactRef, Towers], tmp_path: Path) -> None:
    folder, given, made = home
    shutil.copytree(folder / "artefacts", tmp_path / "artefacts")
    moved = [ref.model_copy(update={"path": ref.path.replace(str(folder), str(tmp_path))}) for ref in (given, *made)]
    broken = moved[3].file("ease/fit/model.safetensors")
    broken.unlink()
    broken.write_bytes(b"x")
    with pytest.raises(ArtefactError, match="ease/fit"):
        train_ncf.fn(night(tmp_path, epochs=1), *moved)


def test_a_training_that_fails_leaves_no_artefact(home: tuple[Path, ArtefactRef, Towers]) -> None:
    folder, given, made = home
    run = night(folder, learning_rate=1e30)
    with pytest.raises(TrainingError, match="diverged"):
        train_ncf.fn(run, given, *made)
    names = ("split", "autoencoder", "content", "baselines")
    parents = {name: ref.digest for name, ref in zip(names, (given, *made), strict=True)}
    assert run.store.find(KIND, parents, ncf_configuration(run)) is None
    assert "diverged" in (stage_records(run)[-1].error or "")
    assert digest_of(KIND, parents, ncf_configuration(run)) != read_manifest(made[0]).digest


def test_the_serving_copy_stands_over_everything(home: tuple[Path, ArtefactRef, Towers], tmp_path: Path) -> None:
    folder, given, made = home
    run = night(folder)
    tracker = EventTracker("refit")
    refit_autoencoder(run, given, made[0], tmp_path / "autoencoder", tracker)
    serve_ncf(run, given, made, tmp_path / "autoencoder", tmp_path / "serving", tracker)
    model = load_scorer("ncf", tmp_path / "serving")
    everything = Split.load(Path(given.path)).interactions
    assert np.isfinite(model.scores(everything)).all()
    liked = np.bincount(everything.item_nums, minlength=40)
    assert np.allclose(np.expm1(model.copy.statistics.log_popularity), liked, atol=1e-3)  # type: ignore[attr-defined]
    assert not (folder / "checkpoints" / KIND / f"{made[0].digest}-serving").exists()
