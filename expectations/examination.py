"""The examination of a dataset: rows divided by DuckDB, audited by Great Expectations, the findings reported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from expectations.audit import Audit, judge
from expectations.engine import run_suite
from expectations.ratings import ratings_suite
from expectations.rules import row_rules
from expectations.titles import titles_suite
from recsys import columns
from recsys.artefacts import read_table, write_table
from recsys.data.checks import RatingsCheck, RowRule, check_ratings
from recsys.data.quarantine import Locate, counts_by_reason, examples, first_entry, write_quarantine
from recsys.data.report import Check, Limits, Profile, ReasonCount, Report, ScaleFigures, coverage, example_of
from recsys.data.scale import Scale
from recsys.data.title_checks import TitlesCheck, check_titles
from recsys.data.validated import QUARANTINE_FILE, RATINGS_FILE, TITLES_FILE


@dataclass(frozen=True)
class Subject:
    """A dataset to examine: its files, and what is known of it."""

    ratings: Path
    titles: pa.Table
    """columns.TITLES"""
    unreadable: Path
    """Rows that ingestion could not read (columns.QUARANTINE)."""
    has_titles: bool
    """Whether the source describes titles at all."""
    digest: str
    source: str
    licence: str | None
    citation: str | None
    locate: Locate | None


@dataclass(frozen=True)
class Terms:
    """What a dataset is held against."""

    scale: Scale
    positive_from: float
    """Least positive rating, on that scale."""
    until: datetime
    """The latest timestamp that can be."""
    last_year: int
    """The latest year that a title can bear."""
    limits: Limits


def examine(subject: Subject, terms: Terms, folder: Path, on_rows: Callable[[int], None]) -> Report:
    """Divide a dataset into what may be trained on and what is quarantined, and report.

    Args:
        subject: the dataset.
        terms: what is expected of it.
        folder: gets ``ratings.parquet``, ``titles.parquet`` and ``quarantine.parquet``.
        on_rows: hears how many ratings have been checked so far.

    Raises:
        SourceError: the ratings lack a column.
        MarqueeError: the two engines disagree, or an expectation could not be evaluated.
    """
    rejected, quarantine = folder / "rejected.parquet", folder / QUARANTINE_FILE
    ratings, ratings_audit, rules = _check_ratings(subject, terms, folder / RATINGS_FILE, rejected, on_rows)
    titles, titles_audit = _check_titles(subject, terms, folder / TITLES_FILE)
    checks = ratings_audit.settle(ratings.broken) + titles_audit.settle(titles.broken)
    write_quarantine(
        quarantine,
        unreadable=subject.unreadable,
        rejected=rejected,
        rules=rules,
        titles=titles.quarantine,
        locate=subject.locate,
    )
    rejected.unlink()
    profile = _profile(subject, ratings, titles)
    return _report(subject, terms, profile, [*checks, *judge(profile, terms.limits)], quarantine)


def _check_ratings(
    subject: Subject, terms: Terms, accepted: Path, rejected: Path, on_rows: Callable[[int], None]
) -> tuple[RatingsCheck, Audit, Sequence[RowRule]]:
    suite = ratings_suite(minimum=terms.scale.minimum, maximum=terms.scale.maximum, until=terms.until)
    rules = row_rules(suite, columns.RATINGS)
    audit, done = Audit("ratings", suite), 0

    def on_chunk(came: pa.Table, kept: pa.Table) -> None:
        nonlocal done
        audit.look(came, kept)
        done += came.num_rows
        on_rows(done)

    found = check_ratings(
        subject.ratings, accepted, rejected, rules, positive_from=terms.positive_from, on_chunk=on_chunk
    )
    return found, audit, rules


def _check_titles(subject: Subject, terms: Terms, accepted: Path) -> tuple[TitlesCheck, Audit]:
    suite = titles_suite(last_year=terms.last_year)
    audit = Audit("titles", suite, rows=subject.titles.num_rows)
    found = check_titles(subject.titles, row_rules(suite, columns.TITLES))
    if subject.titles.num_rows:
        audit.came += run_suite(suite, subject.titles)
        audit.accepted += run_suite(suite, found.accepted)
    write_table(accepted, found.accepted, sorted_by=(columns.ITEM_ID,))
    return found, audit


def _profile(subject: Subject, ratings: RatingsCheck, titles: TitlesCheck) -> Profile:
    unreadable = Counter(read_table(subject.unreadable, ["table"])["table"].to_pylist())
    known = pc.is_in(ratings.items, value_set=titles.accepted[columns.ITEM_ID].combine_chunks())
    return Profile(
        ratings_read=ratings.rows,
        ratings_unreadable=unreadable["ratings"],
        ratings_quarantined=ratings.rejected,
        ratings=ratings.accepted,
        duplicates=ratings.duplicates,
        users=ratings.users,
        items=len(ratings.items),
        positives=ratings.positives,
        dated=ratings.dated,
        titles_read=titles.rows,
        titles_unreadable=unreadable["titles"],
        titles_quarantined=sum(titles.reasons.values()),
        titles=titles.accepted.num_rows,
        titles_duplicates=titles.duplicates,
        titles_blanked=sum(titles.blanked.values()),
        has_titles=subject.has_titles,
        rated_without_title=len(known) - (pc.sum(known).as_py() or 0),
        coverage=coverage(titles.accepted),
    )


def _report(subject: Subject, terms: Terms, profile: Profile, checks: list[Check], quarantine: Path) -> Report:
    firsts = {table: first_entry(quarantine, table) for table in ("ratings", "titles")}
    scale = ScaleFigures(
        minimum=terms.scale.minimum,
        maximum=terms.scale.maximum,
        origin=terms.scale.origin,
        positive_from=terms.positive_from,
    )
    return Report(
        dataset=subject.digest,
        source=subject.source,
        licence=subject.licence,
        citation=subject.citation,
        scale=scale,
        profile=profile,
        limits=terms.limits,
        checks=checks,
        reasons=[ReasonCount(table=t, column=c, reason=r, rows=n) for t, c, r, n in counts_by_reason(quarantine)],
        examples=[example_of(entry) for entry in examples(quarantine)],
        first={table: example_of(entry) for table, entry in firsts.items() if entry is not None},
    )
