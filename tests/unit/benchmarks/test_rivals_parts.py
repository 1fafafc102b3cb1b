"""The rivals' own parts, against hand-computed cases and independent implementations."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.rivals.bags import Bags
from benchmarks.rivals.gru4rec import Gru4Rec
from benchmarks.rivals.mult_vae import MultVae
from benchmarks.rivals.neumf import NeuMf, negatives
from benchmarks.rivals.recvae import RecVae
from benchmarks.rivals.sasrec import SasRec
from benchmarks.rivals.sequences import batches, newest, next_title_loss, pieces, split_targets
from recsys.histories import Histories


@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=6),
    length=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_every_title_but_the_first_is_a_target_once_after_those_before_it(lengths, length, seed):
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(40)[:n].tolist() for n in lengths]
    found = []
    for piece in pieces(Histories.of_lists(rows, 40), length, rng):
        titles = piece[piece >= 0].tolist()
        assert 2 <= len(titles) <= length + 1
        assert any(row[at : at + len(titles)] == titles for row in rows for at in range(len(row)))
        found += pairwise(titles)
    assert sorted(found) == sorted((a, b) for row in rows for a, b in pairwise(row))


def test_inputs_are_followed_by_their_targets():
    inputs, targets = split_targets(np.array([[4, 5, 6, -1, -1], [7, 8, -1, -1, -1]]))
    assert inputs.tolist() == [[4, 5], [7, 8]]
    assert targets.tolist() == [[5, 6], [8, -1]]


def test_the_newest_titles_and_the_place_of_the_last():
    titles, last = newest(Histories.of_lists([[1, 2, 3, 4], [5], []], 9), 3)
    assert titles.tolist() == [[2, 3, 4], [5, 0, 0], [0, 0, 0]]
    assert last.tolist() == [2, 0, 0]


def test_the_loss_of_the_next_title_by_hand():
    states, table = torch.tensor([[[1.0, 0.0], [9.0, 9.0]]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    loss = next_title_loss(states, torch.tensor([[0, -1]]), table, torch.tensor([0.0, 1.0]))
    np.testing.assert_allclose(loss.item(), -np.log(np.exp(2) / (np.exp(2) + np.exp(1))), rtol=1e-5)


def test_ties_are_drawn_anew_and_order_is_kept():
    histories = Histories.of_lists([[1, 2, 3, 4]], 6)
    tied = Histories(**{**vars(histories), "timestamps": np.array([0, 5, 5, 9])})
    seen = {tuple(next(batches(tied, 5, 8, np.random.default_rng(seed)))[0][0].tolist()) for seed in range(20)}
    assert seen == {(1, 2, 3), (1, 3, 2)}


def test_sequence_networks_see_no_future():
    torch.manual_seed(0)
    for network in (SasRec(20, embedding_size=16, heads=2), Gru4Rec(20)):
        network.eval()
        before, after = network.states(torch.tensor([[3, 4, 5, 6]])), network.states(torch.tensor([[3, 4, 9, 1]]))
        torch.testing.assert_close(before[:, :2], after[:, :2])
        assert not torch.allclose(before[:, 2:], after[:, 2:])


def test_a_bag_is_the_normalised_row_times_the_table():
    torch.manual_seed(0)
    histories = Histories.of_lists([[0, 3, 4], [], [2]], 5)
    table = torch.randn(5, 3)
    rows = torch.from_numpy(histories.matrix().toarray())
    expected = torch.nn.functional.normalize(rows, dim=1) @ table
    torch.testing.assert_close(Bags(histories).sums(table), expected)
    logits = torch.randn(3, 5)
    torch.testing.assert_close(Bags(histories).multinomial(logits), -(rows * logits.log_softmax(1)).sum(1))


def test_the_first_epoch_of_mult_vae_has_no_divergence_and_later_ones_have():
    torch.manual_seed(0)
    histories, network = Histories.of_lists([[0, 1], [2, 3, 4]], 5), MultVae(5, dropout=0.0, anneal_epochs=2, beta=0.5)
    bags = Bags(histories)
    mean, log_variance = network.encode(bags, 0.0)
    found = []
    for epoch in (1, 2, 9):
        torch.manual_seed(1)
        (loss,) = network.losses(histories, epoch, np.random.default_rng(0))
        found.append(loss.item())
    prior, posterior = torch.distributions.Normal(0, 1), torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    divergence = torch.distributions.kl_divergence(posterior, prior).sum(1).mean().item()
    np.testing.assert_allclose(np.diff(found), [0.25 * divergence, 0.25 * divergence], rtol=1e-3, atol=1e-5)


def test_recvae_teaches_its_encoder_thrice_then_its_decoder():
    torch.manual_seed(0)
    histories, network = Histories.of_lists([[0, 1], [2, 3, 4]], 5), RecVae(5, hidden_size=8, embedding_size=4)
    network.train()
    optimizer, taught = network.optimizer(), []
    for loss in network.losses(histories, 1, np.random.default_rng(0)):
        before = [network.encoder.first.clone(), network.decoder.weight.clone()]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        now = [network.encoder.first, network.decoder.weight]
        taught.append([not torch.equal(a, b) for a, b in zip(before, now, strict=True)])
    assert taught == [[True, False]] * 3 + [[False, True]]
    torch.testing.assert_close(network.before.first, network.encoder.first)


def test_recvaes_prior_is_the_mixture_of_three():
    torch.manual_seed(0)
    network, bags = RecVae(5, hidden_size=8, embedding_size=4), Bags(Histories.of_lists([[0, 1], [2, 3, 4]], 5))
    latent = torch.randn(2, 4)
    with torch.no_grad():
        mean, log_variance = (values.numpy() for values in network.before(bags, 0.0))
        found = network._log_prior(bags, latent).numpy()
    z = latent.numpy()
    density = 0.15 * stats.norm.pdf(z) + 0.75 * stats.norm.pdf(z, mean, np.exp(log_variance / 2))
    np.testing.assert_allclose(found, np.log(density + 0.1 * stats.norm.pdf(z, 0, np.exp(5.0))), rtol=1e-4)


def test_negatives_were_not_liked_and_are_four_to_a_positive():
    histories = Histories.of_lists([[0, 1, 2], list(range(6)), [5]], 6)
    users, items, held = negatives(histories, np.random.default_rng(0))
    assert np.bincount(users).tolist() == [12, 24, 4]
    liked = [set(histories.item_nums[histories.row(user)].tolist()) for user in range(3)]
    assert not held[users == 1].any()  # nothing is left to draw
    assert all(item not in liked[user] for user, item in zip(users[held > 0], items[held > 0], strict=True))
    assert held[users != 1].mean() > 0.9


def test_a_positive_is_left_out_of_its_users_vector():
    """With one title there is nothing else to sum: the positive's logit is that of a user who liked nothing."""
    torch.manual_seed(0)
    network = NeuMf(3, factors=2)
    with torch.no_grad():
        network.liked.mul_(100)
    full = Histories.of_lists([[1, 0, 2]], 3)
    (loss,) = network.losses(full, 1, np.random.default_rng(0))
    with torch.no_grad():
        users = torch.stack([(network.liked.sum(0) - network.liked[item]) / 2**0.5 for item in range(3)])
        expected = torch.nn.functional.softplus(-network.pairs(users, network.titles)).mean()
    torch.testing.assert_close(loss.detach(), expected)  # all titles were liked, so there are no negatives


def test_neumf_scores_pairs_as_the_concatenated_layers_do():
    torch.manual_seed(0)
    network = NeuMf(4, factors=2).eval()
    histories = Histories.of_lists([[0, 1], [3]], 4)
    users = torch.from_numpy(histories.matrix().toarray())
    users = torch.nn.functional.normalize(users, dim=1) @ network.liked
    for user in range(2):
        for item in range(4):
            u, i = users[user], network.titles[item]
            hidden = network.layers(network.first(torch.cat([u[2:], i[2:]])))
            expected = network.last(torch.cat([u[:2] * i[:2], hidden]))[0]
            torch.testing.assert_close(network.logits(histories)[user, item], expected)
