"""What a classifier says about titles."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rubro.batches import Batches
from rubro.features import Ragged, TitleFeatures

_BATCH_SIZE = 512


def predict_logits(model: nn.Module, features: TitleFeatures, token_rows: Ragged) -> np.ndarray:
    """The logit of every class for every title.

    Args:
        model: from a Batch to logits, in evaluation mode.
        features: of a split.
        token_rows: the embedding rows of each distinct token.

    Returns:
        float64 (titles, classes).
    """
    with torch.inference_mode():
        logits = [model(batch) for batch in Batches(features, token_rows, _BATCH_SIZE)]
    return torch.cat(logits).double().numpy()
