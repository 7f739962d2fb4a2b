"""Sums of rows and their gradients equal dense sums, with the same bytes for any number of threads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rubro.base.parallel import THREADS_VARIABLE
from rubro.kernels.embedding_bag import embedding_bag
from rubro.training.optimizers import RowWiseAdam
from support.tiny_models import gradient_of

pytest_plugins = ["support.tiny_models"]

ROWS = torch.tensor([1, 4, 5])
INDEX = torch.tensor([0, 2, 0, 0, 1, 2])  # the first list contains row 1 twice
OFFSETS = torch.tensor([0, 3, 3, 5, 6])  # the second list is empty
FACTORS = torch.tensor([0.5, 3.0, -1.0, 2.0])
WANTED = torch.randn(4, 19, generator=torch.Generator().manual_seed(2))


def table() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.randn(6, 19, generator=torch.Generator().manual_seed(1)))


def sums_of(table: Tensor) -> Tensor:
    """Return the sums, computed by dense operations."""
    lists = torch.zeros(4, 6)
    for number, rows in enumerate(([1, 5, 1], [], [1, 4], [5])):
        for row in rows:
            lists[number, row] += 1
    return FACTORS.unsqueeze(1) * (lists @ table)


@pytest.mark.parametrize("rows", [ROWS, None], ids=["rows", "vectors"])
def test_sums_and_their_gradient_equal_dense_operations(rows: Tensor | None) -> None:
    ours, theirs = table(), table()
    index = ROWS[INDEX] if rows is None else INDEX
    sums: Any = embedding_bag(ours, index, OFFSETS, FACTORS, rows)
    torch.testing.assert_close(sums, sums_of(theirs))
    (sums * WANTED).sum().backward()
    total: Any = (sums_of(theirs) * WANTED).sum()
    total.backward()
    assert (ours.grad is None) == (rows is not None)
    torch.testing.assert_close(gradient_of(ours), theirs.grad)
    if rows is not None:
        with pytest.raises(AttributeError):
            gradient_of(ours)  # the first call removed it


def test_steps_with_a_row_gradient_equal_steps_with_a_sparse_gradient() -> None:
    ours, theirs = table(), table()
    for parameter, optimizer in [(each, RowWiseAdam([each], lr=0.1)) for each in (ours, theirs)]:
        for _ in range(3):
            sums: Any = embedding_bag(parameter, INDEX, OFFSETS, FACTORS, ROWS)
            (sums * WANTED).sum().backward()
            if parameter is theirs:
                parameter.grad = gradient_of(parameter).to_sparse(1)
            optimizer.step()
    torch.testing.assert_close(ours, theirs)
    assert not torch.equal(ours, table())
    assert torch.equal(ours[[0, 2, 3]], table()[[0, 2, 3]])


def test_the_bytes_of_sums_and_steps_do_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcomes = []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv(THREADS_VARIABLE, threads)
        parameter = table()
        optimizer = RowWiseAdam([parameter], lr=0.1)
        for _ in range(3):
            vectors = embedding_bag(parameter, INDEX, OFFSETS, FACTORS, ROWS)
            index, offsets = torch.tensor([0, 1, 2, 3, 3, 0]), torch.tensor([0, 2, 5, 6])
            sums: Any = embedding_bag(vectors, index, offsets, FACTORS[:3])
            sums.square().sum().backward()
            optimizer.step()
        outcomes.append(parameter.detach().numpy().tobytes())
    assert outcomes[0] == outcomes[1] == outcomes[2]
