"""docs/benchmarks.md, put together from the figures: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.quality.plots import write_plots
from benchmarks.quality.tables import TABLES, bounds_table
from recsys.artefacts import write_text

PAGE, PLOTS = Path("docs/benchmarks.md"), Path("docs/plots")
Found = Mapping[str, Mapping[str, Mapping[str, Any]]]

_HEAD = """# Benchmarks

This page is written by `make bench-quality` (`python -m benchmarks.quality`), which trains everything that it needs and
keeps it under `.bench`: a second run goes on from there. One section: `python -m benchmarks.quality ring`; one dataset:
`--only sample`; only this page: `python -m benchmarks.quality render`. The figures are those of
`benchmarks/results/*.json`. ml-latest-small and TMDB 5000 are read from the folder that `MARQUEE_TEST_DATA` names;
without them their lines stay as they are.

Every list is the best of **all** titles that the user has not seen; nothing is sampled. A rating of 4 or more is
positive. Rivals are tuned on the validation window: their whole grid, or six trainings each (`--budget` says fewer;
the column "tried" has what it was); ours run with their defaults. Test is touched once. Intervals are 95 % percentile
bootstraps over users; differences are paired on users.
Tags are not read: many were given after the cut, and titles get tags as they get popular.

Speed, memory and growth, up to 25 million ratings, are in [benchmarks-scale.md](benchmarks-scale.md).
"""

_SECTIONS: Mapping[str, tuple[str, str]] = {
    "ring": (
        "The ring",
        "Seconds are of tuning and fitting together, one thread each, two models at a time; for blend and NCF they are "
        "of everything that they stand on. MB is the peak of the process. The ratio and the difference are of NDCG@10 "
        "against the best rival of the table.",
    ),
    "ablation": (
        "What each part of NCF brings",
        "Each variant is trained like the whole; test NDCG@10 averaged over the seeds of the second stage (the towers "
        "are the same), and its difference from the whole, paired on users.",
    ),
    "cold": (
        "Titles held out whole",
        "A tenth of the titles is taken out of everybody's history, in several draws; three tenths of those are for "
        "choosing (epochs, penalties), the others are ranked among themselves for every user who liked one of them. "
        "Figures are means over users of their means over draws. Popularity has nothing to say of these titles. "
        "The ratios are to the better of the two ridges.",
    ),
    "new-users": (
        "New users",
        "A quarter of the users is held out whole and the models are fitted on the others. After 1, 3, 5 and 10 "
        "ratings of a user (liked or not) the lists are to hold what that user liked after the tenth. `served` is NCF "
        "as its lists are made: who liked fewer than `export.min_history` titles gets scores that lean on popularity.",
    ),
    "replay": (
        "Titles that arrive",
        "A tenth of the titles arrives when the test window begins: nothing of what was done with them before is known "
        "to anybody. The night's lists of 20 are looked at, in three cuts (the last 20, 30 and 40 % of every user's "
        "ratings), each with a draw of titles of its own. Each rival fills the very places that our lists give to new "
        "titles. Popularity of the new cannot be known at the time; it is shown after a tenth of the window, and with "
        "all of it, without the user's own ratings. Arrival is played rather than real because users of MovieLens come "
        "once: after a moment in the sample's time there are 20 to 70 users left with both a history and a new title "
        "that they liked.",
    ),
    "refit": (
        "What serves against what was measured",
        "The last tenth of every user's ratings is kept from the whole night. Both copies get the same histories; the "
        "serving copy was refitted on all that the night had. NDCG@10 on the last tenth.",
    ),
}


def write_page(found: Found, root: Path) -> None:
    """Write the page and its plots; parts without figures are left out."""
    drawn = write_plots(found, root / PLOTS)
    parts = [_HEAD, _made(found)]
    if found:
        parts += ["## What is to be reached\n", bounds_table(found)]
    for section, (title, text) in _SECTIONS.items():
        if section in found:
            parts += [f"## {title}\n", f"`python -m benchmarks.quality {section}`. {text}\n"]
            if f"{section}.svg" in drawn:
                parts.append(f"![{title}]({PLOTS.name}/{section}.svg)\n")
            parts += TABLES[section](found[section])
    parts.append("Ideas that were tried and lost are in [experiments.md](experiments.md).\n")
    write_text(root / PAGE, "\n".join(parts))


def _made(found: Found) -> str:
    """When and on what the figures were made."""
    made = {
        (f["made"]["machine"], f["made"]["date"], f["made"]["code"]) for own in found.values() for f in own.values()
    }
    lines = [f"- {machine}; {date}; Marquee {code}" for machine, date, code in sorted(made)]
    return "Made on:\n\n" + "\n".join(lines) + "\n" if lines else "There are no figures yet.\n"
