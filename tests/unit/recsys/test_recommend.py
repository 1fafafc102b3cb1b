from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import columns
from recsys.catalogue import display_names, eligible
from recsys.data.ids import IdMap
from recsys.errors import PublicationError
from recsys.fallback import Fallback, popularity_now
from recsys.histories import Histories
from recsys.reasons import POPULAR_NOW, Reasons, list_matrix
from recsys.recommend import recommend, with_new_titles, write_parts, write_recommendations, write_similar
from recsys.similar import behaviour_vectors, similar_blocks, title_space
from recsys.topk import NO_ITEM, top_k

NIGHT = date(2026, 11, 24)


def titles_of(*rows: dict) -> pa.Table:
    empty = {"genres": [], "cast": [], "directors": [], "tags": [], "regions": []}
    return pa.Table.from_pylist([{**empty, "item_id": f"t{n}", **row} for n, row in enumerate(rows)], columns.TITLES)


class ByNumber:
    """Scores every title by its number, the same for everyone."""

    def __init__(self, n_items: int) -> None:
        self.n_items = n_items

    def scores(self, histories):
        return np.tile(np.arange(self.n_items, dtype=np.float32), (histories.n_users, 1))


@pytest.fixture
def titles():
    return titles_of(
        {"title": "Zero", "year": 1999, "genres": ["War"], "directors": ["Ada"]},
        {"title": "One", "genres": ["War"], "cast": ["Bo"]},
        {"title": "Two", "genres": ["Comedy"], "directors": ["Ada"]},
        {"genres": ["Comedy"], "cast": ["Bo"]},
    )


def everything(n: int) -> np.ndarray:
    return np.ones(n, np.bool_)


def test_lists_leave_out_seen_and_unlistable_titles(titles):
    histories = Histories.of_lists([[3], [0, 1]], 4)
    fallback = Fallback.of(histories)
    listable = np.array([True, True, False, True])
    (block,) = recommend(ByNumber(4), histories, fallback, n=2, listable=listable)
    assert block.items.tolist() == [[1, 0], [3, NO_ITEM]]
    assert block.fallback.tolist() == [False, False]


def test_users_without_anything_liked_get_what_is_popular(titles):
    histories = Histories.of_lists([[0], [1, 2], [1, 2], [2]], 4)
    histories = replace(histories, positive=np.array([False, True, True, True, True, False]))
    fallback = Fallback.of(histories)
    blocks = list(recommend(ByNumber(4), histories, fallback, n=3, listable=everything(4), block_size=1))
    assert [b.first_user for b in blocks] == [0, 1, 2, 3]
    assert [bool(b.fallback[0]) for b in blocks] == [True, False, False, True]
    assert blocks[0].items[0].tolist() == [2, 1, 3]  # the popular ones, equal ones by number from above
    assert blocks[1].items[0].tolist() == [3, 0, NO_ITEM]


def test_users_with_little_history_lean_on_popularity(titles):
    histories = Histories.of_lists([[3], *[[0, 1]] * 9, [0, 3], [0]], 4)
    fallback = Fallback.of(histories)
    model = np.array([-1.5, 0.5, 4.0, 0.0], np.float32)
    leaning = fallback.leaning(np.tile(model, (3, 1)), histories.select(np.array([0, 1, 11])))
    prior = np.log1p([11, 9, 0, 2])
    for row, liked in zip(leaning, (1, 2, 1), strict=True):
        share = liked / (liked + 20)
        expected = share * (model - model.mean()) / model.std() + (1 - share) * (prior - prior.mean()) / prior.std()
        np.testing.assert_allclose(row, expected, rtol=1e-5)
    (block,) = recommend(ByNumber(4), histories, fallback, n=2, listable=everything(4), min_history=2)
    assert block.items[0].tolist() == [0, 1]  # one liked: what is popular
    assert block.items[1].tolist() == [3, 2]  # two: what the model says
    assert block.fallback.tolist() == [True, *[False] * 10, True]


def test_a_model_without_an_opinion_leaves_it_to_popularity(titles):
    histories = Histories.of_lists([[3], [0, 1]], 4)
    leaning = Fallback.of(histories).leaning(np.zeros((2, 4), np.float32), histories)
    assert np.isfinite(leaning).all()


def test_new_titles_have_their_places_and_those_that_merit_more_keep_theirs(titles):
    histories = Histories.of_lists([[0], [1]], 8)
    new = np.isin(np.arange(8), [2, 3, 7])
    fallback = Fallback.of(histories)
    options = {"listable": np.arange(8) != 7, "new": new}
    (none,) = recommend(ByNumber(8), histories, fallback, n=3, new_share=0.3, **options)
    assert none.items.tolist() == [[6, 5, 4], [6, 5, 4]]  # a third of three, rounded down
    (one,) = recommend(ByNumber(8), histories, fallback, n=3, new_share=0.34, **options)
    assert one.items.tolist() == [[6, 5, 3], [6, 5, 3]]
    assert one.scores.tolist() == [[6.0, 5.0, 3.0]] * 2
    (two,) = recommend(ByNumber(8), histories, fallback, n=4, new_share=0.5, **options)
    assert two.items.tolist() == [[6, 5, 3, 2], [6, 5, 3, 2]]  # 3 was there by merit, 2 takes the last old one's place
    (all_of_them,) = recommend(ByNumber(8), histories, fallback, n=7, new_share=1.0, **options)
    assert all_of_them.items.tolist() == [[6, 5, 4, 3, 2, 1, NO_ITEM], [6, 5, 4, 3, 2, 0, NO_ITEM]]


@given(seed=st.integers(0, 10_000), n=st.integers(1, 12), places=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_lists_with_new_titles_against_a_plain_loop(seed, n, places):
    rng = np.random.default_rng(seed)
    scores = rng.permuted(np.tile(np.arange(15, dtype=np.float32), (4, 1)), axis=1)
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    new, places = rng.random(15) < 0.4, min(n, places)
    items, values = with_new_titles(scores, *top_k(scores, n), new, places)
    for row, listed in enumerate(items.tolist()):
        ranked = [i for i in np.argsort(-scores[row], kind="stable").tolist() if np.isfinite(scores[row, i])]
        fresh = [i for i in ranked if new[i]]
        chosen = set(ranked[:n])
        for title in fresh[: max(places, 0)]:
            if title not in chosen and sum(new[i] for i in chosen) < places:
                chosen.remove(min((i for i in chosen if not new[i]), key=lambda i: scores[row, i]))
                chosen.add(title)
        expected = sorted(chosen, key=lambda i: -scores[row, i])
        assert listed == expected + [NO_ITEM] * (n - len(expected))
        assert values[row, : len(expected)].tolist() == [scores[row, i] for i in expected]


def test_scores_that_are_not_finite_are_refused(titles):
    class Broken(ByNumber):
        def scores(self, histories):
            return np.full((histories.n_users, self.n_items), np.nan, np.float32)

    histories = Histories.of_lists([[0]], 4)
    fallback = Fallback.of(histories)
    with pytest.raises(PublicationError, match="not finite"):
        next(recommend(Broken(4), histories, fallback, n=2, listable=everything(4)))


def test_written_lists(titles, tmp_path):
    histories = Histories.of_lists([[0], [3, 1]], 4)
    fallback = Fallback.of(histories)
    space = np.eye(4, dtype=np.float32)
    space[2] = space[0]
    users, items = IdMap.of(["ann", "bob"]), IdMap.of(titles["item_id"])
    done = []
    counts = write_recommendations(
        tmp_path, recommend(ByNumber(4), histories, fallback, n=3, listable=everything(4)), Reasons(titles, space),
        users, items, model_version="7", run_date=NIGHT, progress=done.append,
    )  # fmt: skip
    table = pq.read_table(tmp_path)
    assert table.schema.equals(columns.RECOMMENDATIONS)
    assert table["user_id"].to_pylist() == ["ann"] * 3 + ["bob"] * 2
    assert table["rank"].to_pylist() == [1, 2, 3, 1, 2]
    assert table["item_id"].to_pylist() == ["t3", "t2", "t1", "t2", "t0"]
    assert table["reason"].to_pylist()[1] == "Because you watched Zero (1999), by the same director"
    assert table["reason"].to_pylist()[0] == POPULAR_NOW
    assert set(table["model_version"].to_pylist()) == {"7"}
    assert (counts.users, counts.rows, counts.short_lists, counts.titles_shown) == (2, 5, 1, 4)
    assert done == [2]


def test_reasons_name_what_is_shared(titles):
    space = np.ones((4, 1), np.float32)
    histories = Histories.of_lists([[1], [2], []], 4)
    items = np.array([[3, 2], [0, 3], [0, NO_ITEM]], np.int32)
    reasons = Reasons(titles, space).explain(items, histories, np.array([False, False, False]))
    assert reasons.to_pylist() == [
        "Because you watched One, with some of the same cast",
        "Because you watched One",
        "Because you watched Two, by the same director",
        "Because you watched Two",
        POPULAR_NOW,
    ]


def test_what_is_far_from_all_that_was_watched_is_popular(titles):
    space = np.eye(4, dtype=np.float32)
    reasons = Reasons(titles, space).explain(np.array([[0]], np.int32), Histories.of_lists([[1]], 4), np.array([False]))
    assert reasons.to_pylist() == [POPULAR_NOW]


def test_parts_are_cut_by_rows(tmp_path):
    schema = pa.schema([("x", pa.int64())])
    write_parts(tmp_path, (pa.table({"x": [n]}, schema) for n in range(5)), schema, (), rows=2)
    assert [pq.read_table(p)["x"].to_pylist() for p in sorted(tmp_path.iterdir())] == [[0, 1], [2, 3], [4]]
    write_parts(tmp_path / "whole", (pa.table({"x": [n]}, schema) for n in range(5)), schema, ())
    assert pq.read_metadata(tmp_path / "whole" / "part-00000.parquet").num_row_groups == 1
    write_parts(tmp_path / "none", iter(()), schema, ())
    assert pq.read_table(tmp_path / "none").num_rows == 0


@pytest.mark.parametrize(
    ("opens", "closes", "shown"),
    [(None, None, True), ("2026-11-24", None, True), ("2026-11-25", None, False), (None, "2026-11-25", True),
     (None, "2026-11-24", False), ("2020-01-01", "2027-01-01", True), (None, "2026-11-24T12:00", False)],
)  # fmt: skip
def test_availability_covers_the_whole_day(opens, closes, shown):
    moment = lambda text: None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)  # noqa: E731
    titles = titles_of({"available_from": moment(opens), "available_until": moment(closes)})
    assert eligible(titles, NIGHT).tolist() == [shown]


def test_blocked_titles_and_regions():
    titles = titles_of({"regions": ["DE"]}, {"regions": ["FR", "US"]}, {}, {})
    assert eligible(titles, NIGHT, blocked=["t2"], region="DE").tolist() == [True, False, False, True]


def test_display_names(titles):
    assert display_names(titles) == ["Zero (1999)", "One", "Two", "t3"]


def test_popularity_now_prefers_the_recent():
    histories = Histories(
        indptr=np.array([0, 5]), item_nums=np.array([0, 1, 2, 3, 4], np.int32), ratings=np.full(5, 5, np.float32),
        positive=np.array([True, True, True, False, True]), timestamps=np.array([1, 2, 3, 100, 100]), n_items=6,
    )  # fmt: skip
    assert np.argsort(-popularity_now(histories), kind="stable").tolist() == [4, 0, 1, 2, 3, 5]


def test_list_matrix_counts_a_value_once():
    matrix = list_matrix(titles_of({"genres": ["a", "a"], "cast": ["a"]}, {}), "genres", "cast")
    assert matrix.toarray().tolist() == [[1, 1], [0, 0]]


def test_similar_titles_share_watchers_or_content(tmp_path):
    histories = Histories.of_lists([[0, 1]] * 5 + [[2, 3]] * 5, 5)
    behaviour = behaviour_vectors(histories)
    np.testing.assert_array_equal(behaviour, behaviour_vectors(histories))
    content = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1]], np.float32)
    space = title_space(behaviour, content, np.array([True, True, True, True, False]))
    np.testing.assert_allclose(np.linalg.norm(space, axis=1), 1, rtol=1e-5)
    nearest = np.concatenate([items for _, items, _ in similar_blocks(space, everything(5), 1, block_size=2)])
    assert nearest.ravel().tolist()[:4] == [1, 0, 3, 2]
    assert nearest[4, 0] in {2, 3}  # the new title: by content alone
    rows = write_similar(
        tmp_path, space, IdMap.of([f"t{n}" for n in range(5)]), np.array([True] * 3 + [False, True]), n=4
    )
    table = pq.read_table(tmp_path)
    assert table.num_rows == rows
    assert "t3" not in table["similar_item_id"].to_pylist()
    assert table["rank"].to_pylist()[0] == 1


def test_title_space_without_content():
    behaviour = np.array([[3.0, 4.0], [0.0, 0.0]], np.float32)
    space = title_space(behaviour, None, np.array([True, False]))
    np.testing.assert_allclose(space, [[0.6, 0.8], [0, 0]], rtol=1e-6)


def test_behaviour_of_a_single_user():
    assert behaviour_vectors(Histories.of_lists([[0]], 2)).shape == (2, 1)
