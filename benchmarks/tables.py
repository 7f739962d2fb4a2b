"""Write the tables of the documentation: results, stages and params.

They come from benchmarks/results, dvc.yaml and params.yaml, the graph from `dvc dag`.

python benchmarks/tables.py           # write
python benchmarks/tables.py --check   # exit 1 where a table is stale
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML

from rubro.base.console import reported_errors, say
from rubro.base.errors import DataError
from rubro.base.params_file import flat

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGES = {
    ROOT / "README.md": "en",
    ROOT / "README.es.md": "es",
    ROOT / "docs" / "results.md": "en",
    ROOT / "docs" / "pipeline.md": "en",
    ROOT / "docs" / "experiments.md": "en",
}
MODELS = ("ensemble", "mlp", "cnn", "svm")
LADDER_HEAD = {
    "en": ["settings", "ensemble", "MLP", "CNN", "SVM", "ensemble, validation"],
    "es": ["configuración", "ensamble", "MLP", "CNN", "SVM", "ensamble, validación"],
}
STAGES_HEAD = ["stage", "does", "leaves"]
PARAMS_HEAD = ["param", "default", "what"]
PEERS_HEAD = {
    "en": ["classifier", "all labels right", "20 % flipped", "rows ~ 1 / √rank"],
    "es": ["clasificador", "etiquetas correctas", "20 % cambiadas", "filas ~ 1 / √rango"],
}
OURS = {
    language: {"ensemble": f"**{ensemble}**", "mlp": "**MLP**", "cnn": "**CNN**", "svm": "**SVM**"}
    for language, ensemble in (("en", "ensemble"), ("es", "ensamble"))
}
PEERS = {
    "en": {},
    "es": {
        "word_svc": "TF-IDF de palabras + LinearSVC",
        "word_char_svc": "TF-IDF de palabras y caracteres + LinearSVC",
        "word_char_sgd": "TF-IDF de palabras y caracteres + SGD",
        "fasttext": "fastText supervisado",
    },
}
DISTURBANCES = {"peers": "default", "peers-flipped": "flipped", "peers-zipf": "zipf"}


def tables(language: str) -> dict[str, str]:
    """Return each table in Markdown, by name: those of ladder.yaml, and peers.

    Raises:
        DataError: A result is missing, or its settings differ from those of ladder.yaml.
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
                    *(_shown(rows[row["name"]]["test"][model]) for model in MODELS),
                    _shown(rows[row["name"]]["validation"]["ensemble"]),
                ]
                for row in table
                if row["name"] in rows
            ],
        )
        for name, table in plan["tables"].items()
    }
    made["peers"] = _peers(language, rows)
    return made


SCALE_HEAD = [
    "titles",
    "classifier",
    "seconds to a model",
    "memory, MB",
    "balanced accuracy",
    "model, MB",
    "titles/s of prediction",
]


def scale() -> dict[str, str]:
    """Return the tables of scale.json in Markdown, by name: scale and stages of it."""
    sizes = _result("scale")["sizes"]
    rows = [
        [_titles(size), *_scaled(of)]
        for size, entry in sizes.items()
        for of in (
            *(entry[key] for key in ("pipeline", "svm") if key in entry),
            *entry["peers"].values(),
        )
    ]
    stages = list(next(iter(sizes.values()))["pipeline"]["stages"])
    measured = [entry["pipeline"]["stages"] for entry in sizes.values()]
    by_stage = [
        [stage, *(f"{of[stage]['seconds']:.0f}, {of[stage]['megabytes']:,}" for of in measured)]
        for stage in stages
    ]
    head = ["stage: seconds, MB", *map(_titles, sizes)]
    return {"scale": _markdown(SCALE_HEAD, rows), "scalestages": _markdown(head, by_stage)}


def _titles(size: str) -> str:
    return f"{int(size):,}" if size.isdecimal() else size


def _scaled(of: dict[str, Any]) -> list[str]:
    name = f"**{of['name']}**" if of["name"].startswith("rubro") else of["name"]
    if "seconds" not in of:
        over = f"over {of['seconds_over']:.0f}"
        return [name, over, f"{of['megabytes']:,}", "-", "-", "-"]
    return [
        name,
        f"{of['seconds']:,.0f}",
        f"{of['megabytes']:,}",
        f"{of['balanced_accuracy']:.3f}",
        f"{of['model_megabytes']:,.0f}",
        f"{of['titles_per_second']:,}",
    ]


def _peers(language: str, rows: dict[str, Any]) -> str:
    results = [_result(name)["peers"] for name in DISTURBANCES]
    lines = [
        [PEERS[language].get(key, peer["name"]), *(_figure(of.get(key)) for of in results)]
        for key, peer in results[0].items()
    ]
    lines += [
        [
            OURS[language][model],
            *(_measured(rows.get(row), model) for row in DISTURBANCES.values()),
        ]
        for model in MODELS
    ]
    return _markdown(PEERS_HEAD[language], lines)


def _figure(peer: dict[str, Any] | None) -> str:
    return "-" if peer is None else f"{peer['test']['balanced_accuracy']:.3f}"


def _measured(row: dict[str, Any] | None, model: str) -> str:
    return _shown(row["test"][model]) if row else "-"


def _shown(figures: dict[str, Any]) -> str:
    of = figures["balanced_accuracy"]
    deviation = "" if of["deviation"] is None else f" ± {of['deviation']:.3f}"
    return f"{of['mean']:.3f}{deviation}"


def pipeline() -> dict[str, str]:
    """Return what describes the pipeline in Markdown, by name: stages, graph, params.

    Raises:
        DataError: DVC cannot read dvc.yaml.
    """
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    return {
        "stages": _markdown(
            STAGES_HEAD,
            [[name, stage["desc"], ", ".join(_leaves(stage))] for name, stage in stages.items()],
        ),
        "graph": _graph(),
        "params": _markdown(PARAMS_HEAD, _params()),
    }


def _leaves(stage: dict[str, Any]) -> list[str]:
    """Return what a stage leaves, as code."""
    metrics = [file for metric in stage.get("metrics", []) for file in metric]
    return [f"`{path}`" for path in (*stage["outs"], *metrics)]


def _graph() -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise DataError(f"`dvc dag` failed: {done.stderr.strip()}")
    return done.stdout.strip().expandtabs(2)


def _params() -> list[list[str]]:
    """Return name, default and comment of each param."""
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    comments, section = {}, ""
    for line in text.splitlines():
        found = re.match(r"( *)([a-zA-Z_0-9]+):.*?(?: # *(.*))?$", line)
        if found and not found[1]:
            section = found[2]
        if found and found[3]:
            name = f"{section}.{found[2]}" if found[1] else section
            comments[name] = found[3].replace("|", r"\|")
    values = flat(YAML(typ="safe").load(text))
    return [[f"`{name}`", f"`{_as_yaml(value)}`", comments[name]] for name, value in values]


def _as_yaml(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _result(name: str) -> dict[str, Any]:
    file = RESULTS / f"{name}.json"
    if not file.exists():
        command = "make bench" if name == "scale" else "make ladder"
        raise DataError(f"{file}: no such file; `{command}` writes it")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def filled(text: str, made: dict[str, str]) -> str:
    """Return a text with tables between `<!-- table: NAME -->` and `<!-- end -->`."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}\n{made[match[2]]}\n{match[3]}"

    return re.sub(r"(<!-- table: ([a-z]+) -->)\n.*?(<!-- end -->)", table, text, flags=re.DOTALL)


app = typer.Typer(pretty_exceptions_enable=False)


@app.command(help=__doc__)
def main(
    check: Annotated[bool, typer.Option(help="Change nothing; exit 1 where it would.")] = False,
) -> None:
    stale = False
    with reported_errors():
        made = {language: tables(language) for language in set(PAGES.values())}
        of_pipeline = pipeline() | scale()
        for page, language in PAGES.items():
            before = page.read_text(encoding="utf-8")
            after = filled(before, made[language] | of_pipeline)
            if before != after:
                stale = True
                say(f"{page.name}: {'stale' if check else 'written'}")
                if not check:
                    page.write_text(after, encoding="utf-8")
    if check and stale:
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
