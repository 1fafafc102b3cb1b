"""The network of the content CNN: convolutions over a title's tokens, on top of what a ridge says of the title."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys.data.text import FIELDS, PAD

WIDTHS = (1, 3, 5)
_PLOT = FIELDS.index("plot")


class TitleNetwork(nn.Module):
    """From a title's tokens to what is added to its ridge vector, and to its ridge popularity."""

    def __init__(self, *, n_tokens: int, embedding_size: int, channels: int, output_size: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(n_tokens, embedding_size, padding_idx=PAD)
        self.fields = nn.Embedding(len(FIELDS), embedding_size)
        self.convolutions = nn.ModuleList(nn.Conv1d(embedding_size, channels, w, padding=w // 2) for w in WIDTHS)
        pooled = 2 * len(WIDTHS) * channels
        self.norm = nn.LayerNorm(pooled)
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(pooled + 2, output_size + 1)
        self.scales = nn.Parameter(torch.zeros(2))  # log scale of the ridge's vector and of its popularity
        nn.init.normal_(self.tokens.weight, std=0.1)
        nn.init.normal_(self.fields.weight, std=0.1)
        nn.init.zeros_(self.out.weight)  # it starts as the ridge
        nn.init.zeros_(self.out.bias)

    def forward(self, tokens: Tensor, fields: Tensor, base: Tensor) -> Tensor:
        """[n, length] tokens and fields, [n, d + 1] ridge rows -> [n, d + 1]: vectors, and popularity logits last."""
        there = (tokens != PAD).unsqueeze(-1).to(base.dtype)  # [n, length, 1]
        embedded = (self.tokens(tokens) + self.fields(fields)) * there
        there = there.transpose(1, 2)  # [n, 1, length]
        root = (there.sum(dim=2) + 1).sqrt()
        pooled = []
        for convolution in self.convolutions:
            hidden = functional.silu(convolution(embedded.transpose(1, 2))) * there  # [n, channels, length]
            pooled += [hidden.amax(dim=2).clamp(min=0), hidden.sum(dim=2) / root]  # 0: as if always padded
        richness = torch.stack([torch.log1p((fields > 0).sum(1)) - 3, (fields == _PLOT).any(1).to(base.dtype)], dim=1)
        added = self.out(torch.cat([self.dropout(self.norm(torch.cat(pooled, dim=1))), richness], dim=1))
        scales = self.scales.exp()
        rows: Tensor = torch.cat([base[:, :-1] * scales[0], base[:, -1:] * scales[1]], dim=1) + added
        return rows
