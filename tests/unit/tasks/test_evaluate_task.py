"""The ring on small files, with real child processes: reports, reuse, rivals brought along, splits of every kind."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys.artefacts import ArtefactRef, ArtefactStore, read_manifest, verify
from recsys.config import BaselinesConfig, ComputeConfig, Config, SourceConfig, SplitConfig
from recsys.errors import TrainingError, UsageError
from recsys.plugins import resolve
from recsys.rivals import families_to_run
from tasks.baselines import baselines_of, fit_baselines, fit_rival
from tasks.evaluate import Report, evaluate_files, evaluate_source
from tasks.ingest import ingest
from tasks.run import Run
from tasks.split import make_split
from tasks.validate import validate

NEAREST = '''
"""Titles in the order of their numbers, from a title on: a rival that a user of Marquee brings along."""
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from recsys.rivals import Family

@dataclass
class Ladder:
    start: int
    n_items: int
    def scores(self, histories):
        row = -((np.arange(self.n_items) - self.start) % self.n_items)
        return np.tile(row.astype(np.float32), (histories.n_users, 1))
    def save(self, folder):
        folder.mkdir(parents=True)
        (folder / "ladder.txt").write_text(f"{self.start} {self.n_items}")
    @classmethod
    def load(cls, folder):
        return cls(*map(int, (folder / "ladder.txt").read_text().split()))

def grid(histories, seed, validation):
    known, wanted = validation
    assert known.n_users == wanted.n_users
    for start in range(0, 24, 3):
        yield {"start": start, "epochs": 2}, Ladder(start, histories.n_items)

FAMILY = Family(lambda h, params, m, s: Ladder(params["start"], h.n_items), Ladder.load, grid, validated=True)
'''


def write_ratings(path: Path, *, times: bool = True, users: int = 60) -> Path:
    """Users walk through a ring of 30 titles. One has a single rating, some begin when the others have ended."""
    rng = np.random.default_rng(0)
    lines = ["user_id,item_id,rating,timestamp" if times else "user_id,item_id,rating"]
    for user in range(users):
        length = 1 if user == 0 else 12
        begin = 5_000_000 if user % 20 == 1 else int(rng.integers(1_000_000))
        walk = (rng.integers(30) + np.cumsum(rng.integers(1, 3, length))) % 30
        for place, item in enumerate(dict.fromkeys(walk.tolist())):
            rating = 2 if rng.random() < 0.1 else 5
            when = f",{1_500_000_000 + begin + place * 1000}" if times else ""
            lines.append(f"u{user},i{item:02d},{rating}{when}")
    path.write_text("\n".join(lines) + "\n")
    return path


def config_of(folder: Path, **split: object) -> Config:
    return Config(
        home=folder / "home",
        source=SourceConfig(kind="files", ratings=str(folder / "ratings.csv")),
        split=SplitConfig(**split),  # type: ignore[arg-type]
        baselines=BaselinesConfig(models=("popularity", "item_knn")),
        compute=ComputeConfig(device="cpu", threads=1),
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with ratings and a rival of one's own, which is the current one."""
    write_ratings(tmp_path / "ratings.csv")
    (tmp_path / "ladder_rival.py").write_text(NEAREST)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    sys.modules.pop("ladder_rival", None)  # another test's
    return tmp_path


def made(config: Config, kind: str) -> list[ArtefactRef]:
    store = ArtefactStore(config.home)
    return [store.ref(kind, folder.name) for folder in sorted((store.root / kind).iterdir())]


def test_the_report_says_all_and_the_test_window_is_touched_once(here: Path) -> None:
    config = config_of(here)
    models = ("ease", "ladder_rival:FAMILY")
    report = evaluate_source(config, models=models, budget=2, out=here / "out.json")
    assert json.loads((here / "out.json").read_text()) == report
    assert list(report["models"]) == ["ease", "ladder_rival"]
    assert report["split"]["strategy"] == "per-user-temporal"
    assert report["left_out_models"] == {}
    ring = report["ring"]
    assert ring["best_rival"]["ndcg_at_10"] == max(report["models"], key=lambda n: report["models"][n]["ndcg_at_10"])
    for name, figures in ring["models"].items():
        metrics = report["models"][name]
        assert figures["intervals"]["ndcg_at_10"]["mean"] == pytest.approx(metrics["ndcg_at_10"], abs=1e-6)
        assert set(figures["seconds"]) == {"tune", "fit", "score"}
        assert all(value >= 0 for value in figures["seconds"].values())
        assert all(50e6 < value < 4e9 for value in figures["peak_rss_bytes"].values())
        assert set(figures["groups"]) == {"activity", "popularity", "newness"}
    assert [len(ring["models"][name]["tried"]) for name in report["models"]] == [2, 2]
    assert ring["models"]["ladder_rival"]["params"]["epochs"] == 2
    ranks = pq.read_table(here / "out.ranks" / "ladder_rival.parquet")
    assert ranks.column_names == ["user_id", "rank", "item_id"]

    before = {
        ref.digest: read_manifest(ref).created_at for kind in ("rival", "evaluation") for ref in made(config, kind)
    }
    again = evaluate_source(config, models=models, budget=2, out=here / "again.json")
    assert again == report
    more = evaluate_source(config, models=(*models, "popularity"), budget=2, out=here / "more.json")
    assert more["models"] == {**report["models"], "popularity": more["models"]["popularity"]}
    after = {
        ref.digest: read_manifest(ref).created_at for kind in ("rival", "evaluation") for ref in made(config, kind)
    }
    assert before.items() < after.items()
    assert len(after) == len(before) + 2
    assert all(verify(ref) for ref in made(config, "ring"))


def split_and_run(config: Config) -> tuple[Run, ArtefactRef]:
    run = Run(run_id="one", run_date=date(2026, 1, 1), config=config, started_at=datetime.now(UTC))
    return run, make_split.fn(run, validate.fn(run, ingest.fn(run)))


def test_another_version_of_a_rival_is_fitted_anew(here: Path) -> None:
    run, split = split_and_run(config_of(here))
    rival = resolve("ladder_rival:FAMILY")
    first = fit_rival(run, split, rival)
    assert len(json.loads(first.file("rival.json").read_text())["tried"]) == 6  # trainings, where no budget is given
    assert fit_rival(run, split, rival) == first
    (here / "ladder_rival.py").write_text(NEAREST + "# changed\n")
    assert fit_rival(run, split, rival) != first
    assert len(made(run.config, "rival")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["global-temporal", "leave-last-out", "random", "strong-generalisation"])
def test_every_split(here: Path, strategy: str) -> None:
    config = config_of(here)
    models = ("ease", "order_ridge")
    report = evaluate_source(config, models=models, strategy=strategy, budget=1)  # type: ignore[arg-type]
    assert report["split"]["strategy"] == strategy
    ordered = strategy in {"global-temporal", "leave-last-out"}
    assert report["split"]["ordered"] is ordered
    assert list(report["left_out_models"]) == ([] if ordered else ["order_ridge"])
    assert set(report["models"]) == set(models) - set(report["left_out_models"])
    assert 0 < report["test_users"] <= 60
    new = report["ring"]["models"]["ease"]["groups"]["newness"]["new"]
    assert (new["users"] is not None) is ordered


def test_nothing_but_models_without_an_order_to_read(here: Path) -> None:
    with pytest.raises(TrainingError, match="no model was measured"):
        evaluate_source(config_of(here), models=("order_ridge",), strategy="random")


def test_given_files(here: Path) -> None:
    lines = (here / "ratings.csv").read_text().splitlines()
    train, test = here / "train.csv", here / "test.csv"
    train.write_text("\n".join([lines[0], *(line for n, line in enumerate(lines[1:]) if n % 4)]) + "\n")
    test.write_text("\n".join([lines[0], *(line for n, line in enumerate(lines[1:]) if n % 4 == 0), lines[2]]) + "\n")
    report: Report = evaluate_files(
        config_of(here), train=str(train), test=str(test), titles=None, models=("ease",),
        out=here / "metrics.json",
    )  # fmt: skip
    assert {"models", "left_out", "positive_from", "test_users", "evaluation"} <= set(report)
    assert report["left_out"] == 1
    assert report["split"]["strategy"] == "given"
    assert len(report["ring"]["models"]["ease"]["tried"]) == 10


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (("eese",), "Did you mean ease"),
        (("nxf",), "Did you mean ncf"),
        ((), "no model was named"),
        (("nowhere:FAMILY",), "cannot be imported"),
        (("ladder_rival:FAMILY", "ladder_rival:OTHER"), "AttributeError"),
        (("ladder_rival:FAMILY", "ladder_rival:SAME"), "two models would be shown as ladder_rival"),
    ],
)
def test_models_that_cannot_be_meant(here: Path, models: tuple[str, ...], message: str) -> None:
    (here / "ladder_rival.py").write_text(NEAREST + "SAME = FAMILY\n")
    with pytest.raises(UsageError, match=message):
        evaluate_source(config_of(here), models=models)


@pytest.mark.slow
def test_rivals_put_together_are_the_baselines_of_a_night(here: Path, one_thread: None) -> None:
    """Byte for byte, on as many threads."""
    run, split = split_and_run(config_of(here))
    names = families_to_run(run.config.baselines, ordered=True)
    together = baselines_of(run, split, {name: fit_rival(run, split, resolve(name)) for name in names})
    files = {name: entry.sha256 for name, entry in verify(together).files.items()}
    shutil.rmtree(together.path)
    night = fit_baselines.fn(run, split)
    assert night == together
    assert {name: entry.sha256 for name, entry in verify(night).files.items()} == files


def test_baselines_of_another_budget_are_others(here: Path) -> None:
    run, split = split_and_run(config_of(here))
    rivals = {"popularity": fit_rival(run, split, resolve("popularity"))}
    assert baselines_of(run, split, rivals) != baselines_of(run, split, rivals, budget=1)
