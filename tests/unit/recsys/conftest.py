"""The suite that every Scorer passes, as the fixture ``check_scorer``.

The planted service is asymmetric, so that a transposed matrix is caught: whoever watched a *gateway* watched its
group's hub, but only one in ten of the hub's watchers watched that gateway; a gateway and its *companion* lead to each
other equally, with one in five. Serials are watched strictly in order. One title has no interactions at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from recsys.histories import Histories
from recsys.scoring import Scorer

GROUPS, GATEWAYS, EPISODES, NOISE = 3, 5, 6, 8
Fit = Callable[[Histories, int], Scorer]


@dataclass(frozen=True)
class Planted:
    """A made-up service with known answers."""

    histories: Histories
    hubs: tuple[int, ...]
    gateways: tuple[tuple[int, ...], ...]
    """By group: titles that lead to the group's hub."""
    companions: tuple[tuple[int, ...], ...]
    episodes: tuple[int, ...]
    """A serial, in the order in which it is watched."""
    cold: int
    """A title without interactions."""

    def block(self, rows: list[list[int]]) -> Histories:
        """Histories of users that no model has seen."""
        return Histories.of_lists(rows, self.histories.n_items, ordered=self.histories.ordered)


def plant(*, ordered: bool, seed: int = 0, n_per_gateway: int = 14) -> Planted:
    """The planted service; group 0 is the smallest, so that popularity alone misleads."""
    rng = np.random.default_rng(seed)
    numbers = iter(rng.permutation(GROUPS * (1 + 2 * GATEWAYS) + EPISODES + NOISE + 1).tolist())
    hubs = tuple(next(numbers) for _ in range(GROUPS))
    gateways = tuple(tuple(next(numbers) for _ in range(GATEWAYS)) for _ in range(GROUPS))
    companions = tuple(tuple(next(numbers) for _ in range(GATEWAYS)) for _ in range(GROUPS))
    episodes = tuple(next(numbers) for _ in range(EPISODES))
    noise, cold = [next(numbers) for _ in range(NOISE)], next(numbers)
    rows: list[list[int]] = []

    def add(titles: list[int]) -> None:
        rows.append([*rng.choice(noise, rng.integers(1, 3), replace=False).tolist(), *titles])

    for group, hub in enumerate(hubs):
        size = n_per_gateway * (1 + group)
        for gateway, companion in zip(gateways[group], companions[group], strict=True):
            for user in range(size):
                add([gateway, companion, hub] if user % 5 == 0 else [gateway, hub])
                add([hub])
                if user % 5:  # companions are as frequent as gateways, mostly watched elsewhere
                    add([companion])
    for _ in range(150):
        first = rng.integers(0, EPISODES - 2)
        rows.append(list(episodes[first : first + rng.integers(3, 5)]))
    n_items = GROUPS * (1 + 2 * GATEWAYS) + EPISODES + NOISE + 1
    shuffled = [rows[i] for i in rng.permutation(len(rows))]
    histories = Histories.of_lists(shuffled, n_items, ordered=ordered)
    return Planted(histories, hubs, gateways, companions, episodes, cold)


def check(
    fit: Fit,
    folder: Path,
    *,
    ordered: bool = True,
    learns: bool = True,
    uses_order: bool = False,
    cold_last: bool = True,
    planted: Planted | None = None,
) -> Scorer:
    """Hold a model to what every Scorer promises; gives the fitted scorer back for further checks.

    Args:
        fit: (histories, seed) to a fitted scorer.
        folder: an empty directory.
        ordered: fit on histories with time.
        learns: it personalises, so it must find the planted signal (popularity need not).
        uses_order: it must know which episode comes next.
        cold_last: a title without interactions ranks below all others (models that read content: False).
        planted: instead of the standard service.
    """
    planted = planted or plant(ordered=ordered)
    for values in (planted.histories.item_nums, planted.histories.indptr, planted.histories.positive):
        values.setflags(write=False)  # as memory-mapped histories are
    scorer = fit(planted.histories, 7)
    assert isinstance(scorer, Scorer)
    _check_form(scorer, planted)
    _check_users_apart(scorer, planted)
    _check_round_trip(scorer, planted, folder)
    _check_seed(scorer, fit, planted)
    if learns:
        _check_signal(scorer, planted)
    if uses_order:
        _check_order(scorer, planted)
    if cold_last:
        scores = scorer.scores(planted.block([[planted.gateways[0][0]], []]))
        assert (np.delete(scores, planted.cold, axis=1) > scores[:, [planted.cold]]).all(), "a cold title is not last"
    return scorer


def _check_form(scorer: Scorer, planted: Planted) -> None:
    n_items = planted.histories.n_items
    assert scorer.n_items == n_items
    everything = list(range(n_items))
    for rows in ([[0, 1], [], [n_items - 1]], [[planted.cold]], [everything], []):
        scores = scorer.scores(planted.block(rows))
        assert scores.shape == (len(rows), n_items)
        assert scores.dtype == np.float32
        assert np.isfinite(scores).all(), f"scores of {rows} are not finite"
    if planted.histories.ordered:  # a visitor whose history has no times
        assert np.isfinite(scorer.scores(planted.block([[2, 1]]).unordered())).all()


def _check_users_apart(scorer: Scorer, planted: Planted) -> None:
    users = planted.histories.select(slice(0, 40))
    together = scorer.scores(users)
    np.testing.assert_array_equal(together, scorer.scores(users), err_msg="scoring twice differs")
    alone = np.concatenate([scorer.scores(users.select(np.array([user]))) for user in range(8)])
    np.testing.assert_allclose(
        together[:8], alone, rtol=1e-3, atol=1e-4, err_msg="users of a block influence each other"
    )


def _check_round_trip(scorer: Scorer, planted: Planted, folder: Path) -> None:
    scorer.save(folder / "saved")
    files = [path for path in (folder / "saved").rglob("*") if path.is_file()]
    assert files
    assert {path.suffix for path in files} <= {".safetensors", ".json"}, files
    users = planted.block([[0, 1], [], [planted.cold], list(planted.episodes)])
    loaded = type(scorer).load(folder / "saved")
    np.testing.assert_array_equal(loaded.scores(users), scorer.scores(users), err_msg="loaded scores differ")
    loaded.save(folder / "again")
    for path in files:
        again = folder / "again" / path.relative_to(folder / "saved")
        assert again.read_bytes() == path.read_bytes(), f"{path.name} differs when saved again"


def _check_seed(scorer: Scorer, fit: Fit, planted: Planted) -> None:
    users = planted.histories.select(slice(0, 20))
    np.testing.assert_array_equal(
        fit(planted.histories, 7).scores(users), scorer.scores(users), err_msg="the same seed gives another model"
    )


def _check_signal(scorer: Scorer, planted: Planted) -> None:
    for group, hub in enumerate(planted.hubs):
        scores = scorer.scores(planted.block([[gateway] for gateway in planted.gateways[group]]))
        np.put_along_axis(scores, np.array(planted.gateways[group])[:, None], -np.inf, axis=1)  # seen
        best = scores.argmax(axis=1)
        assert (best == hub).all(), f"group {group}: gateways lead to {best}, not to their hub {hub}"


def _check_order(scorer: Scorer, planted: Planted) -> None:
    middle = range(1, EPISODES - 1)
    scores = scorer.scores(planted.block([[planted.episodes[i]] for i in middle]))
    for row, i in zip(scores, middle, strict=True):
        assert row[planted.episodes[i + 1]] > row[planted.episodes[i - 1]], (
            f"after episode {i} the one before ranks higher"
        )


@pytest.fixture
def check_scorer(tmp_path: Path) -> Callable[..., Scorer]:
    """``check_scorer(fit, ordered=…, learns=…, uses_order=…, cold_last=…)``: see :func:`check`."""

    def run(fit: Fit, **expected: object) -> Scorer:
        number = len(list(tmp_path.glob("scorer*")))
        return check(fit, tmp_path / f"scorer{number}", **expected)  # type: ignore[arg-type]

    return run


@pytest.fixture
def plant_service() -> Callable[..., Planted]:
    """``plant_service(ordered=…)``: the planted service, for a model's own tests."""
    return plant
