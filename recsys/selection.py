"""The gate: which model serves from tonight. Figures in, a decision with its reason out.

Knows nothing of how models were made or where they are kept. The rules and the figures behind them:
docs/decisions/0008-gate.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from recsys.bootstrap import Interval, paired_bootstrap
from recsys.config import GateConfig
from recsys.decisions import Decision, Outcome, Verdict, explain, explained
from recsys.errors import ConfigError, TrainingError
from recsys.evaluation import Evaluation
from recsys.guardrails import CLOSED_FORM, FLOOR, Guardrail, Guardrails, pretty
from recsys.title_groups import TitleGroups

__all__ = [
    "CLOSED_FORM",
    "FLOOR",
    "Decision",
    "Guardrail",
    "Interval",
    "Outcome",
    "Verdict",
    "decide",
    "explain",
    "paired_bootstrap",
    "pretty",
]


def decide(
    candidates: Mapping[str, Evaluation],
    champion: Evaluation | None,
    config: GateConfig,
    *,
    preferred: str = "ncf",
    same_as_champion: str | None = None,
    champions_recipe: str | None = None,
    uncompared: bool = False,
    titles: TitleGroups | None = None,
    seed: int = 0,
) -> Decision:
    """Choose the model that serves: the best candidate that passes the guardrails, if it can hold its own.

    A candidate of another recipe than the champion's has to show that it is not worse: the lower end of the interval
    lies within the tolerance. The champion's own recipe on newer data has only not to be shown worse.

    Args:
        candidates: tonight's models by family, ``popularity`` among them, measured on the same users.
        champion: the model that serves now, measured on those users too; None on the first night.
        config: metric, tolerance and guardrails.
        preferred: family that wins an exact tie.
        same_as_champion: the family of tonight that is the very model that serves, if one is.
        champions_recipe: the family of tonight that was made just as the champion, from other data, if one was.
        uncompared: a champion serves, but could not be measured (``champion`` is None then).
        titles: the targets by popularity of their titles; None: the guardrail on the less-watched half is left out.
        seed: of the bootstrap.

    Raises:
        ConfigError: the metric is not measured.
        TrainingError: ``popularity`` is missing, or the evaluations are not of the same users.
    """
    _check(candidates, champion, titles, config.metric)
    guardrails = Guardrails(candidates, champion, config, titles=titles, seed=seed)
    verdicts = tuple(
        sorted(
            (_verdict(family, guardrails) for family in candidates),
            key=lambda v: (-v.value, v.family != preferred, v.family),
        )
    )
    outcome, challenger = _choose(verdicts, champion, config, same_as_champion, champions_recipe)
    rival = _rival(challenger, verdicts)
    decision = Decision(
        outcome=outcome,
        winner=(challenger.family if challenger else FLOOR) if outcome == "first"
        else challenger.family if challenger and outcome == "promote" else None,
        challenger=challenger.family if challenger else None,
        refresh=challenger is not None and challenger.family == champions_recipe,
        uncompared=uncompared,
        metric=config.metric,
        users=len(candidates[FLOOR].users),
        champion_value=None if champion is None else float(champion.metrics[config.metric]),
        interval=challenger.against_champion if challenger else None,
        rival=rival,
        lead=guardrails.compare(candidates[challenger.family], candidates[rival]) if challenger and rival else None,
        verdicts=verdicts,
    )  # fmt: skip
    return explained(decision, config)


def _check(
    candidates: Mapping[str, Evaluation], champion: Evaluation | None, titles: TitleGroups | None, metric: str
) -> None:
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
    if titles is not None and titles.n_users != len(measured.users):
        raise TrainingError(
            f"the targets are of {titles.n_users} users, the evaluations of {len(measured.users)}",
            remedy="group the targets of the window that was measured",
        )


def _verdict(family: str, guardrails: Guardrails) -> Verdict:
    """All that is to be said of one candidate."""
    mine, champion = guardrails.candidates[family], guardrails.champion
    return Verdict(
        family=family,
        value=float(mine.metrics[guardrails.config.metric]),
        guardrails=tuple(guardrails.check(family)),
        against_champion=None if champion is None else guardrails.compare(mine, champion),
    )


def _choose(
    verdicts: Sequence[Verdict],
    champion: Evaluation | None,
    config: GateConfig,
    same_as_champion: str | None,
    champions_recipe: str | None,
) -> tuple[Outcome, Verdict | None]:
    """The outcome, and the candidate that it is about."""
    eligible = [verdict for verdict in verdicts if verdict.eligible]
    best = next(iter(eligible), None)
    if champion is None:
        return "first", best
    if best is None:
        return "keep", None
    if best.family == same_as_champion:
        return "unchanged", best
    refresh = next((v for v in eligible if v.family == champions_recipe), None) if config.refresh else None
    if best is not refresh and _not_worse(best, config):
        return "promote", best
    if refresh is not None and not _worse(refresh, config):
        return "promote", refresh
    return "keep", best


def _not_worse(verdict: Verdict, config: GateConfig) -> bool:
    """Whether it is shown not to be worse than the champion beyond the tolerance."""
    return verdict.against_champion is not None and verdict.against_champion.low >= -config.tolerance


def _worse(verdict: Verdict, config: GateConfig) -> bool:
    """Whether it is shown to be worse than the champion, or is, on average, worse beyond the tolerance."""
    interval = verdict.against_champion
    return interval is None or interval.high < 0 or interval.mean < -config.tolerance


def _rival(challenger: Verdict | None, verdicts: Sequence[Verdict]) -> str | None:
    """The best of the other kind, if any passed the guardrails."""
    if challenger is None:
        return None
    closed = challenger.family in CLOSED_FORM
    others = (v.family for v in verdicts if v.eligible and (v.family in CLOSED_FORM) != closed)
    return next(others, None)
