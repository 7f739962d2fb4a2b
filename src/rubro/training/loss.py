"""Parts of the loss: frequencies of classes and doubt of labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import distributed, nn

from rubro.features.titles import Labels

_CLASS_PROBABILITY_STEP = 0.1
_LEAST_TRUST, _MOST_TRUST = 1e-12, 2.0


class Doubt(nn.Module):
    """Weights of titles with possibly wrong labels: (p / class mean of p) ** doubt.

    p is the probability of the label of a title, and its class mean a running mean over the titles
    of the class. The gradient of generalized cross-entropy equals that of the
    cross-entropy times p ** q (Zhang and Sabuncu 2018, Generalized Cross Entropy Loss for Training
    Deep Neural Networks with Noisy Labels). p ** q alone would neglect rare and difficult classes,
    in which p is low for every title; relative to the class mean, it lowers the weights of titles
    that do not fit their class.

    Args:
        classes: Number of classes.
        doubt: Exponent; 0 = weight 1 for all.
    """

    def __init__(self, classes: int, doubt: float) -> None:
        super().__init__()
        self._doubt = doubt
        self.class_probability: torch.Tensor
        self.register_buffer("class_probability", torch.full((classes,), 1 / classes))

    @torch.no_grad()
    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return weights with a mean of 1, float32 (B,).

        Args:
            logits: float32 (B, classes).
            targets: Class indices, int64 (B,).
        """
        if self._doubt == 0.0:
            return logits.new_ones(len(targets))
        probability = logits.softmax(1).gather(1, targets.unsqueeze(1)).squeeze(1)
        totals, counts = torch.zeros(2, len(self.class_probability), device=logits.device)
        totals.index_add_(0, targets, probability)
        counts.index_add_(0, targets, torch.ones_like(probability))
        if distributed.is_initialized():  # several devices share the batch
            distributed.all_reduce(totals)
            distributed.all_reduce(counts)
        moved = self.class_probability.lerp(totals / counts.clamp(min=1), _CLASS_PROBABILITY_STEP)
        self.class_probability.copy_(torch.where(counts > 0, moved, self.class_probability))
        relative = probability / self.class_probability[targets]
        # MKL computes torch.pow, with other last bits on other CPUs.
        weights = (relative.clamp(_LEAST_TRUST, _MOST_TRUST).log() * self._doubt).exp()
        return weights / weights.mean()


def class_shares(labels: Labels, weights: np.ndarray, classes: int) -> np.ndarray:
    """Return the share of each class in the training weights, (classes,).

    Args:
        labels: Labels of the training titles.
        weights: Weight of each training title, (titles,).
        classes: Number of classes; a class without weight gets half the least share.
    """
    totals = np.bincount(labels.targets, weights=weights, minlength=classes)
    totals = np.maximum(totals, totals[totals > 0].min() / 2)
    return np.asarray(totals / totals.sum())
