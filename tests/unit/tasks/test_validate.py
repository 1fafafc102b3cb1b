import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from recsys import columns
from recsys.artefacts import ArtefactStore, read_manifest, read_table, write_table
from recsys.config import Config, SourceConfig
from recsys.data.ingest import ingest
from recsys.data.validated import ValidatedDataset
from recsys.errors import ArtefactError, MarqueeError, PublicationError, SourceError
from recsys.privacy import hashed
from tasks.events import Note, RowsDone, listening
from tasks.run import Run, StageRecord
from tasks.validate import judged_again, last_good_rows, limits_of, validate, validate_recommendations

NIGHT = date(2026, 11, 24)
DAY = datetime(2026, 1, 1, tzinfo=UTC)


def make_run(home, run_id="r1", run_date=NIGHT, *, started=None, source=None, **sections):
    config = Config(home=home, source=source or SourceConfig(kind="files", ratings="ratings.csv"), **sections)
    return Run(
        run_id=run_id, run_date=run_date, config=config, started_at=started or datetime(2026, 11, 24, tzinfo=UTC)
    )


def make_dataset(home, ratings, titles=None, rejects=(), **summary):
    rows = sorted(
        ((*row, *[None] * (4 - len(row))) for row in ratings), key=lambda r: (r[0] or "", str(r[3]), r[1] or "")
    )
    tables = {
        "ratings": pa.table([list(c) for c in zip(*rows, strict=True)] if rows else [[]] * 4, schema=columns.RATINGS),
        "titles": pa.Table.from_pylist([dict(zip(("item_id", "title", "year"), t, strict=False)) for t in titles or []],
                                       schema=columns.TITLES),
        "rejects": pa.table([list(c) for c in zip(*rejects, strict=True)] if rejects else [[]] * 6,
                            schema=columns.QUARANTINE),
    }  # fmt: skip
    said = {
        "provenance": {"name": "a test"},
        "licence": "CC0",
        "citation": "Nobody (2026)",
        "has_titles": titles is not None,
        "ordered": any(row[3] for row in rows),
        "rating_min": 1.0,
        "rating_max": 5.0,
        "files": [],
        "reading": [],
        **summary,
    }
    with ArtefactStore(home).create("dataset", {}, {"content": repr((tables, sorted(said.items())))}) as (draft, ref):
        for name, table in tables.items():
            write_table(draft.file(f"{name}.parquet"), table)
        draft.summary = said
    return ref


def good_rows(users=10, items=10):
    return [(f"u{u}", str(i), 1 + (u + i) % 5, DAY + timedelta(hours=i)) for u in range(users) for i in range(items)]


def report_of(run):
    return json.loads((run.folder / "validation" / "report.json").read_text())


def test_good_data_become_a_validated_dataset(tmp_path):
    run = make_run(tmp_path)
    dataset = make_dataset(tmp_path, good_rows(), [(str(i), f"Title {i}", 1990 + i) for i in range(10)])
    ref = validate.fn(run, dataset)
    data = ValidatedDataset.load(ref)
    assert read_table(data.ratings).num_rows == 100
    assert data.titles()["title"].to_pylist() == [f"Title {i}" for i in range(10)]
    assert (data.scale.minimum, data.scale.maximum, data.implicit, data.ordered) == (1, 5, False, True)
    assert data.positive_from(4.0) == 4.0
    manifest = read_manifest(ref)
    assert manifest.parents == {"dataset": dataset.digest}
    assert manifest.rows == {"ratings": 100, "titles": 10, "quarantine": 0}
    assert set(manifest.files) == {
        "ratings.parquet", "titles.parquet", "quarantine.parquet", "report.html", "report.json"
    }  # fmt: skip
    wanted = {
        "users": 10,
        "items": 10,
        "duplicates": 0,
        "quarantined": 0,
        "licence": "CC0",
        "citation": "Nobody (2026)",
    }
    assert wanted.items() <= manifest.summary.items()
    assert report_of(run)["profile"]["positives"] == 40


def test_training_takes_nothing_but_validated_data(tmp_path):
    dataset = make_dataset(tmp_path, good_rows())
    with pytest.raises(ArtefactError, match="validated data only, this is a dataset"):
        ValidatedDataset.load(dataset)


def test_a_changed_byte_of_validated_data_is_found(tmp_path):
    ref = validate.fn(make_run(tmp_path), make_dataset(tmp_path, good_rows()))
    ratings = bytearray(ref.file("ratings.parquet").read_bytes())
    ratings[100] ^= 1
    ref.file("ratings.parquet").write_bytes(ratings)
    with pytest.raises(ArtefactError, match="sha256 differs"):
        ValidatedDataset.load(ref)


def test_a_damaged_dataset_is_refused(tmp_path):
    dataset = make_dataset(tmp_path, good_rows())
    dataset.file("ratings.parquet").write_bytes(b"PAR1")
    with pytest.raises(ArtefactError, match=r"ratings\.parquet"):
        validate.fn(make_run(tmp_path), dataset)


def test_a_few_bad_rows_are_quarantined_and_the_night_goes_on(tmp_path):
    run = make_run(tmp_path, validation={"failure_budget": 0.1})
    bad = [("u1", "x", 7, DAY), ("u2", "x", float("nan"), DAY), ("u3", "x", -1, DAY), ("u4", "x", 0, DAY)]
    again = [("u1", "1", 5, DAY + timedelta(days=2)), ("u1", "1", 1, DAY - timedelta(days=2))]
    rejects = [("ratings", "r.csv", 7, None, "u9,secret", "the line has 2 fields, not 4")]
    ref = validate.fn(run, make_dataset(tmp_path, [*good_rows(), *bad, *again], rejects=rejects))
    quarantine = read_table(ref.file("quarantine.parquet"))
    assert quarantine.schema.equals(columns.QUARANTINE)
    assert [(r["column"], r["value"], r["reason"]) for r in quarantine.to_pylist()] == [
        (None, "u9,secret", "the line has 2 fields, not 4"),
        ("rating", "7.0", "is above 5"),
        ("rating", "nan", "is missing"),
        ("rating", "-1.0", "is below 1"),
        ("rating", "0.0", "is below 1"),
    ]
    kept = [
        r for r in read_table(ref.file("ratings.parquet")).to_pylist() if (r["user_id"], r["item_id"]) == ("u1", "1")
    ]
    assert [r["rating"] for r in kept] == [5]
    summary = read_manifest(ref).summary
    assert (summary["duplicates"], summary["quarantined"], summary["ratings"]) == (2, 5, 100)
    record = StageRecord.model_validate_json((run.folder / "stages" / "validate.json").read_text())
    assert (record.rows, record.details["quarantined"], record.error) == (100, 5, None)
    checks = {c["says"]: c["unexpected"] for c in report_of(run)["checks"] if not c["whole_table"]}
    assert checks["rating is between 1 and 5"] == 3
    assert checks["rating is a number"] == 1


def test_above_the_budget_the_night_stops_and_says_where(tmp_path):
    source = tmp_path / "in" / "ratings.csv"
    source.parent.mkdir()
    lines = [
        "userId,movieId,rating,timestamp",
        *(f"{u},{i},{1 + (u + i) % 5},{10**9 + i}" for u in range(9) for i in range(9)),
    ]
    lines[40] = "4,007,7.0,1000000000"
    lines[60] = "6,008,-1,1000000000"
    lines[70] = "7,broken"
    source.write_text("\n".join(lines) + "\n")
    config = SourceConfig(kind="files", ratings=str(source))
    run = make_run(tmp_path / "home", source=config)
    with pytest.raises(SourceError) as caught:
        validate.fn(run, ingest(config, tmp_path / "home").dataset)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert message.startswith(
        "ratings.csv line 41: rating 7.0 is above 5; 3 of 81 ratings (3.7 %; the budget is 0.1 %)"
    )
    for part in (
        "1 × rating is above 5",
        "1 × rating is below 1",
        "1 × the line has 2 fields, not 4",
        "failure_budget",
    ):
        assert part in message
    assert "\n" not in message
    report = run.folder / "validation" / "report.html"
    assert str(report) in message
    assert "failed" in report.read_text()
    quarantine = read_table(run.folder / "validation" / "quarantine.parquet").to_pylist()
    assert {(r["file"], r["line"]) for r in quarantine} == {("ratings.csv", n) for n in (41, 61, 71)}
    assert not list((tmp_path / "home" / "artefacts").glob("validated/*"))
    record = StageRecord.model_validate_json((run.folder / "stages" / "validate.json").read_text())
    assert record.error == message


def test_rows_that_could_not_be_read_count_against_the_budget(tmp_path):
    rejects = [("ratings", "r.csv", 7, "rating", "five", "not a number")]
    with pytest.raises(SourceError, match=r"r\.csv line 7: rating five not a number; 1 of 101 ratings"):
        validate.fn(make_run(tmp_path), make_dataset(tmp_path, good_rows(), rejects=rejects))


def test_duplicates_do_not_count_against_the_budget(tmp_path):
    rows = good_rows()
    ref = validate.fn(make_run(tmp_path), make_dataset(tmp_path, rows + rows))
    assert read_manifest(ref).summary["duplicates"] == 100


def test_titles_have_a_budget_repeats_and_blanked_years_do_not_count(tmp_path):
    titles = [(str(i), f"Title {i}", 1990) for i in range(10)]
    run = make_run(tmp_path)
    ref = validate.fn(run, make_dataset(tmp_path, good_rows(), [*titles, ("1", "again", 1), ("11", "odd", 1)]))
    table = ValidatedDataset.load(ref).titles()
    assert table.num_rows == 11
    assert {r["item_id"]: r["year"] for r in table.to_pylist()}["11"] is None
    profile = report_of(run)["profile"]
    assert (profile["titles_duplicates"], profile["titles_blanked"], profile["titles_quarantined"]) == (1, 1, 0)
    with pytest.raises(SourceError, match="1 of 11 titles"):
        validate.fn(make_run(tmp_path, "r2"), make_dataset(tmp_path, good_rows(), [*titles, (None, "nameless", 1990)]))


@pytest.mark.parametrize(
    ("rows", "titles", "message"),
    [
        ([], None, "there are no ratings"),
        ([("u", "1", 1, DAY), ("u", "2", 2, DAY)], None, "no rating is positive: none of 2 is at least 4"),
        (good_rows(), [("1", "One", 1990)], "9 of 10 rated titles have no record among the 1 titles"),
        (good_rows(), [], "10 of 10 rated titles have no record among the 0 titles"),
    ],
)
def test_a_table_at_fault_as_a_whole_stops_the_night(tmp_path, rows, titles, message):
    with pytest.raises(SourceError, match=message) as caught:
        validate.fn(make_run(tmp_path), make_dataset(tmp_path, rows, titles))
    assert caught.value.exit_code == 2
    assert not list((tmp_path / "artefacts").glob("validated/*"))


def test_every_failure_is_told_not_only_the_first(tmp_path):
    with pytest.raises(SourceError, match=r"no rating is positive.*nor does this hold: .*titles lack metadata"):
        validate.fn(make_run(tmp_path), make_dataset(tmp_path, [("u", "1", 1, DAY)], [("2", "Two")]))


def test_a_source_without_titles_may_lack_them(tmp_path):
    run = make_run(tmp_path)
    validate.fn(run, make_dataset(tmp_path, good_rows()))
    assert [c["observed"] for c in report_of(run)["checks"] if c["column"] == "unknown_titles"] == [None]


def test_a_large_change_against_the_last_good_run_stops_the_night(tmp_path):
    validate.fn(make_run(tmp_path, "r1"), make_dataset(tmp_path, good_rows()))
    fewer = make_dataset(tmp_path, good_rows(users=4))
    with pytest.raises(SourceError, match=r"40 ratings, -60% against the last good run's 100.*allow_row_change"):
        validate.fn(make_run(tmp_path, "r2"), fewer)
    elsewhere = make_run(tmp_path, "r3", source=SourceConfig(kind="files", ratings="other.csv"))
    assert last_good_rows(elsewhere) is None
    allowed = make_run(
        tmp_path, "r4", started=datetime(2026, 11, 25, tzinfo=UTC), validation={"allow_row_change": True}
    )
    validate.fn(allowed, fewer)
    assert last_good_rows(make_run(tmp_path, "r5")) == 40
    assert last_good_rows(allowed) == 100  # itself does not count, nor the run that failed


def test_the_same_columns_under_other_names_are_the_same_source(tmp_path):
    validate.fn(make_run(tmp_path, "r1"), make_dataset(tmp_path, good_rows()))
    source = SourceConfig(kind="files", ratings="ratings.csv", columns={"user_id": "viewer"}, rating_max=5)
    assert last_good_rows(make_run(tmp_path, "r2", source=source)) == 100


def test_the_same_again_is_reused_and_judged_by_tonights_limits(tmp_path):
    dataset = make_dataset(tmp_path, [*good_rows(), ("u1", "x", 7, DAY)])
    loose, strict = {"failure_budget": 0.1}, {"failure_budget": 0.001}
    first = validate.fn(make_run(tmp_path, "r1", validation=loose), dataset)
    made = first.file("manifest.json").read_bytes()
    run = make_run(tmp_path, "r2", validation=loose)
    assert validate.fn(run, dataset) == first
    record = StageRecord.model_validate_json((run.folder / "stages" / "validate.json").read_text())
    assert record.reused
    assert record.artefact == first
    assert (run.folder / "validation" / "report.html").exists()
    with pytest.raises(SourceError, match="1 of 101 ratings"):
        validate.fn(make_run(tmp_path, "r3", validation=strict), dataset)
    assert first.file("manifest.json").read_bytes() == made


def test_nothing_is_judged_twice_under_equal_limits(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    ref = validate.fn(run, make_dataset(tmp_path, good_rows()))
    from recsys.data.report import Report

    report = Report.model_validate_json(ref.file("report.json").read_text())
    monkeypatch.setattr("tasks.validate.judge", lambda *_: pytest.fail("judged again"))
    assert judged_again(report, limits_of(make_run(tmp_path, "r2"))).checks == report.checks


def test_two_homes_give_the_same_bytes(tmp_path):
    rows = [*good_rows(), ("u1", "x", 7, DAY)]
    refs = [
        validate.fn(make_run(home, validation={"failure_budget": 0.1}), make_dataset(home, rows))
        for home in (tmp_path / "a", tmp_path / "b")
    ]
    assert refs[0].digest == refs[1].digest
    for name in ("ratings.parquet", "titles.parquet", "quarantine.parquet"):
        assert refs[0].file(name).read_bytes() == refs[1].file(name).read_bytes()


def test_the_clock_decides_only_about_what_lies_beyond_it(tmp_path):
    now = datetime(2026, 11, 24, tzinfo=UTC)
    plain = make_dataset(tmp_path, good_rows())
    nights = [make_run(tmp_path, f"r{n}", NIGHT + timedelta(days=n), started=now) for n in range(2)]
    assert validate.fn(nights[0], plain) == validate.fn(nights[1], plain)
    hours = [("u1", "x", 5, now + timedelta(hours=h)) for h in (47, 49)]
    ahead = make_dataset(tmp_path, [*good_rows(), hours[0], ("u2", "x", *hours[1][2:])])
    loose = {"failure_budget": 0.1}
    tonight = validate.fn(make_run(tmp_path, "r3", started=now, validation=loose), ahead)
    assert read_table(tonight.file("quarantine.parquet"))["reason"].to_pylist() == ["is after 2026-11-26"]
    later = validate.fn(make_run(tmp_path, "r4", NIGHT + timedelta(days=1), started=now, validation=loose), ahead)
    assert later != tonight
    assert read_manifest(later).summary["quarantined"] == 0
    caught_up = validate.fn(make_run(tmp_path, "r5", date(2020, 1, 1), started=now, validation=loose), ahead)
    assert caught_up == tonight  # a night made up for later is not a night in the past


def test_impossible_timestamps_are_quarantined_and_missing_ones_kept(tmp_path):
    rows = [*good_rows(), ("u1", "x", 5, datetime(1850, 1, 1, tzinfo=UTC)), ("u2", "x", 5, None)]
    ref = validate.fn(make_run(tmp_path, validation={"failure_budget": 0.1}), make_dataset(tmp_path, rows))
    assert read_table(ref.file("quarantine.parquet"))["reason"].to_pylist() == ["is before 1900-01-01"]
    assert read_manifest(ref).summary["ratings"] == 101


def test_implicit_feedback(tmp_path):
    rows = [(f"u{u}", str(i)) for u in range(5) for i in range(5)]
    run = make_run(tmp_path)
    data = ValidatedDataset.load(validate.fn(run, make_dataset(tmp_path, rows, rating_min=None, rating_max=None)))
    assert (data.implicit, data.ordered, data.scale.maximum) == (True, False, None)
    assert "random split" in (run.folder / "validation" / "report.html").read_text()


def test_the_scale_is_read_off_where_nobody_knows_it(tmp_path):
    dataset = make_dataset(tmp_path, [*good_rows(), ("u1", "x", 9, DAY)], rating_min=None, rating_max=None)
    with pytest.raises(SourceError, match=r"9\.0 is above 5"):
        validate.fn(make_run(tmp_path), dataset)
    wider = SourceConfig(kind="files", ratings="ratings.csv", rating_min=0, rating_max=10)
    ref = validate.fn(make_run(tmp_path, "r2", source=wider), dataset)
    assert ValidatedDataset.load(ref).positive_from(4.0) == 8.0
    assert read_manifest(ref).summary["ratings"] == 101


def test_hostile_text_is_inert_and_users_stay_unnamed_in_the_report(tmp_path):
    script = "<script>alert(1)</script>"
    rejects = [
        ("ratings", f"{script}.csv", 3, "rating", f"{script}\nmore", f"{script} is no number"),
        ("ratings", "r.csv", 4, "user_id", "alice@example.com", "a quote is opened and not closed"),
        ("ratings", "r.csv", 5, None, "bob@example.com,1", "the line has 2 fields, not 4"),
        ("tags", "t.csv", 5, None, "carol@example.com,1", "the line has 2 fields, not 4"),
    ]
    titles = [(str(i), script, 1990) for i in range(10)] + [(script, "t", 1990)] * 2
    dataset = make_dataset(tmp_path, good_rows(), titles, rejects, provenance={"name": script}, licence=script)
    run = make_run(tmp_path)
    with pytest.raises(SourceError) as caught:
        validate.fn(run, dataset)
    folder = run.folder / "validation"
    html = (folder / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    for text in (html, (folder / "report.json").read_text(), str(caught.value)):
        assert "example.com" not in text
    assert hashed("alice@example.com") in html
    assert "http" not in html.replace("http-equiv", "")
    assert "alice@example.com" in read_table(folder / "quarantine.parquet")["value"].to_pylist()


def test_engines_that_disagree_are_a_fault_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr("expectations.examination.row_rules", lambda *_: ())
    with pytest.raises(MarqueeError, match="disagree about: rating is between 1 and 5"):
        validate.fn(make_run(tmp_path), make_dataset(tmp_path, [*good_rows(), ("u1", "x", 7, DAY)]))


def test_an_operator_hears_what_was_set_aside(tmp_path):
    rows = [*good_rows(), ("u1", "x", 7, DAY), ("u1", "1", 1, DAY - timedelta(days=9))]
    rejects = [("titles", "t.csv", 7, "item_id", None, "the id is empty")]
    titles = [(str(i), f"Title {i}", 1990) for i in range(10)]
    heard = []
    with listening(heard.append):
        dataset = make_dataset(tmp_path, rows, titles, rejects, rating_min=None, rating_max=None)
        validate.fn(make_run(tmp_path, validation={"failure_budget": 0.1}), dataset)
    assert [event.text for event in heard if isinstance(event, Note)] == [
        "ratings go from 1 to 5, as read off the data",
        "1 ratings quarantined",
        "1 titles' records quarantined",
        "1 ratings were repeats: the last of each counts",
    ]
    assert [(e.done, e.total) for e in heard if isinstance(e, RowsDone)] == [(102, 102)]


def lists(folder: Path, rows, name="part-0.parquet"):
    filled = [(*row, None, "7", NIGHT) for row in rows]
    path = folder / name
    write_table(path, pa.table([list(c) for c in zip(*filled, strict=True)], schema=columns.RECOMMENDATIONS))
    return path


GOOD_LISTS = [(f"u{u}", rank, str(u + rank), 1 / rank) for u in range(5) for rank in (1, 2, 3)]


def test_lists_that_are_fit_pass(tmp_path):
    run = make_run(tmp_path)
    files = [lists(tmp_path, GOOD_LISTS[:7]), lists(tmp_path, GOOD_LISTS[7:], "part-1.parquet")]
    report = validate_recommendations(run, files, n=3, rows=15, users=5)
    assert (report.passed, report.rows, report.users) == (True, 15, 5)
    assert json.loads((run.folder / "validation" / "recommendations.json").read_text())["rows"] == 15
    assert validate_recommendations(run, files, n=20).passed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows[:-1], ("u4", 3, "5", 0.3)], "a title stands once in a user's list"),
        (lambda rows: [*rows[:-1], ("u4", 4, "9", 0.3)], "rank is between 1 and 3"),
        (lambda rows: [*rows[:-2], rows[-1]], "every list runs from rank 1 without a gap"),
        (lambda rows: rows[::-1], "lines are sorted by user, then rank"),
        (lambda rows: [*rows[:-1], ("u4", 3, "9", float("nan"))], "score is given"),
        (lambda rows: rows[:-3], "there are 15 lines"),
    ],
)
def test_lists_that_are_not_fit_are_refused(tmp_path, change, message):
    run = make_run(tmp_path)
    rows = change(GOOD_LISTS)
    with pytest.raises(PublicationError, match=message) as caught:
        validate_recommendations(
            run, [lists(tmp_path, rows)], n=3, rows=15 if len(rows) in (15, 12) else None, users=None
        )
    assert "what was served is untouched" in str(caught.value)
    assert "u4" not in str(caught.value)
    assert (run.folder / "validation" / "recommendations.json").exists()


def test_lists_without_a_column_are_refused(tmp_path):
    path = lists(tmp_path, GOOD_LISTS)
    write_table(path, read_table(path).drop_columns(["score"]))
    with pytest.raises(PublicationError, match="the column score is missing"):
        validate_recommendations(make_run(tmp_path), [path], n=3)


def test_no_lists_at_all_are_refused(tmp_path):
    write_table(tmp_path / "part-0.parquet", columns.RECOMMENDATIONS.empty_table())
    with pytest.raises(PublicationError, match="there are lines"):
        validate_recommendations(make_run(tmp_path), [tmp_path / "part-0.parquet"], n=3)
