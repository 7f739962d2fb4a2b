"""CNN with filters over neighbouring tokens and a linear path from the pooled title vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.params import CnnParams
from rubro.kernels.convolution import FilterMaxima
from rubro.kernels.linear import Linear, linear
from rubro.models.batches import Batch
from rubro.models.layers import Dense, ModelShape, Network


class Cnn(Network):
    """Convolutions over the token vectors with max pooling over the title, and a linear path.

    Source: Kim 2014, Convolutional Neural Networks for Sentence Classification. The linear path from
    the pooled title vector to the logits learns the contributions of single words and bigrams, while
    the filters learn the contributions of longer phrases. Source: Cheng et al. 2016, Wide & Deep
    Learning for Recommender Systems.

    The filters read only the titles; the further columns take the linear path.

    Args:
        shape: Sizes of the network that depend on the data.
        params: Hyperparameters of the network.
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
            Dense(shape.columns * shape.vector_size, [], shape.classes, 0.0)
            if params.linear_path
            else None
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of the titles in a batch, float32 (B, classes)."""
        distinct = self.token_vectors.distinct(batch)
        logits: Tensor = self.dense(self._maxima(batch, distinct))
        if self.linear is not None:
            logits = logits + self.linear(self.title_vectors(batch, distinct))
        return logits

    def _maxima(self, batch: Batch, distinct: Tensor) -> Tensor:
        """Return each filter's maximum output in each title, >= 0, float32 (B, all filters)."""
        # A token is multiplied by a filter once per batch; nn.Conv1d would do it at each position.
        filters: Any = self.filters
        sizes = zip(self._sizes, filters, strict=True)
        weights = [part for size, layer in sizes for part in layer.weight.chunk(size, dim=1)]
        products = linear(distinct, torch.cat(weights))
        if distinct.device.type == "cpu":
            bias = torch.cat([layer.bias for layer in filters])
            maxima: Tensor = FilterMaxima.apply(  # type: ignore[no-untyped-call]
                products, bias, *self._title_lists(batch), self._sizes
            )
            return maxima
        products = F.pad(products, (0, 0, 0, 1))  # the last row pads the titles
        tokens, lengths = batch.tokens[:: self._columns], batch.lengths[:: self._columns]
        length = tokens.shape[1]
        starts = torch.arange(length, device=distinct.device) < lengths.unsqueeze(1)
        padded = F.pad(tokens, (0, max(self._sizes) - 1), value=len(distinct))
        position_products = iter(products.chunk(len(weights), dim=1))
        found = []
        for size, layer in zip(self._sizes, filters, strict=True):
            windows = layer.bias
            for i in range(size):
                windows = windows + F.embedding(padded[:, i : i + length], next(position_products))
            found.append((F.relu(windows) * starts.unsqueeze(2)).amax(1))
        return torch.cat(found, dim=1)

    def _title_lists(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return token_index and token_offsets of the titles without their further columns."""
        if self._columns == 1:
            return batch.token_index, batch.token_offsets
        lengths = batch.lengths[:: self._columns]
        offsets = F.pad(lengths.cumsum(0), (1, 0))
        shifts = batch.token_offsets[: -1 : self._columns] - offsets[:-1]
        places = torch.arange(int(offsets[-1])) + torch.repeat_interleave(shifts, lengths)
        return batch.token_index[places], offsets
