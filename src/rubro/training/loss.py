"""The loss, and its parts: frequencies of classes and doubt of labels."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import distributed, nn

from rubro.base.parallel import in_parts
from rubro.features.titles import Labels

_CLASS_PROBABILITY_STEP = 0.1
_LEAST_TRUST, _MOST_TRUST = 1e-12, 2.0


class LossOutput(NamedTuple):
    """What the logits of a batch say.

    Attributes:
        loss: Adjusted cross-entropy of each title, float32 (B,).
        cross_entropy: Plain cross-entropy of each title, float32 (B,).
        probability: Probability of each title's label, float32 (B,).
        predictions: Class of the greatest logit, int64 (B,).
    """

    loss: torch.Tensor
    cross_entropy: torch.Tensor
    probability: torch.Tensor
    predictions: torch.Tensor


class AdjustedCrossEntropy(nn.Module):
    """Cross-entropy in which rare classes count as much as common ones.

    prior_adjustment times the logarithm of a class's share of the training weights is added to its
    logit: the logits themselves then favour no class for being common.
    Source: Menon et al. 2021, Long-tail Learning via Logit Adjustment.

    Args:
        class_shares: Share of each class in the training weights, > 0, (classes,).
        prior_adjustment: Factor of the logarithm.
        label_smoothing: Share of the target that is spread over all classes by their shares. Spread
            evenly, it would undo the adjustment for rare classes.
    """

    def __init__(
        self, class_shares: np.ndarray, prior_adjustment: float, label_smoothing: float
    ) -> None:
        super().__init__()
        self._smoothing = label_smoothing
        self._adjustment: torch.Tensor
        self._shares: torch.Tensor
        adjustment = torch.from_numpy(prior_adjustment * np.log(class_shares)).float()
        self.register_buffer("_adjustment", adjustment, persistent=False)
        shares = torch.from_numpy(class_shares).float()
        self.register_buffer("_shares", shares, persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> LossOutput:
        """Return loss, probability and prediction of each title.

        Args:
            logits: float32 (B, classes).
            targets: Class indices, int64 (B,).
        """
        judge: Any = _CrossEntropy.apply if logits.device.type == "cpu" else _by_operations
        return LossOutput(*judge(logits, targets, self._adjustment, self._shares, self._smoothing))


class _CrossEntropy(torch.autograd.Function):
    """One exponential of each logit serves loss, gradient, probability and plain cross-entropy."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        targets: torch.Tensor,
        adjustment: torch.Tensor,
        shares: torch.Tensor,
        smoothing: float,
    ) -> tuple[torch.Tensor, ...]:
        from rubro.kernels.softmax import softmax_sums  # compiled when first called

        exponentials, predictions = torch.empty_like(logits), torch.empty_like(targets)
        sums = logits.new_empty(4, len(logits))
        tensors = logits.detach(), adjustment.exp(), shares, exponentials, predictions, sums
        arrays: list[Any] = [tensor.numpy() for tensor in tensors]
        in_parts(partial(softmax_sums, *arrays), len(logits))
        highest, total, adjusted_total, of_shares = sums
        target = logits.detach().gather(1, targets.unsqueeze(1)).squeeze(1)
        normaliser = adjusted_total.log() + highest
        of_target = target + adjustment[targets] - normaliser
        of_all = of_shares + (adjustment * shares).sum() - normaliser
        above = target - highest
        ctx.save_for_backward(exponentials, adjusted_total, targets, shares)
        ctx.smoothing = smoothing
        loss = -(1 - smoothing) * of_target - smoothing * of_all
        others = total.log() - above, above.exp() / total, predictions
        ctx.mark_non_differentiable(*others)
        return loss, *others

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        exponentials, totals, targets, shares = ctx.saved_tensors
        of_loss = gradients[0].unsqueeze(1)
        spread = of_loss * ctx.smoothing
        gradient = exponentials * (of_loss / totals.unsqueeze(1)) - shares * spread
        gradient.scatter_add_(1, targets.unsqueeze(1), spread - of_loss)
        return gradient, None, None, None, None


def _by_operations(
    logits: torch.Tensor,
    targets: torch.Tensor,
    adjustment: torch.Tensor,
    shares: torch.Tensor,
    smoothing: float,
) -> tuple[torch.Tensor, ...]:
    """Return what _CrossEntropy does, by torch's operations."""
    index = targets.unsqueeze(1)
    adjusted = (logits + adjustment).log_softmax(1)
    of_target = adjusted.gather(1, index).squeeze(1)
    plain = logits.detach().log_softmax(1).gather(1, index).squeeze(1)
    loss = -(1 - smoothing) * of_target - smoothing * (adjusted * shares).sum(1)
    return loss, -plain, plain.exp(), logits.argmax(1)


class LabelNoiseWeights(nn.Module):
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
    def forward(self, probability: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return weights with a mean of 1, float32 (B,).

        Args:
            probability: Probability of each title's label, float32 (B,).
            targets: Class indices, int64 (B,).
        """
        if self._doubt == 0.0:
            return torch.ones_like(probability)
        totals, counts = torch.zeros(2, len(self.class_probability), device=targets.device)
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
