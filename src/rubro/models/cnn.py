"""The CNN: filters over neighbouring tokens, beside a linear path from the pooled title vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.params import CnnParams
from rubro.kernels.linear import Linear, product
from rubro.models.batches import Batch
from rubro.models.layers import Dense, ModelShape, Network


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
        logits: Tensor = self.dense(self._maxima(batch, distinct))
        if self.linear is not None:
            logits = logits + self.linear(self.title_vectors(batch, distinct))
        return logits

    def _maxima(self, batch: Batch, distinct: Tensor) -> Tensor:
        """Return the maximum of each filter over each title, at least 0."""
        # The product of a filter and a token is computed once per distinct token; nn.Conv1d would
        # compute it at each position.
        filters: Any = self.filters
        sizes = zip(self._sizes, filters, strict=True)
        weights = [part for size, of in sizes for part in of.weight.chunk(size, dim=1)]
        if distinct.device.type == "cpu":
            from rubro.kernels.convolution import FilterMaxima  # compiled when first called

            parts = product(distinct, torch.cat(weights))
            bias = torch.cat([of.bias for of in filters])
            maxima: Tensor = FilterMaxima.apply(  # type: ignore[no-untyped-call]
                parts, bias, batch.tokens, batch.lengths, self._sizes
            )
            return maxima
        # The last row is that of a title's end.
        parts = F.pad(F.linear(distinct, torch.cat(weights)), (0, 0, 0, 1))
        length, ended = batch.tokens.shape[1], len(distinct)
        starts = torch.arange(length, device=distinct.device) < batch.lengths.unsqueeze(1)
        padded = F.pad(batch.tokens, (0, max(self._sizes) - 1), value=ended)
        of_position = iter(parts.chunk(len(weights), dim=1))
        found = []
        for size, of in zip(self._sizes, filters, strict=True):
            windows = of.bias
            for i in range(size):
                windows = windows + F.embedding(padded[:, i : i + length], next(of_position))
            found.append((F.relu(windows) * starts.unsqueeze(2)).amax(1))
        return torch.cat(found, dim=1)
