"""MLP over the pooled vectors of the tokens and bigrams of a title."""

from __future__ import annotations

from torch import Tensor

from rubro.base.params import MlpParams
from rubro.models.batches import Batch
from rubro.models.layers import Dense, ModelShape, Network


class Mlp(Network):
    """Pooled vectors of subwords and word bigrams, followed by dense layers.

    Source: Joulin et al. 2017, Bag of Tricks for Efficient Text Classification. Character n-grams
    (Bojanowski et al. 2017) and the dense layers are added here.

    Args:
        shape: Sizes of the network that depend on the data.
        params: Hyperparameters of the network.
    """

    def __init__(self, shape: ModelShape, params: MlpParams) -> None:
        super().__init__(shape, params)
        inputs = shape.columns * shape.vector_size
        self.dense = Dense(inputs, params.hidden_sizes, shape.classes, params.dropout)

    def forward(self, batch: Batch) -> Tensor:
        """Return the logits of the titles in a batch, float32 (B, classes)."""
        logits: Tensor = self.dense(self.title_vectors(batch, self.token_vectors.distinct(batch)))
        return logits
