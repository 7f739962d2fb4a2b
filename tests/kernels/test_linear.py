"""Products and hidden layers: those of the formula, and the same bytes for any number of threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rubro.base.parallel import THREADS_VARIABLE
from rubro.kernels.linear import Linear, product, without_some

shapes = pytest.mark.parametrize(
    ("titles", "inputs", "outputs"), [(1, 3, 2), (70, 40, 33), (33, 20, 300), (300, 7, 20)]
)


def layer_and_values(titles: int, inputs: int, outputs: int) -> tuple[Any, Any]:
    torch.manual_seed(titles)
    return Linear(inputs, outputs), torch.randn(titles, inputs, requires_grad=True)


@shapes
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_a_hidden_layer_is_that_of_the_formula(
    titles: int, inputs: int, outputs: int, dropout: float
) -> None:
    layer, values = layer_and_values(titles, inputs, outputs)
    results = layer.hidden(values, dropout)
    whole = torch.relu(values.detach() @ layer.weight.T + layer.bias)
    kept = torch.ones_like(whole) if not dropout else (results > 0).float() / (1 - dropout)
    torch.testing.assert_close(results, whole * kept, atol=1e-4, rtol=1e-4)
    if whole.numel() > 1000:
        share = ((whole > 1e-6) & (results == 0)).sum() / (whole > 1e-6).sum()
        assert share.item() == pytest.approx(dropout, abs=0.05)
    factors = torch.randn(titles, outputs)
    (results * factors).sum().backward()
    ours = [values.grad, layer.weight.grad, layer.bias.grad]
    plain = [each.detach().clone().requires_grad_() for each in (values, layer.weight, layer.bias)]
    total: Any = (torch.relu(plain[0] @ plain[1].T + plain[2]) * kept * factors).sum()
    total.backward()
    for one, other in zip(ours, plain, strict=True):
        torch.testing.assert_close(one, other.grad, atol=1e-4, rtol=1e-4)


def test_what_is_not_a_number_stays_so() -> None:
    layer, values = layer_and_values(70, 40, 33)
    with torch.no_grad():
        layer.weight[3] = torch.nan
    results = layer.hidden(values, 0.0)
    assert bool(results[:, 3].isnan().all())
    assert not bool(results[:, 4:].isnan().any())


@shapes
def test_a_product_has_both_gradients_or_the_one_that_is_wanted(
    titles: int, inputs: int, outputs: int
) -> None:
    layer, values = layer_and_values(titles, inputs, outputs)
    total: Any = product(values, layer.weight).square().sum()
    total.backward()
    both = values.grad, layer.weight.grad
    for wanted in ((True, False), (False, True)):
        pair = [
            each.detach().clone().requires_grad_(is_wanted)
            for each, is_wanted in zip((values, layer.weight), wanted, strict=True)
        ]
        total = product(*pair).square().sum()
        total.backward()
        for each, whole, is_wanted in zip(pair, both, wanted, strict=True):
            assert (each.grad is not None) == is_wanted
            if is_wanted:
                torch.testing.assert_close(each.grad, whole, atol=0, rtol=0)


@shapes
def test_the_number_of_threads_changes_no_byte_of_a_layer(
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


@pytest.mark.parametrize("dropout", [0.1, 0.3, 0.999999])
def test_dropout_keeps_the_mean(dropout: float) -> None:
    torch.manual_seed(1)
    values = torch.ones(1000, 1000)
    thinned = without_some(values, dropout)
    assert (thinned == 0).float().mean().item() == pytest.approx(dropout, abs=2e-3)
    assert thinned.mean().item() == pytest.approx(1, rel=0.02 if dropout < 0.9 else 0.5)
    assert len(set(thinned.flatten().tolist())) == 2


def test_a_seed_repeats_the_dropout_and_each_call_draws_anew() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(4)
        drawn += [without_some(torch.ones(5, 40), 0.5) for _ in range(2)]
    assert torch.equal(drawn[0], drawn[2]) and torch.equal(drawn[1], drawn[3])
    assert not torch.equal(drawn[0], drawn[1])
