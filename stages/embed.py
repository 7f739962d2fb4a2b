"""embed: train FastText vectors on the training titles."""

import sys
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import workspace  # noqa: F401

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.splits import load_split, tokens_of
from rubro.training.fasttext import train_fasttext


def main(params: Params) -> None:
    subset = Path("data/subset")
    train, validation = (tokens_of(load_split(subset, name)) for name in ("train", "validation"))
    embedding = train_fasttext(train, params.embed, params.seed)
    embedding.save(Path("models/embedding"))
    tokens = list(chain.from_iterable(validation))
    unknown = sum(token not in embedding.subwords for token in tokens)
    summary = {
        "vocabulary": len(embedding.subwords.vocabulary),
        "training_tokens": sum(map(len, train)),
        "validation_oov_share": round(unknown / max(len(tokens), 1), 6),
    }
    write_json(Path("metrics/embed.json"), summary)


if __name__ == "__main__":
    run_stage(main)
