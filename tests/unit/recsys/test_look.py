from datetime import date

import pyarrow as pa
import pytest

from recsys import columns
from recsys.artefacts import ArtefactStore, write_table
from recsys.errors import UsageError
from recsys.look import TITLES_FILE, recommended, sample_users, similar_to, write_names
from recsys.publish.files import FileSink

NIGHT = date(2026, 11, 24)


@pytest.fixture
def home(tmp_path):
    titles = pa.Table.from_pylist([{"item_id": "a", "title": "Alpha", "year": 1999}, {"item_id": "b"}], columns.TITLES)
    line = {"score": 0.5, "model_version": "4", "run_date": NIGHT}
    lists = [
        {"user_id": f"u{n}", "rank": rank, "item_id": item, "reason": "Popular now" if rank == 1 else None, **line}
        for n in range(9)
        for rank, item in ((1, "a"), (2, "b"))
    ]
    similar = [{"item_id": "a", "rank": 1, "similar_item_id": "b", "score": 0.25}]
    with ArtefactStore(tmp_path).create("recommendations", {}, {}) as (draft, ref):
        write_table(
            draft.file("recommendations/part-00000.parquet"), pa.Table.from_pylist(lists, columns.RECOMMENDATIONS)
        )
        write_table(
            draft.file("similar_titles/part-00000.parquet"), pa.Table.from_pylist(similar, columns.SIMILAR_TITLES)
        )
        write_names(draft.file(f"recommendations/{TITLES_FILE}"), titles)
        draft.rows["recommendations"] = len(lists)
    FileSink(tmp_path).publish(ref, run_date=NIGHT, users=9, model_version="4", run_id="r")
    return tmp_path


def test_a_users_list_has_names_and_reasons(home):
    shown = recommended(home, "u3")
    assert shown.model_version == "4"
    assert [(line.rank, line.title, line.reason) for line in shown.lines] == [
        (1, "Alpha (1999)", "Popular now"),
        (2, "b", None),
    ]


def test_similar_titles(home):
    assert [(line.item_id, line.score) for line in similar_to(home, "a").lines] == [("b", 0.25)]
    assert similar_to(home, "b").lines == []


def test_unknown_ids_say_what_to_check(home):
    with pytest.raises(UsageError, match="'nobody' has no list"):
        recommended(home, "nobody")
    with pytest.raises(UsageError, match="'zz' is not in the published catalogue"):
        similar_to(home, "zz")


def test_before_the_first_night(tmp_path):
    with pytest.raises(UsageError, match=r"nothing is published yet.*Run `marquee nightly`"):
        recommended(tmp_path, "u1")
    assert sample_users(tmp_path, 5) == []


def test_sample_users_are_spread_and_steady(home):
    assert sample_users(home, 3) == ["u0", "u3", "u6"] == sample_users(home, 3)
    assert len(sample_users(home, 50)) == 9
