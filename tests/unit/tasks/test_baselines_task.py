from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pytest

from recsys import columns
from recsys.artefacts import verify
from recsys.config import BaselinesConfig, Config
from recsys.data.ids import IdMap
from recsys.data.split import Split
from recsys.histories import Histories
from recsys.rivals import load_family
from tasks.baselines import fit_baselines
from tasks.events import EpochEnded, listening
from tasks.run import Run, stage_records


@pytest.fixture
def run(tmp_path):
    config = Config(home=tmp_path, baselines=BaselinesConfig(models=("item_knn",)), seed=5)
    return Run(run_id="r1", run_date=date(2026, 1, 2), config=config, started_at=datetime.now(UTC))


@pytest.fixture
def split(run):
    rng = np.random.default_rng(0)
    histories = Histories.of_lists([rng.permutation(20)[:10].tolist() for _ in range(30)], 20)
    part = np.tile(np.array([0] * 6 + [1] * 2 + [2] * 2, np.int8), 30)
    users, items = (IdMap.of([f"{kind}{n:02d}" for n in range(count)]) for kind, count in (("u", 30), ("i", 20)))
    with run.store.create("split", {}, {}) as (draft, ref):
        Split(users, items, histories, part, columns.TITLES.empty_table(), "per-user-temporal").save(draft.path)
    return ref


def test_baselines_are_made_once(run, split):
    heard = []
    with listening(heard.append):
        ref = fit_baselines.fn(run, split)
    manifest = verify(ref)
    assert set(manifest.summary["families"]) == {"popularity", "item_knn", "ease", "order_ridge"}
    assert manifest.parents == {"split": split.digest}
    assert manifest.seed == 5
    assert [e.number for e in heard if isinstance(e, EpochEnded)] == [1, 2, 3, 4]
    scorer = load_family("ease", ref.file("ease/fit"))
    assert scorer.scores(Histories.of_lists([[0]], 20)).shape == (1, 20)

    assert fit_baselines.fn(run, split) == ref
    (record,) = stage_records(run)
    assert record.reused
    assert record.rows == 240
    assert set(record.details["ease"]) == {"ndcg_at_10", "recall_at_20"}


def test_another_configuration_is_another_artefact(run, split):
    first = fit_baselines.fn(run, split)
    other = run.model_copy(update={"config": run.config.model_copy(update={"seed": 6})})
    assert fit_baselines.fn(other, split).digest != first.digest
