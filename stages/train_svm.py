"""train_svm: fit a linear SVM, combined with naive Bayes, to the features of titles."""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from model_output import (
    FEATURES,
    SUBSET,
    VOCABULARY,
    log_outcome,
    refitted,
    save,
    single_model,
    validate,
    wants_final_fit,
)

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_labels, load_source
from rubro.features.titles import LabelledTitles, load_features
from rubro.features.vocabulary import load_subwords
from rubro.prediction.folder import SvmMember
from rubro.training.svm import fit_svm
from rubro.training.title_weights import selection_titles
from rubro.training.tracking import tracked


def main(params: Params) -> None:
    columns = len(load_source(SUBSET).token_columns)
    (train, validation), tokens = load_features(FEATURES, "train", "validation", columns=columns)
    chosen = validation.take(selection_titles(validation.labels, params.min_reliable_titles))
    fit = partial(
        fit_svm,
        validation=chosen,
        distinct_tokens=tokens,
        subwords=load_subwords(VOCABULARY),
        bigram_buckets=params.featurize.bigram_buckets,
        classes=len(load_labels(SUBSET)),
        objective=params.objective,
        seed=params.seed,
    )
    training = {"seed": params.seed, **params.train_svm.model_dump()}
    with tracked(None, "train_svm", {"train_svm": training}) as tracker:
        tensors, weight = fit(train, params=params.train_svm)
        training["naive_bayes_weight"] = weight
        member = SvmMember(weights=len(tensors["weights"]), training=training)
        model, summary = validate(single_model("svm", member, tensors, params), params)
        if wants_final_fit(params, len(train)):
            titles = LabelledTitles.concatenated([train, validation])
            chosen_params = params.train_svm.model_copy(update={"naive_bayes_weight": weight})
            tensors, _ = fit(titles, params=chosen_params)
            member = member.model_copy(update={"weights": len(tensors["weights"])})
            model = refitted(model, member, tensors)
        summary |= {"weights": member.weights, "naive_bayes_weight": weight, **save(model)}
        write_json(Path("metrics/train_svm.json"), summary)
        log_outcome(tracker, "svm", summary)


if __name__ == "__main__":
    run_stage(main)
