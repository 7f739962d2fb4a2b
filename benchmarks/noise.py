"""Measure by how much metrics differ from seed to seed: the tolerances of `rubro gate`.

The pipeline runs as params.yaml has it, as a DVC experiment in a copy of the repository, once per
seed. Experiments of earlier calls are not repeated. Deviations go into a JSON file.

    python benchmarks/noise.py --out benchmarks/results/noise.json
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from ladder import run

from rubro.base.console import reported_errors
from rubro.base.errors import ParamsError
from rubro.base.files import write_json
from rubro.base.settings import flat, load_params

LEAST_SEEDS = 2

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
                "data": {"path": params.data.path, "titles": runs[0]["subset"]["rows"]["total"]},
                "deviations": noise_of(runs),
            },
        )


if __name__ == "__main__":
    app()
