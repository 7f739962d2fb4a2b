"""Layers and base class of the networks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rubro.base.params import TrainParams
from rubro.features.embedding import Embedding
from rubro.kernels.dropout import dropout
from rubro.kernels.embedding_bag import embedding_bag
from rubro.kernels.linear import Linear
from rubro.models.batches import Batch


@dataclass(frozen=True)
class ModelShape:
    """Sizes of a network that depend on the training data.

    Attributes:
        rows: Number of rows of the embedding table.
        vector_size: Number of values of a row.
        bigram_buckets: Number of rows of the bigram table.
        classes: Number of categories.
        columns: Number of columns of a title, including the title.
    """

    rows: int
    vector_size: int
    bigram_buckets: int
    classes: int
    columns: int = 1


class RowTable(nn.Embedding):
    """Embedding table with sparse gradients, initialised with zeros.

    The cost of a training step depends on the number of rows in the batch, not in the table.
    """

    def __init__(self, rows: int, vector_size: int) -> None:
        super().__init__(rows, vector_size, sparse=True)

    def reset_parameters(self) -> None:
        """Set all values to zero."""
        nn.init.zeros_(self.weight)


def _pooling_factors(counts: Tensor, pooling: str) -> Tensor:
    """Return the factor that turns each sum of n vectors into a pooled vector.

    It is 1 / n for "mean" and 1 / sqrt(n) for "sqrt". A mean of many vectors is short and has small
    gradients. After division by the square root, neither depends on n. If n is 0, the factor is 1.
    """
    numbers = counts.clamp(min=1).float()
    # Not torch.sqrt: MKL computes it, and its last bits depend on the CPU.
    return numbers.reciprocal() if pooling == "mean" else numbers.rsqrt()


class TokenVectors(nn.Module):
    """Vectors of tokens, pooled from the rows of the word and of its character n-grams.

    Source: Bojanowski et al. 2017, Enriching Word Vectors with Subword Information.

    Args:
        shape: Sizes of the network that depend on the data.
        pooling: Divisor of a sum of n vectors: n ("mean") or the square root of n ("sqrt").
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
            embedding: Embedding with a table of the same shape.
            scale: Root mean square of the rows of words after the copy; None = unchanged.
            fine_tune: Whether to train the table.
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
        factors = _pooling_factors(batch.row_offsets.diff(), self._pooling)
        if self._weighted:
            factors = factors * batch.token_weights
        return embedding_bag(
            self.table.weight, batch.row_index, batch.row_offsets, factors, batch.rows
        )


class Dense(nn.ModuleList):
    """Hidden layers with ReLU and dropout, followed by a linear layer.

    Args:
        inputs: Number of inputs.
        hidden_sizes: Sizes of the hidden layers; empty = a single linear layer.
        classes: Number of logits.
        dropout_rate: Share of the outputs of each hidden layer that is dropped in training. Without
            hidden layers, inputs are dropped instead.
    """

    def __init__(
        self, inputs: int, hidden_sizes: list[int], classes: int, dropout_rate: float
    ) -> None:
        sizes = [inputs, *hidden_sizes, classes]
        super().__init__(Linear(size, following) for size, following in pairwise(sizes))
        self._dropout_rate = dropout_rate

    def forward(self, values: Tensor) -> Tensor:
        """Return the logits, float32 (B, classes), for input values, float32 (B, inputs)."""
        layers: list[Any] = [*self]
        *hidden, last = layers
        rate = self._dropout_rate if self.training else 0.0
        if not hidden:
            values = dropout(values, rate)
        for layer in hidden:
            values = layer.hidden(values, rate)
        logits: Tensor = last(values)
        return logits


class Network(nn.Module):
    """Base class of the networks, with an embedding and an optional table of bigrams.

    Args:
        shape: Sizes of the network that depend on the data.
        params: Hyperparameters of the network.
        with_bigrams: Whether to add a table of bigrams, if the shape has buckets for them.
    """

    def __init__(self, shape: ModelShape, params: TrainParams, with_bigrams: bool = True) -> None:
        super().__init__()
        self.token_vectors = TokenVectors(shape, params.pooling, params.token_weighting)
        buckets = shape.bigram_buckets if with_bigrams else 0
        self.bigrams = RowTable(buckets, shape.vector_size) if buckets else None
        self._columns = shape.columns
        self._pooling = params.pooling

    def title_vectors(self, batch: Batch, distinct: Tensor) -> Tensor:
        """Pool the tokens and bigrams of each column of each title.

        Source: Joulin et al. 2017, Bag of Tricks for Efficient Text Classification.

        Args:
            batch: Titles.
            distinct: Vectors of the distinct tokens, float32 (U, vector size).

        Returns:
            Vectors of the columns of each title, one after another, float32 (B, columns * vector
            size).
        """
        counts = batch.lengths
        if self.bigrams is not None:
            counts = counts + batch.bigram_offsets.diff()
        factors = _pooling_factors(counts, self._pooling)
        vectors = embedding_bag(distinct, batch.token_index, batch.token_offsets, factors)
        if self.bigrams is not None:
            vectors = vectors + embedding_bag(
                self.bigrams.weight,
                batch.bigram_index,
                batch.bigram_offsets,
                factors,
                batch.bigrams,
            )
        return self.side_by_side(vectors)

    def side_by_side(self, values: Tensor) -> Tensor:
        """Concatenate the values of the columns of each title.

        Args:
            values: Values of each column of each title, float32 (B * columns, size).

        Returns:
            Values of each title, float32 (B, columns * size).
        """
        return values.view(-1, self._columns * values.shape[1])


def stored(network: nn.Module, precision: str) -> dict[str, np.ndarray]:
    """Return the tensors of a network in the format of a model folder, by name.

    Args:
        network: Trained network.
        precision: Number type of the embedding tables: float32, float16 or int8. The scale of an
            int8 row is its largest absolute value / 127.
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
