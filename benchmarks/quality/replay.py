"""Titles that arrive: what part of the lists new titles get, and whether those are the right ones.

Time in MovieLens is awkward for this: nearly all users come once, so after any one moment hardly anybody is left of
whom something is known, and few titles are new to all. So arrival is played: a tenth of the titles, drawn by lot,
arrives when every user's window begins. What was done with them before is taken away from everybody; what was done with
them after is as it was. The night's models make lists of 20, as a night exports them, and new titles are counted.

The rivals are lists of the new titles alone, the same for all: by lot, the newest by year, and the most popular once a
tenth of the window has passed, or all of it (which peeks at what is to be foretold). Each is given exactly the places
that our lists give to new titles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.bag import cold_per_user
from benchmarks.quality.bench import Bench, Figures, together
from benchmarks.quality.cold import HELD_BACK
from benchmarks.quality.sources import fingerprint
from recsys import columns
from recsys.bootstrap import paired_bootstrap
from recsys.config import ExportConfig
from recsys.data.split import TEST, Split
from recsys.families import load_scorer
from recsys.histories import Bools, Floats, Histories, Ints
from recsys.recommend import with_new_titles
from recsys.topk import mask_seen, top_k
from recsys.tracker import Tracker
from tasks.trained import NCF

CUTS = (0.2, 0.3, 0.4)
"""Share of every user's ratings that comes after the arrival; a draw of titles for each."""
FRACTION = 0.1
LENGTH = 20
EARLY = 0.1
OURS = "ncf"
WORDS: Mapping[str, str] = {
    OURS: "ours (NCF's lists)",
    "lot": "new titles by lot",
    "year": "new titles, latest year first",
    "early": "new titles by popularity, after a tenth of the window",
    "peeking": "new titles by popularity in the whole window (peeks)",
}


def replay(bench: Bench, name: str) -> Figures:
    """All cuts of one dataset, pooled."""
    found = together(*(partial(_one, bench, name, draw, cut) for draw, cut in enumerate(CUTS)))
    return {"cuts": list(CUTS), "words": dict(WORDS), **_pooled(found, bench.seed)}


def _one(bench: Bench, name: str, draw: int, cut: float) -> Figures:
    base = bench.split(name, test_fraction=cut)
    split = bench.derived(f"titles arrive {draw}", base, partial(arrive, draw=draw))
    trained = bench.trained(f"{name} arrivals {draw}", split)
    assert trained.ncf is not None
    identity = {
        "ncf": trained.ncf.digest,
        "draw": draw,
        "code": fingerprint("recsys.families", "recsys.topk", "recsys.recommend"),
        "new_titles": ExportConfig().new_titles,
        "models": list(WORDS),
    }
    found = bench.measured(
        f"{name}: arrivals {draw}", identity, measure_lists, split.path, str(trained.ncf.file("measured")), draw
    )
    return {"cut": cut, **found}


def arriving(split: Split, draw: int) -> Bools:
    """[n_items] the titles that arrive: a tenth of those that somebody liked, by lot."""
    rated = np.unique(split.interactions.positives().item_nums)
    chosen = np.random.default_rng([draw, 0xA221]).permutation(rated)[: round(FRACTION * len(rated))]
    return np.isin(np.arange(split.interactions.n_items), chosen)


def arrive(split: Split, draw: int) -> Split:
    """The split with nothing known of arriving titles before the test window."""
    part = np.asarray(split.part)
    away = arriving(split, draw)[split.interactions.item_nums] & (part < TEST)
    return replace(split, part=np.where(away, HELD_BACK, part).astype(np.int8))


def measure_lists(split_path: str, ncf: str, draw: int, *, tracker: Tracker) -> Figures:
    """Places and hits of new titles, user by user. Runs in a child."""
    split = Split.load(Path(split_path))
    new = arriving(split, draw)
    users = np.flatnonzero(split.targets(TEST).lengths > 0).astype(np.int32)
    known, wanted = split.known(TEST).select(users), split.targets(TEST).select(users)
    scores = load_scorer(NCF, Path(ncf)).scores(known)
    listed = np.array(scores, np.float32)
    mask_seen(listed, known)
    share = ExportConfig().new_titles
    lists = with_new_titles(listed, *top_k(listed, LENGTH), new, int(LENGTH * share))[0]
    items = np.flatnonzero(new).astype(np.int32)
    orders = _orders(split, users, items, draw)
    goals = wanted.matrix().toarray() > 0
    places = new[lists].sum(axis=1)
    hits = {OURS: (np.take_along_axis(goals, lists, axis=1) & new[lists]).sum(axis=1)}
    hits |= {name: _hits(order, items, goals, places) for name, order in orders.items()}
    ranked = {OURS: scores[:, items], **orders}
    among = {name: cold_per_user(values, wanted, items)["ndcg_at_10"] for name, values in ranked.items()}
    keep = np.isfinite(among[OURS])
    return {
        "new_titles": len(items),
        "places": places.tolist(),
        "hits": {name: values.tolist() for name, values in hits.items()},
        "wanted_new": (goals[:, items].sum(axis=1)).tolist(),
        "wanted": wanted.lengths.tolist(),
        "all_hits": np.take_along_axis(goals, lists, axis=1).sum(axis=1).tolist(),
        "among": {name: values[keep].tolist() for name, values in among.items()},
    }


def _orders(split: Split, users: Ints, items: Ints, draw: int) -> dict[str, Floats]:
    """What each rival thinks of the new titles, [n_users, n_new]; a user's own ratings are no part of popularity."""
    rng = np.random.default_rng([draw, 0x107])
    ties = rng.random(len(items)) * 0.5
    years = np.nan_to_num(split.titles[columns.YEAR].to_numpy(zero_copy_only=False).astype(np.float64))[items]
    window = split.targets(TEST)
    assert window.timestamps is not None
    early = window.where(window.timestamps <= np.quantile(window.timestamps, EARLY))
    shape = (len(users), 1)
    return {
        "lot": np.tile(ties, shape).astype(np.float32),
        "year": np.tile(years + ties, shape).astype(np.float32),
        "early": _popularity(early, users, items) + ties.astype(np.float32),
        "peeking": _popularity(window, users, items) + ties.astype(np.float32),
    }


def _popularity(window: Histories, users: Ints, items: Ints) -> Floats:
    liked = window.matrix()[:, items]
    return np.asarray(np.asarray(liked.sum(axis=0)) - liked[users].toarray(), np.float32)


def _hits(order: Floats, items: Ints, goals: Bools, places: Ints) -> Ints:
    """Hits of the first of an order, as many of them as each user's list has places for."""
    best = items[np.argsort(-order, axis=1, kind="stable")]
    there = np.arange(best.shape[1])[None, :] < places[:, None]
    return np.asarray((np.take_along_axis(goals, best, axis=1) & there).sum(axis=1), np.int32)


def _pooled(cuts: list[Figures], seed: int) -> dict[str, Any]:
    def joined(*keys: str) -> Floats:
        parts = []
        for cut in cuts:
            found: Any = cut
            for key in keys:
                found = found[key]
            parts.append(np.asarray(found, np.float32))
        return np.concatenate(parts)

    places, wanted_new = joined("places"), joined("wanted_new")
    ours, among = joined("hits", OURS), joined("among", OURS)
    models = {}
    for name in WORDS:
        hits, theirs = joined("hits", name), joined("among", name)
        models[name] = {
            "hits_per_place": float(hits.sum() / max(places.sum(), 1)),
            "users_with_a_hit": float((hits > 0).mean()),
            "ours_less_this_hits": paired_bootstrap(ours, hits, seed=seed).model_dump(),
            "ndcg_among_new": float(theirs.mean()),
            "ours_less_this_ndcg": paired_bootstrap(among, theirs, seed=seed).model_dump(),
        }
    return {
        "lists": len(places),
        "share_new": float(places.sum() / (LENGTH * len(places))),
        "share_wanted_new": float(wanted_new.sum() / joined("wanted").sum()),
        "hits_per_place_of_old": float(
            (joined("all_hits") - ours).sum() / max((LENGTH * len(places) - places.sum()), 1)
        ),
        "models": models,
    }
