"""The classifier for users: from titles to categories and probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np

from rubro.base.errors import DataError
from rubro.base.text import tokenise, tokenise_with_spans
from rubro.features.featurizer import Featurizer, TitleFeatures
from rubro.features.subwords import Subwords
from rubro.prediction.explanation import (
    FOREIGN_SHARE,
    Explanation,
    LinearInput,
    linear_inputs,
    without_each,
    words_of,
)
from rubro.prediction.folder import Model, ModelDescription
from rubro.prediction.nearest import Neighbour, TitleIndex
from rubro.prediction.networks import Scorer, SvmScorer

_BATCH_TITLES = 512
_CACHE_BYTES = 96 * 2**20
_LEAST_TOKENS_KEPT = 1024


class Classifier:
    """Predicts the categories of product titles from a model folder.

    Several threads may share a classifier.

    >>> classifier = Classifier.load("models/ensemble")
    >>> classifier.predict(["Procesador Intel 1151 8g Core I5 8400"])
    ['COMPUTER_PROCESSORS']

    Args:
        model: Contents of a model folder.

    Attributes:
        classes_: Categories, in the order of the columns of predict_proba.
        description: Contents of model.json.
    """

    def __init__(self, model: Model) -> None:
        self.description: ModelDescription = model.description
        self.classes_: list[str] = list(model.description.labels)
        self._subwords = Subwords(model.vocabulary, self.description.subwords)
        self._scorers = {
            name: member.scorer(model.tensors[name], self._subwords)
            for name, member in self.description.members.items()
        }
        self._titles = (
            None
            if model.titles is None
            else TitleIndex(model.titles, self._subwords, self.classes_)
        )
        self._lock = Lock()
        token_bytes = 4 * sum(scorer.state_size for scorer in self._scorers.values())
        self._most_tokens = max(_CACHE_BYTES // token_bytes, _LEAST_TOKENS_KEPT)
        self._settled: int | None = None
        self._known = self._no_tokens()

    @classmethod
    def load(cls, folder: str | Path) -> Classifier:
        """Read a model folder.

        Args:
            folder: Path of a model folder.

        Raises:
            DataError: A file is missing, damaged or of an unknown format.
        """
        return cls(Model.load(Path(folder)))

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.description.name

    @property
    def title_column(self) -> str:
        """Name of the column that held the training titles."""
        return self.description.text.title_column

    @property
    def vocabulary(self) -> dict[str, int]:
        """Number of training titles that hold each known word."""
        return self._subwords.vocabulary

    def predict(self, titles: Sequence[str]) -> list[str]:
        """Return the most probable category of each title.

        Args:
            titles: Any texts.

        Raises:
            TypeError: titles is one text, not a sequence of texts.
        """
        best = [logits.argmax(axis=1) for logits in self._logits(titles)]
        return [self.classes_[index] for indices in best for index in indices]

    def logits(self, titles: Sequence[str]) -> np.ndarray:
        """Return the weighted sum of the logits of the members, float32 (titles, classes).

        Args:
            titles: Any texts.
        """
        return np.concatenate([self._zeros(), *self._logits(titles)])

    def predict_proba(self, titles: Sequence[str]) -> np.ndarray:
        """Return the probability of each category for each title.

        Args:
            titles: Any texts; only the first max_title_length characters are read.

        Returns:
            Probabilities, float32 (titles, classes); each row sums to 1.
        """
        calibrated = map(self.description.calibration.probabilities, self._logits(titles))
        return np.concatenate([self._zeros(), *calibrated])

    def top(self, titles: Sequence[str], k: int = 5) -> list[list[tuple[str, float]]]:
        """Return the most probable categories of each title with their probabilities.

        Args:
            titles: Any texts.
            k: Number of categories, >= 1.

        Returns:
            Pairs of category and probability for each title, best first.
        """
        probabilities = self.predict_proba(titles)
        k = min(k, len(self.classes_))
        # Sorting all classes would take longer than all else. Of equal probabilities the first class
        # ranks higher, as in predict: the candidates stand in class order, and where classes beside
        # them are as probable as the least of them, they are chosen by sorting.
        best = np.argpartition(-probabilities, k - 1, axis=1)[:, :k]
        least = np.take_along_axis(probabilities, best, axis=1).min(axis=1, keepdims=True)
        tied = (probabilities >= least).sum(axis=1) > k
        best[tied] = np.argsort(-probabilities[tied], axis=1, kind="stable")[:, :k]
        best.sort(axis=1)
        of_best = np.take_along_axis(probabilities, best, axis=1)
        order = np.argsort(-of_best, axis=1, kind="stable")
        best = np.take_along_axis(best, order, axis=1).tolist()
        of_best = np.take_along_axis(of_best, order, axis=1).tolist()
        return [
            [(self.classes_[index], p) for index, p in zip(*row, strict=True)]
            for row in zip(best, of_best, strict=True)
        ]

    def member_logits(self, titles: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the logits of each member, float32 (titles, classes), by its name.

        Args:
            titles: Any texts.
        """
        found: dict[str, list[np.ndarray]] = {name: [] for name in self._scorers}
        for features, states in self._batches(titles):
            for name, scorer in self._scorers.items():
                found[name].append(scorer.logits(features, states[name]))
        return {name: np.concatenate([self._zeros(), *parts]) for name, parts in found.items()}

    def weighted_sum(self, logits: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the weighted sum of the logits of the members, float32 (titles, classes).

        Args:
            logits: Logits of each member, from member_logits.
        """
        total = np.zeros_like(next(iter(logits.values())))
        for name, member in self.description.members.items():
            total += np.float32(member.weight) * logits[name]
        return total

    def out_of_vocabulary(self, titles: Sequence[str]) -> np.ndarray:
        """Return the share of the tokens of each title that are not in the vocabulary.

        Above explanation.FOREIGN_SHARE a title is foreign to the training, in another language for
        instance, and its category is a guess.

        Args:
            titles: Any texts.

        Returns:
            Shares from 0 to 1, float64 (titles,); 1 for a title without tokens.

        Raises:
            TypeError: titles is one text, not a sequence of texts.
        """
        _check_titles(titles)
        return np.array([self._unknown_share(self._tokens(title)) for title in titles])

    def _unknown_share(self, tokens: list[str]) -> float:
        read = tokens[: self.description.text.max_tokens]
        return sum(token not in self._subwords for token in read) / len(read) if read else 1.0

    def freeze_cache(self) -> None:
        """Remember the tokens so far, and none of later calls.

        The last bits of an answer depend on the tokens known before; from now on, those of a call
        depend on its titles alone. Threads may no longer share the classifier. See parallel.answered.
        """
        self._settled = len(self._known.featurizer)

    def explain(self, title: str, against: str | None = None, nearest: int = 0) -> Explanation:
        """Return what speaks for the category of a title, and against another one.

        Every token is left out in turn, which measures all members alike; the inputs of a linear
        member have exact parts besides.

        >>> classifier.explain("Lampara De Techo Philips").words[2].text
        'Techo'

        Args:
            title: Any text.
            against: Category to compare with; None = the second most probable.
            nearest: Number of nearest training titles to look for; 0 = none.

        Raises:
            DataError: The model has a single category, does not know the one to compare with, or
                holds no training titles.
        """
        text = self.description.text
        tokens = tokenise_with_spans(title[: text.max_title_length])[: text.max_tokens]
        words = [token for token, _ in tokens]
        features, states = self._batch(without_each(words))
        logits = {
            name: np.float32(self.description.members[name].weight)
            * scorer.logits(features, states[name])
            for name, scorer in self._scorers.items()
        }
        total = sum(logits.values(), start=self._zeros(len(features)))[0]
        best = int(total.argmax())
        other = self._other(total, best, against)
        probabilities = self.description.calibration.probabilities(total[None])[0]
        leads = {name: each[:, best] - each[:, other] for name, each in logits.items()}
        places = [(of[0][0], of[-1][1]) for _, of in tokens]
        linear, bias = self._linear(tokens, features.bigrams[0], best, other)
        unknown = self._unknown_share(words)
        return Explanation(
            title=title,
            category=self.classes_[best],
            confidence=float(probabilities[best]),
            other=self.classes_[other],
            other_confidence=float(probabilities[other]),
            lead=float(total[best] - total[other]),
            words=words_of(title, places, leads, [word in self._subwords for word in words]),
            linear=linear,
            linear_bias=bias,
            out_of_vocabulary=unknown,
            foreign=unknown > FOREIGN_SHARE,
            nearest=self._nearest(words, nearest),
        )

    def _other(self, logits: np.ndarray, best: int, against: str | None) -> int:
        if len(logits) == 1:
            raise DataError(f"{self.name}: it has a single category, {self.classes_[0]}")
        if against is None:
            runners_up = logits.copy()
            runners_up[best] = -np.inf
            return int(runners_up.argmax())
        if against not in self.classes_:
            raise DataError(f"{self.name}: no category {against!r}; model.json lists all")
        return self.classes_.index(against)

    def _linear(
        self,
        tokens: list[tuple[str, list[tuple[int, int]]]],
        bigrams: np.ndarray,
        best: int,
        other: int,
    ) -> tuple[list[LinearInput], float]:
        found: list[LinearInput] = []
        total_bias = 0.0
        for name, scorer in self._scorers.items():
            if isinstance(scorer, SvmScorer):
                weight = self.description.members[name].weight
                inputs, bias = linear_inputs(
                    scorer, weight, self._subwords, tokens, bigrams, best, other
                )
                found += inputs
                total_bias += bias
        return sorted(found, key=lambda each: -abs(each.contribution)), total_bias

    def _nearest(self, tokens: list[str], count: int) -> list[Neighbour]:
        if not count:
            return []
        if self._titles is None:
            raise DataError(
                f"{self.name}: the model folder holds no training titles; "
                "`dvc exp run -S ensemble.training_titles=true` puts them into models/ensemble"
            )
        return self._titles.nearest(tokens, count)

    def _logits(self, titles: Sequence[str]) -> Iterator[np.ndarray]:
        for features, states in self._batches(titles):
            scorers = self._scorers.items()
            yield self.weighted_sum({name: s.logits(features, states[name]) for name, s in scorers})

    def _zeros(self, count: int = 0) -> np.ndarray:
        return np.zeros((count, len(self.classes_)), dtype=np.float32)

    def _batches(
        self, titles: Sequence[str]
    ) -> Iterator[tuple[TitleFeatures, dict[str, np.ndarray]]]:
        """Yield features of a batch of titles, and token states by member."""
        _check_titles(titles)
        if self._settled is not None:
            self._known.featurizer.forget(self._settled)
        for start in range(0, len(titles), _BATCH_TITLES):
            yield self._batch(list(map(self._tokens, titles[start : start + _BATCH_TITLES])))

    def _batch(
        self, tokens: Sequence[Sequence[str]]
    ) -> tuple[TitleFeatures, dict[str, np.ndarray]]:
        with self._lock:
            if self._settled is None and len(self._known.featurizer) > self._most_tokens:
                self._known = self._no_tokens()
            return self._known(tokens)

    def _tokens(self, title: str) -> list[str]:
        return tokenise(title[: self.description.text.max_title_length])

    def _no_tokens(self) -> _KnownTokens:
        text = self.description.text
        featurizer = Featurizer(text.max_tokens, text.bigram_buckets)
        return _KnownTokens(featurizer, self._subwords, self._scorers)


class _KnownTokens:
    """Cache of the token states of each member.

    Args:
        featurizer: New featurizer.
        subwords: Rows and weight of each token.
        scorers: Members by name.
    """

    def __init__(
        self, featurizer: Featurizer, subwords: Subwords, scorers: dict[str, Scorer]
    ) -> None:
        self.featurizer = featurizer
        self._subwords = subwords
        self._scorers = scorers
        self._states = {
            name: np.zeros((_LEAST_TOKENS_KEPT, scorer.state_size), dtype=np.float32)
            for name, scorer in scorers.items()
        }

    def __call__(
        self, titles: Sequence[Sequence[str]]
    ) -> tuple[TitleFeatures, dict[str, np.ndarray]]:
        """Return titles as integers, and the states of all tokens so far, by member."""
        before = len(self.featurizer)
        features = self.featurizer(titles)
        now = len(self.featurizer)
        if now > before:
            tokens = self.featurizer.tokens(self._subwords, before)
            for name, scorer in self._scorers.items():
                self._states[name] = _with_room(self._states[name], before, now)
                self._states[name][before:now] = scorer.token_states(tokens)
        return features, dict(self._states)


def _check_titles(titles: Sequence[str]) -> None:
    if isinstance(titles, str):
        raise TypeError("titles are a sequence of texts, not one text; pass [title]")


def _with_room(states: np.ndarray, used: int, needed: int) -> np.ndarray:
    if needed <= len(states):
        return states
    larger = np.zeros((max(needed, 2 * len(states)), states.shape[1]), dtype=states.dtype)
    larger[:used] = states[:used]
    return larger
