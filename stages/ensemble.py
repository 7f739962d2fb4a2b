"""ensemble: combine the models, with weights and decisions fitted to validation titles."""

import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

import numpy as np
from model_output import SUBSET, decide, log_outcome, save, selection

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_split
from rubro.features.subwords import Subwords
from rubro.features.titles import class_shares, labels_of
from rubro.prediction.folder import Model
from rubro.prediction.nearest import title_tensors
from rubro.prediction.validation_logits import load_validation_logits
from rubro.training.ensemble import combined, member_weights
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
        summary = {"weights": weights, **summary, **save(together)}
        write_json(Path("metrics/ensemble.json"), summary)
        log_outcome(tracker, "ensemble", summary)


def training_titles(model: Model) -> dict[str, np.ndarray]:
    """Return an index of the training titles, as tensors that a model folder stores."""
    table = load_split(SUBSET, "train")
    labels = labels_of(table["category"], table["label_quality"], model.description.labels)
    subwords = Subwords(model.vocabulary, model.description.subwords)
    return title_tensors(table["title"].to_list(), labels.targets, subwords)


if __name__ == "__main__":
    run_stage(main)
