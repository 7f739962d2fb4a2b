"""Train word vectors with gensim's FastText."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

import numpy as np
from gensim.models import FastText
from gensim.models.callbacks import CallbackAny2Vec

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.base.params import EmbedParams
from rubro.features.embedding import Embedding
from rubro.features.subwords import Subwords
from rubro.training.budget import EpochRule
from rubro.training.pretrained_vectors import PretrainedVectors


class Sentences(Protocol):
    """Iterable over the tokens of each title, which can be read several times."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[str]]: ...


_EPOCHS = EpochRule(titles=400_000, minimum=1, maximum=10)


class _EpochLog(CallbackAny2Vec):  # type: ignore[misc]
    done = 0

    def on_epoch_end(self, model: FastText) -> None:
        self.done += 1
        say(f"FastText epoch {self.done}/{model.epochs}")


def train_fasttext(
    sentences: Sentences,
    subwords: Subwords,
    params: EmbedParams,
    seed: int,
    pretrained: PretrainedVectors | None = None,
) -> Embedding:
    """Train vectors of words and character n-grams with FastText.

    Source: Bojanowski et al. 2017, Enriching Word Vectors with Subword Information.

    If epochs is "auto", the epochs show about 400,000 titles in total, but there are at least 1 and
    at most 10 epochs.

    Args:
        sentences: Tokens of each training title.
        subwords: Vocabulary and n-grams of these titles.
        params: Parameters of gensim's FastText. Training is reproducible only with workers=1.
        seed: Seed of gensim.
        pretrained: Vectors that known words and n-grams start from; None = all start from random
            vectors.

    Raises:
        DataError: The vocabulary contains a word that is in no title.
    """
    epochs = _EPOCHS.epochs(max(len(sentences), 1), params.epochs)
    sizes = subwords.params
    model = FastText(
        sg=int(params.model == "skipgram"),
        vector_size=params.vector_size,
        window=params.window,
        min_count=1,
        negative=params.negative,
        alpha=params.learning_rate,
        min_n=sizes.min_n,
        max_n=sizes.max_n,
        bucket=max(sizes.buckets, 1),
        workers=params.workers,
        epochs=epochs,
        seed=seed,
    )
    counts = Counter(chain.from_iterable(sentences)).items()
    known = {word: count for word, count in counts if word in subwords}
    for word in subwords.vocabulary.keys() - known:
        raise DataError(
            f"no training title contains {word!a}, a word of the vocabulary; run `dvc repro` to "
            "make both again"
        )
    model.build_vocab_from_freq(known, corpus_count=len(sentences))
    rows = np.array([model.wv.key_to_index[word] for word in subwords.vocabulary])
    if pretrained is not None:
        vectors, ngram_vectors = np.split(pretrained.vectors, [len(rows)])
        is_known, is_known_ngram = np.split(pretrained.known, [len(rows)])
        model.wv.vectors_vocab[rows[is_known]] = vectors[is_known]
        if sizes.max_n:
            model.wv.vectors_ngrams[is_known_ngram] = ngram_vectors[is_known_ngram]
    model.train(sentences, total_examples=len(sentences), epochs=epochs, callbacks=[_EpochLog()])
    parts = [model.wv.vectors_vocab[rows]]
    if sizes.max_n:
        parts.append(model.wv.vectors_ngrams)
    return Embedding(subwords, np.concatenate(parts).astype(np.float32))
