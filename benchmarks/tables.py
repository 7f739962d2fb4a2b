"""Write the tables of the documentation: results and stages.

Tables are made from benchmarks/results and dvc.yaml; the graph is made by `dvc dag`.

    python benchmarks/tables.py           # write the tables
    python benchmarks/tables.py --check   # exit with 1 if a table is out of date
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from rubro.base.console import reported_errors, say
from rubro.base.errors import DataError

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    "README.md": "en",
    "README.es.md": "es",
    "docs/results.md": "en",
    "docs/pipeline.md": "en",
    "docs/experiments.md": "en",
}
MODELS = ("ensemble", "mlp", "cnn", "svm")
LADDER_HEAD = {
    "en": ["settings", "ensemble", "MLP", "CNN", "SVM", "ensemble, validation"],
    "es": ["configuración", "ensamble", "MLP", "CNN", "SVM", "ensamble, validación"],
}
PEERS_HEAD = {
    "en": ["classifier", "all labels right", "20 % flipped", "rows ~ 1 / √rank"],
    "es": ["clasificador", "etiquetas correctas", "20 % cambiadas", "filas ~ 1 / √rango"],
}
OURS = {
    "en": {"ensemble": "**ensemble**", "mlp": "**MLP**", "cnn": "**CNN**", "svm": "**SVM**"},
    "es": {"ensemble": "**ensamble**", "mlp": "**MLP**", "cnn": "**CNN**", "svm": "**SVM**"},
}
PEERS_ES = {
    "word_svc": "TF-IDF de palabras + LinearSVC",
    "word_char_svc": "TF-IDF de palabras y caracteres + LinearSVC",
    "word_char_sgd": "TF-IDF de palabras y caracteres + SGD",
    "fasttext": "fastText supervisado",
}
# Results of peers, and the row of the ladder with the same data.
DISTURBANCES = {"peers": "default", "peers-flipped": "flipped", "peers-zipf": "zipf"}
SCALE_HEAD = [
    "titles",
    "classifier",
    "seconds to a model",
    "memory, MB",
    "balanced accuracy",
    "model, MB",
    "titles/s of prediction",
]
FRONT_HEAD = [
    "classifier",
    "accuracy",
    "training, seconds",
    "prediction, titles/s",
    "model, MB",
    "peer is ahead in",
]
AHEAD = {"seconds": "training", "titles_per_second": "prediction", "model_megabytes": "model size"}


def tables(language: str) -> dict[str, str]:
    """Return the tables of ladder.yaml and of the peers in Markdown, by name.

    Args:
        language: "en" or "es".

    Raises:
        DataError: A result is missing, or a row ran with other settings than ladder.yaml has.
    """
    plan = YAML(typ="safe").load(ROOT / "benchmarks" / "ladder.yaml")
    rows = _result("ladder")["rows"]
    for row in (row for table in plan["tables"].values() for row in table):
        planned = row.get("set", {}), row.get("seeds", plan["seeds"])
        ran = rows.get(row["name"])
        if ran and (ran["set"], ran["seeds"]) != planned:
            raise DataError(
                f"ladder.json: row {row['name']} ran with other settings or seeds than ladder.yaml "
                "has; `make ladder` runs it again"
            )
    made = {
        name: _markdown(
            LADDER_HEAD[language],
            [
                [
                    row["label"][language],
                    *(_score(rows[row["name"]]["test"][model]) for model in MODELS),
                    _score(rows[row["name"]]["validation"]["ensemble"]),
                ]
                for row in table
                if row["name"] in rows
            ],
        )
        for name, table in plan["tables"].items()
    }
    made["peers"] = _peers(language, rows)
    return made


def scale() -> dict[str, str]:
    """Return the tables of scale.json in Markdown: "scale" and, by stage, "scalestages"."""
    sizes = _result("scale")["sizes"]
    names = [f"{int(size):,}" if size.isdecimal() else size for size in sizes]
    rows = [
        [name, *_measured(classifier)]
        for name, size in zip(names, sizes.values(), strict=True)
        for classifier in (
            *(size[key] for key in ("pipeline", "svm") if key in size),
            *size["peers"].values(),
        )
    ]
    measured = [size["pipeline"]["stages"] for size in sizes.values()]
    stages = [
        [
            name,
            *(
                f"{each[name]['seconds']:.0f}, {each[name]['megabytes']:,}" if name in each else "-"
                for each in measured
            ),
        ]
        for name in measured[0]
    ]
    return {
        "scale": _markdown(SCALE_HEAD, rows),
        "scalestages": _markdown(["stage: seconds, MB", *names], stages),
    }


def front() -> dict[str, str]:
    """Return the table of front.json in Markdown: "front"."""
    rows = _result("front")["rows"]
    lines = [
        [
            f"**{row['name']}**" if row["name"].startswith("rubro") else row["name"],
            f"{row['accuracy']:.3f}",
            f"{row['seconds']:,.1f}",
            f"{row['titles_per_second']:,}",
            f"{row['model_megabytes']:,.1f}",
            ", ".join(AHEAD[measure] for measure in row["ahead"]),
        ]
        for row in rows
    ]
    return {"front": _markdown(FRONT_HEAD, lines)}


def catalogues() -> dict[str, str]:
    """Return the table of catalogues.json in Markdown.

    A cell has accuracy, balanced accuracy and macro F1, each from the answers for this objective.
    """
    models = ("ensemble", "mlp", "cnn", "svm", "LinearSVC", "LinearSVC, final fit")
    objectives = ("accuracy", "balanced_accuracy", "macro_f1")
    rows = [
        [
            name,
            f"{each['rows']['train']:,}",
            f"{each['categories']:,}",
            *(" / ".join(f"{each[model][o][o]:.3f}" for o in objectives) for model in models),
        ]
        for name, each in _result("catalogues").items()
    ]
    head = ["catalogue", "training titles", "categories", *OURS["en"].values(), *models[4:]]
    return {"catalogues": _markdown(head, rows)}


def wrong_labels() -> dict[str, str]:
    """Return the tables of audit.json in Markdown: rankings, and models on corrected labels."""
    result = _result("audit")
    kinds = {"uniform": "uniform", "similar": "similar category"}
    names = {
        "rubro": "**rubro audit**",
        "normalized_margin": "cleanlab, normalized margin",
        "self_confidence": "cleanlab, self confidence",
    }
    rows = [
        [
            text,
            names[key],
            *(
                f"{measured[f'precision_at_recall_{recall}']:.3f} / "
                f"{measured[f'suggestion_right_at_recall_{recall}']:.3f}"
                for recall in (0.6, 0.85)
            ),
            f"{measured['recall_at_precision_0.95']:.3f}",
        ]
        for kind, text in kinds.items()
        if kind in result
        for key, measured in _mean_rankings(list(result[kind].values())).items()
    ]
    head = [
        "wrong labels",
        "ranking",
        "at recall 0.6",
        "at recall 0.85",
        "recall at precision 0.95",
    ]
    made = {"audit": _markdown(head, rows)}
    if "retrain" in result:
        runs = result["retrain"]["runs"]
        models = [model for model in MODELS if any(model in run for run in runs.values())]
        rows = [
            [
                "none" if name == "flipped" else f"at least {name}",
                f"{run['accepted']:,}",
                f"{run['right'] / run['accepted']:.3f}" if run["accepted"] else "",
                *(
                    f"{run[model][split]['balanced_accuracy']:.3f}" if model in run else ""
                    for model in models
                    for split in ("test", "validation")
                ),
            ]
            for name, run in sorted(runs.items(), key=lambda item: (item[0] != "flipped", item[0]))
        ]
        scores = [
            name
            for model in models
            for name in (
                OURS["en"][model],
                f"{model.upper() if model != 'ensemble' else model}, validation",
            )
        ]
        head = ["confidence of accepted suggestions", "accepted", "right", *scores]
        made["retrained"] = _markdown(head, rows)
    return made


def _mean_rankings(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean figures of each ranking over the seeds of audit.json that have it."""
    rankings = [{"rubro": run["rubro"], **run["cleanlab"]} for run in runs]
    means = {}
    for name in dict.fromkeys(name for each in rankings for name in each):
        own = [each[name] for each in rankings if name in each]
        means[name] = {figure: statistics.mean(each[figure] for each in own) for figure in own[0]}
    return means


def columns() -> dict[str, str]:
    """Return the table of columns.json in Markdown: metrics of category paths, with answers for accuracy.

    A row has the mean weighted F1 of the levels, the accuracy of whole paths, and the accuracy of
    the first five levels from the roots.
    """
    names = {**OURS["en"], "ensemble, titles only": "ensemble, titles only at prediction"}
    rows = []
    for name, each in _result("columns").items():
        for model, scores in each.items():
            if model not in (*names, "LinearSVC", "LinearSVC, final fit"):
                continue
            values = scores["accuracy"]
            levels = [key for key in values if key.startswith("level_")][:5]
            rows.append(
                [
                    name,
                    names.get(model, model),
                    f"{values['mean_weighted_f1']:.3f}",
                    f"{values['accuracy']:.3f}",
                    " / ".join(f"{values[key]:.3f}" for key in levels),
                ]
            )
    head = ["catalogue", "model", "mean weighted F1 of the levels", "whole path", "first levels"]
    return {"columns": _markdown(head, rows)}


def self_training() -> dict[str, str]:
    """Return the table of self_training.json in Markdown: mean metrics and CPU time over seeds."""
    rows = [
        [
            catalogue,
            name,
            *(
                " / ".join(f"{run[model][o]:.3f}" for o in ("accuracy", "balanced_accuracy"))
                for model in ("ensemble", "svm")
            ),
            f"{run['cpu_seconds']:,}",
            str(run["seeds"]),
        ]
        for catalogue, each in _result("self_training").items()
        for name, run in each["means"].items()
    ]
    head = ["catalogue", "training titles", OURS["en"]["ensemble"], OURS["en"]["svm"]]
    return {"selftraining": _markdown([*head, "CPU seconds", "seeds"], rows)}


def active_learning() -> dict[str, str]:
    """Return the tables of active_learning.json in Markdown: "labels" and "labelcurves".

    The first one contains the number of labels with which the mean curve of a method, with lines
    between its points, reaches the final accuracy of random choice on test titles.
    """
    results = _result("active_learning")
    totals, rows = [], []
    for name, each in results.items():
        means = {
            method: {
                int(labels): statistics.mean(curve[labels]["test_accuracy"] for curve in curves)
                for labels in curves[0]
            }
            for method, curves in each["curves"].items()
        }
        end, goal = each["sizes"]["end"], means["random"][each["sizes"]["end"]]
        cells = []
        for method in list(means)[1:]:
            labels = _labels_for(means[method], goal)
            cells.append("-" if labels is None else f"{labels:,.0f} ({1 - labels / end:.0%} fewer)")
        seeds = len(each["curves"]["random"])
        sizes = [f"{each['sizes'][key]:,}" for key in ("titles", "categories")]
        totals.append([name, *sizes, str(seeds), f"{goal:.3f}", f"{end:,}", *cells])
        for labels in means["random"]:
            scores = [f"{mean[labels]:.3f}" if labels in mean else "-" for mean in means.values()]
            rows.append([name, f"{labels:,}", *scores])
    methods = list(next(iter(results.values()))["curves"])
    head = ["catalogue", "training titles", "categories", "seeds", "accuracy"]
    return {
        "labels": _markdown([*head, *(f"labels, {method}" for method in methods)], totals),
        "labelcurves": _markdown(["catalogue", "labels", *methods], rows),
    }


def _labels_for(curve: dict[int, float], goal: float) -> float | None:
    """Return the number of labels at which a curve first reaches an accuracy; None if it does not."""
    for (before, low), (after, high) in pairwise(curve.items()):
        if high >= goal:
            return before + (after - before) * max(goal - low, 0) / (high - low)
    return None


def _measured(classifier: dict[str, Any]) -> list[str]:
    """Return the cells of a classifier's row in the table of scale.json."""
    name, memory = classifier["name"], f"{classifier['megabytes']:,}"
    if name.startswith("rubro"):
        name = f"**{name}**"
    if "seconds" not in classifier:
        return [name, f"over {classifier['seconds_over']:.0f}", memory, "-", "-", "-"]
    return [
        name,
        f"{classifier['seconds']:,.0f}",
        memory,
        f"{classifier['balanced_accuracy']:.3f}",
        f"{classifier['model_megabytes']:,.0f}",
        f"{classifier['titles_per_second']:,}",
    ]


def _peers(language: str, rows: dict[str, Any]) -> str:
    """Return the table of peers and own models, with undisturbed and disturbed data."""
    results = [_result(name)["peers"] for name in DISTURBANCES]
    lines = []
    for key, peer in results[0].items():
        scores = [
            f"{result[key]['test']['balanced_accuracy']:.3f}" if key in result else "-"
            for result in results
        ]
        lines.append([PEERS_ES[key] if language == "es" else peer["name"], *scores])
    for model, name in OURS[language].items():
        ran = [rows.get(row) for row in DISTURBANCES.values()]
        lines.append([name, *(_score(row["test"][model]) if row else "-" for row in ran)])
    return _markdown(PEERS_HEAD[language], lines)


def _score(figures: dict[str, Any]) -> str:
    """Return balanced accuracy as text, with the standard deviation if there are several seeds."""
    score = figures["balanced_accuracy"]
    deviation = "" if score["deviation"] is None else f" ± {score['deviation']:.3f}"
    return f"{score['mean']:.3f}{deviation}"


def pipeline() -> dict[str, str]:
    """Return the tables of stages and their graph in Markdown, by name."""
    stages = []
    for name, stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].items():
        outputs = ", ".join(
            f"`{path}`"
            for entry in (*stage["outs"], *stage.get("plots", []), *stage.get("metrics", []))
            for path in ([entry] if isinstance(entry, str) else entry)  # a dictionary has options
        )
        stages.append([name, stage["desc"], outputs])
    command = [sys.executable, "-m", "dvc", "dag", "--md"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise DataError(f"`dvc dag` failed: {done.stderr.strip()}")
    return {
        "stages": _markdown(["stage", "what it does", "outputs"], stages),
        "graph": done.stdout.strip().expandtabs(2),
    }


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _result(name: str) -> dict[str, Any]:
    file = RESULTS / f"{name}.json"
    if not file.exists():
        command = "make bench" if name == "scale" else "make ladder"
        raise DataError(f"{file}: no such file; `{command}` creates it")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def filled(text: str, made: dict[str, str]) -> str:
    """Replace the text between each `<!-- table: NAME -->` and `<!-- end -->` by a table."""
    return re.sub(
        r"(<!-- table: ([a-z]+) -->)\n.*?(<!-- end -->)",
        lambda match: f"{match[1]}\n{made[match[2]]}\n{match[3]}",
        text,
        flags=re.DOTALL,
    )


app = typer.Typer(pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    check: Annotated[
        bool, typer.Option(help="Write nothing; exit with 1 if a table is out of date.")
    ] = False,
) -> None:
    stale = False
    with reported_errors():
        made = {language: tables(language) for language in ("en", "es")}
        common = pipeline() | scale() | front() | catalogues() | columns()
        common |= self_training() | active_learning() | wrong_labels()
        for name, language in PAGES.items():
            page = ROOT / name
            before = page.read_text(encoding="utf-8")
            after = filled(before, made[language] | common)
            if before != after:
                stale = True
                say(f"{name}: tables {'out of date; run this script' if check else 'written'}")
                if not check:
                    page.write_text(after, encoding="utf-8")
    if check and stale:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
