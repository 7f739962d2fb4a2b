"""Cross-entropy adjusted for class frequencies, and title weights that counter wrong labels."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import distributed, nn

from rubro.base.errors import ParamsError
from rubro.base.parallel import in_parts
from rubro.kernels.softmax import softmax_sums

_CLASS_PROBABILITY_STEP = 0.1
_MIN_RATIO, _MAX_RATIO = 1e-12, 2.0  # of a label's probability to its class mean
# Below the logarithm of the smallest float32, the factor of a category in the loss would be 0.
_MIN_ADJUSTMENT = float(np.log(np.finfo(np.float32).tiny))


class LossOutput(NamedTuple):
    """Losses, probabilities and predictions of the titles in a batch.

    Attributes:
        loss: Adjusted cross-entropy of each title, float32 (B,).
        cross_entropy: Plain cross-entropy of each title, float32 (B,).
        probability: Probability of each title's label, float32 (B,).
        predictions: Class with the highest logit, int64 (B,).
    """

    loss: torch.Tensor
    cross_entropy: torch.Tensor
    probability: torch.Tensor
    predictions: torch.Tensor


class AdjustedCrossEntropy(nn.Module):
    """Cross-entropy with logit adjustment, in which rare classes count as much as common ones.

    During training, prior_adjustment times the logarithm of a class's share in the title weights is
    added to its logit, so that the network itself has no reason to favour common classes.
    Source: Menon et al. 2021, Long-tail Learning via Logit Adjustment.

    Args:
        class_shares: Share of each class in the sum of all title weights, > 0, (classes,).
        prior_adjustment: Factor of the logarithm of a class's share; 0 = no adjustment.
        label_smoothing: Part of the target that is spread over all classes in proportion to their
            shares. An even spread would undo the adjustment for rare classes.

    Raises:
        ParamsError: The adjustment is too large for the rarest class.
    """

    def __init__(
        self, class_shares: np.ndarray, prior_adjustment: float, label_smoothing: float
    ) -> None:
        super().__init__()
        self._smoothing = label_smoothing
        self._adjustment: torch.Tensor
        self._shares: torch.Tensor
        rarest = float(np.log(class_shares.min()))
        if prior_adjustment * rarest < _MIN_ADJUSTMENT:
            most = int(10 * _MIN_ADJUSTMENT / rarest) / 10
            raise ParamsError(
                f"networks.prior_adjustment: {prior_adjustment} is too large for a category with "
                f"{class_shares.min():.1g} of the training titles; set it to at most {most}"
            )
        adjustment = torch.from_numpy(prior_adjustment * np.log(class_shares)).float()
        self.register_buffer("_adjustment", adjustment, persistent=False)
        shares = torch.from_numpy(class_shares).float()
        self.register_buffer("_shares", shares, persistent=False)

    def forward(self, logits: torch.Tensor, targets: torch.Tensor) -> LossOutput:
        """Return the losses, probability and prediction of each title.

        Args:
            logits: Logits of each title, float32 (B, classes).
            targets: Class indices, int64 (B,).
        """
        compute: Any = _CompiledLoss.apply if logits.device.type == "cpu" else _torch_loss
        return LossOutput(
            *compute(logits, targets, self._adjustment, self._shares, self._smoothing)
        )


class _CompiledLoss(torch.autograd.Function):
    """Compute LossOutput on a CPU with a single exponential of each logit."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        targets: torch.Tensor,
        adjustment: torch.Tensor,
        shares: torch.Tensor,
        smoothing: float,
    ) -> tuple[torch.Tensor, ...]:
        exponentials, predictions = torch.empty_like(logits), torch.empty_like(targets)
        sums = logits.new_empty(4, len(logits))
        tensors = logits.detach(), adjustment.exp(), shares, exponentials, predictions, sums
        arrays: list[Any] = [tensor.numpy() for tensor in tensors]
        in_parts(partial(softmax_sums, *arrays), len(logits))
        highest, total, adjusted_total, expected_logit = sums
        target = logits.detach().gather(1, targets.unsqueeze(1)).squeeze(1)
        normaliser = adjusted_total.log() + highest
        target_part = target + adjustment[targets] - normaliser
        smoothed_part = expected_logit + (adjustment * shares).sum() - normaliser
        above = target - highest
        ctx.save_for_backward(exponentials, adjusted_total, targets, shares)
        ctx.smoothing = smoothing
        loss = -(1 - smoothing) * target_part - smoothing * smoothed_part
        others = total.log() - above, above.exp() / total, predictions
        ctx.mark_non_differentiable(*others)
        return loss, *others

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        exponentials, totals, targets, shares = ctx.saved_tensors
        loss_gradient = gradients[0].unsqueeze(1)
        spread = loss_gradient * ctx.smoothing
        gradient = exponentials * (loss_gradient / totals.unsqueeze(1)) - shares * spread
        gradient.scatter_add_(1, targets.unsqueeze(1), spread - loss_gradient)
        return gradient, None, None, None, None


def _torch_loss(
    logits: torch.Tensor,
    targets: torch.Tensor,
    adjustment: torch.Tensor,
    shares: torch.Tensor,
    smoothing: float,
) -> tuple[torch.Tensor, ...]:
    """Compute LossOutput with torch operations, for GPUs."""
    index = targets.unsqueeze(1)
    adjusted = (logits + adjustment).log_softmax(1)
    target_part = adjusted.gather(1, index).squeeze(1)
    plain = logits.detach().log_softmax(1).gather(1, index).squeeze(1)
    loss = -(1 - smoothing) * target_part - smoothing * (adjusted * shares).sum(1)
    return loss, -plain, plain.exp(), logits.argmax(1)


class LabelNoiseWeights(nn.Module):
    """Weights that reduce the influence of titles whose label is probably wrong.

    The weight is (p / m) ** label_doubt, where p is the predicted probability of the title's label
    and m the running mean of p over the titles of the class. Weights p ** q by themselves would give the
    gradient of the generalized cross-entropy (Zhang and Sabuncu 2018, Generalized Cross Entropy
    Loss for Training Deep Neural Networks with Noisy Labels), but neglect rare and difficult
    classes, in which p is low for all titles. Dividing by m corrects this.

    Args:
        classes: Number of classes.
        label_doubt: Exponent; 0 = weight 1 for all titles.
    """

    def __init__(self, classes: int, label_doubt: float) -> None:
        super().__init__()
        self._exponent = label_doubt
        self.class_probability: torch.Tensor
        self.register_buffer("class_probability", torch.full((classes,), 1 / classes))

    @torch.no_grad()
    def forward(self, probability: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the weights of the titles in a batch, with a mean of 1, float32 (B,).

        Args:
            probability: Probability of each title's label, float32 (B,).
            targets: Class indices, int64 (B,).
        """
        if self._exponent == 0.0:
            return torch.ones_like(probability)
        totals, counts = torch.zeros(2, len(self.class_probability), device=targets.device)
        totals.index_add_(0, targets, probability)
        counts.index_add_(0, targets, torch.ones_like(probability))
        if distributed.is_initialized():  # several devices share the batch
            distributed.all_reduce(totals)
            distributed.all_reduce(counts)
        updated = self.class_probability.lerp(totals / counts.clamp(min=1), _CLASS_PROBABILITY_STEP)
        self.class_probability.copy_(torch.where(counts > 0, updated, self.class_probability))
        ratio = probability / self.class_probability[targets]
        # torch.pow uses MKL, whose last bits differ between CPUs.
        weights = (ratio.clamp(_MIN_RATIO, _MAX_RATIO).log() * self._exponent).exp()
        return weights / weights.mean()
