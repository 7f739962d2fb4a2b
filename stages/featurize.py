"""featurize: titles to ragged arrays of integers."""

from pathlib import Path

import workspace  # noqa: F401

from rubro.base.console import say
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.base.text import tokens_of
from rubro.data.splits import SPLITS, load_labels, load_split
from rubro.features.embedding import Subwords
from rubro.features.titles import Featurizer, featurize, save_features


def main(params: Params) -> None:
    source = Path("data/subset")
    labels = load_labels(source)
    featurizer = Featurizer(Subwords.load(Path("models/embedding")), params.featurize)
    splits = {}
    for name in SPLITS:
        table = load_split(source, name)
        titles = tokens_of(table, params.tokens.source)
        splits[name] = featurize(table, titles, labels, featurizer)
    save_features(Path("data/features"), splits, featurizer.tokens)
    titles_count = sum(map(len, splits.values()))
    say(f"{titles_count} titles, {len(featurizer.tokens)} distinct tokens")


if __name__ == "__main__":
    run_stage(main)
