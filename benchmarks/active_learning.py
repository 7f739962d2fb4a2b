"""Compare ways to choose the titles to label next, by the accuracy of an SVM.

Some training titles of a catalogue are labelled at random. The SVM of the pipeline is trained on them,
a method chooses the next batch out of the other training titles with the SVM's probabilities, the
batch gets its labels, and so on. Accuracies on validation and test titles after each batch are added
to a JSON file under the name of the catalogue. Random choice goes on to more titles than the other
methods, so that both reach the same accuracy. Curves that the file already contains are kept.

    python benchmarks/active_learning.py sample --start 200 --batch 50 --end 600 \\
      --set subset.top_categories=0 --out benchmarks/results/active_learning.json
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rubro.base.console import reported_errors, say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.params_file import with_settings
from rubro.base.text import tokenise
from rubro.data.raw_titles import read_titles
from rubro.data.splits import SPLITS
from rubro.data.subset import make_subset
from rubro.evaluation.metrics import objective_metrics
from rubro.features.featurizer import Featurizer
from rubro.features.titles import LabelledTitles, class_shares, labels_of
from rubro.features.vocabulary import count_subwords
from rubro.labelling.active_learning import most_uncertain, titles_to_label
from rubro.prediction.calibration import softmax
from rubro.prediction.networks import SvmScorer
from rubro.training.decisions import fit_scale
from rubro.training.svm import fit_svm

# A fixed weight, so that the labels of the validation titles are used for the temperature only.
_NAIVE_BAYES_WEIGHT = 0.02
_CALIBRATION_TITLES = 500
_SCORED = 4096  # titles whose logits are computed at once
_CANDIDATES = 20  # for each title to choose, before near-duplicates are left out
_SAMPLE = 10_000  # titles that the chosen titles should represent
# Share of the labels of random choice up to which the other methods are measured.
_MEASURED_SHARE = 0.75

HELD_OUT = ("validation", "test")
METHODS = ("random", "margin", "rubro next")


def margins_of(probabilities: np.ndarray) -> np.ndarray:
    """Return the difference of the two highest probabilities of each row."""
    highest = np.partition(probabilities, -2, axis=1)[:, -2:]
    difference: np.ndarray = highest[:, 1] - highest[:, 0]
    return difference


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
        for name in SPLITS:
            table = subset.splits[name]
            features = featurizer([tokenise(str(title)) for title in table["title"]])
            categories, qualities = (
                table[column].astype(str).to_list() for column in ("category", "label_quality")
            )
            labels = labels_of(categories, qualities, subset.labels)
            self.splits[name] = LabelledTitles(features, labels)
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
            probabilities = softmax(scale * scores["train"][pool])
            margins = margins_of(probabilities)
            if method == "margin":
                chosen = np.argsort(margins, kind="stable")[:count]
            else:
                order = most_uncertain(margins, probabilities.argmax(axis=1))
                order = order[: _CANDIDATES * count]
                sample = random.choice(len(pool), min(_SAMPLE, len(pool)), replace=False)
                candidates, others = (
                    [self.titles[title] for title in pool[places]] for places in (order, sample)
                )
                chosen = order[titles_to_label(candidates, others, 1 - margins[sample], count)]
            is_labelled[pool[chosen]] = True


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
        results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        sizes = {
            "titles": len(catalogue.titles),
            "categories": catalogue.classes,
            "start": start,
            "batch": batch,
            "end": end,
        }
        result = results.get(name, {})
        if result.get("sizes") != sizes:
            result = {"sizes": sizes, "curves": {method: [] for method in METHODS}}
        measured = start + batch * round((_MEASURED_SHARE * end - start) / batch)
        for seed in range(seeds):
            for method, curves in result["curves"].items():
                if len(curves) > seed:
                    continue
                last = end if method == "random" else measured
                curve = catalogue.curve(method, start, batch, last, seed)
                curves.append(curve)
                accuracies = ", ".join(f"{each['test_accuracy']:.3f}" for each in curve.values())
                say(f"{name}, seed {seed}, {method}: {accuracies}")
                write_json(out, {**results, name: result})


if __name__ == "__main__":
    app()
