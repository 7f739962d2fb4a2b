"""What the classifiers are built from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rubro.base.schema import NotNegative, Positive
from rubro.features.embedding import Embedding
from rubro.models.batches import Batch
from rubro.models.svm import Svm
from rubro.prediction.calibration import Calibration


@dataclass(frozen=True)
class ModelShape:
    """The sizes that come from the data.

    Attributes:
        rows: of the embedding table.
        vector_size: of a row.
        bigram_buckets: of the bigram table.
        classes: categories.
        svm_weights: of the SVM beside the model; 0 = without one, or not yet.
    """

    rows: Positive
    vector_size: Positive
    bigram_buckets: NotNegative
    classes: Positive
    svm_weights: NotNegative = 0


class RowTable(nn.Embedding):
    """A table of vectors, zeros at first, of which a batch uses, and changes, a few rows.

    Its gradient is sparse: a step costs what the batch uses, not what the table holds.
    """

    def __init__(self, rows: int, vector_size: int) -> None:
        super().__init__(rows, vector_size, sparse=True)

    def reset_parameters(self) -> None:
        """Set all to zero."""
        nn.init.zeros_(self.weight)


def pooled(total: Tensor, count: Tensor, pooling: str) -> Tensor:
    """Turn sums of n vectors into their mean, or into their sum over the square root of n.

    With the mean, the more parts there are the less each moves in training, and the shorter the
    result; over the square root, neither the steps nor the length depend on their number.

    Args:
        total: float32 (B, vector size).
        count: int64 (B,), vectors in each sum; 0 is taken for 1.
        pooling: "mean" or "sqrt".

    Returns:
        float32 (B, vector size).
    """
    divisor = count.clamp(min=1).to(total.dtype).unsqueeze(1)
    return total / (divisor if pooling == "mean" else divisor.sqrt())


class TokenVectors(nn.Module):
    """A token's vector is pooled from its rows: the word's and those of its character n-grams.

    Source: Bojanowski et al. 2017, Enriching Word Vectors with Subword Information.

    Args:
        shape: the sizes that come from the data.
        pooling: "mean" or "sqrt".
        weighting: "idf" = times the token's weight; "none".
    """

    def __init__(self, shape: ModelShape, pooling: str, weighting: str) -> None:
        super().__init__()
        self.table = RowTable(shape.rows, shape.vector_size)
        self._pooling = pooling
        self._weighted = weighting == "idf"

    def start_from(self, embedding: Embedding, scale: float | None, fine_tune: bool) -> None:
        """Copy a table.

        Args:
            embedding: of this shape.
            scale: the root mean square of the vocabulary's rows after the copy; None = unchanged.
            fine_tune: whether training changes the table.
        """
        table = torch.from_numpy(embedding.table)
        if scale is not None:
            table = table * (
                scale / table[: len(embedding.subwords.vocabulary)].square().mean().sqrt()
            )
        with torch.no_grad():
            self.table.weight.copy_(table)
        self.table.weight.requires_grad_(fine_tune)

    def distinct(self, batch: Batch) -> Tensor:
        """The vectors of the batch's distinct tokens and, last, zeros: float32 (U + 1, size)."""
        rows = self.table(batch.rows)
        tokens = F.embedding_bag(batch.row_index, rows, batch.row_offsets, mode="sum")
        tokens = pooled(tokens, batch.row_counts, self._pooling)
        if self._weighted:
            tokens = tokens * batch.token_weights.unsqueeze(1)
        return torch.cat([tokens, tokens.new_zeros(1, tokens.shape[1])])


def dense_layers(
    inputs: int, hidden_sizes: list[int], classes: int, dropout: float
) -> nn.Sequential:
    """Hidden layers to the logits: float32 (B, inputs) -> (B, classes).

    Args:
        inputs: size of what goes in.
        hidden_sizes: of the hidden layers; [] = one linear layer.
        classes: number of logits.
        dropout: of what goes into the last layer and out of each hidden layer.
    """
    sizes = [inputs, *hidden_sizes]
    layers: list[nn.Module] = [] if hidden_sizes else [nn.Dropout(dropout)]
    for size, following in pairwise(sizes):
        layers += [nn.Linear(size, following), nn.GELU(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], classes))


class Classifier(nn.Module):
    """From a Batch to logits, float32 (B, classes): what both classifiers have.

    Attributes:
        token_vectors: the embedding.
        bigrams: vectors of word bigrams; None without any.
        svm: whose scores are added to the logits; trained before, to be set after training.
        calibration: from its logits to probabilities; to be fitted after training.

    Args:
        shape: the sizes that come from the data.
        params: the rest.
        with_bigrams: False = without them, whatever the shape says.
    """

    def __init__(self, shape: ModelShape, params: Any, with_bigrams: bool = True) -> None:
        super().__init__()
        self.token_vectors = TokenVectors(shape, params.pooling, params.token_weighting)
        buckets = shape.bigram_buckets if with_bigrams else 0
        self.bigrams = RowTable(buckets, shape.vector_size) if buckets else None
        self.svm = (
            Svm(shape.rows, shape.bigram_buckets, shape.svm_weights, shape.classes)
            if shape.svm_weights
            else None
        )
        self._svm_weight = params.svm_weight
        self._pooling = params.pooling
        self.calibration = Calibration()

    def forward(self, batch: Batch) -> Tensor:
        """Logits, float32 (B, classes)."""
        logits = self.trained_logits(batch)
        return logits if self.svm is None else logits + self._svm_weight * self.svm(batch)

    def trained_logits(self, batch: Batch) -> Tensor:
        """Without the SVM; each classifier has its own. float32 (B, classes)."""
        raise NotImplementedError

    def title_vectors(self, batch: Batch, distinct: Tensor) -> Tensor:
        """The tokens and bigrams of each title, pooled.

        Source: Joulin et al. 2017, Bag of Tricks for Efficient Text Classification.

        Args:
            batch: of titles.
            distinct: its distinct tokens, from token_vectors.distinct.

        Returns:
            float32 (B, vector size).
        """
        total, count = F.embedding(batch.tokens, distinct).sum(1), batch.lengths
        if self.bigrams is not None:
            bigrams = self.bigrams(batch.bigrams)
            total = total + F.embedding_bag(
                batch.bigram_index, bigrams, batch.bigram_offsets, mode="sum"
            )
            count = count + batch.bigram_counts
        return pooled(total, count, self._pooling)
