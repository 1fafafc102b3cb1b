"""The content CNN: title vectors read off text, so that a title nobody has rated has its place among the others.

A title's vector is what a ridge says of its bag of tokens (closed form: :mod:`recsys.content_space`), plus what
convolutions over its text add, learned by ranking titles for users from the rest of their histories. A user is the
sum of the history's rows in the same space. It knows nothing of the other models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from recsys.content_baselines import tfidf
from recsys.content_space import user_vectors
from recsys.data.text import PAD, Documents, Vocabulary
from recsys.devices import to_device
from recsys.histories import Floats, Histories, Ints, Longs
from recsys.models.content_network import TitleNetwork
from recsys.weights import load_weights, save_weights

_BLOCK = 512  # titles encoded, or users scored, at a time
_KIND = "ContentCnn"


@dataclass(frozen=True)
class ContentSettings:
    """What a trained network's shape hangs on; kept with it."""

    output_size: int
    embedding_size: int
    channels: int
    dropout: float
    penalty: float
    """Of the ridge."""
    epochs: int
    """Epochs that were kept."""


class ContentCnn:
    """Title vectors from text, and users as sums over their histories: a Scorer for titles old and new."""

    def __init__(
        self,
        *,
        settings: ContentSettings,
        vocabulary: Vocabulary,
        idf: Floats,
        weights: Floats,
        network: TitleNetwork,
        history_rows: Floats,
        titles: Floats,
    ) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.network = network
        self._idf = idf  # [n_tokens]
        self._weights = weights  # [n_tokens, d + 1] the ridge
        self._history_rows = history_rows  # [n_items, d]
        self._titles = titles  # [n_items, d + 1]

    @property
    def n_items(self) -> int:
        """Number of titles scored."""
        return len(self._titles)

    @property
    def title_vectors(self) -> Floats:
        """[n_items, d] what the text says of each title; a warm title's own interactions are left out of it."""
        return self._titles[:, :-1]

    @property
    def title_bias(self) -> Floats:
        """[n_items] how popular a title is by its text alone (a logit)."""
        return self._titles[:, -1]

    @property
    def history_rows(self) -> Floats:
        """[n_items, d] what a title in a history adds to its user: of its interactions, for cold titles of its text."""
        return self._history_rows

    def user_vectors(self, histories: Histories) -> Floats:
        """[n_users, d] users in the titles' space; zero without history."""
        return user_vectors(histories, self._history_rows)

    def scores(self, histories: Histories) -> Floats:
        """Scores [n_users, n_items]: what text alone says that these users would like."""
        return self.user_vectors(histories) @ self.title_vectors.T + self.title_bias

    def similar(self, item: int, n: int = 20) -> tuple[Ints, Floats]:
        """The ``n`` other titles whose text says the nearest, and their cosines, best first."""
        lengths = np.linalg.norm(self.title_vectors, axis=1)
        cosines = self.title_vectors @ self.title_vectors[item] / np.maximum(lengths * lengths[item], 1e-12)
        cosines[item] = -np.inf
        best = np.argsort(-cosines, kind="stable")[: min(n, self.n_items - 1)].astype(np.int32)
        return best, cosines[best].astype(np.float32)

    def encode(self, titles: pa.Table) -> Floats:
        """Vectors [n, d] of any titles, in the schema ``columns.TITLES``: ones that came after training, say."""
        return self.encode_documents(self.vocabulary.encode(titles))[:, :-1]

    def encode_documents(self, documents: Documents) -> Floats:
        """[n, d + 1] vectors and popularity logits of documents of this vocabulary."""
        base = self._ridge(documents)
        return encode_with(self.network, documents, base, device="cpu")

    def ridge_scores(self, documents: Documents, histories: Histories) -> Floats:
        """Scores [n_users, n] by the ridge alone: a linear bag of tokens, without what the network adds."""
        rows = self._ridge(documents)
        return np.asarray(self.user_vectors(histories) @ rows[:, :-1].T + rows[:, -1], np.float32)

    def _ridge(self, documents: Documents) -> Floats:
        return np.asarray(tfidf(documents, self._idf) @ self._weights, np.float32)

    def save(self, folder: Path) -> None:
        """Write as safetensors and JSON, with the vocabulary."""
        arrays = {f"network.{name}": value.cpu().numpy() for name, value in self.network.state_dict().items()}
        arrays |= {"idf": self._idf, "weights": self._weights, "history": self._history_rows, "titles": self._titles}
        save_weights(folder, _KIND, {**self.settings.__dict__}, arrays)
        self.vocabulary.save(folder / "vocabulary.json")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        values, arrays = load_weights(folder, _KIND)
        settings = ContentSettings(**values)
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        network = new_network(settings, vocabulary.n_tokens, seed=0)
        prefix = "network."
        network.load_state_dict(
            {n.removeprefix(prefix): torch.from_numpy(v) for n, v in arrays.items() if n.startswith(prefix)}
        )
        return cls(
            settings=settings,
            vocabulary=vocabulary,
            idf=arrays["idf"],
            weights=arrays["weights"],
            network=network,
            history_rows=arrays["history"],
            titles=arrays["titles"],
        )


def new_network(settings: ContentSettings, n_tokens: int, seed: int) -> TitleNetwork:
    """A network with fresh weights, from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TitleNetwork(
            n_tokens=n_tokens,
            embedding_size=settings.embedding_size,
            channels=settings.channels,
            output_size=settings.output_size,
            dropout=settings.dropout,
        )


def encode_with(network: TitleNetwork, documents: Documents, base: Floats, *, device: str) -> Floats:
    """[n, d + 1] in evaluation mode, titles of like length together (padding costs), in the documents' order."""
    network.eval()
    order = np.argsort((documents.tokens != PAD).sum(axis=1), kind="stable")
    out = np.zeros_like(base)
    with torch.no_grad():
        for start in range(0, len(order), _BLOCK):
            block = order[start : start + _BLOCK]
            out[block] = network(*tensors_of(documents, base, block, device)).float().cpu().numpy()
    return out


def tensors_of(documents: Documents, base: Floats, items: Longs | Ints, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, fields and ridge rows of some titles, [n, longest], [n, longest] and [n, d + 1], on a device."""
    tokens = documents.tokens[items]
    length = max(1, int((tokens != PAD).sum(axis=1).max(initial=0)))
    tensors = tokens[:, :length].astype(np.int64), documents.fields[items, :length].astype(np.int64), base[items]
    return tuple(to_device(values, device) for values in tensors)  # type: ignore[return-value]
