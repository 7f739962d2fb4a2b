"""embed: train FastText vectors on the training titles."""

import sys
from collections import Counter
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import workspace  # noqa: F401

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import TitleTokens, load_split
from rubro.training.fasttext import train_fasttext


def main(params: Params) -> None:
    subset = Path("data/subset")
    train, validation = (
        TitleTokens(load_split(subset, name, ("tokens",))) for name in ("train", "validation")
    )
    embedding = train_fasttext(train, params.embed, params.seed)
    embedding.save(Path("models/embedding"))
    tokens = Counter(chain.from_iterable(validation))
    unknown = sum(count for token, count in tokens.items() if token not in embedding.subwords)
    summary = {
        "vocabulary": len(embedding.subwords.vocabulary),
        "training_tokens": sum(map(len, train)),
        "validation_oov_share": round(unknown / max(tokens.total(), 1), 6),
    }
    write_json(Path("metrics/embed.json"), summary)


if __name__ == "__main__":
    run_stage(main)
