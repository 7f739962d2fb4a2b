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

    Source: Kim 2014, Convolutional Neural Networks for Sentence Classification.

    Args:
        shape: the sizes that come from the data.
        params: the rest.
    """

    def __init__(self, shape: ModelShape, params: CnnParams) -> None:
        super().__init__()
        self.token_vectors = TokenVectors(shape, params.pooling)
        self.filters = nn.ModuleList(
            nn.Linear(size * shape.vector_size, params.filters) for size in params.filter_sizes
        )
        self._pooling = params.pooling
        self._sizes = params.filter_sizes
        self.head = Head(
            len(params.filter_sizes) * params.filters,
            params.hidden_sizes,
            shape.classes,
            params.dropout,
            wide_inputs=shape.vector_size if params.skip_connection else 0,
        )

    def forward(self, batch: Batch) -> Tensor:
        """Logits, float32 (B, classes)."""
        vectors = self.token_vectors(batch)
        length = vectors.shape[1]
        starts = torch.arange(length, device=vectors.device) < batch.lengths.unsqueeze(1)
        padded = F.pad(vectors, (0, 0, 0, max(self._sizes) - 1))
        maxima = []
        for size, filters in zip(self._sizes, self.filters, strict=True):
            # A matrix product over unfolded windows: unlike nn.Conv1d its bits do not depend on
            # the number of threads.
            windows = torch.cat([padded[:, i : i + length] for i in range(size)], dim=2)
            maxima.append((F.relu(filters(windows)) * starts.unsqueeze(2)).amax(1))
        title = pooled(vectors.sum(1), batch.lengths, self._pooling)
        logits: Tensor = self.head(torch.cat(maxima, dim=1), title)
        return logits
