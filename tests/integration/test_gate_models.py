"""The gate over real models: twenty made-up services, each with challengers whose worth is known beforehand.

A service of 1,200 users, of whom 300 are measured. Models are EASE, fitted on more or less of it: on the first 100
users (the champion of the service's early days), on the 300, on all 1,200, on a fifth of the ratings; and on the test
window, which no model may see.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from threadpoolctl import threadpool_limits

from recsys import columns
from recsys.config import GateConfig
from recsys.data.split import TEST, Split, make_split
from recsys.data.synthetic import write_synthetic
from recsys.evaluation import Evaluation, activity_groups, evaluate
from recsys.histories import Histories
from recsys.models.baselines import Popularity
from recsys.models.linear import Ease
from recsys.scoring import Scorer
from recsys.selection import Decision, decide
from recsys.title_groups import TitleGroups

SEEDS = range(20)
USERS, MEASURED, EARLY, TITLES = 1_200, 300, 100, 200
GATE = GateConfig(resamples=400)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Matrices of 200 titles are done before a second thread has woken up."""
    with threadpool_limits(1):
        yield


class Reversed:
    """Another scorer, turned upside down for users with at most so many titles in their history."""

    def __init__(self, scorer: Scorer, longest: int) -> None:
        self.scorer = scorer
        self.longest = longest

    @property
    def n_items(self) -> int:
        return self.scorer.n_items

    def scores(self, histories: Histories):
        scores = self.scorer.scores(histories)
        return np.where((histories.lengths <= self.longest)[:, None], -scores, scores)


@dataclass(frozen=True)
class Service:
    known: Histories
    """What may be known of the users measured."""
    everyone: Histories
    """The same of all users."""
    targets: Histories
    leaked: Histories
    """Known and targets together."""

    def measured(self, scorer: Scorer) -> Evaluation:
        return evaluate(scorer, self.known, self.targets)

    def sample(self, share: float, seed: int) -> Histories:
        return self.known.where(np.random.default_rng(seed).random(len(self.known.item_nums)) < share)


@cache
def service(seed: int) -> Service:
    with TemporaryDirectory() as folder:
        split = _split(Path(folder), seed)
    measured = np.arange(MEASURED)
    return Service(
        known=split.known(TEST).select(measured),
        everyone=split.known(TEST),
        targets=split.targets(TEST).select(measured),
        leaked=split.interactions.select(measured),
    )


def _split(folder: Path, seed: int) -> Split:
    path, _ = write_synthetic(folder, users=USERS, items=TITLES, interactions=72_000, seed=seed, format="parquet")
    made = pq.read_table(path)
    ratings = pa.table(
        {
            columns.USER_ID: made["userId"].cast(pa.string()),
            columns.ITEM_ID: made["movieId"].cast(pa.string()),
            columns.RATING: made["rating"],
            columns.TIMESTAMP: pa.array(made["timestamp"].to_numpy() * 1_000_000, pa.timestamp("us", "UTC")),
        },
        schema=columns.RATINGS,
    ).sort_by([(columns.USER_ID, "ascending"), (columns.TIMESTAMP, "ascending")])
    pq.write_table(ratings, folder / "sorted.parquet", write_page_checksum=True)
    return make_split(folder / "sorted.parquet", columns.TITLES.empty_table(), positive_from=4.0)


def fit(histories: Histories, l2: float = 100.0) -> Ease:
    return Ease.fit(histories, l2=l2)


@cache
def champion(seed: int) -> Evaluation:
    made = service(seed)
    return made.measured(fit(made.known.select(np.arange(EARLY))))


@cache
def closed_form(seed: int) -> dict[str, Evaluation]:
    made = service(seed)
    return {"popularity": made.measured(Popularity.fit(made.known)), "ease": made.measured(fit(made.known))}


@cache
def better(seed: int) -> Ease:
    return fit(service(seed).everyone, l2=300.0)


def night(seed: int, challenger: Scorer, against: Evaluation, **options) -> Decision:
    """A night on which the challenger goes by the name of ncf."""
    made = service(seed)
    mine = made.measured(challenger)
    assert {"ncf"}.isdisjoint(closed_form(seed))
    titles = TitleGroups.of(made.known, made.targets)
    return decide({**closed_form(seed), "ncf": mine}, against, GATE, titles=titles, seed=seed, **options)


def refused_for(decision: Decision) -> set[str]:
    return {guardrail.name for verdict in decision.verdicts if verdict.family == "ncf" for guardrail in verdict.failed}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_better_one_is_promoted(seed):
    decision = night(seed, better(seed), champion(seed))
    assert (decision.outcome, decision.winner) == ("promote", "ncf")
    assert decision.interval.low > 0
    assert "better beyond chance" in decision.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worse_one_is_not(seed):
    made = service(seed)
    decision = night(seed, fit(made.sample(0.2, seed)), made.measured(better(seed)))
    assert decision.outcome == "keep"
    assert decision.winner is None
    ncf = next(v for v in decision.verdicts if v.family == "ncf")
    assert ncf.against_champion.high < 0


def test_an_equal_one_is_promoted_only_where_chance_is_within_the_tolerance():
    outcomes = []
    for seed in SEEDS:
        made = service(seed)
        decision = night(seed, fit(made.sample(0.95, seed)), closed_form(seed)["ease"], same_as_champion="ease")
        ncf = next(v for v in decision.verdicts if v.family == "ncf")
        proven = ncf.eligible and ncf.against_champion.low >= -GATE.tolerance
        best = decision.challenger == "ncf"
        assert decision.outcome == ("promote" if best and proven else "keep" if best else "unchanged")
        outcomes.append(decision.outcome)
    assert outcomes.count("promote") <= 1


def test_a_refresh_of_the_same_recipe_takes_over_where_a_challenger_would_not():
    """The champion has not seen everybody's three newest interactions; its refresh has."""
    refreshed, challenged = [], []
    for seed in SEEDS:
        made = service(seed)
        older = made.measured(fit(made.known.where(made.known.ages >= 3)))
        newer = fit(made.known)
        refreshed.append(night(seed, newer, older, champions_recipe="ncf"))
        challenged.append(night(seed, newer, older))
    outcomes = [decision.outcome for decision in refreshed]
    for decision in (d for d in refreshed if d.challenger):
        worse = decision.interval.high < 0 or decision.interval.mean < -GATE.tolerance
        assert decision.refresh
        assert decision.outcome == ("keep" if worse else "promote")
    assert outcomes.count("promote") >= 14
    assert [d.outcome for d in challenged].count("promote") <= outcomes.count("promote") // 2


@pytest.mark.parametrize("seed", SEEDS)
def test_better_on_average_but_ruinous_to_one_group_is_refused(seed):
    made = service(seed)
    _, names = activity_groups(made.known.select(champion(seed).users).lengths)
    ruinous = Reversed(better(seed), longest=int(names[0].split("-")[1]))
    decision = night(seed, ruinous, champion(seed))
    assert decision.winner != "ncf"
    assert "group_loss" in refused_for(decision)
    assert f"users with {names[0]} titles in their history lose " in decision.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_a_collapsed_one_is_refused(seed):
    decision = night(seed, Popularity.fit(service(seed).known), champion(seed))
    assert decision.winner != "ncf"
    assert {"same_list", "beats_popularity"} <= refused_for(decision)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_one_that_has_seen_the_test_window_is_refused_for_a_look(seed, share):
    made = service(seed)
    seen = np.random.default_rng(seed).random(len(made.leaked.item_nums)) < share
    unseen = made.known.matrix()[made.leaked.user_nums, made.leaked.item_nums].A1 == 0
    decision = night(seed, fit(made.leaked.where(~unseen | seen)), champion(seed))
    assert decision.winner != "ncf"
    assert refused_for(decision) == {"plausible"}
    assert "too good to be true, look for a leak" in decision.reason


@pytest.mark.parametrize("seed", SEEDS)
def test_where_a_closed_form_model_wins_the_reason_says_what_the_neural_ones_lost_by(seed):
    made = service(seed)
    candidates = {"popularity": closed_form(seed)["popularity"], "ease": made.measured(better(seed))}
    loser = closed_form(seed)["ease"]
    first = decide({**candidates, "ncf": loser}, None, GATE, seed=seed)
    assert (first.outcome, first.winner, first.rival) == ("first", "ease", "ncf")
    assert first.lead.mean == pytest.approx(
        candidates["ease"].metrics["ndcg_at_10"] - loser.metrics["ndcg_at_10"], abs=1e-6
    )
    lost = f"The neural models lost: the best of them, ncf, has {loser.metrics['ndcg_at_10']:.4f}, a difference of -"
    assert lost in first.reason
    assert ("which may be chance" in first.reason) is (first.lead.low <= 0)


def test_scores_that_are_not_finite_are_refused():
    broken = replace(service(0).measured(better(0)), finite=False)
    decision = decide({**closed_form(0), "ncf": broken}, champion(0), GATE)
    assert refused_for(decision) == {"finite"}
