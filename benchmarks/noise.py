"""Measure how much metrics differ between seeds, which sets the tolerances of `rubro gate`.

The pipeline runs once per seed with the settings in params.yaml, as a DVC experiment in a copy of
the repository. Experiments that have already run are skipped. The standard deviations are written
to a JSON file.

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

MIN_SEEDS = 2
# Probability that a change of the seed makes a metric worse by more than its tolerance.
FALSE_ALARM_RATE = 0.005

app = typer.Typer(pretty_exceptions_enable=False)


def noise_of(runs: list[dict[str, Any]]) -> dict[str, float]:
    """Return the standard deviation of each number that occurs in every run.

    Args:
        runs: Content of the metrics files of each run, by file name without suffix.

    Returns:
        Standard deviations by dotted name, such as evaluate.test.ensemble.accuracy.
    """
    numbers = [dict(flat(metrics)) for metrics in runs]
    return {
        name: round(statistics.stdev(run[name] for run in numbers), 6)
        for name in numbers[0]
        if all(isinstance(run.get(name), int | float) for run in numbers)
    }


def factor_of(seeds: int) -> float:
    """Return the maximum difference of two runs that chance explains, in standard deviations.

    The difference of two runs has √2 times the standard deviation of one run. It follows Student's
    t distribution, because the standard deviation is estimated from a few runs.

    Args:
        seeds: Number of runs behind the estimate of the standard deviations.

    Source: Hahn and Meeker, Statistical Intervals (1991), prediction of one further observation.
    """
    return round(math.sqrt(2) * float(t.ppf(1 - FALSE_ALARM_RATE, seeds - 1)), 3)


@app.command(help=__doc__)
def main(
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    seeds: Annotated[int, typer.Option(min=MIN_SEEDS, help="Number of runs.")] = 5,
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
