"""evaluate: measure and compare the models and the ensemble on validation and test titles."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

import numpy as np
import pandas as pd

from rubro import __version__
from rubro.base.console import say
from rubro.base.files import read_json, write_json
from rubro.base.metric_names import CAPTIONS
from rubro.base.mlflow_server import MlflowServer, finish_pipeline
from rubro.base.outputs import replacing
from rubro.base.parallel import thread_count
from rubro.base.params import Params
from rubro.base.params_file import flat
from rubro.base.stage import run_stage
from rubro.base.text import first_names
from rubro.base.text_columns import Product
from rubro.cards import Facts, data_card, model_card
from rubro.data.splits import load_labels, load_products, load_split, load_tree, write_csv
from rubro.evaluation.significance import compare_classifiers
from rubro.evaluation.tables import (
    PRECISIONS,
    HeldOut,
    column_table,
    detail_tables,
    model_metrics,
    unmeasured_categories,
)
from rubro.evaluation.thresholds import Predictions, labelled_predictions, level_predictions
from rubro.features.titles import labels_of
from rubro.prediction.calibration import softmax
from rubro.prediction.classifier import Classifier
from rubro.prediction.explanation import FOREIGN_SHARE
from rubro.prediction.parallel import member_logits_of
from rubro.prediction.thresholds import Thresholds
from rubro.prediction.validation_logits import load_validation_logits

FOLDER, PARAMS = Path("metrics/evaluation"), Path("metrics/params")
# What `dvc metrics show` prints for each model; more columns would not fit in a terminal.
SHOWN = ("balanced_accuracy", "accuracy", "macro_f1", "top3_accuracy", "loss", "ece")
RECORDED = ("subset", "featurize", "embed")  # stages that write their parameters to PARAMS


def main(params: Params) -> None:
    subset = Path("data/subset")
    classes, tree = load_labels(subset), load_tree(subset)
    networks = {"mlp": params.train_mlp, "cnn": params.train_cnn}
    trained = [*(name for name, each in networks.items() if each.is_trained), "svm"]
    models = ("ensemble", *trained)
    classifiers = {name: Classifier.load(Path("models") / name) for name in models}
    ensemble = classifiers["ensemble"]
    train_counts = np.array(ensemble.description.category_titles)
    metrics: dict[str, dict[str, Any]] = {"test": {}, "validation": {}}
    promise = params.thresholds.precision
    goals = sorted({*PRECISIONS, *([] if promise is None else [promise])})
    chosen_on: dict[str, Sequence[Predictions]] = {}  # predictions for validation titles, by model

    def classify(products: Sequence[Product]) -> np.ndarray:
        logits = ensemble.combine(member_logits_of([ensemble], products, thread_count()))
        classes: np.ndarray = logits.argmax(axis=1)
        return classes

    for split in ("validation", "test"):
        table = load_split(subset, split)
        labels = labels_of(table["category"], table["label_quality"], classes)
        held_out = HeldOut(
            table["title"].to_list(),
            labels.targets,
            classes,
            ensemble.vocabulary,
            labels.reliable,
            train_counts,
            tree,
        )
        products = load_products(subset, split)
        foreign = ensemble.out_of_vocabulary(products) > FOREIGN_SHARE
        measured, predictions, tables = {}, {}, {}
        if split == "validation":  # a final fit has seen these titles
            members = load_validation_logits(trained)
        else:
            members = member_logits_of(classifiers.values(), products, thread_count())
        for name, classifier in classifiers.items():
            logits = classifier.combine(members)
            p = classifier.calibration.probabilities(logits)
            predictions[name] = p.argmax(axis=1)
            uncalibrated = softmax(logits)
            measured[name] = model_metrics(p, uncalibrated, held_out.targets, params.evaluate, tree)
            if split == "test":
                score = f"{CAPTIONS[params.objective]} {measured[name][params.objective]:.4f}"
                say(f"{name}: {score} on {len(table):,} test titles")
            folder = FOLDER / split / name
            labelled = labelled_predictions(p, held_out.targets, foreign, labels.reliable)
            nodes = [level.node_of[held_out.targets] for level in classifier.levels]
            levels = level_predictions(p, nodes, foreign, labels.reliable, classifier.levels)
            tables[name] = detail_tables(
                *(p, uncalibrated, held_out, labelled, levels, params.evaluate),
                chosen_on=chosen_on.setdefault(name, levels),
                goals=goals,
            )
            for title, frame in tables[name].items():
                write_csv(folder / f"{title}.csv", frame)
        differences = {
            f"{one}_minus_{other}": compare_classifiers(
                held_out.targets,
                predictions[one],
                predictions[other],
                params.evaluate.confidence,
            )
            for one, other in combinations(models, 2)
        }
        missing = unmeasured_categories(held_out)
        write_csv(FOLDER / split / "unmeasured.csv", missing)
        if len(missing):
            say(
                f"{split}: {len(missing):,} of {len(classes):,} categories have no titles in this "
                "split, so the metrics do not describe them: "
                + first_names(missing["category"].to_list())
            )
        metrics[split] = {**measured, "differences": differences}
        write_csv(FOLDER / split / "models.csv", rows_of("model", measured))
        write_csv(FOLDER / split / "differences.csv", rows_of("models", differences))
        for name, values in measured.items():
            shown = {key: values[key] for key in SHOWN}
            write_json(Path("metrics") / split / f"{name}.json", shown)
        if split == "test":
            if ensemble.text_columns:
                by_column: Any = products  # dictionaries, because there are text columns
                columns = column_table(classify, by_column, labels.targets, ensemble.text_columns)
                write_csv(FOLDER / split / "columns.csv", columns)
            write_descriptions(params, classifiers, measured, tables["ensemble"])
    write_json(Path("metrics/evaluate.json"), metrics)
    on_test = {"test": {name: metrics["test"][name] for name in models}}
    MlflowServer().send(lambda mlflow: finish_pipeline(mlflow, params, subset, on_test, FOLDER))


def rows_of(column: str, measured: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return nested metrics as a table with a row for each key, whose name is in the column."""
    return pd.DataFrame([{column: name, **dict(flat(each))} for name, each in measured.items()])


def write_descriptions(
    params: Params,
    classifiers: dict[str, Classifier],
    measured: dict[str, dict[str, float]],
    tables: dict[str, pd.DataFrame],
) -> None:
    """Write the models' parameters and versions, the model cards and the data card."""
    records = {name: read_json(PARAMS / f"{name}.json", dict[str, Any]) for name in RECORDED}
    ensemble = classifiers["ensemble"].description
    members = ensemble.members
    trained = {
        f"train_{name}": classifiers[name].description.members[name].training
        for name in classifiers
        if name != "ensemble"
    }
    torch = {record["torch_version"] for record in trained.values() if "torch_version" in record}
    description: dict[str, Any] = {
        "versions": {
            "rubro": __version__,
            **({"torch": ", ".join(sorted(torch))} if torch else {}),
            **{name: version(name) for name in ("gensim", "lightning", "numpy", "scikit-learn")},
        },
        "params": {
            **records.pop("subset"),
            **records,
            **trained,
            "evaluate": params.evaluate.model_dump(),
        },
        "objective": params.objective,
        "weights": {name: member.weight for name, member in members.items()},
        "left_out": [name for name in params.ensemble.members if name not in members],
        "final_fit": ensemble.final_fit,
        **({"separator": ensemble.tree.separator} if ensemble.tree else {}),
    }
    write_json(FOLDER / "description.json", description)
    thresholds = Thresholds.of_model(Path("models/ensemble"), ensemble)
    facts = Facts(
        description,
        read_json(Path("metrics/subset.json"), dict[str, Any]),
        measured,
        tables["slices"].to_dict("records"),
        tables["automation"].to_dict("records"),
        len(tables["classes"]),
        None if thresholds is None else thresholds.precision,
    )
    for name, card in {"model": model_card, "data": data_card}.items():
        with replacing(FOLDER / f"{name}_card.md") as partial:
            partial.write_text(card(facts), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    run_stage(main)
