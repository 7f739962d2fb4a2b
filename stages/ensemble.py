"""ensemble: combine the models, with weights and a calibration fitted to validation titles."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

import numpy as np
from model_output import SUBSET, log_outcome, save, validation_titles

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_split
from rubro.features.subwords import Subwords
from rubro.features.titles import labels_of
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from rubro.prediction.nearest import title_tensors
from rubro.training.ensemble import combined, fit_weights
from rubro.training.tracking import tracked


def main(params: Params) -> None:
    members = [Model.load(Path("models") / name) for name in params.ensemble.members]
    titles, targets = validation_titles(params)
    together = combined("ensemble", members)
    with tracked(None, "ensemble", {"ensemble": params.ensemble.model_dump()}) as tracker:
        weights = fit_weights(Classifier(together).member_logits(titles), targets)
        together = combined("ensemble", members, weights)
        if params.ensemble.training_titles:
            together = replace(together, titles=training_titles(together))
        summary = save(together, titles, targets)
        write_json(Path("metrics/ensemble.json"), {"weights": weights, **summary})
        log_outcome(tracker, "ensemble", summary)


def training_titles(model: Model) -> dict[str, np.ndarray]:
    """Return an index of the training titles, as tensors that a model folder stores."""
    table = load_split(SUBSET, "train")
    labels = labels_of(table["category"], table["label_quality"], model.description.labels)
    subwords = Subwords(model.vocabulary, model.description.subwords)
    return title_tensors(table["title"].to_list(), labels.targets, subwords)


if __name__ == "__main__":
    run_stage(main)
