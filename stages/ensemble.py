"""ensemble: combine the models, with weights and decisions fitted to validation titles."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

import numpy as np
from model_output import SUBSET, decide, log_outcome, save, selection

from rubro.base.console import say
from rubro.base.files import read_json, write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_labels, load_products, load_split
from rubro.features.subwords import Subwords
from rubro.features.titles import class_shares, labels_of
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model, ModelDescription
from rubro.prediction.nearest import title_tensors
from rubro.prediction.thresholds import THRESHOLDS_FILE, Thresholds
from rubro.prediction.validation_logits import load_validation_logits
from rubro.training.ensemble import combined, member_weights
from rubro.training.threshold_choice import chosen_thresholds, predictions_for
from rubro.training.tracking import tracked


def main(params: Params) -> None:
    members = [Model.load(Path("models") / name) for name in params.ensemble.members]
    logits = load_validation_logits(params.ensemble.members)
    chosen, targets = selection(params)
    values = {"ensemble": params.ensemble.model_dump()}
    with tracked(None, "ensemble", values, params) as tracker:
        shares = np.log(class_shares(np.array(members[0].description.category_titles)))
        on_chosen = {name: each[chosen] for name, each in logits.items()}
        weights = member_weights(on_chosen, targets, shares, params.objective)
        for name in logits.keys() - weights.keys():
            say(f"the {name} is left out, because the ensemble is better without it")
        together, summary = decide(combined("ensemble", members, weights), logits, params)
        if params.ensemble.training_titles:
            together = replace(together, titles=training_titles(together))
        thresholds = thresholds_of(together, logits, params.thresholds.precision)
        summary = {"weights": weights, **summary, **save(together)}
        save_thresholds(thresholds)
        write_json(Path("metrics/ensemble.json"), summary)
        log_outcome(tracker, "ensemble", summary)


def thresholds_of(
    model: Model, members: dict[str, np.ndarray], precision: float | None
) -> Thresholds | None:
    """Choose confidence thresholds on the reliable validation titles.

    Args:
        model: Model with decisions.
        members: Logits of each member for the validation titles, from before a final fit.
        precision: Promised precision of the accepted answers; None = choose no thresholds.

    Returns:
        Thresholds; None if no threshold keeps the promise.
    """
    if precision is None:
        return None
    classifier = Classifier(model)
    table = load_split(SUBSET, "validation", ("category", "label_quality"))
    labels = labels_of(table["category"], table["label_quality"], load_labels(SUBSET))
    nodes = [level.node_of[labels.targets] for level in classifier.levels]
    probabilities = classifier.calibration.probabilities(classifier.combine(members))
    products = load_products(SUBSET, "validation")
    _, levels = predictions_for(classifier, products, nodes, labels.reliable, probabilities)
    thresholds = chosen_thresholds(levels, classifier, precision)
    kept, titles = thresholds.all.kept, thresholds.all.titles
    if not kept:
        say(
            f"thresholds: no threshold guarantees a precision of {precision:g} with {titles:,} reliable "
            "validation titles, so the model accepts every answer; lower thresholds.precision or add "
            "titles"
        )
        return None
    say(
        f"thresholds: with a promised precision of {precision:g}, {kept / titles:.1%} of {titles:,} "
        "reliable validation titles get a category"
    )
    return thresholds


def save_thresholds(thresholds: Thresholds | None) -> None:
    """Write the thresholds into the folder of the saved ensemble, or remove old ones."""
    folder = Path("models/ensemble")
    if thresholds is None:
        (folder / THRESHOLDS_FILE).unlink(missing_ok=True)
        return
    saved = read_json(folder / "model.json", ModelDescription)
    thresholds = thresholds.model_copy(update={"fingerprint": saved.fingerprint})
    write_json(folder / THRESHOLDS_FILE, thresholds.model_dump(exclude=thresholds.unused))


def training_titles(model: Model) -> dict[str, np.ndarray]:
    """Return an index of the training titles, as tensors that a model folder stores."""
    table = load_split(SUBSET, "train")
    labels = labels_of(table["category"], table["label_quality"], model.description.labels)
    subwords = Subwords(model.vocabulary, model.description.subwords)
    return title_tensors(table["title"].to_list(), labels.targets, subwords)


if __name__ == "__main__":
    run_stage(main)
