"""train_svm: fit a linear SVM to the features of titles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from model_output import FEATURES, SUBSET, VOCABULARY, log_outcome, save_member

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_labels
from rubro.features.titles import load_features
from rubro.features.vocabulary import load_subwords
from rubro.prediction.folder import SvmMember
from rubro.training.svm import fit_svm
from rubro.training.tracking import tracked


def main(params: Params) -> None:
    (train,), tokens = load_features(FEATURES, "train")
    subwords = load_subwords(VOCABULARY)
    buckets = params.featurize.bigram_buckets
    classes = len(load_labels(SUBSET))
    training = {"seed": params.seed, **params.train_svm.model_dump()}
    with tracked(None, "train_svm", {"train_svm": training}) as tracker:
        tensors = fit_svm(train, tokens, subwords, buckets, classes, params.train_svm, params.seed)
        weights = len(tensors["weights"])
        member = SvmMember(weights=weights, training=training)
        summary = save_member("svm", member, tensors, params)
        write_json(Path("metrics/train_svm.json"), {"weights": weights, **summary})
        log_outcome(tracker, "svm", summary)


if __name__ == "__main__":
    run_stage(main)
