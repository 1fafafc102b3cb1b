"""Two plain gloo processes, without Ray: what they do together is what one does alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import spawn

from recsys.distributed import ALONE, Group, SharedDraws, this_group
from recsys.histories import Histories

JOBS = """
import json, os
import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from recsys.distributed import this_group
from recsys.histories import Histories
from recsys.models.autoencoder_training import AutoencoderSettings, train_user_autoencoder
from recsys.tracker import NullTracker

def lesson(ordered, sampled):
    rng = np.random.default_rng(0)
    rows = [((rng.integers(60) + np.arange(rng.integers(3, 12)) * 7) % 60).tolist() for _ in range(101)]
    settings = AutoencoderSettings(
        hidden_size=16, embedding_size=8, epochs=4, batch_size=25, learning_rate=5e-3, kl_weight=0.05,
        input_dropout=0.2, window=3, patience=4, sequence_channel=ordered, sampled_titles=20 if sampled else 0,
    )
    known = Histories.of_lists([row[:-1] for row in rows], 60, ordered=ordered)
    wanted = Histories.of_lists([row[-1:] for row in rows], 60, ordered=ordered)
    return {"histories": known, "settings": settings, "validation": (known, wanted)}

def trained(group, ordered, sampled):
    return train_user_autoencoder(
        **lesson(ordered, sampled), device="cpu", seed=3, tracker=NullTracker(), group=group
    )

def training(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    for ordered, sampled in ((False, False), (True, False), (False, True)):
        result = trained(this_group(), ordered, sampled)
        np.savez(
            f"{folder}/{rank}-{ordered}-{sampled}.npz",
            loss=[epoch["loss"] for epoch in result.curve],
            ndcg=[epoch["ndcg_at_10"] for epoch in result.curve],
            titles=result.model.title_vectors,
        )
    dist.destroy_process_group()

def collectives(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    group = this_group()
    small, large, unused, one_sided = (nn.Parameter(torch.zeros(n)) for n in (3, 1 << 20, 2, 2))
    small.grad = torch.full((3,), 1.0 + rank)
    large.grad = torch.full((1 << 20,), 10.0 * (1 + rank))
    if group.leads:
        one_sided.grad = torch.ones(2)
    group.add_gradients([small, large, unused, one_sided])
    torch.manual_seed(5)
    with group.drawing(4):
        drawn = [F.dropout(torch.full((2, 3), 2.0), 0.5, True).tolist(), torch.randn_like(torch.zeros(2, 3)).tolist()]
        piece = torch.randn_like(torch.zeros(1, 3)).shape
    if group.leads:
        open(f"{folder}/written", "w").close()
    group.wait()
    found = {
        "rank": group.rank, "size": group.size, "leads": group.leads,
        "small": small.grad.tolist(), "large": [large.grad.min().item(), large.grad.max().item()],
        "unused": unused.grad, "one_sided": one_sided.grad.tolist(),
        "total": group.total(1.5 + rank), "leaders": group.leaders(lambda: 0.25 + rank),
        "most": group.most(3 - rank), "drawn": drawn, "piece": list(piece),
        "written": os.path.exists(f"{folder}/written"),
    }
    with open(f"{folder}/{rank}.json", "w") as stream:
        json.dump(found, stream)
    dist.destroy_process_group()
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "rank_jobs.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    sys.modules.pop("rank_jobs", None)
    import rank_jobs  # type: ignore[import-not-found]

    return rank_jobs  # type: ignore[no-any-return]


def test_two_ranks_add_up_gradients_and_agree(jobs: ModuleType, tmp_path: Path) -> None:
    spawn(jobs.collectives, args=(str(tmp_path),), nprocs=2)
    ranks: list[dict[str, Any]] = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    for number, found in enumerate(ranks):
        assert (found["rank"], found["size"], found["leads"]) == (number, 2, number == 0)
        assert found["small"] == [3.0, 3.0, 3.0]
        assert found["large"] == [30.0, 30.0]
        assert found["unused"] is None
        assert found["one_sided"] == [1.0, 1.0]
        assert found["total"] == 4.0
        assert found["leaders"] == 0.25
        assert found["most"] == 3
        assert found["piece"] == [1, 3]
        assert found["written"]
    torch.manual_seed(5)
    whole = nn.functional.dropout(torch.full((4, 3), 2.0), 0.5), torch.randn(4, 3)
    for place, together in enumerate(whole):
        assert ranks[0]["drawn"][place] + ranks[1]["drawn"][place] == together.tolist()


def test_two_ranks_learn_what_one_process_learns_from_the_same_batches(jobs: ModuleType, tmp_path: Path) -> None:
    """101 users in batches of 25: shares of 12 and 13, and one of nobody in the last batch of each epoch."""
    spawn(jobs.training, args=(str(tmp_path),), nprocs=2)
    for ordered, sampled in ((False, False), (True, False), (False, True)):
        alone = jobs.trained(ALONE, ordered, sampled)
        first, second = (np.load(tmp_path / f"{rank}-{ordered}-{sampled}.npz") for rank in (0, 1))
        for name in ("loss", "ndcg", "titles"):
            np.testing.assert_array_equal(first[name], second[name], err_msg="the ranks are not of one mind")
        losses = [epoch["loss"] for epoch in alone.curve]
        np.testing.assert_allclose(first["loss"], losses, rtol=1e-5)
        np.testing.assert_allclose(first["titles"], alone.model.title_vectors, atol=1e-4)


def test_alone_nothing_is_sent_and_nothing_changes() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    ALONE.add_gradients([parameter])
    assert parameter.grad is None
    assert this_group() == ALONE
    assert ALONE.leads
    assert ALONE.share(7) == slice(0, 7)
    assert ALONE.total(2.5) == ALONE.leaders(lambda: 2.5) == 2.5
    assert ALONE.most(3) == 3
    ALONE.wait()
    torch.manual_seed(1)
    with ALONE.drawing(9):
        drawn = torch.randn_like(torch.zeros(2, 3))
    torch.manual_seed(1)
    assert torch.equal(drawn, torch.randn(2, 3))
    rng = np.random.default_rng(0)
    assert ALONE.draws(rng, Histories.of_lists([[0, 1]], 2), np.array([0])) is rng


def test_shares_are_whole_runs_that_cover_every_user_once() -> None:
    for n, size in ((10, 3), (2, 3), (0, 2), (8, 2)):
        users = [user for rank in range(size) for user in np.arange(n)[Group(rank, size).share(n)]]
        assert users == list(range(n))


def test_the_ranks_draws_are_the_parts_of_one_draw() -> None:
    histories = Histories.of_lists([[0, 1, 2], [3, 4], [0, 4, 2, 1], [1, 2, 3]], 5)
    batch = np.array([2, 0, 3])  # of 4, 3 and 3 interactions

    def drawn(draws: np.random.Generator, users: int, interactions: int) -> list[Any]:
        return [
            draws.random(interactions),
            draws.uniform(0.2, 0.9, users),
            draws.random(np.int64(interactions)),
            draws.random(50),  # everybody's
            draws.uniform(0, 1),
            draws.random(),
        ]

    whole = drawn(np.random.default_rng(3), 3, 10)
    first = Group(0, 2).draws(np.random.default_rng(3), histories, batch)  # one user
    second = Group(1, 2).draws(np.random.default_rng(3), histories, batch)  # two users
    assert isinstance(first, SharedDraws)
    parts = zip(whole, drawn(first, 1, 4), drawn(second, 2, 6), strict=True)
    for place, (both, one, other) in enumerate(parts):
        if place < 3:
            np.testing.assert_array_equal(np.concatenate([one, other]), both)
        else:
            np.testing.assert_array_equal(one, both)
            np.testing.assert_array_equal(other, both)
