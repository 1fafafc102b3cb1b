"""Neural collaborative filtering as the second stage: it ranks the candidates that the towers retrieve.

A residual on the towers' blend: s = t·a·blend + w·x + g·(u∘q) + MLP([x, Pu, Pq, Pu∘Pq, Pc]), where x are the pair
features, u the user vector, q the title vector (a title nobody rated has its aligned content vector) and c the content
vector. It begins as the blend (a = 1, the rest 0) at the temperature t at which the blend's own loss is least. GMF and
MLP as in He et al., "Neural collaborative filtering" (WWW 2017). Knows nothing of where candidates, features and
vectors come from, nor of how it is trained: see :mod:`recsys.ncf_training`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from recsys.devices import to_device
from recsys.histories import Floats
from recsys.pairs import Pairs, TitleTables
from recsys.weights import load_weights, save_weights

VECTOR_DROPOUT = 0.5
"""Of the vectors, which are many numbers about few users: they must not be learned by heart."""
PREDICT_USERS = 256
FEW_TITLES = 4_000
"""Up to so many titles all of them are projected in every step; beyond, only those that are candidates in it."""


@dataclass(frozen=True)
class NcfSettings:
    """Hyper-parameters, all resolved."""

    hidden_size: int = 64
    projection_size: int = 8
    """Numbers that the MLP reads of each vector."""
    epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    dropout: float = 0.1
    networks: int = 2
    """Averaged; each has its own held-out users."""
    loss: Literal["softmax", "bce"] = "softmax"
    without: Sequence[str] = ()
    """Parts left out: vectors, mlp."""


class UserDropout(nn.Module):
    """Dropout that drops the same units for all candidates of a user: they are compared by one and the same network.

    Drawing 1/k of the numbers, it is also much cheaper.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, values: Tensor) -> Tensor:
        """[batch, k, width] → the same."""
        if not self.training or not self.share:
            return values
        return values * functional.dropout(values.new_ones(len(values), 1, values.shape[2]), self.share)


def _asked_for(items: Tensor, n_items: int) -> tuple[Tensor | slice, Tensor]:
    """The titles that a batch is about, and the place among them of every candidate, [batch, k]."""
    if n_items <= FEW_TITLES:
        return slice(None), items
    titles, places = torch.unique(items, return_inverse=True)
    return titles, places


class NcfNetwork(nn.Module):
    """One network."""

    def __init__(
        self, *, n_features: int, vector_size: int, hidden_size: int, projection_size: int, dropout: float
    ) -> None:
        """A ``hidden_size`` of 0 leaves the MLP out."""
        super().__init__()
        self.blend_weight = nn.Parameter(torch.ones(()))
        self.linear = nn.Parameter(torch.zeros(n_features))
        self.gmf = nn.Parameter(torch.zeros(vector_size))
        read = projection_size if vector_size else 0
        if vector_size:
            self.user_projection = nn.Linear(vector_size, read)
            self.title_projection = nn.Linear(vector_size, read)
            self.content_projection = nn.Linear(vector_size, read)
        self.vector_dropout = nn.Dropout(VECTOR_DROPOUT)
        self.mlp = _mlp(n_features + 4 * read, hidden_size, dropout) if hidden_size else None

    def forward(
        self, features: Tensor, blend: Tensor, items: Tensor, users: Tensor, decoder: Tensor, content: Tensor
    ) -> Tensor:
        """Logits [batch, k].

        Args:
            features: [batch, k, n_features].
            blend: [batch, k] at its temperature.
            items: [batch, k] title numbers, all valid.
            users: [batch, d].
            decoder: [n_items, d].
            content: [n_items, d].
        """
        logits = self.blend_weight * blend + features @ self.linear
        read = [features]
        if len(self.gmf):
            titles, places = _asked_for(items, len(decoder))
            decoder, content = decoder[titles], content[titles]
            users = self.vector_dropout(users)
            logits = logits + ((users * self.gmf) @ decoder.T).gather(1, places)  # g·(u∘q)
            u = self.user_projection(users)[:, None, :].expand(-1, items.shape[1], -1)
            q = functional.embedding(places, self.vector_dropout(self.title_projection(decoder)))  # [batch, k, read]
            c = functional.embedding(places, self.vector_dropout(self.content_projection(content)))
            read += [u, q, u * q, c]
        return logits if self.mlp is None else logits + self.mlp(torch.cat(read, dim=-1))[:, :, 0]


def _mlp(n_inputs: int, hidden_size: int, dropout: float) -> nn.Sequential:
    last = nn.Linear(hidden_size // 2, 1)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(
        nn.Linear(n_inputs, hidden_size), nn.SiLU(), UserDropout(dropout),
        nn.Linear(hidden_size, hidden_size // 2), nn.SiLU(), UserDropout(dropout), last,
    )  # fmt: skip


@dataclass(frozen=True)
class Ncf:
    """The networks, averaged, and their validated share against the blend."""

    networks: tuple[NcfNetwork, ...]
    settings: NcfSettings
    feature_names: tuple[str, ...]
    vector_size: int
    temperature: float
    """Logits per unit of the blend."""
    share: float
    """Final = share · networks + (1 - share) · blend. 0 where the networks did not beat the blend."""
    report: Mapping[str, Any]
    """Validation figures and curves."""

    def logits(self, pairs: Pairs, tables: TitleTables) -> Floats:
        """Final logits [n_users, k]; -inf where there is no candidate."""
        mixed = (1 - self.share) * self.temperature * pairs.blend
        if self.share:
            tensors = PairTensors.of(pairs, tables, self.temperature, "cpu")
            mean = sum(predict(network, tensors, np.arange(len(pairs.blend))) for network in self.networks)
            mixed = mixed + self.share * mean / len(self.networks)
        return np.where(pairs.there, mixed, -np.inf).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write as safetensors and JSON."""
        arrays = {
            f"{number}.{name}": value.cpu().numpy()
            for number, network in enumerate(self.networks)
            for name, value in network.state_dict().items()
        }
        settings = {
            "settings": asdict(self.settings),
            "feature_names": list(self.feature_names),
            "vector_size": self.vector_size,
            "temperature": self.temperature,
            "share": self.share,
            "report": dict(self.report),
        }
        save_weights(folder, "Ncf", settings, arrays)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what :meth:`save` wrote."""
        values, arrays = load_weights(folder, "Ncf")
        settings = NcfSettings(**values["settings"])
        networks = []
        for number in range(settings.networks):
            network = new_network(settings, len(values["feature_names"]), values["vector_size"], seed=0)
            own = {name: torch.from_numpy(a) for key, a in arrays.items() for head, _, name in [key.partition(".")]
                   if head == str(number)}  # fmt: skip
            network.load_state_dict(own)
            networks.append(network.eval())
        return cls(
            tuple(networks),
            settings,
            tuple(values["feature_names"]),
            values["vector_size"],
            values["temperature"],
            values["share"],
            values["report"],
        )


@dataclass(frozen=True)
class PairTensors:
    """Pairs and title vectors as tensors."""

    features: Tensor
    blend: Tensor
    items: Tensor
    there: Tensor
    users: Tensor
    decoder: Tensor
    content: Tensor
    device: str

    @classmethod
    def of(cls, pairs: Pairs, tables: TitleTables, temperature: float, device: str) -> PairTensors:
        """The title vectors go to the device."""
        # Users' tensors stay in main memory and go to the device batch by batch: they are the large ones.
        return cls(
            torch.from_numpy(pairs.features),
            torch.from_numpy(pairs.blend * np.float32(temperature)),
            torch.from_numpy(np.maximum(pairs.items, 0).astype(np.int64)),
            torch.from_numpy(pairs.there),
            torch.from_numpy(pairs.user_vectors),
            torch.from_numpy(tables.decoder).to(device),
            torch.from_numpy(tables.content).to(device),
            device,
        )

    def logits(self, network: NcfNetwork, users: Tensor) -> Tensor:
        """Logits [len(users), k], hugely negative where there is no candidate."""
        parts = (self.features[users], self.blend[users], self.items[users], self.users[users])
        features, blend, items, vectors = (to_device(part, self.device) for part in parts)
        logits: Tensor = network(features, blend, items, vectors, self.decoder, self.content).float()
        return logits.masked_fill(~to_device(self.there[users], self.device), -1e9)


@torch.no_grad()
def predict(network: NcfNetwork, tensors: PairTensors, users: NDArray[np.integer]) -> Floats:
    """Logits of some users, [len(users), k]."""
    network.eval()
    chunks = torch.split(torch.from_numpy(np.asarray(users, np.int64)), PREDICT_USERS)
    return torch.cat([tensors.logits(network, chunk).cpu() for chunk in chunks]).numpy()


def new_network(settings: NcfSettings, n_features: int, vector_size: int, seed: int) -> NcfNetwork:
    """A network at its start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NcfNetwork(
            n_features=n_features,
            vector_size=0 if "vectors" in settings.without else vector_size,
            hidden_size=0 if "mlp" in settings.without else settings.hidden_size,
            projection_size=settings.projection_size,
            dropout=settings.dropout,
        )
