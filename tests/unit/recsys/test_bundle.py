"""A bundle holds what a later night and a served model need, and refuses what does not fit together."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys import columns
from recsys.artefacts import ArtefactStore
from recsys.bundle import (
    USER,
    Bundle,
    BundleInfo,
    SplitFacts,
    TranslatedScorer,
    load_bundle,
    per_user_table,
    translate,
    write_bundle,
)
from recsys.data.ids import IdMap
from recsys.data.split import align_titles
from recsys.errors import ArtefactError
from recsys.families import load_scorer
from recsys.histories import Floats, Histories
from recsys.models.baselines import Popularity
from recsys.models.linear import Ease
from recsys.privacy import hashed

ITEMS = IdMap.of(["007", "blade", "casablanca", "dune", "eraserhead", "fargo"])
USERS = IdMap.of(["ann", "bob", "cid", "new"])
LIKED = [[0, 1, 3], [0, 1], [1, 3, 0], []]


def info(**changes: object) -> BundleInfo:
    facts = {
        "family": "ease",
        "run_date": date(2026, 11, 20),
        "seed": 0,
        "ordered": True,
        "positive_from": 4.0,
        "split": SplitFacts(strategy="per-user-temporal", test_fraction=0.2, validation_fraction=0.2, seed=0),
        "metrics": {"ndcg_at_10": 0.5},
    }
    return BundleInfo.model_validate({**facts, **changes})


def titles(until: dict[str, datetime] | None = None) -> pa.Table:
    rows = [{columns.ITEM_ID: "dune", columns.TITLE: "Dune", columns.GENRES: ["Sci-Fi"]}]
    rows += [{columns.ITEM_ID: i, columns.AVAILABLE_UNTIL: end} for i, end in (until or {}).items()]
    return align_titles(pa.Table.from_pylist(rows, schema=columns.TITLES), ITEMS)


def make(home: Path, bundle_info: BundleInfo | None = None, metadata: pa.Table | None = None) -> Path:
    histories = Histories.of_lists(LIKED, len(ITEMS))
    scorer = Ease.fit(histories, l2=1.0)
    with ArtefactStore(home).create("model", {}, {}) as (draft, ref):
        write_bundle(
            draft.path,
            bundle_info or info(),
            items=ITEMS,
            titles=titles() if metadata is None else metadata,
            users=USERS,
            histories=histories,
            measured=scorer,
            serving=scorer,
            per_user=per_user_table(["bob", "ann"], {"ndcg_at_10": np.array([0.25, 1.0], np.float32)}),
        )
    return Path(ref.path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("home"))


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return load_bundle(folder, load_scorer=load_scorer)


def test_what_is_written_is_read(folder: Path, bundle: Bundle) -> None:
    assert bundle.info.n_items == 6
    assert bundle.info.n_users == 4
    assert bundle.info.digests == {"items": ITEMS.digest}
    assert bundle.items == ITEMS
    assert bundle.users == USERS
    assert bundle.titles.equals(titles())
    histories = Histories.of_lists(LIKED, len(ITEMS))
    expected = Ease.fit(histories, l2=1.0).scores(histories)
    for scorer in (bundle.measured, bundle.serving):
        assert np.array_equal(scorer.scores(histories), expected)


def test_it_holds_no_pickle(folder: Path) -> None:
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {
        ".json",
        ".parquet",
        ".npy",
        ".safetensors",
    }


def test_per_user_figures_stand_under_hashed_names(bundle: Bundle) -> None:
    assert bundle.per_user is not None
    figures = dict(zip(bundle.per_user[USER].to_pylist(), bundle.per_user["ndcg_at_10"].to_pylist(), strict=True))
    assert figures == {hashed("ann"): 1.0, hashed("bob"): 0.25}
    assert bundle.per_user[USER].to_pylist() == sorted(figures)


def test_a_known_user_is_answered_from_the_kept_history(bundle: Bundle) -> None:
    answer = bundle.answer_users(["bob"], 3)[0]
    assert answer.item_ids[0] == "dune"  # ann and cid, who share bob's two titles, liked it too
    assert not {"007", "blade"} & set(answer.item_ids)
    assert not answer.popular


def test_a_visitor_with_a_users_history_gets_that_users_list(bundle: Bundle) -> None:
    assert bundle.score_users([["007", "blade"]], 4) == bundle.answer_users(["bob"], 4)


def test_who_is_not_known_gets_popular_titles_and_order_is_kept(bundle: Bundle) -> None:
    stranger, empty, bob, nobody = bundle.answer_users(["stranger", "new", "bob", None], 2)
    assert stranger == empty == nobody == bundle.score_users([[]], 2)[0]
    assert stranger.popular
    assert stranger.item_ids == ["007", "dune"]  # the newest in the histories, the one with more likes first
    assert not bob.popular


def test_unknown_titles_are_ignored(bundle: Bundle) -> None:
    assert bundle.score_users([["nope", "007", "7", "blade"]], 3) == bundle.score_users([["007", "blade"]], 3)
    assert bundle.score_users([["nope"]], 3)[0].popular


def test_batches_and_single_rows_agree(bundle: Bundle) -> None:
    rows = [["007"], [], ["dune", "fargo"], ["blade", "blade"]] * 300
    assert bundle.score_users(rows, 3) == bundle.score_users(rows[:4], 3) * 300
    assert bundle.score_users([], 3) == []
    assert bundle.answer_users([], 3) == []


def test_a_list_is_never_longer_than_the_catalogue(bundle: Bundle) -> None:
    answer = bundle.score_users([["007"]], 1000)[0]
    assert len(answer.item_ids) == len(set(answer.item_ids)) == 5
    assert answer.scores == sorted(answer.scores, reverse=True)


def test_blocked_and_expired_titles_are_not_listed(tmp_path: Path) -> None:
    ended = titles({"fargo": datetime(2026, 11, 20, 12, tzinfo=UTC)})
    bundle = load_bundle(make(tmp_path, info(blocked=("dune",)), ended), load_scorer=load_scorer)
    assert set(bundle.score_users([["007"]], 10)[0].item_ids) == {"blade", "casablanca", "eraserhead"}


def test_parts_of_other_data_are_refused(tmp_path: Path) -> None:
    histories = Histories.of_lists(LIKED, len(ITEMS))
    narrow = Popularity.fit(Histories.of_lists([[0]], 3))
    parts = {"items": ITEMS, "titles": titles(), "users": USERS, "histories": histories}
    with pytest.raises(ArtefactError, match="6 titles, the measured copy has 3"):
        write_bundle(tmp_path, info(), **parts, measured=narrow, serving=narrow)
    scorer = Popularity.fit(histories)
    with pytest.raises(ArtefactError, match="4 histories of 1 users"):
        write_bundle(tmp_path, info(), **{**parts, "users": IdMap.of(["a"])}, measured=scorer, serving=scorer)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path)
    damaged = next((folder / "serving").glob("*.safetensors"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00\x01")
    with pytest.raises(ArtefactError, match=damaged.name):
        load_bundle(folder, load_scorer=load_scorer)


def test_what_is_no_bundle_or_a_newer_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no bundle here"):
        load_bundle(tmp_path, load_scorer=load_scorer, verified=False)
    folder = make(tmp_path)
    facts = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**facts, "unheard_of": 1}))
    with pytest.raises(ArtefactError, match="newer Marquee"):
        load_bundle(folder, load_scorer=load_scorer, verified=False)
    (folder / "bundle.json").write_text(json.dumps({**facts, "digests": {"items": "other"}}))
    with pytest.raises(ArtefactError, match="item_ids"):
        load_bundle(folder, load_scorer=load_scorer, verified=False)


def test_an_unknown_family_is_named(tmp_path: Path) -> None:
    bundle = load_bundle(make(tmp_path, info(family="oracle")), load_scorer=load_scorer)
    with pytest.raises(ArtefactError, match="'oracle'"):
        _ = bundle.serving


def test_a_copy_of_other_titles_is_refused(folder: Path) -> None:
    wrong = load_bundle(folder, load_scorer=lambda family, where: Popularity.fit(Histories.of_lists([[0]], 3)))
    with pytest.raises(ArtefactError, match="measured copy scores 3 titles"):
        _ = wrong.measured


class Positional:
    """Scores title i of its own with i, and 100 more for titles in the history."""

    n_items = 3

    def scores(self, histories: Histories) -> Floats:
        return (np.arange(3) + 100 * histories.matrix().toarray()).astype(np.float32)


def test_a_past_champion_is_seen_over_tonights_titles() -> None:
    theirs, ours = IdMap.of(["b", "c", "e"]), IdMap.of(["a", "b", "d", "e"])
    scorer = TranslatedScorer(Positional(), theirs, ours)  # type: ignore[arg-type]
    assert scorer.n_items == 4
    scores = scorer.scores(Histories.of_lists([[0, 3], [], [1]], 4))  # {a, e}, {}, {b}
    assert scores[:, [1, 3]].tolist() == [[0, 102], [0, 2], [100, 2]]
    assert (scores[:, [0, 2]] < scores[:, [1, 3]].min(axis=1, keepdims=True)).all()
    assert np.isfinite(scores).all()
    assert scores.dtype == np.float32
    for refused in (scorer.save, TranslatedScorer.load):
        with pytest.raises(ArtefactError):
            refused(Path("x"))


def test_the_same_titles_need_no_translation(bundle: Bundle) -> None:
    assert bundle.over(ITEMS) is bundle.measured
    assert bundle.over(ITEMS, "serving") is bundle.serving
    assert isinstance(bundle.over(IdMap.of(["x"])), TranslatedScorer)


IDS = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8)


@given(st.data(), IDS, IDS)
def test_translation_keeps_what_both_know_in_its_order(data: st.DataObject, mine: list[str], other: list[str]) -> None:
    from_items, to_items = IdMap.of(mine), IdMap.of(other)
    row = st.lists(st.integers(0, len(mine) - 1), unique=True) if mine else st.just([])
    rows = data.draw(st.lists(row, max_size=4))
    translated, dropped = translate(Histories.of_lists(rows, len(mine)), from_items, to_items)
    names = [[from_items.ids[i].as_py() for i in numbers] for numbers in rows]
    assert translated.n_items == len(to_items)
    assert [to_items.external(translated.item_nums[translated.row(u)]).to_pylist() for u in range(len(rows))] == [
        [name for name in user if name in other] for user in names
    ]
    assert dropped == sum(name not in other for user in names for name in user)
