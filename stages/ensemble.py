"""ensemble: fit the weights of the models and a calibration on validation."""

from pathlib import Path

import workspace  # noqa: F401

from outcome import log_outcome, save, titles_that_choose

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from rubro.training.ensemble import combined, fit_weights
from rubro.training.tracking import tracked


def main(params: Params) -> None:
    members = [Model.load(Path("models") / name) for name in params.ensemble.members]
    titles, targets = titles_that_choose(params)
    together = combined("ensemble", members)
    with tracked(None, "ensemble", {"ensemble": params.ensemble.model_dump()}) as tracker:
        weights = fit_weights(Classifier(together).member_logits(titles), targets)
        summary = save(combined("ensemble", members, weights), titles, targets)
        write_json(Path("metrics/ensemble.json"), {"weights": weights, **summary})
        log_outcome(tracker, "ensemble", summary)


if __name__ == "__main__":
    run_stage(main)
