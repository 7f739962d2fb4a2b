"""Compare ways to choose the titles to label next, by the accuracy of an SVM.

Some training titles of a catalogue are labelled at random. The SVM of the pipeline is trained on them,
a method chooses the next batch out of the other training titles with the SVM's probabilities, the
batch gets its labels, and so on. Accuracies on validation and test titles after each batch are added
to a JSON file under the name of the catalogue. Random choice goes on to more titles than the other
methods, so that both reach the same accuracy.

    python benchmarks/active_learning.py sample --start 200 --batch 50 --end 600 \\
      --set subset.top_categories=0 --out benchmarks/results/active_learning.json
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rubro.base.console import reported_errors, say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.params_file import with_settings
from rubro.base.text import tokenise
from rubro.data.sources import read_titles
from rubro.data.splits import SPLITS
from rubro.data.subset import make_subset
from rubro.evaluation.metrics import objective_metrics
from rubro.features.featurizer import Featurizer
from rubro.features.titles import LabelledTitles, class_shares, labels_of
from rubro.features.vocabulary import count_subwords
from rubro.labelling.active_learning import most_uncertain, without_near_duplicates
from rubro.prediction.calibration import softmax
from rubro.prediction.networks import SvmScorer
from rubro.training.decisions import fit_scale
from rubro.training.svm import fit_svm

# A fixed weight, so that the labels of the validation titles are used for the temperature only.
_NAIVE_BAYES_WEIGHT = 0.02
_CALIBRATION_TITLES = 500
_SCORED = 4096  # titles whose logits are computed at once
_CANDIDATES = 20  # for each title to choose, as many candidates are compared
# Share of the labels of random choice up to which the other methods are measured.
_MEASURED_SHARE = 0.85

HELD_OUT = ("validation", "test")


def by_entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the positions of titles by the entropy of their probabilities, highest first."""
    logarithms = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny))
    return np.argsort((probabilities * logarithms).sum(axis=1), kind="stable")


def by_margin(probabilities: np.ndarray) -> np.ndarray:
    """Return the positions of titles by their margins, smallest first."""
    return np.argsort(margins(probabilities), kind="stable")


def as_rubro_next(probabilities: np.ndarray) -> np.ndarray:
    """Return the positions of titles in the order of `rubro next`."""
    return most_uncertain(margins(probabilities), probabilities.argmax(axis=1))


def margins(probabilities: np.ndarray) -> np.ndarray:
    """Return the difference of the two highest probabilities of each row."""
    highest = np.partition(probabilities, -2, axis=1)[:, -2:]
    difference: np.ndarray = highest[:, 1] - highest[:, 0]
    return difference


# Probabilities of the pool, float (titles, classes), to positions, best first.
RANKINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "entropy": by_entropy,
    "margin": by_margin,
    "rubro next": as_rubro_next,
}


class Catalogue:
    """Titles of a catalogue, and an SVM that is trained on some of its training titles.

    Args:
        params: Path of the catalogue, sizes of the features and parameters of the SVM.
    """

    def __init__(self, params: Params) -> None:
        raw = read_titles(params.data, params.subset.language)
        subset = make_subset(raw, params.subset, params.seed, params.data)
        sizes = params.featurize
        featurizer = Featurizer(sizes.max_tokens, sizes.bigram_buckets)
        self.titles = subset.splits["train"]["title"].astype(str).to_list()
        self.splits: dict[str, LabelledTitles] = {}
        for name, table in subset.splits.items():
            features = featurizer([tokenise(str(title)) for title in table["title"]])
            names = (table[column].astype(str) for column in ("category", "label_quality"))
            self.splits[name] = LabelledTitles(features, labels_of(*names, subset.labels))
        self.classes = len(subset.labels)
        self._params = params
        self._subwords = count_subwords(
            featurizer.words(), self.splits["train"].features.joined_tokens, sizes
        )
        self._tokens = featurizer.tokens(self._subwords)

    def scores(
        self, labelled: np.ndarray, seed: int, names: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Train on the labelled titles, and return the scores of all titles of some splits."""
        buckets = self._params.featurize.bigram_buckets
        update = {"naive_bayes_weight": _NAIVE_BAYES_WEIGHT}
        tensors, _ = fit_svm(
            self.splits["train"].take(labelled),
            self.splits["validation"],
            *(self._tokens, self._subwords, buckets, self.classes),
            self._params.train_svm.model_copy(update=update),
            "accuracy",
            seed,
        )
        scorer = SvmScorer(tensors, len(self._subwords.vocabulary), self._subwords.row_count)
        states = scorer.token_states(self._tokens)
        found = {}
        for name in names:
            split = self.splits[name]
            starts = range(0, len(split), _SCORED)
            places = (np.arange(start, min(start + _SCORED, len(split))) for start in starts)
            parts = [scorer.logits(split.features.take(part), states) for part in places]
            found[name] = np.concatenate(parts)
        return found

    def curve(
        self, method: str, start: int, batch: int, end: int, seed: int
    ) -> dict[str, dict[str, float]]:
        """Return the metrics on validation and test by the number of labelled titles."""
        train, validation = self.splits["train"], self.splits["validation"]
        random = np.random.default_rng(seed)
        calibrating = random.choice(
            len(validation), min(_CALIBRATION_TITLES, len(validation)), replace=False
        )
        is_labelled = np.zeros(len(train), dtype=bool)
        is_labelled[random.choice(len(train), start, replace=False)] = True
        names = HELD_OUT if method == "random" else SPLITS
        found = {}
        while True:
            labelled = np.flatnonzero(is_labelled)
            scores = self.scores(labelled, seed, names)
            found[str(len(labelled))] = {
                f"{name}_{metric}": value
                for name in HELD_OUT
                for metric, value in objective_metrics(
                    self.splits[name].labels.targets, scores[name].argmax(axis=1)
                ).items()
            }
            count = min(batch, end - len(labelled))
            if count <= 0:
                return found
            pool = np.flatnonzero(~is_labelled)
            if method == "random":
                is_labelled[random.choice(pool, count, replace=False)] = True
                continue
            totals = np.bincount(train.labels.targets[labelled], minlength=self.classes)
            scale = fit_scale(
                scores["validation"][calibrating],
                validation.labels.targets[calibrating],
                np.log(class_shares(totals)),
            )
            order = RANKINGS[method](softmax(scale * scores["train"][pool]))
            chosen = pool[order[:count]]
            if method == "rubro next":
                candidates = pool[order[: _CANDIDATES * count]]
                titles = [self.titles[place] for place in candidates]
                chosen = candidates[without_near_duplicates(titles, count)]
            is_labelled[chosen] = True


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command(help=__doc__)
def main(
    name: Annotated[str, typer.Argument(help="Name of the catalogue in the results.")],
    out: Annotated[Path, typer.Option(help="JSON file to update.")],
    start: Annotated[int, typer.Option(min=2, help="Number of titles that are labelled at first.")],
    batch: Annotated[int, typer.Option(min=1, help="Number of titles in a batch.")],
    end: Annotated[int, typer.Option(min=2, help="Number of labelled titles at the end.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Setting that overrides params.yaml."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 5,
) -> None:
    with reported_errors():
        catalogue = Catalogue(with_settings("params.yaml", list(settings or [])))
        sizes = {"start": start, "batch": batch, "end": end}
        result = {
            "titles": len(catalogue.titles),
            "categories": catalogue.classes,
            **sizes,
            "curves": {method: [] for method in ("random", *RANKINGS)},
        }
        for seed in range(seeds):
            for method, curves in result["curves"].items():
                last = end if method == "random" else start + batch * round(
                    (_MEASURED_SHARE * end - start) / batch
                )
                curve = catalogue.curve(method, start, batch, last, seed)
                curves.append(curve)
                accuracy = [f"{each['test_accuracy']:.3f}" for each in curve.values()]
                say(f"{name}, seed {seed}, {method}: {', '.join(accuracy)}")
            results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
            write_json(out, {**results, name: result})


if __name__ == "__main__":
    app()
