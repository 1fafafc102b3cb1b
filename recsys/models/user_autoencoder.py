"""The user autoencoder: a variational encoder of histories with a linear decoder over titles.

Where there is order it is taught to predict what comes next, and reads recency and the newest titles' sequence;
without order it is taught to find what was held out. A user's vector is the mean of the encoder's distribution, so
that a user never seen before costs one forward pass. After Liang et al., "Variational autoencoders for collaborative
filtering" (WWW 2018), with the order of Kang & McAuley, "Self-attentive sequential recommendation" (ICDM 2018).

Knows nothing of how it is trained (:mod:`recsys.models.autoencoder_training`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recsys.devices import to_device
from recsys.histories import Bools, Floats, Histories, Longs
from recsys.models.autoencoder_network import UserNetwork
from recsys.scoring import over_all_titles
from recsys.user_batches import Rows, UserInputs, whole
from recsys.weights import load_weights, save_weights

_KIND = "UserAutoencoder"
_BLOCK = 1024
_MOST_LENGTH = 3.0


@dataclass(frozen=True)
class AutoencoderShape:
    """What the network looks like, and how histories become its inputs."""

    n_items: int
    hidden_size: int
    embedding_size: int
    taus: tuple[float, ...]
    """Recency channels: exp(-age/τ), age in interactions. Empty without order."""
    sequence_length: int
    """Newest titles that the sequence channel reads; 0 for none."""
    length_centre: float
    """Log-length of a middling history."""
    length_spread: float
    """Spread of log-lengths."""
    reads_all: bool = False
    """Whether what was watched and not liked is read too: as part of the order, and in a channel of its own."""
    title_width: int = 0
    """Width of a title's row in the first layer, one for all channels; 0: a full row for every channel."""

    @property
    def channels(self) -> int:
        """Of the first layer."""
        return 1 + len(self.taus) + self.reads_all

    def network(self) -> UserNetwork:
        """A network with fresh weights, from PyTorch's generator."""
        return UserNetwork(
            self.n_items,
            hidden_size=self.hidden_size,
            embedding_size=self.embedding_size,
            channels=self.channels,
            sequence_length=self.sequence_length,
            title_width=self.title_width,
        )

    def readable(self, histories: Histories, learned: Bools) -> Histories:
        """What the encoder reads of histories: of the titles that it ``learned`` [n_items]."""
        known = learned[histories.item_nums]
        return histories.where(known if self.reads_all else known & np.asarray(histories.positive))

    def rows(self, histories: Histories) -> Rows:
        """Histories as :mod:`recsys.user_batches` takes them."""
        return Rows.of(histories, reads_all=self.reads_all)

    def tensors(self, inputs: UserInputs, device: str) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor]:
        """The arguments of :meth:`UserNetwork.encode`."""
        lengths = (inputs.log_lengths - self.length_centre) / self.length_spread
        lengths = np.clip(lengths, -_MOST_LENGTH, _MOST_LENGTH).astype(np.float32)
        sequence = inputs.sequence if self.sequence_length else None
        indices, offsets = self._one_row_each(inputs) if self.title_width else (inputs.indices, inputs.offsets)
        return (
            to_device(indices, device),
            to_device(offsets, device),
            to_device(inputs.values, device),
            None if sequence is None else to_device(sequence, device),
            to_device(lengths, device),
        )

    def _one_row_each(self, inputs: UserInputs) -> tuple[Longs, Longs]:
        """Titles, and where each channel of each user begins, [n_users × channels]."""
        ends = np.append(inputs.offsets[1:], len(inputs.indices))
        channel, item = np.divmod(inputs.indices, self.n_items)
        bags = np.repeat(np.arange(len(ends)), ends - inputs.offsets) * self.channels + channel
        counts = np.bincount(bags, minlength=len(ends) * self.channels)
        return item, np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)


class UserAutoencoder:
    """A fitted autoencoder, as a Scorer. Titles that nobody liked rank last."""

    def __init__(self, shape: AutoencoderShape, network: UserNetwork, popularity: Floats) -> None:
        """Put a fitted autoencoder together.

        Args:
            shape: of the network.
            network: fitted; moved to the CPU.
            popularity: [n_items] share of the most popular title's positives in the data it was fitted on; titles at
                0 were not learned.
        """
        self.shape = shape
        self.network = network.to("cpu").eval().requires_grad_(False)
        self.popularity = popularity
        self._items = np.flatnonzero(popularity > 0).astype(np.int32)

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return self.shape.n_items

    @property
    def embedding_size(self) -> int:
        """Width of user and title vectors."""
        return self.shape.embedding_size

    @property
    def title_vectors(self) -> Floats:
        """[n_items, embedding_size] rows of the decoder; rows of titles that nobody liked are 0."""
        vectors: Floats = self.network.decoder.numpy() * (self.popularity > 0)[:, None].astype(np.float32)
        return vectors

    @property
    def title_bias(self) -> Floats:
        """[n_items] the decoder's bias."""
        bias: Floats = self.network.decoder_bias.numpy().copy()
        return bias

    @property
    def learned(self) -> Bools:
        """[n_items] titles that somebody liked in the data it was fitted on."""
        return np.asarray(self.popularity > 0)

    def encode(self, histories: Histories) -> Floats:
        """User vectors, [n_users, embedding_size] float32. An empty history has one too."""
        parts = [self._encode(block) for _, block in self._readable(histories).blocks(_BLOCK)]
        return np.concatenate(parts) if parts else np.zeros((0, self.embedding_size), np.float32)

    def _readable(self, histories: Histories) -> Histories:
        return self.shape.readable(histories, self.learned)

    def _encode(self, block: Histories) -> Floats:
        inputs = whole(self.shape.rows(block), taus=self.shape.taus, sequence_length=self.shape.sequence_length)
        with torch.inference_mode():
            mean, _ = self.network.encode(*self.shape.tensors(inputs, "cpu"))
        vectors: Floats = mean.numpy()
        return vectors

    @cached_property
    def _learned_rows(self) -> tuple[Floats, Floats]:
        """The decoder's rows and bias of the titles learned: gathered once, not for every block of users."""
        rows, bias = self.network.decoder.numpy(), self.network.decoder_bias.numpy()
        return (rows, bias) if len(self._items) == self.n_items else (rows[self._items], bias[self._items])

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]; users of whom nothing can be read get the popularity."""
        scores = np.empty((histories.n_users, self.n_items), np.float32)
        for start, block in self._readable(histories).blocks(_BLOCK):
            rows, bias = self._learned_rows
            known = self._encode(block) @ rows.T
            known += bias
            scores[start : start + block.n_users] = over_all_titles(
                known, self._items, self.popularity, block.lengths > 0
            )
        return scores

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``model.json``."""
        arrays = {name: value.numpy() for name, value in self.network.state_dict().items()}
        save_weights(folder, _KIND, asdict(self.shape), {**arrays, "popularity": self.popularity})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            ArtefactError: a file is missing or damaged.
        """
        settings, arrays = load_weights(folder, _KIND)
        shape = AutoencoderShape(**{**settings, "taus": tuple(settings["taus"])})
        popularity = arrays.pop("popularity")
        with torch.device("meta"):
            network = shape.network()
        network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()}, assign=True)
        return cls(shape, network, popularity)
