"""featurize: turn titles into ragged arrays of integers."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import workspace  # noqa: F401

from rubro.base.console import say
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import TitleTokens, load_labels, load_split
from rubro.features.embedding import load_subwords
from rubro.features.featurizer import Featurizer, TitleFeatures
from rubro.features.titles import LabelledTitles, labels_of, save_features


def main(params: Params) -> None:
    subset = Path("data/subset")
    classes = load_labels(subset)
    subwords = load_subwords(Path("models/embedding"))
    sizes = params.featurize
    featurizer = Featurizer(subwords, sizes.max_tokens, sizes.bigram_buckets)
    splits = {}
    for name in ("train", "validation"):
        table = load_split(subset, name, ("tokens", "category", "label_quality"))
        labels = labels_of(table["category"], table["label_quality"], classes)
        parts = [featurizer(chunk) for chunk in TitleTokens(table).chunks()]
        splits[name] = LabelledTitles(TitleFeatures.concatenated(parts), labels)
    save_features(Path("data/features"), splits, featurizer.tokens())
    titles = sum(map(len, splits.values()))
    say(f"{titles} titles, {len(featurizer)} distinct tokens")


if __name__ == "__main__":
    run_stage(main)
