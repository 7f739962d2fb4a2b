"""Products, linear layers and dropout: their formulas, and bytes that do not depend on threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rubro.base.parallel import THREADS_VARIABLE
from rubro.kernels.dropout import dropout
from rubro.kernels.linear import Linear, linear

shapes = pytest.mark.parametrize(
    ("titles", "inputs", "outputs"), [(1, 3, 2), (33, 20, 300), (300, 7, 20)]
)


def layer_and_values(titles: int, inputs: int, outputs: int) -> tuple[Any, Any]:
    torch.manual_seed(titles)
    return Linear(inputs, outputs), torch.randn(titles, inputs, requires_grad=True)


def copies(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [each.detach().clone().requires_grad_() for each in tensors]


@shapes
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_a_hidden_layer_and_its_gradients_follow_the_formula(
    titles: int, inputs: int, outputs: int, rate: float
) -> None:
    layer, values = layer_and_values(titles, inputs, outputs)
    results = layer.hidden(values, rate)
    plain = copies(values, layer.weight, layer.bias)
    whole = torch.relu(plain[0] @ plain[1].T + plain[2])
    kept = (results > 0).float() / (1 - rate) if rate else torch.ones_like(whole)
    torch.testing.assert_close(results, whole * kept, atol=1e-4, rtol=1e-4)
    factors = torch.randn(titles, outputs)
    (results * factors).sum().backward()
    total: Any = (whole * kept * factors).sum()
    total.backward()
    for ours, theirs in zip((values, layer.weight, layer.bias), plain, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def test_nan_in_a_weight_reaches_only_its_output() -> None:
    layer, values = layer_and_values(70, 40, 33)
    with torch.no_grad():
        layer.weight[3] = torch.nan
    results = layer.hidden(values, 0.0)
    assert bool(results[:, 3].isnan().all())
    assert not bool(results[:, 4:].isnan().any())


@shapes
def test_a_product_computes_only_the_gradients_that_are_needed(
    titles: int, inputs: int, outputs: int
) -> None:
    layer, values = layer_and_values(titles, inputs, outputs)
    total: Any = linear(values, layer.weight).square().sum()
    total.backward()
    for needed in ((True, False), (False, True)):
        pair = copies(values, layer.weight)
        for each, is_needed in zip(pair, needed, strict=True):
            each.requires_grad_(is_needed)
        total = linear(pair[0], pair[1]).square().sum()
        total.backward()
        for each, whole, is_needed in zip(pair, (values, layer.weight), needed, strict=True):
            assert (each.grad is not None) == is_needed
            if is_needed:
                assert torch.equal(each.grad, whole.grad)  # type: ignore[arg-type]


@shapes
def test_the_bytes_of_a_layer_do_not_depend_on_the_number_of_threads(
    titles: int, inputs: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv(THREADS_VARIABLE, threads)
        layer, values = layer_and_values(titles, inputs, outputs)
        results = layer(layer.hidden(values, 0.5) @ torch.ones(outputs, inputs))
        results.square().sum().backward()
        grads = values.grad, layer.weight.grad, layer.bias.grad
        outcomes.append([each.detach().numpy().tobytes() for each in (results, *grads)])
    assert outcomes[0] == outcomes[1] == outcomes[2]


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.999999])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(1)
    values = dropout(torch.ones(1000, 1000), rate)
    assert (values == 0).float().mean().item() == pytest.approx(rate, abs=2e-3)
    assert values.mean().item() == pytest.approx(1, rel=0.02 if rate < 0.9 else 0.5)
    assert len(set(values.flatten().tolist())) == 2


def test_a_seed_repeats_the_dropout_and_each_call_draws_again() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        drawn += [dropout(torch.ones(5, 40), 0.5) for _ in range(2)]
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
