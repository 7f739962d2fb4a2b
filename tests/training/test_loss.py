"""Parts of the loss: titles whose label looks wrong count less, and whole classes never do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rubro.base.parallel import THREADS_VARIABLE
from rubro.features.titles import Labels
from rubro.training.loss import (
    AdjustedCrossEntropy,
    LabelNoiseWeights,
    _by_operations,
    class_shares,
)

pytest_plugins = ["support.tiny_models"]

CLASSES = 4
doubts = pytest.mark.parametrize("doubt", [0.25, 0.5, 1.0])


def said(probabilities: list[float], targets: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The probability of each target, and the targets."""
    return torch.tensor(probabilities), torch.tensor(targets)


def settled(doubt: float, probabilities: list[float], targets: list[int]) -> LabelNoiseWeights:
    """Has seen the same batch until its running means are those of the batch."""
    module = LabelNoiseWeights(CLASSES, doubt)
    for _ in range(200):
        module(*said(probabilities, targets))
    return module


def any_batch(titles: int = 50) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(4)
    probabilities = torch.rand(titles, generator=random)
    return probabilities, torch.randint(CLASSES, (titles,), generator=random)


def test_without_doubt_every_weight_is_one() -> None:
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
def test_titles_of_equal_probability_weigh_the_same(doubt: float, probability: float) -> None:
    batch = [probability] * 6, [0, 0, 0, 1, 1, 3]
    for module in (LabelNoiseWeights(CLASSES, doubt), settled(doubt, *batch)):
        torch.testing.assert_close(module(*said(*batch)), torch.ones(6), atol=1e-4, rtol=0)


def test_weights_are_those_worked_out_by_hand() -> None:
    weights = LabelNoiseWeights(CLASSES, 0.5)(*said([0.45, 0.9, 0.04], [0, 0, 2]))
    # Means start from 1/4: 0.25 + 0.1 * (0.675 - 0.25), and 0.25 + 0.1 * (0.04 - 0.25).
    roots = np.sqrt([0.45 / 0.2925, 2, 0.04 / 0.229])
    np.testing.assert_allclose(weights, roots / roots.mean(), rtol=1e-5)


@doubts
def test_the_less_probable_its_label_the_less_a_title_weighs_among_its_classmates(
    doubt: float,
) -> None:
    probabilities, targets = [0.01, 0.2, 0.4, 0.6, 0.7, 0.02, 0.05, 0.06], [1] * 5 + [3] * 3
    weights = settled(doubt, probabilities, targets)(*said(probabilities, targets))
    for of_class in (weights[:5], weights[5:]):
        assert (of_class.diff() > 0).all()
    assert weights[0] < weights[5]  # though more probable than half its classmates


@doubts
def test_a_class_whose_every_title_is_improbable_is_not_starved(doubt: float) -> None:
    easy, hard = [0.9, 0.8, 0.7, 0.4], [0.09, 0.08, 0.07, 0.04]
    batch = [*easy, *hard], [0] * 4 + [2] * 4
    weights = settled(doubt, *batch)(*said(*batch))
    torch.testing.assert_close(weights[:4], weights[4:], atol=1e-4, rtol=1e-4)
    # Of the first batch, the class does weigh less: its mean is not known yet.
    weights = LabelNoiseWeights(CLASSES, doubt)(*said(*batch))
    assert weights[4:].mean() < 0.8 * weights[:4].mean()


@doubts
def test_no_title_weighs_more_than_one_of_twice_the_probability_of_its_class(doubt: float) -> None:
    module = settled(doubt, [0.1] * 50, [1] * 50)
    weights = module(*said([0.1] * 50 + [0.25, 0.5, 0.999], [1] * 53))
    mean = module.class_probability[1].item()
    assert mean == pytest.approx(0.1, abs=0.01)
    highest = weights[0].item() * (2 * mean / 0.1) ** doubt
    np.testing.assert_allclose(weights[50:], highest, rtol=1e-4)


def test_only_the_running_mean_of_a_class_that_is_present_moves() -> None:
    module = LabelNoiseWeights(CLASSES, 0.5)
    before = module.class_probability.clone()
    assert before.tolist() == [1 / CLASSES] * CLASSES
    module(*said([0.9, 0.7, 0.1], [1, 1, 3]))
    after = module.class_probability
    assert (after != before).tolist() == [False, True, False, True]
    assert before[1] < after[1] < 0.8
    assert 0.1 < after[3] < before[3]


def test_running_means_travel_with_the_state() -> None:
    trained = settled(0.5, [0.9, 0.1], [0, 1])
    restored = LabelNoiseWeights(CLASSES, 0.5)
    restored.load_state_dict(trained.state_dict())
    assert torch.equal(restored(*any_batch()), trained(*any_batch()))
    assert not torch.equal(restored(*any_batch()), LabelNoiseWeights(CLASSES, 0.5)(*any_batch()))


def test_no_gradient_flows_through_the_weights() -> None:
    probabilities, targets = any_batch()
    probabilities.requires_grad_()
    for doubt in (0.0, 0.5):
        assert not LabelNoiseWeights(CLASSES, doubt)(probabilities, targets).requires_grad


def test_a_batch_of_labels_that_are_all_impossible_has_finite_weights() -> None:
    weights = LabelNoiseWeights(2, 0.5)(torch.zeros(3), torch.tensor([1, 1, 1]))
    torch.testing.assert_close(weights, torch.ones(3))


# Cross-entropy


def random_batch(titles: int, classes: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Logits, targets and shares of the classes."""
    random = torch.Generator().manual_seed(titles)
    logits = 5 * torch.randn(titles, classes, generator=random) + 100
    shares = torch.rand(classes, generator=random).double().numpy() + 0.01
    return logits, torch.randint(classes, (titles,), generator=random), shares / shares.sum()


@pytest.mark.parametrize("adjustment", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_loss_and_gradient_are_those_of_the_formula(adjustment: float, smoothing: float) -> None:
    logits, targets, shares = random_batch(9, 21)
    ours, theirs = logits.requires_grad_(), logits.detach().double().requires_grad_()
    judged = AdjustedCrossEntropy(shares, adjustment, smoothing)(ours, targets)
    prior = torch.from_numpy(shares)
    adjusted = (theirs + adjustment * prior.log()).log_softmax(1)
    expected = -(1 - smoothing) * adjusted[range(9), targets] - smoothing * (adjusted * prior).sum(
        1
    )
    torch.testing.assert_close(judged.loss.double(), expected, atol=1e-4, rtol=1e-5)
    factors = torch.arange(9.0)
    (judged.loss * factors).sum().backward()
    total: Any = (expected * factors.double()).sum()
    total.backward()
    assert ours.grad is not None and theirs.grad is not None
    torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-5, rtol=1e-4)
    plain = theirs.detach().log_softmax(1)[range(9), targets]
    torch.testing.assert_close(judged.cross_entropy.double(), -plain, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(judged.probability.double(), plain.exp(), atol=1e-6, rtol=1e-4)
    assert judged.predictions.tolist() == logits.argmax(1).tolist()
    assert not judged.probability.requires_grad and not judged.cross_entropy.requires_grad
    arrays = torch.log(prior.float()) * adjustment, prior.float()
    for one, other in zip(judged, _by_operations(logits, targets, *arrays, smoothing), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_an_impossible_label_has_a_finite_loss_and_gradient() -> None:
    logits = torch.tensor([[300.0, -300.0]], requires_grad=True)
    judged = AdjustedCrossEntropy(np.array([0.9, 0.1]), 1.0, 0.1)(logits, torch.tensor([1]))
    assert judged.cross_entropy.tolist() == [600.0]
    assert judged.probability.tolist() == [0.0]
    judged.loss.sum().backward()
    assert logits.grad is not None and bool(torch.isfinite(logits.grad).all())


def test_logits_that_are_not_numbers_have_a_loss_that_is_none() -> None:
    for value in (np.nan, np.inf):
        for at in range(3):
            logits = torch.tensor([[1.0, 2.0, 3.0]])
            logits[0, at] = value
            judged = AdjustedCrossEntropy(np.full(3, 1 / 3), 1.0, 0.1)(logits, torch.tensor([0]))
            assert not torch.isfinite(judged.loss).any()


@pytest.mark.parametrize("titles", [1, 2, 7, 64])
def test_the_number_of_threads_changes_no_byte_of_the_loss(
    titles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, targets, shares = random_batch(titles, 100)
    outcomes = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv(THREADS_VARIABLE, threads)
        own = logits.clone().requires_grad_()
        judged = AdjustedCrossEntropy(shares, 1.0, 0.1)(own, targets)
        judged.loss.sum().backward()
        assert own.grad is not None
        outcomes.append([value.detach().numpy().tobytes() for value in (*judged, own.grad)])
    assert outcomes[0] == outcomes[1] == outcomes[2]


# How common a class is


def labels_of(*targets: int) -> Labels:
    return Labels(np.array(targets, np.int32), np.ones(len(targets), dtype=bool))


def test_classes_without_training_titles_get_a_share_all_the_same() -> None:
    labels = labels_of(0, 0, 0, 1, 1, 3)
    weights = np.array([1, 0.5, 0.5, 0.25, 0.25, 0], np.float32)
    # 2 to class 0 and 0.5 to class 1; half of that to the others, to which no weight is left.
    shares = class_shares(labels, weights, 4)
    assert shares.tolist() == pytest.approx([2 / 3, 1 / 6, 1 / 12, 1 / 12])
    evenly = class_shares(labels, np.array([1, 1, 1, 3, 0, 3], np.float32), 5)
    assert evenly == pytest.approx(np.array([2, 2, 1, 2, 1]) / 8)
