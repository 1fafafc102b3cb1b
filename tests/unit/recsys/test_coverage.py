from __future__ import annotations

from recsys.coverage import coverage, say_coverage
from recsys.histories import Histories
from recsys.models.baselines import Popularity
from recsys.models.linear import Ease
from recsys.tracker import NullTracker

HISTORIES = Histories.of_lists([[0, 1], [0, 1], [0, 2], [2, 1], [3]], 5)


class Heard(NullTracker):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_what_a_model_leaves_out_is_counted_and_said():
    covered = coverage(Ease.fit(HISTORIES, max_items=2), HISTORIES)
    assert covered == {"titles": 2, "worthwhile": 3, "interactions": round(6 / 9, 4)}
    heard = Heard()
    say_coverage("ease", covered, heard)
    assert heard.notes == [
        "ease models the 2 most popular of 3 titles, 66.7% of what was liked; the others rank below them by popularity"
    ]


def test_a_model_of_all_that_is_worth_modelling_says_nothing():
    heard = Heard()
    say_coverage("ease", coverage(Ease.fit(HISTORIES, max_items=3), HISTORIES), heard)
    say_coverage("popularity", coverage(Popularity.fit(HISTORIES), HISTORIES), heard)
    assert heard.notes == []
    assert coverage(Popularity.fit(HISTORIES), HISTORIES) is None
