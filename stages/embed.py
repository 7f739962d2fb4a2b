"""embed: train FastText vectors on the titles, labelled or not, from pretrained vectors if given."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from not_trained import write_note

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage


def main(params: Params) -> None:
    if params.embed.epochs == 0:
        say("embed.epochs is 0, so no vectors are trained")
        write_note(Path("models/embedding"))
        write_json(Path("metrics/params/embed.json"), {})
        return
    train_embedding(params)


def train_embedding(params: Params) -> None:
    """Train the vectors; write models/embedding and metrics/params/embed.json."""
    # Imported here and not at the top, because these imports take seconds.
    import pandas as pd

    from rubro.data.splits import (
        UNLABELLED,
        TitleTokens,
        has_unlabelled,
        load_source,
        load_split,
    )
    from rubro.features.vocabulary import load_subwords
    from rubro.training.fasttext import train_fasttext
    from rubro.training.pretrained_vectors import read_pretrained_vectors

    subset = Path("data/subset")
    source, limit = load_source(subset), params.featurize.column_limit
    limits = [limit(column.name) for column in source.text_columns]
    names = [UNLABELLED, "train"] if has_unlabelled(subset) else ["train"]
    tables = [load_split(subset, name, source.token_columns) for name in names]
    titles = TitleTokens(pd.concat(tables, ignore_index=True), source.token_columns, limits)
    subwords = load_subwords(Path("data/vocabulary"))
    setting, size = Path(params.embed.pretrained), params.embed.vector_size
    pretrained = read_pretrained_vectors(setting, subwords, size)
    used = params.embed.model_dump() | {"pretrained": None}
    if pretrained is not None:
        used |= {
            "pretrained": pretrained.file,
            "pretrained_words": pretrained.words,
            "pretrained_ngram_buckets": pretrained.ngram_buckets,
        }
        say(
            f"{pretrained.file}: {pretrained.words:,} of {len(subwords.vocabulary):,} words and "
            f"{pretrained.ngram_buckets:,} buckets of n-grams start from its vectors"
        )
    write_json(Path("metrics/params/embed.json"), used)
    embedding = train_fasttext(titles, subwords, params.embed, params.seed, pretrained)
    embedding.save(Path("models/embedding"))


if __name__ == "__main__":
    run_stage(main)
