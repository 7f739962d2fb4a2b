"""The MLP: a title's tokens and bigrams pooled to one vector, then dense layers."""

from __future__ import annotations

from torch import Tensor

from rubro.base.params import MlpParams
from rubro.models.batches import Batch
from rubro.models.layers import Classifier, ModelShape, dense_layers


class Mlp(Classifier):
    """Bag of sub-words and word bigrams with hidden layers.

    Source: Joulin et al. 2017, Bag of Tricks for Efficient Text Classification, with the n-grams
    of Bojanowski et al. 2017 inside each word and dense layers after the pooling.

    Args:
        shape: the sizes that come from the data.
        params: the rest.
    """

    def __init__(self, shape: ModelShape, params: MlpParams) -> None:
        super().__init__(shape, params)
        self.dense = dense_layers(
            shape.vector_size, params.hidden_sizes, shape.classes, params.dropout
        )

    def trained_logits(self, batch: Batch) -> Tensor:
        """Logits, float32 (B, classes)."""
        title = self.title_vectors(batch, self.token_vectors.distinct(batch))
        logits: Tensor = self.dense(title)
        return logits
