"""The CNN: filters over neighbouring tokens, beside a linear path from the pooled title vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.params import CnnParams
from rubro.models.batches import Batch
from rubro.models.layers import Dense, ModelShape, Network
from rubro.models.products import Linear, product


class Cnn(Network):
    """A convolution of each filter size over the token vectors, and its maximum over the title.

    Source: Kim 2014, Convolutional Neural Networks for Sentence Classification. Beside the filters,
    a linear path leads from the pooled title vector to the logits: it learns the contributions of
    single words and bigrams, the filters those of sequences of words. Source: Cheng et al. 2016,
    Wide & Deep Learning for Recommender Systems.

    Args:
        shape: Sizes that come from the data.
        params: Hyperparameters.
    """

    def __init__(self, shape: ModelShape, params: CnnParams) -> None:
        super().__init__(shape, params, with_bigrams=params.linear_path)
        self.filters = nn.ModuleList(
            Linear(size * shape.vector_size, params.filters) for size in params.filter_sizes
        )
        self._sizes = params.filter_sizes
        maxima = len(params.filter_sizes) * params.filters
        self.dense = Dense(maxima, params.hidden_sizes, shape.classes, params.dropout)
        self.linear = (
            Dense(shape.vector_size, [], shape.classes, 0.0) if params.linear_path else None
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, float32 (B, classes)."""
        distinct = self.token_vectors.distinct(batch)
        length = batch.tokens.shape[1]
        starts = torch.arange(length, device=distinct.device) < batch.lengths.unsqueeze(1)
        ended = len(distinct) - 1
        padded = F.pad(batch.tokens, (0, max(self._sizes) - 1), value=ended)
        maxima = []
        filters: Any
        for size, filters in zip(self._sizes, self.filters, strict=True):
            # The product of a filter and a token is computed once per distinct token; nn.Conv1d
            # would compute it at each position.
            parts = filters.weight.unflatten(1, (size, -1)).unbind(1)
            windows = filters.bias
            for i, part in enumerate(parts):
                windows = windows + F.embedding(padded[:, i : i + length], product(distinct, part))
            maxima.append((F.relu(windows) * starts.unsqueeze(2)).amax(1))
        logits: Tensor = self.dense(torch.cat(maxima, dim=1))
        if self.linear is not None:
            logits = logits + self.linear(self.title_vectors(batch, distinct))
        return logits
