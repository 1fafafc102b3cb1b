"""The network of the user autoencoder, and its loss. Knows nothing of training, files or histories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

_SEQUENCE_WIDTH, _SEQUENCE_HEADS, _SEQUENCE_HIDDEN, _SEQUENCE_DROPOUT = 64, 2, 128, 0.1
_LENGTH_SCALE = 0.3


class SequenceChannel(nn.Module):
    """One pre-norm transformer layer over the newest titles, read out at the newest one, beside the titles' mean.

    Only the newest title attends (to all): a quarter of the cost of the whole layer, and no worse.
    """

    def __init__(self, n_items: int, length: int, output_size: int) -> None:
        super().__init__()
        self.n_items = n_items
        self.items = nn.Embedding(n_items + 1, _SEQUENCE_WIDTH, padding_idx=n_items)
        self.positions = nn.Embedding(length, _SEQUENCE_WIDTH)
        self.attention_norm = nn.LayerNorm(_SEQUENCE_WIDTH)
        self.query = nn.Linear(_SEQUENCE_WIDTH, _SEQUENCE_WIDTH)
        self.key_value = nn.Linear(_SEQUENCE_WIDTH, 2 * _SEQUENCE_WIDTH)
        self.mix = nn.Linear(_SEQUENCE_WIDTH, _SEQUENCE_WIDTH)
        self.hidden_norm = nn.LayerNorm(_SEQUENCE_WIDTH)
        self.up = nn.Linear(_SEQUENCE_WIDTH, _SEQUENCE_HIDDEN)
        self.down = nn.Linear(_SEQUENCE_HIDDEN, _SEQUENCE_WIDTH)
        self.output_norm = nn.LayerNorm(2 * _SEQUENCE_WIDTH)
        self.output = nn.Linear(2 * _SEQUENCE_WIDTH, output_size)
        for embedding in (self.items, self.positions):
            nn.init.normal_(embedding.weight, std=0.1)
        nn.init.zeros_(self.items.weight[n_items])
        nn.init.zeros_(self.output.weight)  # the channel begins silent: at random it would drown the others
        nn.init.zeros_(self.output.bias)

    def forward(self, sequence: Tensor) -> Tensor:
        """[batch, output_size] from titles [batch, length], newest first, ``n_items`` as padding."""
        there = sequence < self.n_items
        x = self._drop(self.items(sequence) + self.positions.weight[: sequence.shape[1]])  # [batch, length, width]
        newest = x[:, 0] + self._drop(self._attend(self.attention_norm(x), there))
        newest = newest + self._drop(self.down(F.gelu(self.up(self.hidden_norm(newest)))))  # [batch, width]
        weights = there / there.sum(1, keepdim=True).clamp(min=1)
        mean = (weights[:, None, :].to(x.dtype) @ x)[:, 0]
        output: Tensor = self.output(self.output_norm(torch.cat([newest, mean], 1)))
        return output

    def _attend(self, x: Tensor, there: Tensor) -> Tensor:
        """What the newest title makes of all, [batch, width].

        Keys and values are never made for every place: the query is taken into the space of the titles, and the
        titles' weighted sum into that of the values, which is the same sum in another order.
        """
        batch, _, width = x.shape
        key, value = self.key_value.weight.view(2, _SEQUENCE_HEADS, -1, width)  # [heads, width / heads, width] each
        query = self.query(x[:, 0]).view(batch, _SEQUENCE_HEADS, -1)
        asked = torch.einsum("bhd,hdw->bhw", query, key) * query.shape[2] ** -0.5
        mask = torch.cat([torch.ones_like(there[:, :1]), there[:, 1:]], 1)  # an empty history attends to its padding
        chances = (
            (asked @ x.transpose(1, 2)).masked_fill(~mask[:, None, :], -torch.inf).softmax(2)
        )  # [b, heads, length]
        mixed = torch.einsum("bhw,hdw->bhd", chances @ x, value).reshape(batch, width)
        attended: Tensor = self.mix(mixed + self.key_value.bias[width:])  # the keys' bias is the same for every place
        return attended

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, _SEQUENCE_DROPOUT, self.training)


class UserNetwork(nn.Module):
    """Encoder of sparse channels over titles (and of the newest titles in order), and a linear decoder.

    The first layer sums rows of its weights: its cost is that of the titles watched, not of the catalogue. With a
    ``title_width``, a title has one short row for all channels, and what they add up to is mixed: a fraction of the
    memory and of the optimizer's work, for large catalogues.
    """

    def __init__(
        self,
        n_items: int,
        *,
        hidden_size: int,
        embedding_size: int,
        channels: int,
        sequence_length: int,
        title_width: int = 0,
    ) -> None:
        super().__init__()
        first = (n_items, title_width) if title_width else (channels * n_items, hidden_size)
        self.first = nn.Parameter(torch.empty(*first))
        self.mix = nn.Linear(channels * title_width, hidden_size, bias=False) if title_width else None
        self.first_bias = nn.Parameter(torch.zeros(hidden_size))
        self.length = nn.Linear(2, hidden_size)
        self.sequence = SequenceChannel(n_items, sequence_length, hidden_size) if sequence_length else None
        self.first_norm = nn.LayerNorm(hidden_size)
        self.second = nn.Linear(hidden_size, hidden_size)
        self.second_norm = nn.LayerNorm(hidden_size)
        self.moments = nn.Linear(hidden_size, 2 * embedding_size)
        self.decoder = nn.Parameter(torch.empty(n_items, embedding_size))
        self.decoder_bias = nn.Parameter(torch.zeros(n_items))
        nn.init.normal_(self.first, std=0.15 if title_width else 0.05)
        nn.init.normal_(self.decoder, std=0.05)

    def encode(
        self, indices: Tensor, offsets: Tensor, values: Tensor, sequence: Tensor | None, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the users' vectors, each [batch, embedding_size].

        Args:
            indices: [n] rows of the first layer's weights, by user: channel × n_items + title; the title, if titles
                have one row for all channels.
            offsets: [batch] where each user's begin; [batch × channels] in that case.
            values: [n] what each row is multiplied with.
            sequence: [batch, length] the newest titles; None if the network has no sequence channel.
            lengths: [batch] standardised log-lengths.
        """
        bags = F.embedding_bag(indices, self.first, offsets, mode="sum", per_sample_weights=values)
        h = self.first_bias + (bags if self.mix is None else self.mix(bags.view(len(lengths), -1)))  # [batch, hidden]
        h = h + self.length(_LENGTH_SCALE * torch.stack([lengths, lengths**2 - 1], 1))
        if self.sequence is not None:
            h = h + self.sequence(sequence)
        h = self.first_norm(F.silu(h))
        h = self.second_norm(h + F.silu(self.second(h)))
        mean, log_variance = self.moments(h).chunk(2, 1)
        return mean, log_variance

    def decode(self, users: Tensor) -> Tensor:
        """Scores [batch, n_items] of user vectors [batch, embedding_size]."""
        return torch.addmm(self.decoder_bias, users, self.decoder.T)


class _MaskedCrossEntropy(torch.autograd.Function):
    """One matrix [batch, n_items] in memory instead of four: it becomes the probabilities, then the gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, out_rows: Tensor, out_items: Tensor, rows: Tensor, items: Tensor) -> Tensor:
        logits[out_rows, out_items] = -torch.inf
        wanted = logits[rows, items]
        total = torch.logsumexp(logits, 1)  # [batch]
        logits.sub_(total[:, None]).exp_()
        ctx.save_for_backward(logits, rows, items)
        return torch.zeros_like(total).index_add_(0, rows, total[rows] - wanted)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weights,) = gradients
        probabilities, rows, items = ctx.saved_tensors
        counts = torch.bincount(rows, minlength=len(weights)) if len(rows) else torch.zeros_like(weights)
        gradient = probabilities.mul_((weights * counts)[:, None])
        gradient[rows, items] -= weights[rows]
        return gradient, None, None, None, None


def masked_cross_entropy(logits: Tensor, out_rows: Tensor, out_items: Tensor, rows: Tensor, items: Tensor) -> Tensor:
    """−Σ log softmax of each user's targets over the titles that are candidates, [batch]. Overwrites ``logits``.

    Args:
        logits: [batch, n_items] float32; used nowhere else.
        out_rows: [m] users of the titles that are no candidates.
        out_items: [m] those titles.
        rows: [t] users of the targets.
        items: [t] target titles, each at most once per user, all candidates.
    """
    loss: Tensor = _MaskedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        logits, out_rows, out_items, rows, items
    )
    return loss


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of N(mean, exp(log_variance)) from the standard normal, summed over the vector, [batch]."""
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1)
