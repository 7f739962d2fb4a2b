"""The MLP: tokens and bigrams of a title pooled to one vector, then dense layers."""

from __future__ import annotations

from torch import Tensor

from rubro.base.params import MlpParams
from rubro.models.batches import Batch
from rubro.models.layers import Dense, ModelShape, Network


class Mlp(Network):
    """Bag of subwords and word bigrams with hidden layers.

    Source: Joulin et al. 2017, Bag of Tricks for Efficient Text Classification; here with the
    character n-grams of Bojanowski et al. 2017, and with dense layers after the pooling.

    Args:
        shape: Sizes that come from the data.
        params: Hyperparameters.
    """

    def __init__(self, shape: ModelShape, params: MlpParams) -> None:
        super().__init__(shape, params)
        self.dense = Dense(shape.vector_size, params.hidden_sizes, shape.classes, params.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Return logits, float32 (B, classes)."""
        logits: Tensor = self.dense(self.title_vectors(batch, self.token_vectors.distinct(batch)))
        return logits
