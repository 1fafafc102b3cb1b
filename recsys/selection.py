"""The gate: which model serves from tonight. Figures in, a decision with its reason out.

Knows nothing of how models were made or where they are kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from recsys.config import GateConfig
from recsys.errors import ConfigError, TrainingError
from recsys.evaluation import Evaluation
from recsys.histories import Floats

CLOSED_FORM = frozenset(
    {
        "popularity",
        "recent_popularity",
        "item_knn",
        "ease",
        "ease_recency",
        "ials",
        "ials_recency",
        "order_ridge",
    }
)
"""Families too simple to have seen the test window by mistake: the yardstick for what is too good to be true."""
FLOOR = "popularity"
Outcome = Literal["promote", "keep", "first", "unchanged"]
_DRAWS = 4_000_000


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Record):
    """A mean difference and its bootstrap confidence interval."""

    mean: float
    low: float
    high: float


class Guardrail(_Record):
    """One check of one candidate."""

    name: str
    passed: bool
    value: float
    limit: float
    text: str
    """What was found, as part of a sentence."""


class Verdict(_Record):
    """What the gate found out about one candidate."""

    family: str
    value: float
    """Mean of the gate's metric."""
    guardrails: tuple[Guardrail, ...]
    against_champion: Interval | None = None

    @property
    def eligible(self) -> bool:
        """Whether it passed every guardrail."""
        return all(guardrail.passed for guardrail in self.guardrails)


class Decision(_Record):
    """Which model serves, and why."""

    outcome: Outcome
    """promote: the challenger replaces the champion; keep: the champion stays; first: there was none; unchanged: the
    best of tonight is the champion itself."""
    winner: str | None
    """The family that replaces the champion (or is the first); None where the champion stays."""
    challenger: str | None
    """The best family that passed the guardrails; None where none did."""
    metric: str
    users: int
    champion_value: float | None
    interval: Interval | None
    """Challenger less champion, paired on users."""
    verdicts: tuple[Verdict, ...]
    """All candidates, best first."""
    reason: str
    """One paragraph."""


def paired_bootstrap(
    a: Floats, b: Floats, *, resamples: int = 2_000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """Mean of a - b over users, with a percentile bootstrap interval (users drawn with replacement, pairs kept).

    Args:
        a: [n_users] a metric of one model.
        b: [n_users] the same metric of another, for the same users.
        resamples: number of draws.
        confidence: such as .95.
        seed: of the draws.
    """
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    n = len(difference)
    if not difference.any():
        return Interval(mean=0.0, low=0.0, high=0.0)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    chunk = max(1, _DRAWS // n)  # bounds the memory: 16 MB of numbers at a time
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        means[start : start + rows] = difference[rng.integers(0, n, (rows, n), dtype=np.int32)].mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean=float(difference.mean()), low=float(low), high=float(high))


def decide(
    candidates: Mapping[str, Evaluation],
    champion: Evaluation | None,
    config: GateConfig,
    *,
    preferred: str = "ncf",
    same_as_champion: str | None = None,
    seed: int = 0,
) -> Decision:
    """Choose the model that serves: the best candidate that passes the guardrails, if it can hold its own.

    Args:
        candidates: tonight's models by family, ``popularity`` among them, measured on the same users.
        champion: the model that serves now, measured on those users too; None on the first night.
        config: metric, tolerance and guardrails.
        preferred: family that wins an exact tie.
        same_as_champion: the family of tonight that is the very model that serves, if one is.
        seed: of the bootstrap.

    Raises:
        ConfigError: the metric is not measured.
        TrainingError: ``popularity`` is missing, or the evaluations are not of the same users.
    """
    _check(candidates, champion, config.metric)
    gate = _Gate(candidates, champion, config, seed)
    verdicts = tuple(
        sorted(
            (gate.verdict(family) for family in candidates), key=lambda v: (-v.value, v.family != preferred, v.family)
        )
    )
    best = next((verdict for verdict in verdicts if verdict.eligible), None)
    outcome, winner = _outcome(best, champion, config, same_as_champion)
    decision = Decision(
        outcome=outcome,
        winner=winner,
        challenger=best.family if best else None,
        metric=config.metric,
        users=len(candidates[FLOOR].users),
        champion_value=None if champion is None else float(champion.metrics[config.metric]),
        interval=best.against_champion if best else None,
        verdicts=verdicts,
        reason="",
    )
    return decision.model_copy(update={"reason": explain(decision, config)})


def _check(candidates: Mapping[str, Evaluation], champion: Evaluation | None, metric: str) -> None:
    if FLOOR not in candidates:
        raise TrainingError("popularity was not measured, so no candidate can be held against it", remedy="run it too")
    measured = candidates[FLOOR]
    for evaluation in [*candidates.values(), *([champion] if champion else [])]:
        if metric not in evaluation.per_user:
            known = ", ".join(sorted(evaluation.per_user))
            raise ConfigError(
                f"{metric} is not a per-user metric", where="[gate] metric", remedy=f"use one of: {known}"
            )
        if not np.array_equal(evaluation.users, measured.users):
            raise TrainingError(
                f"two evaluations are not of the same users ({len(evaluation.users)} and {len(measured.users)})",
                remedy="measure champion and candidates on the same split",
            )


def _outcome(
    best: Verdict | None, champion: Evaluation | None, config: GateConfig, same_as_champion: str | None
) -> tuple[Outcome, str | None]:
    if champion is None:
        return "first", best.family if best else FLOOR
    if best is None:
        return "keep", None
    if best.family == same_as_champion:
        return "unchanged", None
    assert best.against_champion is not None
    return ("promote", best.family) if best.against_champion.low >= -config.tolerance else ("keep", None)


class _Gate:
    """The guardrails, over one night's evaluations."""

    def __init__(
        self, candidates: Mapping[str, Evaluation], champion: Evaluation | None, config: GateConfig, seed: int
    ) -> None:
        self.candidates = candidates
        self.champion = champion
        self.config = config
        self.seed = seed

    def verdict(self, family: str) -> Verdict:
        """All that is to be said of one candidate."""
        mine = self.candidates[family]
        return Verdict(
            family=family,
            value=float(mine.metrics[self.config.metric]),
            guardrails=tuple(self._guardrails(family, mine)),
            against_champion=None if self.champion is None else self._compare(mine, self.champion),
        )

    def _compare(self, a: Evaluation, b: Evaluation, group: int | None = None) -> Interval:
        name = self.config.metric
        mask = slice(None) if group is None else a.groups == group
        return paired_bootstrap(
            a.per_user[name][mask],
            b.per_user[name][mask],
            resamples=self.config.resamples,
            confidence=self.config.confidence,
            seed=self.seed,
        )

    def _guardrails(self, family: str, mine: Evaluation) -> Iterator[Guardrail]:
        config, metrics = self.config, mine.metrics
        yield _at_most(
            "finite", 0.0 if mine.finite else 1.0, 0.0, "some scores are not finite", "all scores are finite"
        )
        # Few users cannot show many titles: half of what their lists could hold is asked for at most.
        reachable = min(1.0, 10 * len(mine.users) / mine.n_items)
        coverage = metrics["coverage_at_10"]
        yield _at_least(
            "coverage", coverage, min(config.min_coverage, reachable / 2), f"it shows {coverage:.1%} of titles"
        )
        same = f"{mine.same_list:.0%} of users would get one and the same list"
        yield _at_most("same_list", mine.same_list, config.max_same_list, same)
        gini, cold = metrics["gini_at_10"], metrics["cold_share_at_10"]
        yield _at_most("gini", gini, config.max_gini, f"the Gini coefficient of exposure is {gini:.3f}")
        yield _at_least("cold_share", cold, config.min_cold_share, f"{cold:.1%} of its lists are new titles")
        if family != FLOOR:
            yield self._beats_floor(mine)
        if family not in CLOSED_FORM:
            yield self._too_good(mine)
        if self.champion is not None:
            yield self._groups(mine, self.champion)

    def _beats_floor(self, mine: Evaluation) -> Guardrail:
        gain = self._compare(mine, self.candidates[FLOOR])
        text = f"against popularity {_signed(gain)}"
        return Guardrail(name="beats_popularity", passed=gain.mean > 0, value=gain.mean, limit=0.0, text=text)

    def _too_good(self, mine: Evaluation) -> Guardrail:
        name = self.config.metric
        others = [e.metrics[name] for family, e in self.candidates.items() if family in CLOSED_FORM]
        yardstick = max([*others, *([self.champion.metrics[name]] if self.champion else [])])
        value, limit = mine.metrics[name], (1 + self.config.max_gain) * yardstick
        text = f"{pretty(name)} {value:.4f} where the champion and the closed-form models reach {yardstick:.4f}"
        leak = f"{text}: too good to be true, look for a leak"
        return _at_most("plausible", value, limit, leak, text)

    def _groups(self, mine: Evaluation, champion: Evaluation) -> Guardrail:
        """The worst relative loss over activity groups, counted only where it is more than noise."""
        worst, where = 0.0, "none"
        before = champion.group_means(self.config.metric)
        for group, name in enumerate(mine.group_names):
            change = self._compare(mine, champion, group)
            loss = -change.mean / before[name] if before[name] > 0 else 0.0
            if change.high < 0 and loss > worst:
                worst, where = loss, name
        text = f"users with {where} titles in their history lose {worst:.0%}" if worst else "no group of users loses"
        return _at_most("group_loss", worst, self.config.max_group_loss, text)


def _at_most(name: str, value: float, limit: float, bad: str, good: str | None = None) -> Guardrail:
    passed = value <= limit
    text = (bad if good is None or not passed else good) + ("" if passed or good else f" (at most {limit:g})")
    return Guardrail(name=name, passed=passed, value=float(value), limit=float(limit), text=text)


def _at_least(name: str, value: float, limit: float, text: str) -> Guardrail:
    passed = value >= limit
    return Guardrail(
        name=name,
        passed=passed,
        value=float(value),
        limit=float(limit),
        text=text if passed else f"{text} (at least {limit:.1%})",
    )


def pretty(metric: str) -> str:
    """``ndcg_at_10`` as people write it: NDCG@10."""
    name, _, k = metric.rpartition("_at_")
    spelled = {"ndcg": "NDCG", "mrr": "MRR", "hit_rate": "hit rate", "capped_recall": "capped recall"}
    return f"{spelled.get(name, name)}@{k}"


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"


def explain(decision: Decision, config: GateConfig) -> str:
    """The decision's reason: who, by how much on how many users, how sure, and who was refused for what."""
    refused = [
        f"{verdict.family} ({'; '.join(g.text for g in verdict.guardrails if not g.passed)})"
        for verdict in decision.verdicts
        if not verdict.eligible and verdict.family != FLOOR
    ]
    parts = [_headline(decision, config)]
    if refused:
        parts.append(f"Refused: {', '.join(refused)}.")
    return " ".join(parts)


def _headline(decision: Decision, config: GateConfig) -> str:
    figure, best = pretty(decision.metric), decision.challenger
    values = {verdict.family: verdict.value for verdict in decision.verdicts}
    if best is None:
        stays = "popularity serves" if decision.outcome == "first" else "the champion stays"
        return f"No candidate passed the guardrails, so {stays} (popularity has {figure} {values[FLOOR]:.4f})."
    if decision.outcome == "first":
        others = max((value for family, value in values.items() if family != best), default=0.0)
        return (
            f"{best} is the first champion: {figure} {values[best]:.4f} on {decision.users} users, "
            f"popularity {values[FLOOR]:.4f}, the next candidate {others:.4f}."
        )
    if decision.outcome == "unchanged":
        return f"The best of tonight is the champion itself ({best}, {figure} {values[best]:.4f})."
    assert decision.interval is not None
    compared = (
        f"{figure} {values[best]:.4f} against the champion's {decision.champion_value:.4f} on {decision.users} users, "
        f"a difference of {_signed(decision.interval)} at {config.confidence:.0%} confidence"
    )
    if decision.outcome == "promote":
        return f"{best} is promoted: {compared}, which is not worse beyond the tolerance of {config.tolerance:g}."
    return (
        f"The champion stays: {best} has {compared}, which may be worse beyond the tolerance of {config.tolerance:g}."
    )
