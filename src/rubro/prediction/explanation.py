"""Explanations of predictions: contributions of words, bigrams and character n-grams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from rubro.features.ngrams import ngram_bounds
from rubro.features.subwords import Subwords
from rubro.prediction.nearest import Neighbour

# A title is called foreign if a larger share of its tokens is out of vocabulary. Its predicted
# category is then a guess.
FOREIGN_SHARE = 0.5
# A token, and the start and end in the title of each of its characters; see tokenise_with_spans.
SpannedToken = tuple[str, list[tuple[int, int]]]
_Kind = Literal["word", "bigram", "ngram", "number"]


@dataclass(frozen=True)
class WordContribution:
    """Contribution of one word of a product to the lead of the predicted category.

    The lead is the logit of the predicted category minus the logit of another category.

    Attributes:
        text: Word as typed in the title or in another column.
        start: Position of the first character in the text of the column.
        end: Position after the last character in the text of the column.
        contribution: Drop of the lead, in logits, when the word is left out. Its bigrams are lost
            too, and the words on both sides of it become neighbours.
        members: Contribution to the lead of each member of the model, by name of the member.
        known: Whether the word is in the vocabulary.
        column: Name of the column that contains the word.
    """

    text: str
    start: int
    end: int
    contribution: float
    members: dict[str, float]
    known: bool
    column: str


@dataclass(frozen=True)
class LinearInput:
    """Contribution of one word, bigram or n-gram of a product to the lead in a linear member.

    The lead is the logit of the predicted category minus the logit of another category.

    Attributes:
        kind: "word", "bigram", "ngram" (a character n-gram) or "number".
        text: Text as the model reads it; < and > mark the beginning and end of a word. For a number,
            the range of its bin.
        start: Position of the first character in the text of the column.
        end: Position after the last character in the text of the column.
        contribution: Part of the lead, in logits.
        column: Name of the column that contains the input.
    """

    kind: _Kind
    text: str
    start: int
    end: int
    contribution: float
    column: str


@dataclass(frozen=True)
class Explanation:
    """Explanation why the predicted category of a title wins over another category.

    Attributes:
        title: Title.
        category: Predicted category, which is the most probable one.
        confidence: Probability of the predicted category, 0 to 1.
        other: Category to compare with.
        other_confidence: Probability of the other category, 0 to 1.
        lead: Logit of the predicted category minus logit of the other category. The logit of a node
            of the category tree is the logarithm of the summed exponentials of its categories, at
            the temperature of the calibration.
        words: Words in the order of the title, then the words of the model's further columns. If a
            member of the model is a network, or nodes of an upper level of the category tree are
            compared, their contributions do not sum up to the lead.
        linear: Words, bigrams and n-grams with nonzero contributions to linear members, largest
            absolute contribution first; empty if the model has no linear member, or if nodes of an
            upper level are compared.
        linear_bias: Lead in a title without tokens, from the shift and the linear members. With the
            contributions in linear, it adds up to the lead from the shift and these members.
        out_of_vocabulary: Share of out-of-vocabulary tokens, 0 to 1.
        foreign: Whether out_of_vocabulary is above FOREIGN_SHARE, so the prediction is a guess.
        nearest: Most similar training titles, most similar first; empty unless requested.
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


def word_contributions(
    texts: Mapping[str, str],
    tokens: Mapping[str, Sequence[SpannedToken]],
    leads: dict[str, np.ndarray],
    known: Subwords,
    lead: np.ndarray | None = None,
) -> list[WordContribution]:
    """Return how much each word of a product contributes to the lead of the predicted category.

    The lead is the logit of the predicted category minus the logit of another category.

    Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks (occlusion);
    Li, Monroe and Jurafsky 2016, Understanding Neural Networks through Representation Erasure.

    Args:
        texts: Text of each column by its name, the title first.
        tokens: Tokens of each column by its name, in the same order.
        leads: Lead of the predicted category by name of the member, float (all tokens + 1,): first
            for the whole product, then for the product without each of its tokens in turn.
        known: Vocabulary of the model.
        lead: Lead of the predicted category in the model, in the same order; None = the sum of the
            leads of its members.
    """
    drops = {name: lead[0] - lead[1:] for name, lead in leads.items()}
    every = [(column, *token) for column, own in tokens.items() for token in own]
    total = sum(drops.values(), start=np.zeros(len(every)))
    if lead is not None:
        total = lead[0] - lead[1:]
    found = []
    for place, (column, token, spans) in enumerate(every):
        start, end = spans[0][0], spans[-1][1]
        members = {name: float(drop[place]) for name, drop in drops.items()}
        contribution = float(total[place])
        word, is_known = texts[column][start:end], token in known
        found.append(WordContribution(word, start, end, contribution, members, is_known, column))
    return found


def linear_inputs(
    subwords: Subwords,
    column: str,
    tokens: Sequence[SpannedToken],
    leads: np.ndarray,
    weight: float,
) -> list[LinearInput]:
    """Return the contributions of words, n-grams and bigrams to the lead in a linear member.

    The lead is the logit of the predicted category minus the logit of another category. Words,
    n-grams and bigrams that do not change it are omitted.

    Args:
        subwords: Vocabulary and n-gram sizes of the model.
        column: Name of a column.
        tokens: Tokens of its text.
        leads: Unweighted contribution of each word, n-gram and bigram, as in SvmScorer.leads, float
            (inputs,).
        weight: Weight of the member in the model.
    """
    inputs = list(_words_and_ngrams(subwords, tokens))
    if len(leads) > len(inputs):
        inputs += [
            ("bigram", f"{one} {other}", spans[0][0], other_spans[-1][1])
            for (one, spans), (other, other_spans) in pairwise(tokens)
        ]
    return [
        LinearInput(*described, weight * lead, column)
        for described, lead in zip(inputs, leads.tolist(), strict=True)
        if lead
    ]


def _words_and_ngrams(
    subwords: Subwords, tokens: Sequence[SpannedToken]
) -> Iterator[tuple[_Kind, str, int, int]]:
    """Yield kind, text, start and end of each word and n-gram, in the order of their rows."""
    for token, spans in tokens:
        marked, last = f"<{token}>", len(token) - 1
        if token in subwords:
            yield "word", token, spans[0][0], spans[-1][1]
        for first, stop in ngram_bounds(token, subwords.params.min_n, subwords.params.max_n):
            start, end = spans[max(first - 1, 0)][0], spans[min(stop - 2, last)][1]
            yield "ngram", marked[first:stop], start, end
