"""RowWiseAdam: agreement with Adam, untouched rows and resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rubro.training.optimizers import RowWiseAdam


def table_of(values: list[list[float]]) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.tensor(values))


def sparse_gradient(rows: list[int], values: list[list[float]], size: int) -> torch.Tensor:
    index, shape = torch.tensor([rows]), (size, len(values[0]))
    return torch.sparse_coo_tensor(index, torch.tensor(values), shape, check_invariants=True)


def test_with_one_value_per_row_it_equals_sparse_adam() -> None:
    ours, theirs = table_of([[1.0], [2.0], [3.0]]), table_of([[1.0], [2.0], [3.0]])
    sparse_adam = torch.optim.SparseAdam([theirs], lr=0.1, betas=(0.9, 0.99))
    optimizers = RowWiseAdam([ours], lr=0.1), sparse_adam
    for rows, values in (([0, 2], [[0.5], [-2.0]]), ([2], [[0.1]]), ([0, 1], [[1.0], [3.0]])):
        for table, optimizer in zip((ours, theirs), optimizers, strict=True):
            table.grad = sparse_gradient(rows, values, 3)
            optimizer.step()
        torch.testing.assert_close(ours, theirs)


def test_gradients_of_a_repeated_row_are_added() -> None:
    once, twice = table_of([[1.0, 2.0]]), table_of([[1.0, 2.0]])
    once.grad = sparse_gradient([0], [[3.0, 1.0]], 1)
    twice.grad = sparse_gradient([0, 0], [[1.0, 0.5], [2.0, 0.5]], 1)
    for table in (once, twice):
        RowWiseAdam([table], lr=0.1).step()
    torch.testing.assert_close(once, twice)


def test_a_step_without_a_gradient_changes_nothing() -> None:
    table = table_of([[1.0, 2.0]])
    RowWiseAdam([table], lr=0.1).step()
    assert table.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("value", [1e-12, 1e12])
def test_the_first_step_does_not_depend_on_the_size_of_the_gradient(value: float) -> None:
    table = table_of([[0.0, 0.0]])
    table.grad = sparse_gradient([0], [[value, value]], 1)
    RowWiseAdam([table], lr=0.1, eps=0.0).step()
    torch.testing.assert_close(table.data, torch.full((1, 2), -0.1))


@pytest.mark.parametrize("size", [1, 7, 8, 200, 203])
def test_steps_with_many_rows_follow_the_formula(size: int) -> None:
    random = np.random.default_rng(size)
    table = torch.nn.Parameter(torch.from_numpy(random.normal(size=(50, size))).float())
    expected = table.detach().double().numpy().copy()
    mean, square = np.zeros_like(expected), np.zeros((50, 1))
    optimizer = RowWiseAdam([table], lr=0.1)
    for step in range(1, 5):
        rows = np.sort(random.choice(50, 20, replace=False))
        gradient = random.normal(size=(20, size)).astype(np.float32)
        table.grad = sparse_gradient(rows.tolist(), gradient.tolist(), 50)
        optimizer.step()
        mean[rows] += 0.1 * (gradient - mean[rows])
        square[rows] += 0.01 * ((gradient.astype(float) ** 2).mean(1, keepdims=True) - square[rows])
        root = np.sqrt(square[rows] / (1 - 0.99**step) + 1e-16)
        expected[rows] -= 0.1 * mean[rows] / (1 - 0.9**step) / root
    np.testing.assert_allclose(table.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
