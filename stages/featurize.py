"""featurize: build the vocabulary and turn titles into ragged arrays of integers."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

import numpy as np

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import (
    UNLABELLED,
    TitleTokens,
    has_unlabelled,
    load_labels,
    load_source,
    load_split,
)
from rubro.features.featurizer import Featurizer, TitleFeatures
from rubro.features.titles import LabelledTitles, labels_of, save_features
from rubro.features.vocabulary import count_subwords, save_subwords

SUBSET, FEATURES, VOCABULARY = map(Path, ("data/subset", "data/features", "data/vocabulary"))


def main(params: Params) -> None:
    classes, sizes = load_labels(SUBSET), params.featurize
    source = load_source(SUBSET)
    limits = [sizes.column_limit(column.name) for column in source.text_columns]
    featurizer = Featurizer(sizes.max_tokens, sizes.bigram_buckets, limits)
    splits = {}
    for name in ("train", "validation"):
        table = load_split(SUBSET, name, (*source.token_columns, "category", "label_quality"))
        labels = labels_of(table["category"], table["label_quality"], classes)
        parts = [featurizer(chunk) for chunk in TitleTokens(table, source.token_columns).chunks()]
        splits[name] = LabelledTitles(TitleFeatures.concatenated(parts), labels)
    train, validation, unlabelled = splits["train"], splits["validation"], None
    titles = train.features
    if has_unlabelled(SUBSET):
        table = load_split(SUBSET, UNLABELLED, source.token_columns)
        parts = [featurizer(chunk) for chunk in TitleTokens(table, source.token_columns).chunks()]
        unlabelled = TitleFeatures.concatenated(parts)
        titles = TitleFeatures.concatenated([titles, unlabelled])
    words = featurizer.words()
    subwords = count_subwords(words, titles.joined_tokens, sizes)
    save_subwords(VOCABULARY, subwords)
    save_features(FEATURES, splits, featurizer.tokens(subwords), unlabelled)
    unknown = np.array([word not in subwords for word in words])
    summary = {
        "vocabulary": len(subwords.vocabulary),
        "training_tokens": len(train.features.tokens.values),
        "validation_oov_share": share(unknown[validation.features.tokens.values]),
    }
    write_json(Path("metrics/params/featurize.json"), sizes.model_dump())
    write_json(Path("metrics/featurize.json"), summary)
    count = sum(map(len, splits.values())) + (0 if unlabelled is None else len(unlabelled))
    say(f"{count} titles, {len(words)} distinct tokens")


def share(marked: np.ndarray) -> float:
    """Return the share of True values in an array, or 0 if the array is empty."""
    return round(float(marked.mean()), 6) if len(marked) else 0.0


if __name__ == "__main__":
    run_stage(main)
