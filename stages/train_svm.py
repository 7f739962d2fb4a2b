"""train_svm: features to the linear SVM beside both classifiers."""

from pathlib import Path

import workspace  # noqa: F401

from rubro.console import run_stage, say
from rubro.embedding import Subwords
from rubro.features import load_features
from rubro.files import write_json
from rubro.inference import predict_logits
from rubro.metrics import accuracy, balanced_accuracy
from rubro.params import Params
from rubro.splits import load_labels
from rubro.svm import fit_svm


def main(params: Params) -> None:
    (train, validation), distinct_tokens = load_features(
        Path("data/features"), "train", "validation"
    )
    svm = fit_svm(
        train,
        distinct_tokens,
        Subwords.load(Path("models/embedding")),
        params.featurize.bigram_buckets,
        len(load_labels(Path("data/subset"))),
        params.train_svm,
        params.seed,
    )
    svm.save(Path("models/svm"))
    predictions = predict_logits(svm, validation, distinct_tokens).argmax(axis=1)
    of_validation = {
        "accuracy": round(accuracy(validation.targets, predictions), 6),
        "balanced_accuracy": round(balanced_accuracy(validation.targets, predictions), 6),
    }
    summary = {"weights": len(svm.weights), "validation": of_validation}
    write_json(Path("metrics/train_svm.json"), summary)
    say(f"balanced accuracy {of_validation['balanced_accuracy']:.4f}")


if __name__ == "__main__":
    run_stage(main)
