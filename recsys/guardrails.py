"""The gate's guardrails: what a candidate must not be or do, however good its mean.

Each looks at one night's figures of a candidate, beside those of the champion and of the closed-form models. Knows
nothing of who is chosen (:mod:`recsys.selection`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from pydantic import BaseModel, ConfigDict

from recsys.bootstrap import Interval, paired_bootstrap
from recsys.config import BaselinesConfig, GateConfig
from recsys.evaluation import Evaluation
from recsys.histories import Floats
from recsys.title_groups import MIDDLE, TAIL, TitleGroups

CLOSED_FORM = frozenset(BaselinesConfig().models)
"""Families too simple to have seen the test window by mistake: the yardstick for what is too good to be true."""
FLOOR = "popularity"
_MOST_REACHABLE = 0.5
"""Of the titles that the users' lists could hold at most: more coverage than that is never asked for."""
_COLD_PLACES = 0.005
"""Share of places that a champion must give to new titles before a challenger is held to it: below, it is chance."""


class Guardrail(BaseModel):
    """One check of one candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    passed: bool
    value: float
    limit: float
    text: str
    """What was found, as part of a sentence."""


class Guardrails:
    """The checks, over one night's evaluations of the same users."""

    def __init__(
        self,
        candidates: Mapping[str, Evaluation],
        champion: Evaluation | None,
        config: GateConfig,
        *,
        titles: TitleGroups | None = None,
        seed: int = 0,
    ) -> None:
        """Take the night's figures.

        Args:
            candidates: by family, :data:`FLOOR` among them.
            champion: what serves now, or None.
            config: metric and limits.
            titles: the targets by popularity of their titles; None: what needs them is not checked.
            seed: of the bootstrap.
        """
        self.candidates = candidates
        self.champion = champion
        self.config = config
        self.titles = titles
        self.seed = seed
        self._compared: dict[tuple[int, int], Interval] = {}  # by identity: the same pair is asked for again and again
        self._closed = {family: e for family, e in candidates.items() if family in CLOSED_FORM}
        strongest = max(self._closed, key=lambda family: self._closed[family].metrics[config.metric])
        self._reference = champion or self._closed[strongest]
        self._reference_name = "the champion" if champion else f"the best closed-form model, {strongest},"

    def compare(self, a: Evaluation, b: Evaluation) -> Interval:
        """The gate's metric, a less b, paired on users."""
        pair, name = (id(a), id(b)), self.config.metric
        if pair not in self._compared:
            self._compared[pair] = self._bootstrap(a.per_user[name], b.per_user[name])
        return self._compared[pair]

    def check(self, family: str) -> Iterator[Guardrail]:
        """All that is asked of a candidate."""
        mine = self.candidates[family]
        yield _at_most("finite", 0.0 if mine.finite else 1.0, 0.0, "some scores are not finite")
        yield _at_most(
            "same_list",
            mine.same_list,
            self.config.max_same_list,
            f"{mine.same_list:.0%} of users would get one and the same list",
        )
        yield self._coverage(mine)
        yield from self._evenness(mine)
        yield from self._cold_share(family, mine)
        if family != FLOOR:
            yield self._beats_floor(mine)
        if family not in CLOSED_FORM:
            yield self._plausible(mine)
        if self.champion is not None and not self._worse_altogether(mine, self.champion):
            yield self._group_loss(mine, self.champion)
            if self.titles is not None:
                yield self._title_loss(mine, self.champion, self.titles)

    def _worse_altogether(self, mine: Evaluation, champion: Evaluation) -> bool:
        """Whether it cannot be promoted anyway: that it also loses here or there need not be said."""
        change = self.compare(mine, champion)
        return change.high < 0 and change.low < -self.config.tolerance

    def _bootstrap(self, a: Floats, b: Floats, *, doubt: float = 1.0) -> Interval:
        confidence = max(0.0, 1 - doubt * (1 - self.config.confidence))
        return paired_bootstrap(a, b, resamples=self.config.resamples, confidence=confidence, seed=self.seed)

    def _coverage(self, mine: Evaluation) -> Guardrail:
        # Few users cannot show many titles: half of what their lists could hold is asked for at most.
        reachable = _MOST_REACHABLE * min(1.0, 10 * len(mine.users) / mine.n_items)
        asked = max(
            self.config.min_coverage, self.config.min_coverage_ratio * self._reference.metrics["coverage_at_10"]
        )
        value, before = mine.metrics["coverage_at_10"], self._reference.metrics["coverage_at_10"]
        text = f"it shows {value:.1%} of titles, {self._reference_name} {before:.1%}"
        return _at_least("coverage", value, min(asked, reachable), text)

    def _evenness(self, mine: Evaluation) -> Iterator[Guardrail]:
        value, before = mine.metrics["gini_at_10"], self._reference.metrics["gini_at_10"]
        limit = min(self.config.max_gini, 1 - self.config.min_evenness_ratio * (1 - before))
        text = f"the Gini coefficient of exposure is {value:.4f}, that of {self._reference_name} {before:.4f}"
        yield _at_most("gini", value, limit, text)

    def _cold_share(self, family: str, mine: Evaluation) -> Iterator[Guardrail]:
        value, asked = mine.metrics["cold_share_at_10"], self.config.min_cold_share
        text = f"new titles have {value:.2%} of the places in its lists"
        if self.champion is not None:
            before = self.champion.metrics["cold_share_at_10"]
            # A closed-form model lists no new titles. Where it is better beyond doubt, it may serve all the same.
            excused = family in CLOSED_FORM and self.compare(mine, self.champion).low > 0
            if before >= _COLD_PLACES and not excused:
                asked = max(asked, self.config.min_cold_ratio * before)
                text += f", in the champion's {before:.2%}"
        yield _at_least("cold_share", value, asked, text, digits=2)

    def _beats_floor(self, mine: Evaluation) -> Guardrail:
        gain = self.compare(mine, self.candidates[FLOOR])
        text = f"against popularity {gain}"
        return Guardrail(name="beats_popularity", passed=gain.mean > 0, value=gain.mean, limit=0.0, text=text)

    def _plausible(self, mine: Evaluation) -> Guardrail:
        """Not far above what can be had without having seen the test window."""
        metric = self.config.metric
        rivals = [*self._closed.values(), *([self.champion] if self.champion else [])]
        rival = max(rivals, key=lambda e: e.metrics[metric])
        value, yardstick = mine.metrics[metric], rival.metrics[metric]
        text = f"{pretty(metric)} {value:.4f} where champion and closed-form models reach {yardstick:.4f}"
        suspect = value > (1 + self.config.max_gain) * yardstick and self.compare(mine, rival).low > 0
        return Guardrail(
            name="plausible",
            passed=not suspect,
            value=float(value),
            limit=float((1 + self.config.max_gain) * yardstick),
            text=f"{text}: {_SUSPECT}" if suspect else text,
        )

    def _group_loss(self, mine: Evaluation, champion: Evaluation) -> Guardrail:
        """The worst relative loss over activity groups, counted only where it is more than noise."""
        worst, where = 0.0, ""
        metric = self.config.metric
        doubt = 2 / len(mine.group_names)  # losses alone are looked for, in every group: one-sided, shared (Bonferroni)
        before = champion.group_means(metric)
        for group, name in enumerate(mine.group_names):
            us = mine.groups == group
            change = self._bootstrap(mine.per_user[metric][us], champion.per_user[metric][us], doubt=doubt)
            loss = -change.mean / before[name] if before[name] > 0 else 0.0
            if change.high < 0 and loss > worst:
                worst, where = loss, name
        text = f"users with {where} titles in their history lose {worst:.0%}" if worst else "no group of users loses"
        return _at_most("group_loss", worst, self.config.max_group_loss, text)

    def _title_loss(self, mine: Evaluation, champion: Evaluation, titles: TitleGroups) -> Guardrail:
        """The relative loss in recall of the less watched half, counted only where it is more than noise."""
        found, before = (titles.recall(e.top, (MIDDLE, TAIL)) for e in (mine, champion))
        known = np.isfinite(found)
        loss = 0.0
        if known.any() and before[known].any():
            change = self._bootstrap(found[known], before[known])
            loss = max(0.0, -change.mean / float(before[known].mean())) if change.high < 0 else 0.0
        text = f"it finds {loss:.0%} less than the champion of what was watched outside the most popular titles"
        return _at_most("title_loss", loss, self.config.max_title_loss, text)


_SUSPECT = "too good to be true, look for a leak of the test window before promoting it by hand"


def _at_most(name: str, value: float, limit: float, text: str) -> Guardrail:
    passed = bool(value <= limit)
    shown = text if passed or limit == 0 else f"{text} (at most {limit:.4g})"
    return Guardrail(name=name, passed=passed, value=float(value), limit=float(limit), text=shown)


def _at_least(name: str, value: float, limit: float, text: str, *, digits: int = 1) -> Guardrail:
    passed = bool(value >= limit)
    shown = text if passed else f"{text} (at least {limit:.{digits}%})"
    return Guardrail(name=name, passed=passed, value=float(value), limit=float(limit), text=shown)


def pretty(metric: str) -> str:
    """``ndcg_at_10`` as people write it: NDCG@10."""
    name, _, k = metric.rpartition("_at_")
    spelled = {"ndcg": "NDCG", "mrr": "MRR", "hit_rate": "hit rate", "capped_recall": "capped recall"}
    return f"{spelled.get(name, name)}@{k}"
