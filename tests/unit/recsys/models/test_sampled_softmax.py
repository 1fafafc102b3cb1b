from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from recsys.histories import Floats
from recsys.models.autoencoder_network import masked_cross_entropy
from recsys.models.sampled_softmax import Sampler, sampled_cross_entropy
from recsys.user_batches import Targets

N_ITEMS, BATCH, D = 60, 3, 4


@pytest.fixture
def popularity() -> Floats:
    values = np.random.default_rng(0).pareto(1.0, N_ITEMS).astype(np.float32) + 0.2
    values[:5] = 0  # nobody liked them
    return values


@pytest.fixture
def targets() -> Targets:
    """User 0 has seen 10 and 11, user 1 nothing; user 2 has no targets."""
    return Targets(
        seen_rows=np.array([0, 0, 2]),
        seen_items=np.array([10, 11, 20]),
        rows=np.array([0, 0, 1]),
        items=np.array([30, 31, 40]),
        weights=np.array([0.7, 1.0, 0.0], np.float32),
    )


def parameters(seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(seed)
    users, decoder, bias = torch.randn(BATCH, D), torch.randn(N_ITEMS, D), torch.randn(N_ITEMS)
    return users.requires_grad_(), decoder.requires_grad_(), bias.requires_grad_()


def full(users: Tensor, decoder: Tensor, bias: Tensor, popularity: Floats, targets: Targets) -> Tensor:
    logits = torch.addmm(bias, users, decoder.T)
    logits = logits + torch.from_numpy(np.where(popularity > 0, 0, -np.inf).astype(np.float32))
    places = (targets.seen_rows, targets.seen_items, targets.rows, targets.items)
    return masked_cross_entropy(logits, *(torch.from_numpy(place) for place in places))


def test_a_sample_of_everything_is_the_full_softmax(popularity: Floats, targets: Targets) -> None:
    sampler = Sampler(popularity, 50_000)
    sample = sampler.draw(targets, np.random.default_rng(0))
    assert len(sample.items) == (popularity > 0).sum()
    weights = torch.from_numpy(targets.weights)
    gradients = []
    for loss_of in (
        lambda *given: sampled_cross_entropy(*given, sample, targets),
        lambda *given: full(*given, popularity, targets),
    ):
        given = parameters()
        loss = loss_of(*given)
        (weights * loss).sum().backward()
        gradients.append([loss.detach(), *(each.grad for each in given)])
    for ours, exact in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, exact, rtol=2e-4, atol=1e-5)


def test_the_denominator_is_right_on_average(popularity: Floats, targets: Targets) -> None:
    users, decoder, bias = (each.detach() for each in parameters())
    sampler, rng = Sampler(popularity, 25), np.random.default_rng(3)
    wanted = (users[targets.rows] * decoder[targets.items]).sum(1) + bias[targets.items]
    n_targets = torch.tensor([2.0, 1.0])
    summed = torch.zeros(BATCH).index_add_(0, torch.from_numpy(targets.rows), wanted)[:2]

    def denominators(loss: Tensor) -> Tensor:
        return ((loss[:2] + summed) / n_targets).exp()

    exact = denominators(full(users, decoder, bias, popularity, targets))
    draws = torch.stack(
        [denominators(sampled_cross_entropy(users, decoder, bias, sampler.draw(targets, rng), targets))
         for _ in range(3_000)]
    )  # fmt: skip
    error = draws.std(0) / 3_000**0.5
    assert ((draws.mean(0) - exact).abs() < 4 * error).all()


def test_the_chances_are_those_of_being_in_a_sample(popularity: Floats, targets: Targets) -> None:
    sampler, rng = Sampler(popularity, 25), np.random.default_rng(4)
    found, told = np.zeros(N_ITEMS), np.zeros(N_ITEMS)
    for _ in range(4_000):
        sample = sampler.draw(targets, rng)
        found[sample.items] += 1
        told[sample.items] = np.exp(sample.log_chances)
    assert not found[popularity == 0].any()
    there = told > 0
    error = np.sqrt(told * (1 - told) / 4_000)
    assert (np.abs(found / 4_000 - told) <= 4.5 * error + 1e-6)[there].all()


def test_what_was_seen_and_targets_do_not_stand_for_others(popularity: Floats, targets: Targets) -> None:
    sample = Sampler(popularity, 50_000).draw(targets, np.random.default_rng(0))
    out = {(int(row), int(sample.items[place])) for row, place in zip(sample.out_rows, sample.out_places, strict=True)}
    assert out == {(0, 10), (0, 11), (2, 20), (0, 30), (0, 31), (1, 40)}


def test_the_loss_of_a_part_is_a_part_of_the_loss(popularity: Floats, targets: Targets) -> None:
    users, decoder, bias = (each.detach() for each in parameters())
    sample = Sampler(popularity, 30).draw(targets, np.random.default_rng(5))
    whole = sampled_cross_entropy(users, decoder, bias, sample, targets)
    for part in (slice(0, 1), slice(1, 3)):
        loss = sampled_cross_entropy(users[part], decoder, bias, sample.part(part), targets.part(part))
        torch.testing.assert_close(loss, whole[part], rtol=1e-5, atol=1e-6)


def test_a_user_without_targets_has_no_loss(popularity: Floats, targets: Targets) -> None:
    users, decoder, bias = parameters()
    sample = Sampler(popularity, 30).draw(targets, np.random.default_rng(6))
    loss = sampled_cross_entropy(users, decoder, bias, sample, targets)
    assert loss[2].item() == 0
    loss.sum().backward()
    assert users.grad is not None
    assert not users.grad[2].any()
