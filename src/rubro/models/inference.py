"""What a classifier says about titles."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from rubro.features.titles import TitleFeatures, Tokens
from rubro.models.batches import cut, gather

_BATCH_SIZE = 512


def predict_logits(
    model: nn.Module, features: TitleFeatures, distinct_tokens: Tokens, threads: int = 1
) -> np.ndarray:
    """The logit of every class for every title.

    Args:
        model: from a Batch to logits, in evaluation mode.
        features: of a split.
        distinct_tokens: of the features.
        threads: that share the batches; the logits do not depend on their number where torch
            computes each batch on one thread.

    Returns:
        float64 (titles, classes).
    """
    weights = np.ones(len(features), np.float32)

    def logits_of(titles: np.ndarray) -> torch.Tensor:
        with torch.inference_mode():  # of this thread alone
            logits: torch.Tensor = model(gather(features, distinct_tokens, titles, weights))
        return logits

    with ThreadPoolExecutor(threads) as pool:
        logits = list(pool.map(logits_of, cut(np.arange(len(features)), _BATCH_SIZE)))
    return torch.cat(logits).double().numpy()
