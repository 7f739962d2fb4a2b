"""Layers of the networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.params import TrainParams
from rubro.features.embedding import Embedding
from rubro.kernels.linear import Linear, without_some
from rubro.models.batches import Batch


@dataclass(frozen=True)
class ModelShape:
    """Sizes that come from the data.

    Attributes:
        rows: Number of rows of the embedding table.
        vector_size: Length of a row.
        bigram_buckets: Number of rows of the bigram table.
        classes: Number of categories.
    """

    rows: int
    vector_size: int
    bigram_buckets: int
    classes: int


class RowTable(nn.Embedding):
    """An embedding table with sparse gradients, initialised with zeros.

    The cost of a training step depends on the rows of the batch, not on those of the table.
    """

    def __init__(self, rows: int, vector_size: int) -> None:
        super().__init__(rows, vector_size, sparse=True)

    def reset_parameters(self) -> None:
        """Set all values to zero."""
        nn.init.zeros_(self.weight)

    def sums(self, rows: Tensor, index: Tensor, offsets: Tensor, factors: Tensor) -> Tensor:
        """Return the sum of the rows of each list times its factor, float32 (lists, size).

        Args:
            rows: Distinct rows of the table, int64 (R,).
            index: Positions in rows, int64 (N,), list by list.
            offsets: Start of each list in index, int64 (lists,).
            factors: Factor of each list, float32 (lists,).
        """
        if self.weight.device.type != "cpu":
            return F.embedding_bag(index, self(rows), offsets, mode="sum") * factors.unsqueeze(1)
        from rubro.kernels.embedding_bag import RowSums  # compiled when first called

        sums: Tensor = RowSums.apply(self.weight, rows, index, offsets, factors)  # type: ignore[no-untyped-call]
        return sums


def pooling_factors(counts: Tensor, pooling: str) -> Tensor:
    """Return the factors of sums of n vectors, 1 / n or 1 / square root of n, float32 (sums,).

    With n, the gradients and the vector of a long title are small; with the square root, neither
    depends on n.

    Args:
        counts: Number of vectors in each sum, int64 (sums,); 0 counts as 1.
        pooling: "mean" or "sqrt".
    """
    numbers = counts.clamp(min=1).float()
    # MKL computes torch.sqrt, with other last bits on other CPUs.
    return numbers.reciprocal() if pooling == "mean" else numbers.rsqrt()


class TokenVectors(nn.Module):
    """Vectors of tokens, pooled from the rows of the word and of its character n-grams.

    Source: Bojanowski et al. 2017, Enriching Word Vectors with Subword Information.

    Args:
        shape: Sizes that come from the data.
        pooling: "mean" or "sqrt".
        weighting: "idf" (vectors times inverse document frequency) or "none".
    """

    def __init__(self, shape: ModelShape, pooling: str, weighting: str) -> None:
        super().__init__()
        self.table = RowTable(shape.rows, shape.vector_size)
        self._pooling = pooling
        self._weighted = weighting == "idf"

    def start_from(self, embedding: Embedding, scale: float | None, fine_tune: bool) -> None:
        """Copy an embedding into the table.

        Args:
            embedding: Embedding of the table's shape.
            scale: Root mean square of the vocabulary's rows after the copy; None = unchanged.
            fine_tune: Whether the table is trained.
        """
        table = torch.from_numpy(embedding.table)
        if scale is not None:
            words = table[: len(embedding.subwords.vocabulary)]
            table = table * (scale / math.sqrt(words.square().mean()))
        with torch.no_grad():
            self.table.weight.copy_(table)
        self.table.weight.requires_grad_(fine_tune)

    def distinct(self, batch: Batch) -> Tensor:
        """Return the vectors of the distinct tokens, float32 (U, vector size)."""
        factors = pooling_factors(batch.row_counts, self._pooling)
        if self._weighted:
            factors = factors * batch.token_weights
        return self.table.sums(batch.rows, batch.row_index, batch.row_offsets, factors)


class Dense(nn.ModuleList):
    """Hidden layers with ReLU and dropout, then a linear layer.

    Args:
        inputs: Length of the input.
        hidden_sizes: Sizes of the hidden layers; empty = a single linear layer.
        classes: Number of logits.
        dropout: Share of the outputs of each hidden layer that is set to zero; without hidden
            layers, share of the inputs.
    """

    def __init__(self, inputs: int, hidden_sizes: list[int], classes: int, dropout: float) -> None:
        sizes = [inputs, *hidden_sizes, classes]
        super().__init__(Linear(size, following) for size, following in pairwise(sizes))
        self._dropout = dropout

    def forward(self, values: Tensor) -> Tensor:
        """Return logits, float32 (B, classes), from float32 (B, inputs)."""
        layers: list[Any] = [*self]
        *hidden, last = layers
        dropout = self._dropout if self.training else 0.0
        if not hidden:
            values = without_some(values, dropout)
        for layer in hidden:
            values = layer.hidden(values, dropout)
        logits: Tensor = last(values)
        return logits


class Network(nn.Module):
    """Base class of the networks: an embedding and an optional table of bigrams.

    Args:
        shape: Sizes that come from the data.
        params: Hyperparameters.
        with_bigrams: Whether there is a table of bigrams, if shape has buckets for it.
    """

    def __init__(self, shape: ModelShape, params: TrainParams, with_bigrams: bool = True) -> None:
        super().__init__()
        self.token_vectors = TokenVectors(shape, params.pooling, params.token_weighting)
        buckets = shape.bigram_buckets if with_bigrams else 0
        self.bigrams = RowTable(buckets, shape.vector_size) if buckets else None
        self._pooling = params.pooling

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, float32 (B, classes)."""
        raise NotImplementedError

    def title_vectors(self, batch: Batch, distinct: Tensor) -> Tensor:
        """Pool the tokens and bigrams of each title.

        Source: Joulin et al. 2017, Bag of Tricks for Efficient Text Classification.

        Args:
            batch: Titles.
            distinct: Vectors of the distinct tokens, from TokenVectors.distinct.

        Returns:
            Title vectors, float32 (B, vector size).
        """
        if self.bigrams is None:
            return _token_sums(batch, distinct, pooling_factors(batch.lengths, self._pooling))
        factors = pooling_factors(batch.lengths + batch.bigram_counts, self._pooling)
        return _token_sums(batch, distinct, factors) + self.bigrams.sums(
            batch.bigrams, batch.bigram_index, batch.bigram_offsets, factors
        )


def _token_sums(batch: Batch, distinct: Tensor, factors: Tensor) -> Tensor:
    """Return the sum of the vectors of each title's tokens times its factor, float32 (B, size)."""
    index, offsets = batch.token_index, batch.token_offsets
    if distinct.device.type != "cpu":
        return F.embedding_bag(index, distinct, offsets, mode="sum") * factors.unsqueeze(1)
    from rubro.kernels.embedding_bag import VectorSums  # compiled when first called

    sums: Tensor = VectorSums.apply(distinct, index, offsets, factors)  # type: ignore[no-untyped-call]
    return sums


def stored(network: nn.Module, precision: str) -> dict[str, np.ndarray]:
    """Return the state of a network in the format of a model folder.

    Args:
        network: Trained network.
        precision: Number type of the embedding tables: float32, float16 or int8. An int8 row has a
            scale, its largest absolute value / 127.

    Returns:
        Arrays by name.
    """
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    tables = [name for name, module in network.named_modules() if isinstance(module, RowTable)]
    for table in tables:
        weight = state[f"{table}.weight"]
        if precision == "int8":
            scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo().tiny) / 127
            state[f"{table}.scale"] = scale
            weight = (weight / scale).round().to(torch.int8)
        state[f"{table}.weight"] = weight.half() if precision == "float16" else weight
    return {name: value.numpy() for name, value in state.items()}
