"""Choose the unlabelled titles whose labels would help most."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer

from rubro.base.text import normalise, tokenise
from rubro.labelling.near_duplicates import near_duplicate_groups

# Titles are nearly the same if the Jaccard index of their tokens is at least this.
_SIMILARITY = 0.8
# Candidates for each title to choose.
_CANDIDATES = 5
# Cosine similarities below this are ignored, which keeps the matrix of similarities sparse.
_MIN_COSINE = 0.2
_ROWS = 1024  # titles whose similarities are computed at once, which bounds the memory
_DECIMALS = 6


@dataclass(frozen=True)
class Candidate:
    """An unlabelled title that may be chosen.

    Attributes:
        title: Title.
        texts: Title and texts of its row, by the names of the model's columns; empty if only titles
            are read.
        place: Name of the raw file and number of the line, if they are known, by column name.
        best: Most probable categories with their probabilities, most probable first; empty if
            there is no model.
        is_foreign: Whether most of its words are unknown to the model, or occur in no labelled title.
        key: Hash of the normal form of the title.
    """

    title: str
    texts: dict[str, str] = field(default_factory=dict)
    place: dict[str, object] = field(default_factory=dict)
    best: Sequence[tuple[str, float]] = ()
    is_foreign: bool = False
    key: int = 0

    @property
    def margin(self) -> float:
        """Difference of the probabilities of the two most probable categories."""
        return self.best[0][1] - (self.best[1][1] if len(self.best) > 1 else 0.0)


Order = Callable[[Sequence[Candidate]], Sequence[int]]


class BestCandidates:
    """The first candidates in an order, out of any number of candidates, in bounded memory.

    Of titles with the same normal form, only the first one is kept.

    Args:
        order: Function that returns the positions of candidates, the best ones first.
        limit: Number of candidates to keep.
    """

    def __init__(self, order: Order, limit: int) -> None:
        self._order, self._limit = order, limit
        self._candidates: dict[str, Candidate] = {}

    def add(self, candidates: Iterable[Candidate]) -> None:
        """Add candidates, and forget those that can no longer be among the first ones."""
        for candidate in candidates:
            self._candidates.setdefault(normalise(candidate.title), candidate)
        if len(self._candidates) > 2 * self._limit:
            best = self.best()
            self._candidates = {normalise(each.title): each for each in best}

    def best(self) -> list[Candidate]:
        """Return the candidates that are kept, in their order."""
        found = list(self._candidates.values())
        return [found[place] for place in self._order(found)[: self._limit]]


def by_uncertainty(candidates: Sequence[Candidate]) -> list[int]:
    """Return the positions of candidates, those whose labels would help a model most first.

    Foreign titles come last, because the model guesses their categories; see most_uncertain.
    """
    names: dict[str, int] = {}
    predicted = np.array([names.setdefault(each.best[0][0], len(names)) for each in candidates])
    margins = np.array([each.margin for each in candidates])
    is_foreign = np.array([each.is_foreign for each in candidates], dtype=bool)
    places: list[int] = []
    for rows in (np.flatnonzero(~is_foreign), np.flatnonzero(is_foreign)):
        places += rows[most_uncertain(margins[rows], predicted[rows])].tolist()
    return places


def by_key(candidates: Sequence[Candidate]) -> list[int]:
    """Return the positions of candidates in the order of their hashes, which is a random order."""
    places: list[int] = np.argsort([each.key for each in candidates], kind="stable").tolist()
    return places


def most_uncertain(margins: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return the positions of titles, most uncertain first and balanced over predicted categories.

    The title with the smallest margin in each predicted category comes first, then the title with
    the second smallest margin in each category, and so on. Within such a round, the titles are in
    the order of their margins.

    Source: margin sampling, Scheffer et al. 2001, Active Hidden Markov Models for Information
    Extraction; balanced over the predicted categories as in Bengar et al. 2022, Class-Balanced
    Active Learning for Image Classification, here in rounds.

    >>> most_uncertain(np.array([0.3, 0.1, 0.2]), np.array([0, 1, 1])).tolist()
    [1, 0, 2]

    Args:
        margins: Difference of the probabilities of the two most probable categories of each title,
            float (n,).
        predicted: Most probable category of each title, integers (n,).

    Returns:
        Positions, integers (n,).
    """
    rounds = pd.Series(margins).groupby(predicted).rank(method="first")
    return np.lexsort((margins, rounds))


def titles_to_label(
    titles: Sequence[str], sample: Sequence[str], weights: np.ndarray, count: int
) -> list[int]:
    """Choose titles that are different from each other and represent a sample of all titles.

    The first titles that are not nearly the same are candidates. They are chosen one after another,
    so that each choice raises a sum over the sample by as much as possible: the weight of a title
    times its cosine similarity to the most similar chosen title. The vectors are TF-IDF values of
    words. If the weights are the uncertainties of a model, the chosen titles represent what the model
    does not know; if all weights are 1, they represent the catalogue, which is the best that can be
    done without a model (Hacohen, Dekel and Weinshall 2022, Active Learning on a Budget).

    Source: Wei, Iyer and Bilmes 2015, Submodularity in Data Subset Selection and Active Learning
    (facility location among the most uncertain titles); with lazy evaluation of the gains, Minoux
    1978.

    Args:
        titles: Titles to choose from, the best ones first.
        sample: Random sample of all titles, at most some ten thousand.
        weights: Weight of each title of the sample, at least 0, float (sample,).
        count: Maximum number of titles to choose.

    Returns:
        Positions in `titles`, in the order of choice.
    """
    if not titles:
        return []
    groups = near_duplicate_groups(titles, _SIMILARITY)
    places = np.unique(groups, return_index=True)[1][: _CANDIDATES * count]
    similar = _similarities([titles[place] for place in places], sample)
    covered = np.zeros(len(sample))

    def row(candidate: int) -> tuple[np.ndarray, np.ndarray]:
        own = slice(similar.indptr[candidate], similar.indptr[candidate + 1])
        return similar.indices[own], similar.data[own]

    def gain(candidate: int) -> float:
        others, values = row(candidate)
        return float((weights[others] * np.maximum(values - covered[others], 0)).sum())

    # The gain of a candidate never rises, so an outdated gain is an upper bound.
    heap = [(-gain(candidate), candidate, 0) for candidate in range(len(places))]
    heapq.heapify(heap)
    chosen: list[int] = []
    while heap and len(chosen) < count:
        _, candidate, step = heapq.heappop(heap)
        if step < len(chosen):
            heapq.heappush(heap, (-gain(candidate), candidate, len(chosen)))
            continue
        chosen.append(candidate)
        others, values = row(candidate)
        covered[others] = np.maximum(covered[others], values)
    found: list[int] = places[chosen].tolist()
    return found


def _similarities(titles: Sequence[str], sample: Sequence[str]) -> sparse.csr_matrix:
    """Return the cosine similarities of the words of titles and a sample, (titles, sample)."""
    vectoriser = TfidfVectorizer(analyzer=lambda title: {*tokenise(title)} or {""})
    vectors = vectoriser.fit_transform([*titles, *sample])
    others = vectors[len(titles) :].T.tocsr()
    parts = []
    for start in range(0, max(len(titles), 1), _ROWS):  # most similarities are ignored
        similar = (vectors[start : min(start + _ROWS, len(titles))] @ others).tocsr()
        # Rounded, because the last bits of a logarithm differ between CPUs.
        similar.data = np.where(similar.data < _MIN_COSINE, 0, similar.data.round(_DECIMALS))
        similar.eliminate_zeros()
        parts.append(similar)
    similar = sparse.vstack(parts, format="csr")
    similar.sort_indices()  # sums of floats depend on the order
    return similar
