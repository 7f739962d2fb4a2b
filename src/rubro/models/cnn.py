"""The CNN: filters that span neighbouring tokens, beside the title's pooled vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.params import CnnParams
from rubro.models.batches import Batch
from rubro.models.layers import Classifier, ModelShape, dense_layers


class Cnn(Classifier):
    """One convolution a filter size over the token vectors, and the maximum over the title.

    Source: Kim 2014, Convolutional Neural Networks for Sentence Classification. Beside them, a
    linear path from the title's vector, the MLP's: it learns what each word says by itself, the
    filters what words say together. Source: Cheng et al. 2016, Wide & Deep Learning for
    Recommender Systems.

    Args:
        shape: the sizes that come from the data.
        params: the rest.
    """

    def __init__(self, shape: ModelShape, params: CnnParams) -> None:
        super().__init__(shape, params, with_bigrams=params.skip_connection)
        self.filters = nn.ModuleList(
            nn.Linear(size * shape.vector_size, params.filters) for size in params.filter_sizes
        )
        self._sizes = params.filter_sizes
        self.dense = dense_layers(
            len(params.filter_sizes) * params.filters,
            params.hidden_sizes,
            shape.classes,
            params.dropout,
        )
        self.wide = nn.Linear(shape.vector_size, shape.classes) if params.skip_connection else None

    def trained_logits(self, batch: Batch) -> Tensor:
        """Logits, float32 (B, classes)."""
        distinct = self.token_vectors.distinct(batch)
        length = batch.tokens.shape[1]
        starts = torch.arange(length, device=distinct.device) < batch.lengths.unsqueeze(1)
        ended = len(distinct) - 1
        padded = F.pad(batch.tokens, (0, max(self._sizes) - 1), value=ended)
        maxima = []
        filters: Any
        for size, filters in zip(self._sizes, self.filters, strict=True):
            # What a filter's i-th part makes of a token is worked out once for each distinct
            # token; nn.Conv1d does it for each position.
            parts = filters.weight.unflatten(1, (size, -1)).unbind(1)
            windows = filters.bias
            for i, part in enumerate(parts):
                windows = windows + F.embedding(padded[:, i : i + length], distinct @ part.T)
            maxima.append((F.relu(windows) * starts.unsqueeze(2)).amax(1))
        logits: Tensor = self.dense(torch.cat(maxima, dim=1))
        if self.wide is not None:
            logits = logits + self.wide(self.title_vectors(batch, distinct))
        return logits
