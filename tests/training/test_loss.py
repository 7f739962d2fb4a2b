"""Weights against label noise, the adjusted cross-entropy and class shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rubro.base.errors import ParamsError
from rubro.training.loss import AdjustedCrossEntropy, LabelNoiseWeights, _torch_loss

pytest_plugins = ["support.tiny_models"]

CLASSES = 4
doubts = pytest.mark.parametrize("doubt", [0.25, 0.5, 1.0])


def batch_of(probabilities: list[float], targets: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the probabilities of the targets and the targets as tensors."""
    return torch.tensor(probabilities), torch.tensor(targets)


def converged(doubt: float, probabilities: list[float], targets: list[int]) -> LabelNoiseWeights:
    """Return weights whose running means have converged to the means of a batch."""
    module = LabelNoiseWeights(CLASSES, doubt)
    for _ in range(200):
        module(*batch_of(probabilities, targets))
    return module


def any_batch(titles: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(4)
    probabilities = torch.rand(titles, generator=random)
    return probabilities, torch.randint(CLASSES, (titles,), generator=random)


def test_an_exponent_of_zero_gives_equal_weights() -> None:
    assert LabelNoiseWeights(CLASSES, 0.0)(*any_batch()).tolist() == [1.0] * 50


@doubts
def test_the_mean_weight_of_a_batch_is_one(doubt: float) -> None:
    module = LabelNoiseWeights(CLASSES, doubt)
    for titles in (50, 7, 1):
        weights = module(*any_batch(titles))
        assert weights.shape == (titles,)
        assert weights.dtype == torch.float32
        assert (weights >= 0).all()
        assert weights.mean().item() == pytest.approx(1, abs=1e-5)


@doubts
@pytest.mark.parametrize("probability", [0.01, 0.25, 0.99])
def test_equal_probabilities_give_equal_weights(doubt: float, probability: float) -> None:
    batch = [probability] * 6, [0, 0, 0, 1, 1, 3]
    for module in (LabelNoiseWeights(CLASSES, doubt), converged(doubt, *batch)):
        torch.testing.assert_close(module(*batch_of(*batch)), torch.ones(6), atol=1e-4, rtol=0)


def test_weights_of_an_example() -> None:
    weights = LabelNoiseWeights(CLASSES, 0.5)(*batch_of([0.45, 0.9, 0.04], [0, 0, 2]))
    # The running means start at 1/4: 0.25 + 0.1 * (0.675 - 0.25), and 0.25 + 0.1 * (0.04 - 0.25).
    roots = np.sqrt([0.45 / 0.2925, 2, 0.04 / 0.229])
    np.testing.assert_allclose(weights, roots / roots.mean(), rtol=1e-5)


@doubts
def test_weights_grow_with_the_probability_within_a_class(doubt: float) -> None:
    probabilities, targets = [0.01, 0.2, 0.4, 0.6, 0.7, 0.02, 0.05, 0.06], [1] * 5 + [3] * 3
    weights = converged(doubt, probabilities, targets)(*batch_of(probabilities, targets))
    for of_class in (weights[:5], weights[5:]):
        assert (of_class.diff() > 0).all()
    assert weights[0] < weights[5]


@doubts
def test_a_difficult_class_is_not_neglected(doubt: float) -> None:
    easy, hard = [0.9, 0.8, 0.7, 0.4], [0.09, 0.08, 0.07, 0.04]
    batch = [*easy, *hard], [0] * 4 + [2] * 4
    weights = converged(doubt, *batch)(*batch_of(*batch))
    torch.testing.assert_close(weights[:4], weights[4:], atol=1e-4, rtol=1e-4)
    # In the first batch, before its mean is known, the class weighs less.
    weights = LabelNoiseWeights(CLASSES, doubt)(*batch_of(*batch))
    assert weights[4:].mean() < 0.8 * weights[:4].mean()


@doubts
def test_weights_are_limited_to_twice_the_probability_of_the_class(doubt: float) -> None:
    module = converged(doubt, [0.1] * 50, [1] * 50)
    weights = module(*batch_of([0.1] * 50 + [0.25, 0.5, 0.999], [1] * 53))
    mean = module.class_probability[1].item()
    assert mean == pytest.approx(0.1, abs=0.01)
    highest = weights[0].item() * (2 * mean / 0.1) ** doubt
    np.testing.assert_allclose(weights[50:], highest, rtol=1e-4)


def test_a_batch_changes_only_the_running_means_of_its_classes() -> None:
    module = LabelNoiseWeights(CLASSES, 0.5)
    before = module.class_probability.clone()
    assert before.tolist() == [1 / CLASSES] * CLASSES
    module(*batch_of([0.9, 0.7, 0.1], [1, 1, 3]))
    after = module.class_probability
    assert (after != before).tolist() == [False, True, False, True]
    assert before[1] < after[1] < 0.8
    assert 0.1 < after[3] < before[3]


def test_labels_with_probability_zero_have_finite_weights() -> None:
    weights = LabelNoiseWeights(2, 0.5)(torch.zeros(3), torch.tensor([1, 1, 1]))
    torch.testing.assert_close(weights, torch.ones(3))


# Cross-entropy


def random_batch(titles: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Return logits, targets and class shares."""
    random = torch.Generator().manual_seed(titles)
    logits = 5 * torch.randn(titles, classes, generator=random) + 100
    shares = torch.rand(classes, generator=random).double().numpy() + 0.01
    return logits, torch.randint(classes, (titles,), generator=random), shares / shares.sum()


@pytest.mark.parametrize(("classes", "largest"), [(100, 18.9), (5000, 10.2)])
def test_an_adjustment_that_loses_a_class_is_an_error(classes: int, largest: float) -> None:
    shares = np.full(classes, 1 / classes)
    for adjustment in (largest + 0.2, 1e308):
        with pytest.raises(ParamsError, match=rf"prior_adjustment: .*at most {largest}"):
            AdjustedCrossEntropy(shares, adjustment, 0.1)
    logits, targets, _ = random_batch(9, classes)
    output = AdjustedCrossEntropy(shares, largest, 0.1)(logits, targets)
    assert output.loss.isfinite().all()


@pytest.mark.parametrize("adjustment", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_loss_and_gradient_follow_the_formula(adjustment: float, smoothing: float) -> None:
    logits, targets, shares = random_batch(9, 21)
    ours, theirs = logits.requires_grad_(), logits.detach().double().requires_grad_()
    output = AdjustedCrossEntropy(shares, adjustment, smoothing)(ours, targets)
    prior = torch.from_numpy(shares)
    adjusted = (theirs + adjustment * prior.log()).log_softmax(1)
    smoothed = smoothing * (adjusted * prior).sum(1)
    expected = -(1 - smoothing) * adjusted[range(9), targets] - smoothed
    torch.testing.assert_close(output.loss.double(), expected, atol=1e-4, rtol=1e-5)
    factors = torch.arange(9.0)
    (output.loss * factors).sum().backward()
    total: Any = (expected * factors.double()).sum()
    total.backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-4)
    plain = theirs.detach().log_softmax(1)[range(9), targets]
    torch.testing.assert_close(output.cross_entropy.double(), -plain, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(output.probability.double(), plain.exp(), atol=1e-6, rtol=1e-4)
    assert output.predictions.tolist() == logits.argmax(1).tolist()
    assert not output.probability.requires_grad and not output.cross_entropy.requires_grad
    arrays = torch.log(prior.float()) * adjustment, prior.float()
    for one, other in zip(output, _torch_loss(logits, targets, *arrays, smoothing), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_label_with_probability_zero_has_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    output = AdjustedCrossEntropy(np.array([0.9, 0.1]), 1.0, 0.1)(logits, torch.tensor([1]))
    assert output.cross_entropy.tolist() == [600.0]
    assert output.probability.tolist() == [0.0]
    output.loss.sum().backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_nan_and_infinite_logits_have_no_finite_loss() -> None:
    for value in (np.nan, np.inf):
        for at in range(3):
            logits = torch.tensor([[1.0, 2.0, 3.0]])
            logits[0, at] = value
            output = AdjustedCrossEntropy(np.full(3, 1 / 3), 1.0, 0.1)(logits, torch.tensor([0]))
            assert not torch.isfinite(output.loss).any()


# Class shares
