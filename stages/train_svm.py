"""train_svm: features to the linear SVM beside both classifiers."""

from pathlib import Path

import workspace  # noqa: F401

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_labels
from rubro.evaluation.metrics import accuracy, balanced_accuracy
from rubro.features.embedding import Subwords
from rubro.features.titles import load_features
from rubro.models.inference import predict_logits
from rubro.training.svm import fit_svm


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
