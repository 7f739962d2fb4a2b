"""The `rubro` command."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

# Pydantic would look for plugins in the metadata of every installed package.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
# A thread for each core takes longer to start than the products of a title.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What one command needs is imported in it, and help is plain: rich's takes twice as long to appear.
app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Sort product titles into categories. The pipeline that trains models is `dvc repro`.",
)


class InputFormat(StrEnum):
    """A kind of input."""

    csv = "csv"
    tsv = "tsv"
    json = "json"
    jsonl = "jsonl"
    parquet = "parquet"
    txt = "txt"


class Separator(StrEnum):
    """A character between the fields of csv."""

    comma = "comma"
    semicolon = "semicolon"
    tab = "tab"
    pipe = "pipe"


class TableFormat(StrEnum):
    """A form of a table."""

    table = "table"
    csv = "csv"
    json = "json"


class OutputFormat(StrEnum):
    """A kind of output."""

    csv = "csv"
    tsv = "tsv"
    jsonl = "jsonl"
    parquet = "parquet"


class Split(StrEnum):
    """Labelled titles to report on."""

    test = "test"
    validation = "validation"


ModelFolder = Annotated[Path, typer.Option(metavar="FOLDER", help="Model to use.")]
InputKind = Annotated[
    InputFormat | None,
    typer.Option(
        help="Kind of input. Default: what the name of the file or its beginning tells.",
        show_default=False,
    ),
]
Encoding = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Encoding of the input, such as latin-1. Default: what its content tells.",
        show_default=False,
    ),
]
FieldSeparator = Annotated[
    Separator | None,
    typer.Option(
        help="Character between the fields of the input. Default: what its content tells.",
        show_default=False,
    ),
]
TitleColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the column of titles. Default: that of the model's training, else title, "
        "titulo, nombre, name.",
        show_default=False,
    ),
]
CategoryColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Name of the column of categories. Default: that of the model's training, else "
        "category, categoria, rubro.",
        show_default=False,
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "-m",
        metavar="NAME",
        help="Metric to show, such as test.cnn.accuracy or validation.*.balanced_accuracy; may be "
        "repeated. Default: balanced accuracy of the ensemble on validation and test.",
        show_default=False,
    ),
]
FixedSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set-param",
        "-S",
        metavar="KEY=VALUE",
        help="Setting of every experiment, as in dvc exp run; may be repeated.",
        show_default=False,
    ),
]


def _version(asked: bool) -> None:
    if asked:
        from rubro import __version__

        typer.echo(f"rubro {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


@app.command()
def predict(
    titles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TITLE... | FILE | -",
            help="Titles; or a file: .csv, .tsv, .json, .jsonl, .txt (each also .gz) or .parquet; or - "
            "for standard input. Without any, piped input is read, and in a terminal titles are asked "
            "for.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write: .csv, .tsv, .jsonl (each also .gz) or .parquet. It appears whole "
            "or not at all. Without it, standard output.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="K",
            help="Number of categories for each title, best first. Default: 1, and 5 where titles "
            "are asked for.",
            show_default=False,
        ),
    ] = None,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            metavar="P",
            help="Confidence below which the predicted category is left empty; column best_guess "
            "still shows it.",
            show_default=False,
        ),
    ] = None,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of rubro thresholds, in place of --min-confidence: the category is left empty "
            "below its own confidence, or where the title is foreign to the training.",
            show_default=False,
        ),
    ] = None,
    details: Annotated[
        bool,
        typer.Option(
            "--details",
            help="Add out_of_vocabulary, the share of a title's words that the model does not know, "
            "and foreign, which is yes where these are most of them.",
        ),
    ] = False,
    model: ModelFolder = Path("models/ensemble"),
    column: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the column of titles. Default: that of the model's training, else title, "
            "titulo, nombre, name or the only one.",
            show_default=False,
        ),
    ] = None,
    input_format: InputKind = None,
    format: Annotated[
        OutputFormat | None,
        typer.Option(
            help="Kind of output. Default: what the name of the output tells, else the input's.",
            show_default=False,
        ),
    ] = None,
    encoding: Encoding = None,
    separator: FieldSeparator = None,
    prefix: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Text before the names of the new columns, where the input has such names already.",
            show_default=False,
        ),
    ] = "",
    batch: Annotated[
        int,
        typer.Option(min=1, max=2**16, metavar="N", help="Number of titles computed at once."),
    ] = 1024,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Number of processes that compute. Default: 1 for standard input, else "
            "OMP_NUM_THREADS, or one for each core.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Predict the categories of product titles.

    Each row of the input becomes one row of the output, in the same order and with all its columns,
    followed by predicted_category, confidence (0 to 1) and error. A row that cannot be read keeps
    its place, and its error says why.

    \b
    rubro predict "Zapatillas Running Talle 42" --top 3
    rubro predict catalogue.csv -o answers.csv
    rubro predict catalogue.parquet --column nombre --min-confidence 0.6 -o answers.parquet
    zcat titles.jsonl.gz | rubro predict --format csv | head

    Exit codes: 0 every row has an answer, 2 the input or an option is wrong, 3 some rows have an
    error, 130 interrupted, 128 + N ended by signal N.
    """
    from rubro.cli.common import quiet_ends
    from rubro.cli.predict import Options, predict

    options = Options(
        titles=titles or [],
        model=model,
        top=top,
        least_confidence=min_confidence,
        thresholds=thresholds,
        details=details,
        output=output,
        output_format=format.value if format else None,
        input_format=input_format.value if input_format else None,
        column=column,
        encoding=encoding,
        separator=separator.value if separator else None,
        batch=batch,
        prefix=prefix,
        processes=processes,
    )
    with quiet_ends():
        code = predict(options)
    raise typer.Exit(code)


@app.command()
def explain(
    titles: Annotated[list[str], typer.Argument(metavar="TITLE...", help="Titles.")],
    model: ModelFolder = Path("models/ensemble"),
    against: Annotated[
        str | None,
        typer.Option(
            metavar="CATEGORY",
            help="Category to compare with. Default: the second most probable.",
            show_default=False,
        ),
    ] = None,
    nearest: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Number of nearest training titles to show, where the model folder holds them.",
        ),
    ] = 0,
) -> None:
    """Tell what in a title speaks for its category, and against another one.

    Each word's part is what the category's lead loses without it. Of a linear member, the exact parts
    of words, bigrams and character n-grams are told as well. In a terminal the answer has colours;
    elsewhere it is a line of JSON for each title.

    \b
    rubro explain "Lampara De Techo Philips"
    rubro explain "Lampara De Techo Philips" --against LIGHT_BULBS | jq .words

    Exit codes: 0 explained, 2 a title, the model or an option is wrong, 130 interrupted, 128 + N ended
    by signal N.
    """
    from rubro.cli.common import quiet_ends
    from rubro.cli.explain import Options, explain

    with quiet_ends():
        explain(Options(titles=titles, model=model, against=against, nearest=nearest))


@app.command()
def evaluate(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE | -",
            help="Labelled titles: .csv, .tsv, .json, .jsonl (each also .gz) or .parquet; or - for "
            "standard input.",
        ),
    ],
    model: ModelFolder = Path("models/ensemble"),
    title_column: TitleColumn = None,
    category_column: CategoryColumn = None,
    input_format: InputKind = None,
    encoding: Encoding = None,
    separator: FieldSeparator = None,
    json: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE | -",
            help="JSON file to write the metrics to; - writes them in place of the tables.",
            show_default=False,
        ),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to write slices, classes, confused_pairs, confusions, mistakes, "
            "reliability, reliability_before, coverage and automation to, as csv.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Measure a model on labelled titles.

    Rows whose category the model does not know, or that cannot be read, are counted and left out.

    \b
    rubro evaluate labelled.csv --title-column nombre --category-column rubro
    rubro evaluate data/subset/test.parquet --model models/mlp --json - --tables details

    It needs the packages of training: pip install 'rubro[train]'.
    """
    from rubro.cli.common import quiet_ends
    from rubro.cli.evaluate import Options, evaluate
    from rubro.cli.labelled_titles import LabelledFile

    source = LabelledFile(
        file=file,
        title_column=title_column,
        category_column=category_column,
        input_format=input_format.value if input_format else None,
        encoding=encoding,
        separator=separator.value if separator else None,
    )
    with quiet_ends():
        evaluate(Options(source=source, model=model, json=json, tables=tables))


@app.command()
def thresholds(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE | -",
            help="Labelled titles that the model was not trained on; read as by rubro evaluate. "
            "Rows with unreliable in a column label_quality are left out.",
        ),
    ] = "data/subset/validation.parquet",
    precision: Annotated[
        float,
        typer.Option(
            min=0.5,
            max=0.9999,
            metavar="P",
            help="Share of right answers, among those accepted, to promise.",
        ),
    ] = 0.98,
    model: ModelFolder = Path("models/ensemble"),
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="JSON file to write.")
    ] = Path("thresholds.json"),
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="THRESHOLDS",
            help="File of thresholds to measure on the titles; nothing is chosen or written.",
            show_default=False,
        ),
    ] = None,
    title_column: TitleColumn = None,
    category_column: CategoryColumn = None,
    input_format: InputKind = None,
    encoding: Encoding = None,
    separator: FieldSeparator = None,
) -> None:
    """Choose confidences from which a model's answers are as precise as promised.

    Each category gets the least confidence whose precision is at or above the promise with 95 %
    confidence. Categories with too few titles get one together. Foreign titles, most of whose words
    the model does not know, are never accepted.

    \b
    rubro thresholds --precision 0.95
    rubro thresholds data/subset/test.parquet --check thresholds.json
    rubro predict catalogue.csv --thresholds thresholds.json -o answers.csv

    Exit codes: 0 written, 2 the input or an option is wrong or no threshold makes the promise sure,
    130 interrupted, 128 + N ended by signal N. It needs the packages of training: pip install 'rubro[train]'.
    """
    from rubro.cli.common import quiet_ends
    from rubro.cli.labelled_titles import LabelledFile
    from rubro.cli.thresholds import Options, thresholds

    source = LabelledFile(
        file=file,
        title_column=title_column,
        category_column=category_column,
        input_format=input_format.value if input_format else None,
        encoding=encoding,
        separator=separator.value if separator else None,
    )
    with quiet_ends():
        thresholds(Options(source, model, precision, output, check))


@app.command()
def report(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Page to write. It appears whole or not at all.",
        ),
    ] = Path("report.html"),
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder to write each chart to, as svg and png; made if missing.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[Split, typer.Option(help="Titles to report on.")] = Split.test,
) -> None:
    """Write the metrics of the last run as one web page.

    It reads the folder metrics alone. The page opens without a network: numbers with intervals, the
    models side by side, learning curves, reliability, coverage against precision, every category,
    confusions, the worst mistakes, data and parameters. What is missing in metrics is said in it.

    \b
    rubro report
    rubro report --split validation --output validation.html --images pictures

    It needs the packages of training: pip install 'rubro[train]'.

    Exit codes: 0 the page is written, 2 there are no metrics or a file is wrong, 130 interrupted.
    """
    from rubro.cli.common import quiet_ends
    from rubro.cli.report import report

    with quiet_ends():
        report(output, images, split.value)


@app.command()
def compare(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME...",
            help="Experiments to show, such as 'train_mlp.*'. Default: all of the last commit.",
            show_default=False,
        ),
    ] = None,
    metric: Metrics = None,
    sort: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Metric to sort by, best first. Default: the first metric shown.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[TableFormat, typer.Option(help="Form of the output.")] = TableFormat.table,
    each: Annotated[bool, typer.Option("--each", help="Show each seed by itself.")] = False,
    all_commits: Annotated[
        bool,
        typer.Option("--all-commits", "-A", help="Show experiments of other commits too."),
    ] = False,
) -> None:
    """Show experiments side by side, best first.

    Experiments that differ in their seed alone are one row, mean ± standard deviation, under the
    name of the first. Below a name that does not tell it stands what changed.

    \b
    rubro compare
    rubro compare 'train_mlp.*' -m 'validation.*.balanced_accuracy' --each
    rubro compare --format csv > experiments.csv

    Metrics are those of metrics/evaluate.json, such as test.cnn.accuracy, and of the other files by
    their name, such as train_cnn.best.epoch.

    Exit codes: 0 done, 2 there is no such experiment or metric, or no Git repository.
    """
    from rubro.cli.common import needed_packages, quiet_ends

    with quiet_ends(), needed_packages("rubro compare"):
        from rubro.experiments.compare import compare

        compare(names, metric, sort, format.value, each, all_commits)


@app.command()
def sweep(
    settings: Annotated[
        list[str],
        typer.Argument(
            metavar="KEY=VALUE,VALUE...",
            help="Keys of params.yaml, each with the values to try: every combination is one "
            "experiment.",
        ),
    ],
    fixed: FixedSettings = None,
    metric: Metrics = None,
) -> None:
    """Run an experiment for each combination of settings, and compare them.

    Each runs by `dvc exp run --temp`, in a copy of the repository, under a name that says what it
    changes. What has run is not run again. The log of one that fails stays in .rubro/logs.

    \b
    rubro sweep seed=1,2,3,4,5
    rubro sweep train_mlp.learning_rate=5e-4,1e-3,2e-3,4e-3
    rubro sweep train_mlp.dropout=0.1,0.3 seed=1,2,3 -S subset.top_categories=20

    Exit codes: 0 all have run, 2 a setting is wrong and nothing has run, 3 some failed, 130
    interrupted. It needs the packages of training: pip install 'rubro[train]'.
    """
    from rubro.cli.common import needed_packages, quiet_ends

    with quiet_ends(), needed_packages("rubro sweep"):
        from rubro.experiments.sweep import sweep

        code = sweep(settings, fixed or [], metric)
    raise typer.Exit(code)


@app.command()
def search(
    space: Annotated[
        Path,
        typer.Argument(
            metavar="SPACE.yaml",
            help="Keys of params.yaml, each with low and high (and log: true, if wanted), or choices.",
        ),
    ],
    trials: Annotated[
        int,
        typer.Option(
            min=1, metavar="N", help="Trials in the end, those of earlier calls included."
        ),
    ] = 20,
    metric: Annotated[
        str, typer.Option("--metric", "-m", metavar="NAME", help="Metric on validation to improve.")
    ] = "validation.ensemble.balanced_accuracy",
    fixed: FixedSettings = None,
) -> None:
    """Let Optuna search for better settings, and compare its trials.

    Each trial runs by `dvc exp run --temp` under a name that says what it changes. The study is in
    .rubro/search.db, and the same command resumes it; another space, metric, setting or commit is
    another study. The log of a trial that fails stays in .rubro/logs.

    \b
    rubro search spaces/mlp.yaml --trials 30 -m validation.mlp.balanced_accuracy
    dvc exp apply NAME                # the last line of the search names the best trial

    Exit codes: 0 all trials are done, 2 the space, the metric or a setting is wrong and nothing has
    run, 3 some trials failed, 130 interrupted. It needs pip install 'rubro[train,search]'.
    """
    from rubro.cli.common import needed_packages, quiet_ends

    with quiet_ends(), needed_packages("rubro search", "train,search"):
        from rubro.experiments.search import search

        code = search(space, trials, metric, fixed or [])
    raise typer.Exit(code)


@app.command()
def serve(
    model: ModelFolder = Path("models/ensemble"),
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. Default: this machine alone; 0.0.0.0 is every network.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 = any that is free.")
    ] = 8000,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File of rubro thresholds: the category of an answer that it does not accept is "
            "null.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Answer over HTTP, with a page at /.

    When the model folder changes, the new model takes over; no request is lost. SIGTERM and Ctrl-C
    let the requests that have begun end.

    \b
    rubro serve
    curl localhost:8000/predict --json '{"titles": ["Mesa De Pino", "Taza"], "top": 3}'

    It needs the packages of the service: pip install 'rubro[serve]'.

    Exit codes: 0 stopped by SIGTERM, 2 the model or the address cannot be used, 130 interrupted.
    """
    from rubro.cli.common import quiet_ends
    from rubro.cli.serve import Options, serve

    with quiet_ends():
        serve(Options(model=model, thresholds=thresholds, host=host, port=port))


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where the files go; made if missing.")],
    rows: Annotated[
        int, typer.Option(min=1_000, help="Spanish titles; Portuguese adds 7.5 %.")
    ] = 20_000,
    seed: Annotated[int, typer.Option(help="Another seed, other titles.")] = 20_190,
) -> None:
    """Write a catalogue of synthetic titles."""
    from rubro.base.console import reported_errors, say
    from rubro.sample import write_catalogue

    with reported_errors():
        for name, count in write_catalogue(folder, rows, seed).items():
            say(f"{folder / name}: {count} rows")


@app.command()
def check(
    params: Annotated[Path, typer.Argument(help="The file to check.")] = Path("params.yaml"),
) -> None:
    """Check params.yaml without running anything.

    Unknown keys, wrong types and impossible values are reported with their line.
    """
    from rubro.base.console import reported_errors
    from rubro.base.params_file import load_params

    with reported_errors():
        load_params(params)


@app.command()
def overrides(
    preset: Annotated[Path, typer.Argument(help="A YAML file with some keys of params.yaml.")],
    params: Annotated[Path, typer.Option(help="What the preset changes.")] = Path("params.yaml"),
) -> None:
    """Print a preset as options for `dvc exp run`.

    It is checked against params.yaml before. Values with blanks, accents or quotes are quoted for the
    shell, which eval reads.

    \b
    dvc exp run --name original $(rubro overrides presets/original.yaml)
    eval "dvc exp run $(rubro overrides mine.yaml)"
    """
    import re
    import shlex

    from rubro.base.console import reported_errors
    from rubro.base.params_file import load_overrides

    with reported_errors():
        settings = load_overrides(preset, params)
        options = [f"{key}={value}" for key, value in settings.items()]
        plain = re.compile(r"[\w@%+=:,./\[\]-]+", re.ASCII)
        words = [word if plain.fullmatch(word) else shlex.quote(word) for word in options]
        typer.echo(" ".join(f"-S {word}" for word in words))


@app.command()
def fresh(
    exit_zero: Annotated[
        bool,
        typer.Option(
            "--exit-zero",
            help="End with 0 whatever is found, silently where there is nothing to compare.",
        ),
    ] = False,
) -> None:
    """Tell whether dvc.lock and metrics are those of the last commit.

    Where they are not, it says which stages have new inputs, and which gave other bytes from the
    same inputs.

    Exit codes: 0 they are, 1 they are not, 2 there is no dvc.lock to compare.
    """
    from rubro.base.console import reported_errors
    from rubro.base.errors import DataError
    from rubro.experiments.dvc_lock import fresh

    code = 0
    with reported_errors():
        try:
            code = fresh()
        except DataError:
            if not exit_zero:
                raise
    raise typer.Exit(0 if exit_zero else code)


@app.command()
def gate(
    revision: Annotated[
        str | None,
        typer.Argument(
            metavar="REV",
            help="Commit, branch or tag to compare with. Default: the merge base with the main branch.",
            show_default=False,
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write the report as GitHub's Markdown.")
    ] = False,
    all_changes: Annotated[
        bool,
        typer.Option("--all", help="List changes within noise and those that are not judged too."),
    ] = False,
    noise: Annotated[
        Path, typer.Option(metavar="FILE", help="Noise of seeds, as `make noise` measured it.")
    ] = Path("benchmarks/results/noise.json"),
) -> None:
    """Fail where metrics got worse than the noise of seeds explains.

    It compares the metrics of the working tree with those of a Git revision, and says which params
    changed and which stages ran again. It needs Git alone: no DVC cache, no data.

    \b
    rubro gate
    rubro gate HEAD~1 --all
    rubro gate origin/main --markdown > gate.md

    Exit codes: 0 nothing got worse, 1 a metric got worse or is missing, 2 there is nothing to
    compare or a file is damaged, 130 interrupted.
    """
    from rubro.cli.common import quiet_ends
    from rubro.gate.comparison import gate

    with quiet_ends():
        code = gate(revision, noise, markdown, all_changes)
    raise typer.Exit(code)
