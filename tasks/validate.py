"""The validation steps: a dataset in, a validated dataset out, or the reason why not; and the lists before publication.

Great Expectations states what is expected and audits every row; DuckDB divides the rows by rules derived from the
same suites (docs/decisions/0002-validation.md).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from expectations.audit import judge
from expectations.examination import Subject, Terms, examine
from expectations.lists import ListsReport, examine_lists
from recsys import columns
from recsys.artefacts import ArtefactRef, read_table, verified_file, verify, write_text
from recsys.config import SourceConfig
from recsys.data.refusals import refusal
from recsys.data.report import Limits, Report, render
from recsys.data.scale import RatingFigures, read_figures, resolve_scale
from recsys.data.validated import KIND, QUARANTINE_FILE, RATINGS_FILE, REPORT_HTML, REPORT_JSON, TITLES_FILE
from tasks.events import Note, RowsDone, emit
from tasks.run import Run, StageRecord, stage

STAGE = "validate"

_CLOCK_SKEW = timedelta(days=1)
_ANNOUNCED_YEARS = 5


@task(name=STAGE)
def validate(run: Run, dataset: ArtefactRef) -> ArtefactRef:
    """Check a dataset and make the validated one: bad rows quarantined, duplicates settled.

    This run's report is ``<run folder>/validation/report.html``, whether the night may go on or not; where it may
    not, the quarantine lies beside it.

    Raises:
        SourceError: more rows are bad than the failure budget allows, or a table as a whole is at fault.
        ArtefactError: the dataset is missing or damaged.
    """
    with stage(run, STAGE) as record:
        plan = _plan(run, dataset)
        parents = {"dataset": dataset.digest}
        found = run.store.find(KIND, parents, plan.configuration)
        if found is not None:
            record.reused = True
            report = Report.model_validate_json(verified_file(found, REPORT_JSON).read_bytes())
            report = judged_again(report, plan.terms.limits)
            _conclude(run, record, report, found.file(QUARANTINE_FILE))
        else:
            with run.store.create(KIND, parents, plan.configuration) as (draft, found):
                report = examine(plan.subject, plan.terms, draft.path, plan.on_rows)
                _conclude(run, record, report, draft.file(QUARANTINE_FILE))
                _write_report(report, draft.path)
                draft.rows = _rows(report)
                draft.summary = _summary(report, ordered=plan.ordered)
        record.artefact = found
        return found


@dataclass(frozen=True)
class _Plan:
    subject: Subject
    terms: Terms
    figures: RatingFigures
    ordered: bool

    def on_rows(self, done: int) -> None:
        emit(RowsDone(STAGE, done, self.figures.rows))

    @property
    def configuration(self) -> dict[str, Any]:
        """What decides the bytes of the result. The clock does only where something lies beyond it."""
        scale, until = self.terms.scale, self.terms.until
        newest, year = self.figures.newest, pc.max(self.subject.titles[columns.YEAR]).as_py()
        return {
            "rating_min": scale.minimum,
            "rating_max": scale.maximum,
            "positive_from": self.terms.positive_from,
            "until": until.isoformat() if newest is not None and newest > until.timestamp() * 1e6 else None,
            "last_year": self.terms.last_year if year is not None and year > self.terms.last_year else None,
        }


def _plan(run: Run, dataset: ArtefactRef) -> _Plan:
    """Verify the dataset, and resolve what the configuration leaves open."""
    summary, config = verify(dataset).summary, run.config
    figures = read_figures(dataset.file(RATINGS_FILE))
    scale = resolve_scale(figures, minimum=config.source.rating_min, maximum=config.source.rating_max, known=summary)
    today = max(run.run_date, run.started_at.astimezone(UTC).date())
    subject = Subject(
        ratings=dataset.file(RATINGS_FILE),
        titles=read_table(dataset.file(TITLES_FILE)).cast(columns.TITLES),
        unreadable=dataset.file("rejects.parquet"),
        has_titles=bool(summary["has_titles"]),
        digest=dataset.digest,
        source=str(summary["provenance"]["name"]),
        licence=summary.get("licence") or None,
        citation=summary.get("citation") or None,
        locate=lambda rows: _lines(dataset, rows),
    )
    terms = Terms(
        scale=scale,
        positive_from=scale.positive_from(config.ratings.positive_from),
        until=datetime.combine(today, time(), UTC) + timedelta(days=1) + _CLOCK_SKEW,
        last_year=today.year + _ANNOUNCED_YEARS,
        limits=limits_of(run),
    )
    return _Plan(subject, terms, figures, ordered=bool(summary["ordered"]))


def _lines(dataset: ArtefactRef, rows: pa.Table) -> pa.Table:
    from recsys.data.locate import locate_lines

    return locate_lines(dataset, rows.select([columns.USER_ID, columns.ITEM_ID, columns.RATING]))


def limits_of(run: Run) -> Limits:
    """What a night's data are held against, the last good run's number of ratings among it."""
    checks = run.config.validation
    return Limits(
        failure_budget=checks.failure_budget,
        max_unknown_titles=checks.max_unknown_titles,
        max_row_change=None if checks.allow_row_change else checks.max_row_change,
        previous=last_good_rows(run),
    )


def last_good_rows(run: Run) -> int | None:
    """How many ratings the latest other run had whose data of the same source were good, or None."""
    records = [
        StageRecord.model_validate_json(path.read_bytes())
        for path in sorted((run.home / "runs").glob(f"*/stages/{STAGE}.json"))
        if path.parent.parent != run.folder
    ]
    identity = source_identity(run.config.source)
    good = [r for r in records if r.error is None and r.details.get("source") == identity]
    return int(max(good, key=lambda r: r.started_at).details["ratings"]) if good else None


def source_identity(source: SourceConfig) -> dict[str, Any]:
    """What makes two nights' sources the same one: all but how their columns and scale are read."""
    reading = {"columns", "rating_min", "rating_max", "seed"}
    return {"kind": source.kind, **source.model_dump(mode="json", exclude=reading, exclude_defaults=True)}


def judged_again(report: Report, limits: Limits) -> Report:
    """The report on data already checked, under tonight's limits. Nothing is run where nothing has changed."""
    change, before = (report.profile.row_change(x.previous) or 0.0 for x in (limits, report.limits))
    checks = report.checks
    if change != before or limits != report.limits.model_copy(update={"previous": limits.previous}):
        checks = [c for c in checks if not c.whole_table] + judge(report.profile, limits)
    return report.model_copy(update={"limits": limits, "checks": checks})


def _conclude(run: Run, record: StageRecord, report: Report, quarantine: Path) -> None:
    """Write the run's report and record; raise where the night must stop."""
    folder, profile = run.folder / "validation", report.profile
    _write_report(report, folder)
    record.rows = profile.ratings
    record.details = {
        "source": source_identity(run.config.source),
        "ratings": profile.ratings,
        "titles": profile.titles,
        "duplicates": profile.duplicates,
        "quarantined": profile.ratings_quarantined + profile.ratings_unreadable,
        "titles_quarantined": profile.titles_quarantined + profile.titles_unreadable,
        "report": str(folder / REPORT_HTML),
    }
    for line in _remarks(report):
        emit(Note(STAGE, line))
    if not report.passed:
        shutil.copyfile(quarantine, folder / QUARANTINE_FILE)
        raise refusal(report, folder)


def _remarks(report: Report) -> list[str]:
    """What an operator should see without opening the report."""
    profile, scale = report.profile, report.scale
    remarks = []
    if "data" in scale.origin:
        remarks.append(f"ratings go from {scale.minimum:g} to {scale.maximum:g}, as read off the data")
    if lost := profile.ratings_quarantined + profile.ratings_unreadable:
        remarks.append(f"{lost:,} ratings quarantined")
    if lost := profile.titles_quarantined + profile.titles_unreadable:
        remarks.append(f"{lost:,} titles' records quarantined")
    if profile.duplicates:
        remarks.append(f"{profile.duplicates:,} ratings were repeats: the last of each counts")
    return remarks


def _write_report(report: Report, folder: Path) -> None:
    write_text(folder / REPORT_JSON, report.model_dump_json(indent=1) + "\n")
    write_text(folder / REPORT_HTML, render(report))


def _rows(report: Report) -> dict[str, int]:
    profile = report.profile
    return {
        "ratings": profile.ratings,
        "titles": profile.titles,
        "quarantine": sum(count.rows for count in report.reasons),
    }


def _summary(report: Report, *, ordered: bool) -> dict[str, Any]:
    profile, scale = report.profile, report.scale
    return {
        "rating_min": scale.minimum,
        "rating_max": scale.maximum,
        "scale_origin": scale.origin,
        "positive_from": scale.positive_from,
        "implicit": scale.maximum is None,
        "ordered": ordered and profile.dated > 0,
        "ratings": profile.ratings,
        "users": profile.users,
        "items": profile.items,
        "titles": profile.titles,
        "positives": profile.positives,
        "has_titles": profile.has_titles,
        "duplicates": profile.duplicates,
        "quarantined": profile.ratings_quarantined + profile.ratings_unreadable,
        "titles_quarantined": profile.titles_quarantined + profile.titles_unreadable,
        "coverage": profile.coverage,
        "source": report.source,
        "licence": report.licence,
        "citation": report.citation,
    }


def validate_recommendations(
    run: Run, files: Sequence[Path], *, n: int, rows: int | None = None, users: int | None = None
) -> ListsReport:
    """Run the recommendations suite over the files of a generation that is about to be published.

    The report is ``<run folder>/validation/recommendations.json``, whether the lists are fit or not.

    Args:
        run: the night.
        files: Parquet (``columns.RECOMMENDATIONS``), together sorted by user, then rank.
        n: the length of a list.
        rows: lines that there must be, where that is known.
        users: users that there must be, where that is known.

    Raises:
        PublicationError: the first expectation that is not met, with an example (the user hashed).
    """
    report = examine_lists(files, n=n, rows=rows, users=users)
    write_text(run.folder / "validation" / "recommendations.json", report.model_dump_json(indent=1) + "\n")
    report.raise_for_failure()
    return report
