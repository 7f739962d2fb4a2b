"""Time a training step and compare it with the minimum time of its products and table accesses.

Run it in a folder in which `dvc repro embed` has run. It uses all cores, or OMP_NUM_THREADS.

    python benchmarks/step.py mlp
    OMP_NUM_THREADS=1 python benchmarks/step.py cnn
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from enum import StrEnum
from itertools import chain, repeat
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Annotated, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "stages"))
import process_setup  # noqa: F401 (its environment: threads, instructions)

import numpy as np
import torch
import typer
from model_output import FEATURES, SUBSET
from predict import seconds_of
from train_network import initial_network

from rubro.base.console import reported_errors
from rubro.base.parallel import in_parts, thread_count
from rubro.base.params import CnnParams, MlpParams
from rubro.base.params_file import load_params
from rubro.data.splits import load_labels, load_source
from rubro.features.titles import class_shares, load_features
from rubro.kernels.linear import Linear, linear
from rubro.models.batches import Batch, Batches
from rubro.models.cnn import Cnn
from rubro.models.layers import Network, RowTable
from rubro.models.mlp import Mlp
from rubro.training.budget import batch_size_for
from rubro.training.memory import keep_freed_memory
from rubro.training.module import TitleClassifier

_WARM_UP = 5  # steps; kernels are compiled in the first one
# A row is read for its sum. Its update reads and writes the row and its mean gradient.
_TRANSFERS = 5
_MATRIX, _WORDS = 1024, 2**26

app = typer.Typer(pretty_exceptions_enable=False)


class Model(StrEnum):
    """Network whose training step is timed."""

    mlp = "mlp"
    cnn = "cnn"


def prepared(model: Model) -> tuple[TitleClassifier, Batches]:
    """Return an untrained network, set up as in its stage, and the batches of an epoch."""
    keep_freed_memory()
    params = load_params()
    own, kind = {
        Model.mlp: (MlpParams.merged(params.networks, params.train_mlp), Mlp),
        Model.cnn: (CnnParams.merged(params.networks, params.train_cnn), Cnn),
    }[model]
    columns = len(load_source(SUBSET).token_columns)
    (titles,), tokens = load_features(FEATURES, "train", columns=columns)
    classes, weights = len(load_labels(SUBSET)), np.ones(len(titles), np.float32)
    network = initial_network(kind, params, own, classes, columns).train()
    size = batch_size_for(len(titles), own.batch_size)
    batches = Batches(
        titles,
        tokens,
        size,
        weights,
        own.row_dropout,
        seed=(params.seed, 0),
        column_dropout=own.column_dropout,
    )
    shares = class_shares(np.bincount(titles.labels.targets, weights, minlength=classes))
    return TitleClassifier(
        network, own, len(batches), shares, params.seed, params.objective
    ), batches


def timed_steps(
    classifier: TitleClassifier, batches: Batches, steps: int
) -> tuple[dict[str, float], list[Batch]]:
    """Return the microseconds per title of each part of a step, and the batches of the steps."""
    optimizers: list[Any] = classifier.configure_optimizers()[0]
    spent: dict[str, list[float]] = defaultdict(list)
    seen: list[Batch] = []

    def timed(part: str, work: Callable[[], Any]) -> Any:
        start = perf_counter()
        result = work()
        spent[part].append(perf_counter() - start)
        return result

    epochs = chain.from_iterable(repeat(batches))
    for _ in range(_WARM_UP + steps):
        seen.append(timed("wait for the batch", lambda: next(epochs)))
        loss = timed("forward and loss", lambda: classifier.loss_of(seen[-1]))
        timed("backward", loss.backward)
        timed("optimisers", lambda: [optimizer.step() for optimizer in optimizers])
        classifier.zero_grad()
    seen = seen[_WARM_UP:]
    titles = median(len(batch.targets) for batch in seen)
    return {part: median(each[_WARM_UP:]) / titles * 1e6 for part, each in spent.items()}, seen


def work_of(network: Network, batch: Batch) -> tuple[float, float]:
    """Return the floating-point operations of a step's products and the bytes its tables transfer."""
    operations = 0
    for name, layer in network.named_modules():
        if isinstance(layer, Linear):  # a filter reads distinct tokens, other layers titles
            rows = len(batch.token_weights) if name.startswith("filters") else len(batch.targets)
            operations += 3 * 2 * rows * layer.weight.numel()  # one product forward, two backward
    tables = [module for module in network.modules() if isinstance(module, RowTable)]
    rows = len(batch.rows) + (len(batch.bigrams) if len(tables) > 1 else 0)
    return operations, _TRANSFERS * rows * tables[0].embedding_dim * 4


def rates() -> tuple[float, float]:
    """Measure the operations per second of a matrix product and the bytes per second of a copy."""
    matrix, words = torch.rand(_MATRIX, _MATRIX), np.ones(_WORDS, np.float32)
    copy = np.zeros_like(words)

    def copied(first: int, end: int) -> None:
        np.copyto(copy[first:end], words[first:end])

    def best(work: Callable[[], object]) -> float:
        return min(seconds_of(work) for _ in range(7))

    product_seconds = best(lambda: linear(matrix, matrix))
    copy_seconds = best(lambda: in_parts(copied, _WORDS))
    return 2 * _MATRIX**3 / product_seconds, 2 * words.nbytes / copy_seconds


@app.command()
def main(
    model: Annotated[Model, typer.Argument(help="Network to train.")],
    steps: Annotated[int, typer.Option(min=1, help="Number of steps to time.")] = 70,
) -> None:
    """Time each part of a training step, with the data of the current folder."""
    with reported_errors():
        classifier, batches = prepared(model)
        parts, seen = timed_steps(classifier, batches, steps)
        whole = sum(parts.values())
        network: Any = classifier.network
        works = np.array([[*work_of(network, batch), len(batch.targets)] for batch in seen])
        operations, moved, titles = works.mean(axis=0)
        by_second, copied = rates()
        arithmetic, traffic = operations / titles / by_second, moved / titles / copied
        typer.echo(
            f"{model}, {titles:.0f} titles per batch, {thread_count()} threads: "
            f"{whole:.1f} us per title, {1e6 / whole:,.0f} titles/s"
        )
        typer.echo("  " + ", ".join(f"{part} {spent:.1f}" for part, spent in parts.items()))
        typer.echo(
            f"  at least {1e6 * (arithmetic + traffic):.1f}: products {1e6 * arithmetic:.1f} "
            f"({operations / titles / 1e6:.2f} million operations at {by_second / 1e9:.0f} GFLOP/s), "
            f"tables {1e6 * traffic:.1f} ({moved / titles / 1e3:.0f} kB at {copied / 1e9:.0f} GB/s)"
        )


if __name__ == "__main__":
    app()
