"""What speaks for the category of a title and against the runner-up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from rubro.features.subwords import Subwords
from rubro.prediction.nearest import Neighbour
from rubro.prediction.networks import SvmScorer

# A title is foreign where a larger share of its tokens is not in the vocabulary: the model guesses.
FOREIGN_SHARE = 0.5
Place = tuple[int, int]  # beginning and end in a title


@dataclass(frozen=True)
class WordContribution:
    """A token of a title.

    Attributes:
        text: Text as typed.
        start: Place of the first character in the title.
        end: Place after the last character in the title.
        contribution: Lead of the category over the other one, in logits, minus the lead in the title
            typed without the token: its bigrams are lost too, and its neighbours become neighbours.
        members: Parts of the contribution, by the name of the member they come from.
        known: Whether the token is in the vocabulary.
    """

    text: str
    start: int
    end: int
    contribution: float
    members: dict[str, float]
    known: bool


@dataclass(frozen=True)
class LinearInput:
    """A word, a bigram or a character n-gram, as the linear member weighs it.

    Attributes:
        kind: "word", "bigram" or "ngram".
        text: Text as the model reads it; < and > are the beginning and the end of a word.
        start: Place of the first character in the title.
        end: Place after the last character in the title.
        contribution: Part of the lead of the category over the other one, in logits.
    """

    kind: Literal["word", "bigram", "ngram"]
    text: str
    start: int
    end: int
    contribution: float


@dataclass(frozen=True)
class Explanation:
    """Reasons for the category of a title, against another one.

    Attributes:
        title: Title.
        category: Most probable category.
        confidence: Probability of the category, 0 to 1.
        other: Category that it is compared with.
        other_confidence: Probability of the other category, 0 to 1.
        lead: Logit of the category minus that of the other one.
        words: Tokens, in the order of the title. Members that are no sums make their contributions
            more or less than the lead.
        linear: Inputs of the linear member that are not 0, strongest first; empty without such a
            member.
        linear_bias: Lead that the linear member gives without any input; with all of linear, it is
            the part of the lead that comes from this member.
        out_of_vocabulary: Share of the tokens that are not in the vocabulary, 0 to 1.
        foreign: Whether most tokens are not in the vocabulary.
        nearest: Training titles, nearest first; empty unless asked for.
    """

    title: str
    category: str
    confidence: float
    other: str
    other_confidence: float
    lead: float
    words: list[WordContribution]
    linear: list[LinearInput]
    linear_bias: float
    out_of_vocabulary: float
    foreign: bool
    nearest: list[Neighbour]


def without_each(tokens: list[str]) -> list[list[str]]:
    """Return a list, then the same list without each of its items in turn."""
    return [tokens, *(tokens[:place] + tokens[place + 1 :] for place in range(len(tokens)))]


def words_of(
    title: str,
    places: Sequence[Place],
    leads: dict[str, np.ndarray],
    known: Sequence[bool],
) -> list[WordContribution]:
    """Return tokens with what the model loses without each of them.

    Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks (occlusion);
    Li, Monroe and Jurafsky 2016, Understanding Neural Networks through Representation Erasure.

    Args:
        title: Title.
        places: Beginning and end of each token.
        leads: Leads of the titles of without_each, float (tokens + 1,), by member.
        known: Whether each token is in the vocabulary.
    """
    lost = {name: lead[0] - lead[1:] for name, lead in leads.items()}
    total = sum(lost.values(), start=np.zeros(len(places)))
    return [
        WordContribution(
            title[start:end],
            start,
            end,
            float(total[place]),
            {name: float(each[place]) for name, each in lost.items()},
            known[place],
        )
        for place, (start, end) in enumerate(places)
    ]


def linear_inputs(
    scorer: SvmScorer,
    weight: float,
    subwords: Subwords,
    tokens: Sequence[tuple[str, list[Place]]],
    bigrams: np.ndarray,
    category: int,
    other: int,
) -> tuple[list[LinearInput], float]:
    """Return the exact part of each input in the lead of a linear member.

    Args:
        scorer: Linear member.
        weight: Factor of the logits of the member.
        subwords: Rows of tokens.
        tokens: Tokens of a title, each with the places of its characters.
        bigrams: Hash buckets of its bigrams, integers (b,).
        category: Class index.
        other: Class index that it is compared with.

    Returns:
        Inputs that are not 0, and the lead without any input.
    """
    rows = [row for token, _ in tokens for row in subwords.rows_of(token)]
    leads, bias = scorer.leads(np.array(rows, dtype=np.int64), bigrams, category, other)
    inputs = list(_subword_inputs(subwords, tokens))
    if len(bigrams):
        inputs += _bigram_inputs(tokens)
    found = [
        LinearInput(kind, text, start, end, weight * lead)
        for (kind, text, start, end), lead in zip(inputs, leads.tolist(), strict=True)
        if lead
    ]
    return found, weight * bias


_Input = tuple[Literal["word", "bigram", "ngram"], str, int, int]


def _subword_inputs(
    subwords: Subwords, tokens: Sequence[tuple[str, list[Place]]]
) -> Iterator[_Input]:
    for token, places in tokens:
        marked, last = f"<{token}>", len(token) - 1
        if token in subwords:
            yield "word", token, places[0][0], places[-1][1]
        for first, stop in subwords.bounds_of(token)[token in subwords :]:
            start, end = places[max(first - 1, 0)][0], places[min(stop - 2, last)][1]
            yield "ngram", marked[first:stop], start, end


def _bigram_inputs(tokens: Sequence[tuple[str, list[Place]]]) -> Iterator[_Input]:
    for (one, places), (next_one, next_places) in pairwise(tokens):
        yield "bigram", f"{one} {next_one}", places[0][0], next_places[-1][1]
