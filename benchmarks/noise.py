"""Measure by how much metrics differ from seed to seed: the tolerances of `rubro gate`.

The pipeline runs as params.yaml has it, as a DVC experiment in a copy of the repository, once per
seed. Experiments of earlier calls are not repeated. Deviations go into a JSON file.

    python benchmarks/noise.py --out benchmarks/results/noise.json
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from ladder import run
from scipy.stats import t

from rubro.base.console import reported_errors
from rubro.base.files import write_json
from rubro.base.params_file import flat, load_params

LEAST_SEEDS = 2
# Chance that a metric's change between two seeds exceeds its tolerance for the worse.
FALSE_ALARMS = 0.005

app = typer.Typer(pretty_exceptions_enable=False)


def noise_of(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the standard deviation over the runs of each number that all of them have.

    Args:
        runs: Metrics of each run, by file name without suffix.

    Returns:
        Deviations by dotted name, such as evaluate.test.ensemble.accuracy.
    """
    numbers = [dict(flat(metrics)) for metrics in runs]
    return {
        name: round(statistics.stdev(of[name] for of in numbers), 6)
        for name in numbers[0]
        if all(isinstance(of.get(name), int | float) for of in numbers)
    }


def factor_of(seeds: int) -> float:
    """Return the number of standard deviations by which two runs differ by chance at most.

    The difference of two runs has √2 times the deviation of one, and a deviation that is itself
    estimated from a few runs makes it follow Student's t distribution.

    Args:
        seeds: Number of runs behind the standard deviations.

    Source: Hahn and Meeker, Statistical Intervals (1991), prediction of one further observation.
    """
    return round(math.sqrt(2) * float(t.ppf(1 - FALSE_ALARMS, seeds - 1)), 3)


@app.command(help=__doc__)
def main(
    out: Annotated[Path, typer.Option(help="The JSON file.")],
    seeds: Annotated[int, typer.Option(min=LEAST_SEEDS, help="How many runs.")] = 5,
) -> None:
    with reported_errors():
        params = load_params("params.yaml")
        runs = [run("noise", [f"seed={seed}"]) for seed in range(1, seeds + 1)]
        write_json(
            out,
            {
                "seeds": seeds,
                "data": params.data.path,
                "factor": factor_of(seeds),
                "deviations": noise_of(runs),
            },
        )


if __name__ == "__main__":
    app()
