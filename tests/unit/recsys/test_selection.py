from __future__ import annotations

import numpy as np
import pytest

from recsys.config import GateConfig
from recsys.errors import ConfigError, TrainingError
from recsys.evaluation import Evaluation
from recsys.selection import decide, pretty
from recsys.title_groups import TitleGroups

USERS, TITLES = 1_200, 500
GATE = GateConfig(resamples=400)
SEEDS = range(20)


def planted(values, **other) -> Evaluation:
    """An evaluation with given NDCG@10 per user, over four activity groups of alternating users."""
    values = np.clip(values, 0, 1).astype(np.float32)
    fields = {
        "users": np.arange(len(values), dtype=np.int32),
        "per_user": {"ndcg_at_10": values},
        "metrics": {
            "ndcg_at_10": float(values.mean()),
            "coverage_at_10": 0.3,
            "gini_at_10": 0.8,
            "cold_share_at_10": 0.01,
        },
        "top": np.zeros((len(values), 0), np.int32),
        "groups": (np.arange(len(values)) % 4).astype(np.int8),
        "group_names": ("1-10", "11-30", "31-90", "91-400"),
        "same_list": 0.01,
        "n_items": TITLES,
        "finite": True,
    }
    metrics = {**fields["metrics"], **other.pop("metrics", {})}
    return Evaluation(**{**fields, **other, "metrics": metrics})


class Night:
    """Users of differing difficulty; models share it, and add noise of their own."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.ease_of_user = self.rng.beta(1.2, 4, USERS)  # mean .23, as real per-user NDCG: skewed

    def model(self, gain: float = 0.0, noise: float = 0.08):
        return self.ease_of_user * (1 + gain) + self.rng.normal(0, noise, USERS) * self.ease_of_user

    def candidates(self, **models):
        floor = planted(self.model(-0.6), metrics={"coverage_at_10": 0.02}, same_list=1.0)
        return {"popularity": floor, "ease": planted(self.model(-0.2)), **models}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_better_challenger_is_promoted(seed):
    night = Night(seed)
    decision = decide(night.candidates(ncf=planted(night.model(0.08))), planted(night.model()), GATE, seed=seed)
    assert (decision.outcome, decision.winner) == ("promote", "ncf")
    assert decision.interval.low > 0
    assert "ncf is promoted: NDCG@10" in decision.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worse_challenger_is_not(seed):
    night = Night(seed)
    decision = decide(night.candidates(ncf=planted(night.model(-0.05))), planted(night.model()), GATE, seed=seed)
    assert (decision.outcome, decision.winner, decision.challenger) == ("keep", None, "ncf")
    assert decision.interval.high < 0
    assert "The champion stays" in decision.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_an_equal_one_is_promoted_only_where_noise_is_within_the_tolerance(seed):
    night = Night(seed)
    champion = planted(night.model())
    noisy = decide(night.candidates(ncf=planted(night.model(noise=0.5))), champion, GATE, seed=seed)
    close = decide(night.candidates(ncf=planted(champion.per_user["ndcg_at_10"])), champion, GATE, seed=seed)
    assert noisy.outcome == ("promote" if noisy.interval.low >= -GATE.tolerance else "keep")
    assert close.outcome == "promote"
    assert close.interval.low == close.interval.high == 0


def test_equal_within_noise_is_mostly_kept():
    """A lucky one passes now and then: only where its whole interval is within the tolerance, so no harm is done."""
    outcomes = []
    for seed in SEEDS:
        night = Night(seed)
        candidates = night.candidates(ncf=planted(night.model(noise=0.5)))
        outcomes.append(decide(candidates, planted(night.model(noise=0.5)), GATE, seed=seed).outcome)
    assert outcomes.count("keep") >= 15


@pytest.mark.parametrize("seed", SEEDS)
def test_better_on_average_but_ruinous_to_one_group_is_refused(seed):
    night = Night(seed)
    values = night.model(0.2)
    values[np.arange(USERS) % 4 == 0] *= 0.6
    decision = decide(night.candidates(ncf=planted(values)), planted(night.model()), GATE, seed=seed)
    assert decision.outcome == "keep"
    assert "users with 1-10 titles in their history lose" in decision.reason
    refused = next(v for v in decision.verdicts if v.family == "ncf")
    assert [g.name for g in refused.guardrails if not g.passed] == ["group_loss"]
    assert refused.against_champion.mean > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collapsed_one_is_refused(seed):
    night = Night(seed)
    collapsed = planted(night.model(0.1), same_list=1.0, metrics={"coverage_at_10": 0.02})
    decision = decide(night.candidates(ncf=collapsed), planted(night.model()), GATE, seed=seed)
    assert decision.outcome == "keep"
    assert "100% of users would get one and the same list" in decision.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_leaked_one_is_refused_for_a_look(seed):
    night = Night(seed)
    leaked = planted(night.model(2.0))
    decision = decide(night.candidates(ncf=leaked), planted(night.model()), GATE, seed=seed)
    assert decision.outcome == "keep"
    assert "too good to be true, look for a leak" in decision.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_where_a_closed_form_model_wins_it_is_the_winner(seed):
    night = Night(seed)
    candidates = {**night.candidates(ncf=planted(night.model())), "ease": planted(night.model(0.1))}
    first = decide(candidates, None, GATE, seed=seed)
    assert (first.outcome, first.winner) == ("first", "ease")
    later = decide(candidates, planted(night.model()), GATE, seed=seed)
    assert (later.outcome, later.winner) == ("promote", "ease")


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"finite": False}, "some scores are not finite"),
        (
            {"metrics": {"coverage_at_10": 0.004}},
            "it shows 0.4% of titles, the best closed-form model, ease, 30.0% (at least 12.0%)",
        ),
        ({"same_list": 0.6}, "60% of users"),
    ],
)
def test_the_next_best_serves_where_the_best_is_broken(broken, reason):
    night = Night(0)
    decision = decide(night.candidates(ncf=planted(night.model(), **broken)), None, GATE)
    assert (decision.outcome, decision.winner) == ("first", "ease")
    assert decision.verdicts[0].family == "ncf"
    assert reason in decision.reason


def test_absolute_limits():
    night = Night(0)
    candidates = night.candidates(ncf=planted(night.model(), metrics={"gini_at_10": 0.85}))
    assert decide(candidates, None, GATE.model_copy(update={"max_gini": 0.84})).winner == "ease"
    strict = decide(candidates, None, GATE.model_copy(update={"min_cold_share": 0.02}))
    assert (strict.outcome, strict.winner) == ("first", "popularity")


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        ({"coverage_at_10": 0.11}, "it shows 11.0% of titles, the champion 30.0% (at least 12.0%)"),
        (
            {"gini_at_10": 0.94},
            "the Gini coefficient of exposure is 0.9400, that of the champion 0.8000 (at most 0.93",
        ),
        ({"cold_share_at_10": 0.002}, "new titles have 0.20% of the places in its lists, in the champion's 1.00%"),
    ],
)
def test_what_the_champion_shows_may_not_be_lost(metrics, reason):
    night = Night(0)
    candidates = night.candidates(ncf=planted(night.model(0.1), metrics=metrics))
    decision = decide(candidates, planted(night.model()), GATE)
    assert decision.outcome == "keep"
    assert reason in decision.reason


def test_just_within_the_limits_passes():
    night = Night(0)
    within = {"coverage_at_10": 0.121, "gini_at_10": 0.93, "cold_share_at_10": 0.0026}
    decision = decide(night.candidates(ncf=planted(night.model(0.1), metrics=within)), planted(night.model()), GATE)
    assert decision.winner == "ncf"


def test_on_a_first_night_the_best_closed_form_model_is_what_lists_are_held_against():
    night = Night(0)
    first = decide(night.candidates(ncf=planted(night.model(), metrics={"coverage_at_10": 0.1})), None, GATE)
    assert first.winner == "ease"
    assert "it shows 10.0% of titles, the best closed-form model, ease, 30.0%" in first.reason


def test_a_champions_few_new_titles_are_chance():
    night = Night(0)
    candidates = night.candidates(ncf=planted(night.model(0.1), metrics={"cold_share_at_10": 0.0}))
    assert decide(candidates, planted(night.model(), metrics={"cold_share_at_10": 0.004}), GATE).winner == "ncf"
    assert decide(candidates, planted(night.model(), metrics={"cold_share_at_10": 0.006}), GATE).winner is None


def test_a_closed_form_model_shows_no_new_titles_and_is_excused_where_it_is_better_beyond_chance():
    night, no_new = Night(0), {"cold_share_at_10": 0.0}
    champion = planted(night.model())
    better = {**night.candidates(), "ease": planted(night.model(0.1), metrics=no_new)}
    assert decide(better, champion, GATE).winner == "ease"
    equal = {**night.candidates(), "ease": planted(champion.per_user["ndcg_at_10"], metrics=no_new)}
    assert decide(equal, champion, GATE).winner is None


def lists(found, n_users=400):
    """Lists in which the first ``found[group]`` users find their target of that group: titles 0, 1 and 2."""
    top = np.full((n_users, 20), 9, np.int32)
    for title, count in enumerate(found):
        top[:count, title] = title
    return top


@pytest.mark.parametrize(
    ("found", "loss"), [((300, 60, 20), None), ((300, 45, 0), None), ((300, 24, 3), 0.66), ((400, 0, 0), 1.0)]
)
def test_the_less_watched_half_may_not_be_lost(found, loss):
    """Of 800 targets in the half, the champion finds 80."""
    n_users = 400
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.6, n_users)
    titles = TitleGroups(
        n_users,
        rows=np.repeat(np.arange(n_users, dtype=np.int32), 3),
        item_nums=np.tile(np.arange(3, dtype=np.int32), n_users),
        groups=np.tile(np.arange(3, dtype=np.int8), n_users),
    )
    candidates = {
        "popularity": planted(base - 0.2, same_list=1.0, top=lists((400, 0, 0))),
        "ncf": planted(base + 0.01, top=lists(found)),
    }
    champion = planted(base, top=lists((300, 60, 20)))
    decision = decide(candidates, champion, GATE, titles=titles)
    assert (decision.outcome == "keep") is (loss is not None)
    if loss is not None:
        assert f"it finds {loss:.0%} less than the champion of what was watched outside" in decision.reason
    assert decide(candidates, champion, GATE).winner == "ncf"  # not looked at where titles are not grouped


@pytest.mark.parametrize("seed", SEEDS)
def test_the_champions_recipe_on_newer_data_takes_its_place_unless_it_is_worse(seed):
    night = Night(seed)
    champion = planted(night.model(noise=0.5))
    candidates = night.candidates(ncf=planted(night.model(noise=0.5)))
    refreshed = decide(candidates, champion, GATE, champions_recipe="ncf", seed=seed)
    interval = refreshed.interval
    worse = interval.high < 0 or interval.mean < -GATE.tolerance
    assert refreshed.outcome == ("keep" if worse else "promote")
    assert refreshed.refresh
    if not worse:
        assert refreshed.reason.startswith("The champion's recipe on newer data takes its place: ncf has NDCG@10")
        assert refreshed.brief.startswith("refreshed on newer data, ")
    strict = decide(candidates, champion, GATE.model_copy(update={"refresh": False}), champions_recipe="ncf", seed=seed)
    assert strict.outcome == decide(candidates, champion, GATE, seed=seed).outcome


@pytest.mark.parametrize("seed", SEEDS)
def test_a_refresh_that_is_worse_is_kept_out(seed):
    night = Night(seed)
    candidates = night.candidates(ncf=planted(night.model(-0.05)))
    decision = decide(candidates, planted(night.model()), GATE, champions_recipe="ncf", seed=seed)
    assert decision.outcome == "keep"
    assert "The champion stays: ncf, the champion's own recipe on newer data, has" in decision.reason


def test_where_the_best_proves_nothing_the_refresh_is_looked_at():
    night = Night(0)
    values = night.model()
    noise = Night(1).rng.normal(0, 0.4, USERS) * values
    doubtful = planted(values + noise - noise.mean() + 0.003)
    candidates = night.candidates(ncf=planted(values), other=doubtful)
    decision = decide(candidates, planted(values * 0.9999), GATE, champions_recipe="ncf")
    assert decision.verdicts[0].family == "other"
    assert decision.verdicts[0].against_champion.low < -GATE.tolerance
    assert (decision.outcome, decision.winner, decision.refresh) == ("promote", "ncf", True)


def test_a_champion_that_cannot_be_compared_is_replaced_and_the_reason_says_so():
    night = Night(0)
    decision = decide(night.candidates(ncf=planted(night.model())), None, GATE, uncompared=True)
    assert (decision.outcome, decision.winner) == ("first", "ncf")
    assert decision.reason.startswith("ncf replaces a champion that cannot be compared with it: NDCG@10")


def test_a_first_champion_is_told_in_a_clean_sentence():
    night = Night(0)
    decision = decide(night.candidates(ncf=planted(night.model())), None, GATE)
    ncf, ease, popularity = (decision.values[name] for name in ("ncf", "ease", "popularity"))
    lead = decision.lead
    assert decision.reason == (
        f"ncf is the first champion: NDCG@10 {ncf:.4f} on 1200 users, popularity {popularity:.4f}. It is ahead of the "
        f"best closed-form model, ease ({ease:.4f}), by {lead.mean:+.4f} [{lead.low:+.4f}, {lead.high:+.4f}]."
    )
    assert decision.brief == "the first champion"


def test_who_was_refused_for_what_is_told_briefly():
    night = Night(0)
    candidates = night.candidates(ncf=planted(night.model(2.0)))
    decision = decide(candidates, planted(night.model()), GATE)
    assert decision.brief == "worse beyond chance; refused: ncf (plausible)"


def test_far_ahead_by_luck_on_a_few_users_is_no_leak():
    rng = np.random.default_rng(1)
    users = np.zeros(12)
    users[:4] = 0.5
    lucky = np.roll(users, 4) * 1.5
    candidates = {
        "popularity": planted(users * 0.9, n_items=12),
        "ease": planted(users, n_items=12),
        "ncf": planted(lucky + rng.uniform(0, 0.01, 12), n_items=12),
    }
    assert decide(candidates, None, GATE).winner == "ncf"


def test_below_popularity_nothing_is_promoted_and_popularity_is_the_last_resort():
    night = Night(0)
    candidates = {
        "popularity": planted(night.model(), same_list=1.0),
        "ncf": planted(night.model(-0.2)),
        "ease": planted(night.model(-0.3)),
    }
    first = decide(candidates, None, GATE)
    assert (first.outcome, first.winner, first.challenger) == ("first", "popularity", None)
    assert "ncf (against popularity -" in first.reason
    later = decide(candidates, planted(night.model(-0.5)), GATE)
    assert (later.outcome, later.winner) == ("keep", None)
    assert later.interval is None


def test_the_champion_itself_is_no_challenger():
    night = Night(0)
    mine = planted(night.model())
    decision = decide(night.candidates(ncf=mine), mine, GATE, same_as_champion="ncf")
    assert (decision.outcome, decision.winner) == ("unchanged", None)


def test_exact_ties_go_to_the_preferred():
    night = Night(0)
    mine = planted(night.model())
    candidates = night.candidates(aaa=mine, ncf=mine)
    assert decide(candidates, None, GATE).winner == "ncf"
    assert decide(candidates, None, GATE, preferred="aaa").winner == "aaa"


def test_few_users_need_not_show_many_titles():
    """Ten users can show 100 titles at most: of 50,000 that is less than the least coverage."""
    night = Night(0)
    few = {
        name: planted(e.per_user["ndcg_at_10"][:10], n_items=50_000, metrics={"coverage_at_10": 0.0015})
        for name, e in night.candidates(ncf=planted(night.model(noise=0.0))).items()
    }
    assert decide(few, None, GATE).winner == "ncf"


def test_what_cannot_be_compared_is_refused():
    night = Night(0)
    candidates = night.candidates()
    with pytest.raises(ConfigError, match="Use one of: ndcg_at_10"):
        decide(candidates, None, GateConfig(metric="ndcg"))
    with pytest.raises(TrainingError, match="not of the same users"):
        decide(candidates, planted(night.model()[:100]), GATE)
    with pytest.raises(TrainingError, match="popularity was not measured"):
        decide({"ncf": planted(night.model())}, None, GATE)


def test_a_decision_is_text_and_comes_back():
    night = Night(0)
    decision = decide(night.candidates(ncf=planted(night.model(0.1))), planted(night.model()), GATE)
    assert type(decision).model_validate_json(decision.model_dump_json()) == decision


@pytest.mark.parametrize(
    ("metric", "text"), [("ndcg_at_10", "NDCG@10"), ("hit_rate_at_20", "hit rate@20"), ("recall_at_100", "recall@100")]
)
def test_metrics_are_written_as_people_do(metric, text):
    assert pretty(metric) == text
