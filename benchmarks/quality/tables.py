"""The tables of docs/benchmarks.md, as Markdown: one function per section. Figures in, lines out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.quality.bounds import bounds, signed
from benchmarks.quality.datasets import DATASETS
from benchmarks.quality.plots import OURS

Figures = Mapping[str, Any]
Found = Mapping[str, Figures]
"""Dataset → figures."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first to the right."""
    align = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, align, *rows)) + "\n"


def number(value: float | None, digits: int = 4) -> str:
    """0.1234 as .1234; nothing as a dash."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.{digits}f}"


def spread(interval: Mapping[str, float]) -> str:
    """.1234 [.1100, .1368]"""
    return f"{number(interval['mean'])} [{number(interval['low'])}, {number(interval['high'])}]"


def bounds_table(found: Mapping[str, Found]) -> str:
    """Every bound, what was reached, and whether that is enough."""
    rows = [(each.data, each.bound, each.figure, "met" if each.met else "**not met**") for each in bounds(found)]
    return table(("data", "bound", "figure", ""), rows)


def ring_tables(found: Found) -> Iterator[str]:
    """A table of all models for each dataset, and one of groups."""
    for name in _in_order(found):
        figures = found[name]
        rows, compared = figures["rows"], figures["compared"]
        yield (
            f"### {DATASETS[name].words}\n\n"
            f"{rows['users']:,} users, {rows['titles']:,} titles, {rows['ratings']:,} ratings; "
            f"{compared['users']:,} users measured. Best rival: **{compared['best_rival']['ndcg_at_10']}**.\n"
        )
        yield _models_table(figures)
        interval = figures["ncf_against_blend"]
        yield f"NCF against the blend of its own towers, NDCG@10: {signed(interval)}.\n"
        yield _groups_table(compared["models"], compared["best_rival"]["ndcg_at_10"])


def _models_table(figures: Figures) -> str:
    models = figures["compared"]["models"]
    order = sorted(models, key=lambda name: -models[name]["intervals"]["ndcg_at_10"]["mean"])
    rows = []
    for name in order:
        against, cost = models[name]["against_best_rival"]["ndcg_at_10"], figures["costs"].get(name, {})
        rows.append(
            (
                f"**{name}**" if name in OURS else name,
                spread(models[name]["intervals"]["ndcg_at_10"]),
                number(models[name]["intervals"]["recall_at_20"]["mean"]),
                number(models[name]["intervals"]["ndcg_at_100"]["mean"]),
                "–" if against is None else f"{against['ratio']:.3f}",
                "the best rival" if against is None else signed(against),
                str(cost.get("tried", "–")),
                "–" if cost.get("seconds") is None else f"{cost['seconds']:,.0f}",
                "–" if cost.get("peak_mb") is None else f"{cost['peak_mb']:,.0f}",
            )
        )
    head = ("model", "NDCG@10 [95 %]", "recall@20", "NDCG@100", "ratio", "difference", "tried", "seconds", "MB")
    return table(head, rows)


def _groups_table(models: Figures, rival: str) -> str:
    """NCF beside the best rival in every group of users (NDCG@10) and of targets (recall@20)."""
    ours, theirs = models["ncf"]["groups"], models[rival]["groups"]
    rows = []
    for grouping, groups in ours.items():
        for group, mine in groups.items():
            key = "ndcg_at_10" if grouping == "activity" else "recall_at_20"
            other = theirs[grouping][group][key]
            if mine[key] is None or other is None:
                continue
            words = f"{grouping}: {group}"
            targets = "–" if mine["targets"] is None else f"{mine['targets']:,}"
            rows.append((words, "NDCG@10" if grouping == "activity" else "recall@20", targets, number(mine[key]),
                         number(other)))  # fmt: skip
    return table(("group", "figure", "targets", "ncf", rival), rows)


def ablation_tables(found: Found) -> Iterator[str]:
    """Every variant against the whole, a column of differences for each dataset."""
    names = _in_order(found)
    variants = dict.fromkeys(key for name in names for key in found[name]["variants"])
    rows = []
    for key in variants:
        cells, words = [], key
        for name in names:
            each = found[name]["variants"].get(key)
            words = each["words"] if each else words
            cells.append(_variant(key, each))
        rows.append((words, *cells))
    yield table(("", *(_data(name) for name in names)), rows)


def _variant(key: str, each: Figures | None) -> str:
    if each is None:
        return "–"
    mean = number(each["ndcg_at_10"])
    return mean if key == "whole" else f"{mean}, {signed(each['ndcg_at_10_difference'])}"


def cold_tables(found: Found) -> Iterator[str]:
    """Every model on cold titles."""
    for name in _in_order(found):
        figures = found[name]
        yield (
            f"### {_data(name)}\n\n{figures['draws']} draws of {figures['titles'][0]} titles reported on; "
            f"{figures['users']:,} users.\n"
        )
        rows = []
        for model, words in figures["words"].items():
            own = figures["models"][model]
            rows.append(
                (
                    f"**{words}**" if model in OURS else words,
                    spread(own["recall_at_20"]["interval"]),
                    spread(own["ndcg_at_10"]["interval"]),
                    f"{own['recall_at_20']['ratio']:.3f}",
                    f"{own['ndcg_at_10']['ratio']:.3f}",
                    signed(own["recall_at_20"]["against_ridge"]),
                )
            )
        head = ("model", "recall@20 [95 %]", "NDCG@10 [95 %]", "recall ratio", "NDCG ratio", "recall less the ridge's")
        yield table(head, rows)


def new_users_tables(found: Found) -> Iterator[str]:
    """NDCG@10 by number of ratings known."""
    for name in _in_order(found):
        figures = found[name]
        after = list(figures["served_against_best_rival"])
        yield f"### {_data(name)}\n\n{figures['users']:,} users held out.\n"
        rows = [
            (f"**{model}**" if model in OURS else model, *(number(curve[n]["mean"]) for n in after))
            for model, curve in figures["curves"].items()
        ]
        against = figures["served_against_best_rival"]
        rows.append(("served less the best rival", *(f"{signed(against[n])} ({against[n]['rival']})" for n in after)))
        yield table(("NDCG@10 after", *(f"{n} ratings" if n != "1" else "1 rating" for n in after)), rows)


def replay_tables(found: Found) -> Iterator[str]:
    """New titles in the lists."""
    for name in _in_order(found):
        figures = found[name]
        yield (
            f"### {_data(name)}\n\n{figures['lists']:,} lists of 20 over {len(figures['cuts'])} cuts: "
            f"{figures['share_new']:.1%} of the places go to new titles, which are "
            f"{figures['share_wanted_new']:.1%} of what users liked afterwards. An old title hits with "
            f"{number(figures['hits_per_place_of_old'])} per place.\n"
        )
        rows = [
            (
                words,
                number(figures["models"][model]["hits_per_place"]),
                f"{figures['models'][model]['users_with_a_hit']:.1%}",
                number(figures["models"][model]["ndcg_among_new"]),
                "" if model == "ncf" else signed(figures["models"][model]["ours_less_this_ndcg"]),
            )
            for model, words in figures["words"].items()
        ]
        head = (
            "who fills the places",
            "hits per place",
            "users with a hit",
            "NDCG@10 among the new",
            "NDCG: ours less this",
        )
        yield table(head, rows)


def refit_tables(found: Found) -> Iterator[str]:
    """Measured copy and serving copy on the later window."""
    rows = []
    for name in _in_order(found):
        for family, own in found[name]["families"].items():
            each = own["ndcg_at_10"]
            rows.append(
                (f"{_data(name)}: {family}", number(each["measured"]),
                 number(each["serving"]), signed(each["gain"]), f"{found[name]['users']:,}")
            )  # fmt: skip
    yield table(("data and model", "measured copy", "serving copy", "gain", "users"), rows)


def _data(name: str) -> str:
    """A dataset's name without its split."""
    return DATASETS[name].words.partition(",")[0]


def _in_order(found: Found) -> list[str]:
    return [name for name in DATASETS if name in found]


TABLES: Mapping[str, Callable[[Found], Iterator[str]]] = {
    "ring": ring_tables,
    "ablation": ablation_tables,
    "cold": cold_tables,
    "new-users": new_users_tables,
    "replay": replay_tables,
    "refit": refit_tables,
}
