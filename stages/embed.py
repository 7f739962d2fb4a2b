"""embed: training titles to FastText vectors."""

from itertools import chain
from pathlib import Path

import workspace  # noqa: F401

from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.base.text import tokens_of
from rubro.data.splits import load_split
from rubro.training.fasttext import train_fasttext


def main(params: Params) -> None:
    titles = {
        name: tokens_of(load_split(Path("data/subset"), name), params.tokens.source)
        for name in ("train", "validation")
    }
    embedding = train_fasttext(titles["train"], params.embed, params.seed)
    embedding.save(Path("models/embedding"))
    tokens = list(chain.from_iterable(titles["validation"]))
    unknown = sum(token not in embedding.subwords for token in tokens)
    summary = {
        "vocabulary": len(embedding.subwords.vocabulary),
        "training_tokens": sum(map(len, titles["train"])),
        "validation_oov_share": round(unknown / max(len(tokens), 1), 6),
    }
    write_json(Path("metrics/embed.json"), summary)


if __name__ == "__main__":
    run_stage(main)
