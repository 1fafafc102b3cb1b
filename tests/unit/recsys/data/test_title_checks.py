import pyarrow as pa
import pytest

from recsys import columns
from recsys.data.checks import RowRule
from recsys.data.title_checks import check_titles

RULES = (
    RowRule("id", "item_id", "item_id IS NULL", "is missing"),
    RowRule("year", "year", "year < 1870", "is below 1870", "blank"),
    RowRule("year", "year", "year > 2031", "is above 2031", "blank"),
)


def titles(rows):
    nothing = {field.name: [] if pa.types.is_list(field.type) else None for field in columns.TITLES}
    records = [nothing | dict(zip(("item_id", "title", "year"), row, strict=False)) for row in rows]
    return pa.Table.from_pylist(records, schema=columns.TITLES)


def quarantine(found):
    return [tuple(row[name] for name in ("column", "value", "reason")) for row in found.quarantine.to_pylist()]


def test_the_first_record_counts_and_the_rest_are_kept_in_the_quarantine():
    found = check_titles(titles([("1", "one"), ("2", "two"), ("1", "uno"), ("1", "eins")]), RULES)
    assert found.accepted["title"].to_pylist() == ["one", "two"]
    assert (found.duplicates, found.rows) == (2, 4)
    assert quarantine(found) == [("item_id", "1", "repeats an earlier record")] * 2
    assert not found.reasons


def test_impossible_years_are_blanked_and_recorded_while_the_title_stays():
    found = check_titles(titles([("1", "a", 1), ("2", "b", 1995), ("3", "c", 9999), ("4", "d", None)]), RULES)
    assert found.accepted["year"].to_pylist() == [None, 1995, None, None]
    assert found.accepted.schema.equals(columns.TITLES)
    assert found.blanked == {("year", "is below 1870"): 1, ("year", "is above 2031"): 1}
    assert quarantine(found) == [("year", "1", "is below 1870"), ("year", "9999", "is above 2031")]
    assert found.broken == {"id": 0, "year": 2}


def test_a_record_without_id_leaves_and_is_recorded_once_even_with_a_bad_year():
    found = check_titles(titles([(None, "a", 1), ("2", "b", 1995)]), RULES)
    assert found.accepted["item_id"].to_pylist() == ["2"]
    assert found.reasons == {("item_id", "is missing"): 1}
    assert not found.blanked
    assert quarantine(found) == [("item_id", None, "is missing")]


def test_the_year_of_a_repeat_is_nobodys_fault():
    found = check_titles(titles([("1", "a", 1995), ("1", "a", 1)]), RULES)
    assert found.accepted["year"].to_pylist() == [1995]
    assert not found.blanked
    assert found.duplicates == 1


def test_titles_are_sorted_by_id_as_text_and_everything_else_is_kept():
    table = titles([("b", "None"), ("10", "null"), ("9", ""), ("a", "<script>")])
    found = check_titles(table, RULES)
    assert found.accepted["item_id"].to_pylist() == ["10", "9", "a", "b"]
    assert found.accepted["title"].to_pylist() == ["null", "", "<script>", "None"]


@pytest.mark.parametrize("rules", [RULES, ()])
def test_no_titles_at_all(rules):
    found = check_titles(titles([]), rules)
    assert (found.rows, found.accepted.num_rows, found.quarantine.num_rows) == (0, 0, 0)
    assert found.accepted.schema.equals(columns.TITLES)
