"""What the gate decided, as a record and in words."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from recsys.bootstrap import Interval
from recsys.config import GateConfig
from recsys.guardrails import CLOSED_FORM, FLOOR, Guardrail, pretty

Outcome = Literal["promote", "keep", "first", "unchanged"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


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
        return not self.failed

    @property
    def failed(self) -> tuple[Guardrail, ...]:
        """The guardrails that it did not pass."""
        return tuple(guardrail for guardrail in self.guardrails if not guardrail.passed)


class Decision(_Record):
    """Which model serves, and why."""

    outcome: Outcome
    """promote: the challenger replaces the champion; keep: the champion stays; first: there was none to compare with;
    unchanged: the best of tonight is the champion itself."""
    winner: str | None
    """The family that replaces the champion (or is the first); None where the champion stays."""
    challenger: str | None
    """The family held against the champion: the best that passed the guardrails, or the champion's own recipe where
    that is what is promoted; None where none passed."""
    refresh: bool = False
    """Whether the challenger is the champion's own recipe, fitted on newer data."""
    uncompared: bool = False
    """Whether a champion serves that could not be measured on tonight's users."""
    metric: str
    users: int
    champion_value: float | None
    interval: Interval | None
    """Challenger less champion, paired on users."""
    rival: str | None = None
    """The best of the other kind that passed: closed-form where the challenger is a network, else the other way."""
    lead: Interval | None = None
    """Challenger less rival, paired on users."""
    verdicts: tuple[Verdict, ...]
    """All candidates, best first."""
    brief: str = ""
    """The reason in a few words, for tables."""
    reason: str = ""
    """One paragraph."""

    @property
    def values(self) -> dict[str, float]:
        """The metric's mean by family."""
        return {verdict.family: verdict.value for verdict in self.verdicts}

    @property
    def refused(self) -> tuple[Verdict, ...]:
        """Who would have been the challenger but for the guardrails, and networks that fail for what they are.

        Not the floor, nor weaker closed-form models: nobody waited for them.
        """
        ranks = {verdict.family: rank for rank, verdict in enumerate(self.verdicts)}
        last = ranks[self.challenger] if self.challenger else len(ranks)
        return tuple(
            verdict
            for verdict in self.verdicts
            if not verdict.eligible
            and verdict.family != FLOOR
            and (ranks[verdict.family] < last or verdict.family not in CLOSED_FORM)
        )


def explained(decision: Decision, config: GateConfig) -> Decision:
    """The decision with its reason, long and brief."""
    return decision.model_copy(update={"reason": explain(decision, config), "brief": _brief(decision)})


def explain(decision: Decision, config: GateConfig) -> str:
    """The decision's reason: who, by how much on how many users, how sure, and who was refused for what."""
    refused = [f"{v.family} ({'; '.join(g.text for g in v.failed)})" for v in decision.refused]
    parts = [_headline(decision, config), _beside(decision)]
    if refused:
        parts.append(f"Refused: {', '.join(refused)}.")
    return " ".join(part for part in parts if part)


def _brief(decision: Decision) -> str:
    names = [f"{v.family} ({', '.join(g.name for g in v.failed)})" for v in decision.refused]
    refused = f"; refused: {', '.join(names)}" if names else ""
    return f"{_gist(decision)}{refused}"


def _gist(decision: Decision) -> str:
    if decision.challenger is None:
        return "nothing passed the guardrails"
    if decision.outcome == "first":
        return "the champion could not be compared" if decision.uncompared else "the first champion"
    if decision.outcome == "unchanged":
        return "the champion is the best of tonight"
    assert decision.interval is not None
    found = _judgement(decision.interval)
    return f"refreshed on newer data, {found}" if decision.refresh and decision.outcome == "promote" else found


def _judgement(interval: Interval) -> str:
    if interval.low > 0:
        return "better beyond chance"
    return "worse beyond chance" if interval.high < 0 else "equal within chance"


def _headline(decision: Decision, config: GateConfig) -> str:
    figure, best, values = pretty(decision.metric), decision.challenger, decision.values
    if best is None:
        stays = "popularity serves" if decision.outcome == "first" else "the champion stays"
        return f"No candidate passed the guardrails, so {stays} (popularity has {figure} {values[FLOOR]:.4f})."
    mine = f"{figure} {values[best]:.4f}"
    if decision.outcome == "first":
        what = "replaces a champion that cannot be compared with it" if decision.uncompared else "is the first champion"
        return f"{best} {what}: {mine} on {decision.users} users, popularity {values[FLOOR]:.4f}."
    if decision.outcome == "unchanged":
        return f"The best of tonight is the champion itself ({best}, {mine})."
    assert decision.interval is not None
    compared = (
        f"{mine} against the champion's {decision.champion_value:.4f} on {decision.users} users, a difference of "
        f"{decision.interval} at {config.confidence:.0%} confidence: {_judgement(decision.interval)}"
    )
    limit = f"the tolerance of {config.tolerance:g}"
    if decision.outcome == "promote":
        ours = "The champion's recipe on newer data takes its place" if decision.refresh else f"{best} is promoted"
        name = f"{best} has " if decision.refresh else ""
        beyond = "" if decision.interval.low > 0 else f", and not worse beyond {limit}"
        return f"{ours}: {name}{compared}{beyond}."
    doubt = "" if decision.interval.high < 0 else f", and it may be worse beyond {limit}"
    recipe = ", the champion's own recipe on newer data," if decision.refresh else ""
    return f"The champion stays: {best}{recipe} has {compared}{doubt}."


def _beside(decision: Decision) -> str:
    """How the challenger stands beside the best of the other kind."""
    if decision.challenger is None or decision.rival is None or decision.lead is None:
        return ""
    value, lead = decision.values[decision.rival], decision.lead
    doubt = "" if lead.low > 0 else ", which may be chance"
    if decision.challenger in CLOSED_FORM:
        return (
            f"The neural models lost: the best of them, {decision.rival}, has {value:.4f}, "
            f"a difference of {lead.negated}{doubt}."
        )
    ahead = "is ahead of" if lead.mean >= 0 else "is behind"
    return f"It {ahead} the best closed-form model, {decision.rival} ({value:.4f}), by {lead}{doubt}."
