"""featurize: count the vocabulary and turn titles into ragged arrays of integers."""

import sys
from collections import Counter
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import workspace  # noqa: F401

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import TitleTokens, load_labels, load_split
from rubro.features.featurizer import Featurizer, TitleFeatures
from rubro.features.titles import LabelledTitles, labels_of, save_features
from rubro.features.vocabulary import count_subwords, save_subwords

SUBSET, FEATURES = Path("data/subset"), Path("data/features")


def main(params: Params) -> None:
    classes, sizes = load_labels(SUBSET), params.featurize
    tables = {
        name: load_split(SUBSET, name, ("tokens", "category", "label_quality"))
        for name in ("train", "validation")
    }
    titles = {name: TitleTokens(table) for name, table in tables.items()}
    subwords = count_subwords(titles["train"], sizes)
    featurizer = Featurizer(subwords, sizes.max_tokens, sizes.bigram_buckets)
    splits = {}
    for name, table in tables.items():
        labels = labels_of(table["category"], table["label_quality"], classes)
        parts = [featurizer(chunk) for chunk in titles[name].chunks()]
        splits[name] = LabelledTitles(TitleFeatures.concatenated(parts), labels)
    save_subwords(FEATURES, subwords)
    save_features(FEATURES, splits, featurizer.tokens())
    tokens = Counter(chain.from_iterable(titles["validation"]))
    unknown = sum(count for token, count in tokens.items() if token not in subwords)
    summary = {
        "vocabulary": len(subwords.vocabulary),
        "training_tokens": sum(map(len, titles["train"])),
        "validation_oov_share": round(unknown / max(tokens.total(), 1), 6),
    }
    write_json(Path("metrics/featurize.json"), summary)
    say(f"{sum(map(len, splits.values()))} titles, {len(featurizer)} distinct tokens")


if __name__ == "__main__":
    run_stage(main)
