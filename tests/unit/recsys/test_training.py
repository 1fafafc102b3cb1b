from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from recsys.errors import TrainingError
from recsys.training import (
    EarlyStopping,
    Ema,
    check_finite,
    copy_of,
    deterministic,
    load_into,
    load_optimizer,
    optimizer_tensors,
    seed_epoch,
    set_learning_rate,
    warmup_then_decay,
)


def test_the_rate_climbs_then_falls_to_the_floor() -> None:
    rates = [warmup_then_decay(step, 10, 2, floor=0.2) for step in range(11)]
    assert rates[:3] == [0.5, 1.0, 1.0]
    np.testing.assert_allclose(np.diff(rates[2:]), -0.1)
    assert rates[10] == pytest.approx(0.2)
    assert warmup_then_decay(0, 5, 0) == 1.0


def test_the_average_forgets_its_start_quickly_and_then_remembers_long() -> None:
    module = nn.Linear(1, 1, bias=False)
    load_into(module, {"weight": torch.zeros(1, 1)})
    ema = Ema(module, decay=0.5)
    load_into(module, {"weight": torch.ones(1, 1)})
    ema.update(module)  # weight 1 - 2/11
    assert ema.values["weight"].item() == pytest.approx(9 / 11)
    ema.update(module)  # weight 1 - 3/12
    assert ema.values["weight"].item() == pytest.approx(9 / 11 + 0.75 * (1 - 9 / 11))
    ema.steps = 100
    load_into(module, {"weight": torch.zeros(1, 1)})
    before = ema.values["weight"].item()
    ema.update(module)
    assert ema.values["weight"].item() == pytest.approx(before / 2)


def test_averages_are_in_the_module_only_within_the_block() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 3.0)
    with ema.applied_to(module):
        assert not bool((module.weight == 3).any())
        torch.testing.assert_close(module.weight.detach(), ema.values["weight"])
    assert bool((module.weight == 3).all())


def test_load_into_wants_every_parameter() -> None:
    module = nn.Linear(2, 2)
    values = copy_of(module)
    del values["bias"]
    with pytest.raises(KeyError, match="bias"):
        load_into(module, values)


def test_early_stopping_keeps_the_best_and_waits() -> None:
    stopping = EarlyStopping(patience=2)
    assert [stopping.update(epoch, figure) for epoch, figure in enumerate([0.1, 0.3, 0.3, 0.2], 1)] == [
        True,
        True,
        False,
        False,
    ]
    assert (stopping.best, stopping.best_epoch) == (0.3, 2)
    assert [stopping.stop(epoch) for epoch in (2, 3, 4)] == [False, False, True]


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_no_number_stops_the_training_and_says_what_to_do(loss: float) -> None:
    with pytest.raises(TrainingError, match=r"the content CNN diverged: its loss is .* in epoch 3 .*learning_rate 9"):
        check_finite(loss, trainer="content CNN", epoch=3, learning_rate=9.0)
    check_finite(1e30, trainer="content CNN", epoch=3, learning_rate=9.0)


def test_an_epoch_draws_the_same_whatever_came_before() -> None:
    def draws(seed: int, epoch: int) -> tuple[float, float]:
        rng = seed_epoch(seed, epoch)
        return float(rng.random()), float(torch.rand(1))

    first = draws(1, 2)
    torch.rand(17)
    assert draws(1, 2) == first
    assert draws(1, 3) != first
    assert draws(2, 1) != draws(1, 2)


def test_determinism_holds_in_the_block_alone() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic("cpu"):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
    with deterministic("cuda:0"):
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_optimizer_goes_on_as_if_it_had_not_stopped() -> None:
    def start() -> tuple[nn.Linear, torch.optim.AdamW]:
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        return module, torch.optim.AdamW(module.parameters(), lr=0.1, fused=True)

    def step(module: nn.Linear, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        module(torch.arange(3.0)).square().sum().backward()
        optimizer.step()

    straight, optimizer = start()
    for _ in range(4):
        step(straight, optimizer)

    first, optimizer = start()
    for _ in range(2):
        step(first, optimizer)
    resumed, again = start()
    load_into(resumed, copy_of(first))
    load_optimizer(again, {name: value.clone() for name, value in optimizer_tensors(optimizer).items()})
    set_learning_rate(again, 0.1)
    for _ in range(2):
        step(resumed, again)
    torch.testing.assert_close(resumed.weight, straight.weight, rtol=0, atol=0)
