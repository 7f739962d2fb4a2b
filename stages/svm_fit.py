"""Fit an SVM to the features of titles, for the stages pseudo_label and train_svm."""

import process_setup  # noqa: F401

import numpy as np
from model_output import SUBSET, VOCABULARY

from rubro.base.params import Params
from rubro.data.splits import load_labels
from rubro.features.featurizer import Tokens
from rubro.features.titles import LabelledTitles
from rubro.features.vocabulary import load_subwords
from rubro.training.svm import fit_svm
from rubro.training.title_weights import selection_titles


def svm_of(
    titles: LabelledTitles,
    validation: LabelledTitles,
    tokens: Tokens,
    params: Params,
    naive_bayes_weight: float | None = None,
) -> tuple[dict[str, np.ndarray], float]:
    """Fit an SVM with the parameters of train_svm; see fit_svm.

    Args:
        titles: Training titles.
        validation: Validation titles, which choose the weight of naive Bayes.
        tokens: Distinct tokens of all titles.
        params: All parameters of params.yaml.
        naive_bayes_weight: Weight of naive Bayes; None = train_svm.naive_bayes_weight.

    Returns:
        Arrays of the model by name, and the weight of naive Bayes.
    """
    svm = params.train_svm
    if naive_bayes_weight is not None:
        svm = svm.model_copy(update={"naive_bayes_weight": naive_bayes_weight})
    return fit_svm(
        titles,
        validation=validation.take(selection_titles(validation.labels, params.min_reliable_titles)),
        distinct_tokens=tokens,
        subwords=load_subwords(VOCABULARY),
        bigram_buckets=params.featurize.bigram_buckets,
        classes=len(load_labels(SUBSET)),
        params=svm,
        objective=params.objective,
        seed=params.seed,
    )
