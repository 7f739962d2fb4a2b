"""ensemble: fit the weights of the models and a calibration on validation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import workspace  # noqa: F401

from outcome import save, titles_that_choose

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from rubro.training.ensemble import combined, fit_weights


def main(params: Params) -> None:
    members = [Model.load(Path("models") / name) for name in params.ensemble.members]
    titles, targets = titles_that_choose(params)
    together = combined("ensemble", members)
    weights = fit_weights(Classifier(together).member_logits(titles), targets)
    summary = save(combined("ensemble", members, weights), titles, targets)
    write_json(Path("metrics/ensemble.json"), {"weights": weights, **summary})


if __name__ == "__main__":
    run_stage(main)
