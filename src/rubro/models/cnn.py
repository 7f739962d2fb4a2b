"""The CNN: filters that span neighbouring tokens, pooled over the title."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.batches import Batch
from rubro.models.layers import Head, ModelShape, TokenVectors, pooled
from rubro.params import CnnParams


class Cnn(nn.Module):
    """One convolution a filter size over the token vectors, and the maximum over the title.

    Source: Kim 2014, Convolutional Neural Networks for Sentence Classification; the mean of the
    vectors beside the maxima keeps what every token says.

    Args:
        shape: the sizes that come from the data.
        params: the rest.
    """

    name = "cnn"

    def __init__(self, shape: ModelShape, params: CnnParams) -> None:
        super().__init__()
        self.token_vectors = TokenVectors(shape, params.pooling)
        self.filters = nn.ModuleList(
            nn.Linear(size * shape.vector_size, params.filters) for size in params.filter_sizes
        )
        self._pooling = params.pooling
        self._sizes = params.filter_sizes
        self._mean_pooling = params.mean_pooling
        maxima = len(params.filter_sizes) * params.filters
        self.head = Head(
            maxima + (shape.vector_size if params.mean_pooling else 0),
            params.hidden_sizes,
            shape.classes,
            params.dropout,
            params.skip_connection,
        )

    def forward(self, batch: Batch) -> Tensor:
        """Logits, float32 (B, classes)."""
        vectors = self.token_vectors(batch)
        length = vectors.shape[1]
        starts = torch.arange(length, device=vectors.device) < batch.lengths.unsqueeze(1)
        padded = F.pad(vectors, (0, 0, 0, max(self._sizes) - 1))
        parts = []
        for size, filters in zip(self._sizes, self.filters, strict=True):
            # A matrix product over unfolded windows: unlike nn.Conv1d its bits do not depend on
            # the number of threads.
            windows = torch.cat([padded[:, i : i + length] for i in range(size)], dim=2)
            parts.append((F.relu(filters(windows)) * starts.unsqueeze(2)).amax(1))
        if self._mean_pooling:
            parts.append(pooled(vectors.sum(1), batch.lengths, self._pooling))
        logits: Tensor = self.head(torch.cat(parts, dim=1))
        return logits
