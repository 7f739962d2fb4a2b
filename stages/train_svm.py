"""train_svm: fit a linear SVM, combined with naive Bayes, to the features of titles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from model_output import (
    FEATURES,
    SUBSET,
    log_outcome,
    pseudo_label_count,
    refitted,
    save,
    single_model,
    validate,
    wants_final_fit,
    with_pseudo_labels,
)
from svm_fit import svm_of

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_source
from rubro.features.titles import LabelledTitles, load_features
from rubro.prediction.folder import SvmMember
from rubro.training.tracking import tracked


def main(params: Params) -> None:
    columns = len(load_source(SUBSET).token_columns)
    (train, validation), tokens = load_features(FEATURES, "train", "validation", columns=columns)
    training = {"seed": params.seed, **params.train_svm.model_dump()}
    with tracked(None, "train_svm", {"train_svm": training}, params) as tracker:
        titles = with_pseudo_labels(train, "selection")
        tensors, weight = svm_of(titles, validation, tokens, params)
        training |= {"naive_bayes_weight": weight, **pseudo_label_count(titles)}
        member = SvmMember(weights=len(tensors["weights"]), training=training)
        model, summary = validate(single_model("svm", member, tensors, params), params)
        if wants_final_fit(params, len(train)):
            labelled = LabelledTitles.concatenated([train, validation])
            titles = with_pseudo_labels(labelled, "final")
            tensors, _ = svm_of(titles, validation, tokens, params, weight)
            member = member.model_copy(update={"weights": len(tensors["weights"])})
            model = refitted(model, member, tensors)
        summary |= {"weights": member.weights, "naive_bayes_weight": weight, **save(model)}
        write_json(Path("metrics/train_svm.json"), summary)
        log_outcome(tracker, "svm", summary)


if __name__ == "__main__":
    run_stage(main)
