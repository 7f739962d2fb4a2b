"""Train and measure other classifiers on the same splits with the same metrics.

Vectorisers and fastText get the tokens of this project, joined by spaces, and all training rows with
the same weight. Of the settings of each peer, the one with the best balanced accuracy on validation
is chosen; only the chosen one is measured on test titles.

    python benchmarks/peers.py --set data.path=data/sample --out benchmarks/results/peers.json
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

import numpy as np
import typer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import FeatureUnion
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from rubro.base.console import reported_errors, say
from rubro.base.errors import ParamsError
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.params_file import with_settings
from rubro.base.text import tokenise
from rubro.data.sources import read_titles
from rubro.data.splits import SPLITS
from rubro.data.subset import make_subset
from rubro.evaluation.metrics import accuracy, balanced_accuracy

Setting = dict[str, Any]
Splits = dict[str, tuple[list[str], np.ndarray]]
_LABEL = "__label__"


@dataclass
class FastText:
    """Supervised fastText with fit and predict, by its maintained fork floret."""

    setting: Setting
    seed: int

    def fit(self, titles: list[str], targets: np.ndarray) -> None:
        """Train on titles (tokens joined by spaces) and class indices."""
        import floret

        with TemporaryDirectory() as folder:
            file = Path(folder) / "train.txt"
            rows = zip(targets, titles, strict=True)
            text = "".join(f"{_LABEL}{target} {title}\n" for target, title in rows)
            file.write_text(text, encoding="utf-8")
            # More threads never give the same model twice. The seed is a C++ int.
            fixed = {"thread": 1, "seed": self.seed % 2**31, "wordNgrams": 2, "loss": "softmax"}
            self._model = floret.train_supervised(str(file), verbose=0, **fixed, **self.setting)

    def predict(self, titles: list[str]) -> np.ndarray:
        """Return the class index of each title."""
        labels, _ = self._model.predict(titles)
        return np.array([int(label.removeprefix(_LABEL)) for (label,) in labels])

    def save(self, folder: Path) -> None:
        """Write the model to a folder."""
        self._model.save_model(str(folder / "model.bin"))


@dataclass(frozen=True)
class Peer:
    """A classifier to compare with.

    Attributes:
        name: Name in tables.
        vectoriser: Function that returns an unfitted vectoriser.
        classifier: Function of all parameters and a setting that returns an untrained classifier.
        grid: Settings to choose from.
    """

    name: str
    vectoriser: Callable[[], Any]
    classifier: Callable[[Params, Setting], Any]
    grid: list[Setting]


def _tfidf(**options: Any) -> TfidfVectorizer:
    return TfidfVectorizer(lowercase=False, sublinear_tf=True, dtype=np.float32, **options)


def _words(longest: int = 1) -> TfidfVectorizer:
    return _tfidf(tokenizer=str.split, token_pattern=None, ngram_range=(1, longest))


def words_and_characters() -> FeatureUnion:
    """Return a TF-IDF vectoriser of words and pairs of words, and of three to five characters."""
    characters = _tfidf(analyzer="char_wb", ngram_range=(3, 5))
    return FeatureUnion([("words", _words(2)), ("characters", characters)])


def _svc(params: Params, setting: Setting) -> LinearSVC:
    return LinearSVC(**setting, random_state=params.seed)


def _sgd(params: Params, setting: Setting) -> SGDClassifier:
    return SGDClassifier(**setting, random_state=params.seed, n_jobs=os.cpu_count())


def _fasttext(params: Params, setting: Setting) -> FastText:
    return FastText(setting, params.seed)


PEERS = {
    "word_svc": Peer(
        "TF-IDF of words + LinearSVC", _words, _svc, [{"C": 0.3}, {"C": 1.0}, {"C": 3.0}]
    ),
    "word_char_svc": Peer(
        "TF-IDF of words and characters + LinearSVC",
        words_and_characters,
        _svc,
        [{"C": 1.0}, {"C": 3.0}],
    ),
    "word_char_sgd": Peer(
        "TF-IDF of words and characters + SGD",
        words_and_characters,
        _sgd,
        [
            {"loss": "log_loss", "alpha": 3e-6},
            {"loss": "log_loss", "alpha": 1e-5},
            {"loss": "hinge", "alpha": 3e-5},
            {"loss": "hinge", "alpha": 1e-4},
        ],
    ),
    "fasttext": Peer(
        "fastText supervised",
        FunctionTransformer,  # leaves titles as they are
        _fasttext,
        [
            {"epoch": 25, "lr": 0.5, "minn": 0, "maxn": 0},
            {"epoch": 25, "lr": 0.5, "minn": 3, "maxn": 5},
            {"epoch": 50, "lr": 0.5, "minn": 3, "maxn": 5},
        ],
    ),
}


def _judge(key: str, splits: Splits, params: Params) -> dict[str, Any]:
    peer = PEERS[key]
    titles, targets = splits["train"]
    started = perf_counter()
    vectoriser = peer.vectoriser()
    train = vectoriser.fit_transform(titles)
    vectorised = perf_counter() - started
    validation = vectoriser.transform(splits["validation"][0])
    tried: list[dict[str, Any]] = []
    best = -1.0
    for setting in peer.grid:
        started = perf_counter()
        classifier = peer.classifier(params, setting)
        classifier.fit(train, targets)
        seconds = vectorised + perf_counter() - started
        scores = _scores(splits["validation"][1], classifier.predict(validation))
        score = scores["balanced_accuracy"]
        tried.append({"setting": setting, "validation_balanced_accuracy": score})
        shown = ", ".join(f"{name} {value}" for name, value in setting.items())
        say(f"{key}: {shown}: validation balanced accuracy {score:.4f}, {seconds:.1f} s")
        if score > best:
            best, model = score, classifier
            chosen = {"validation": scores, "setting": setting, "fit_seconds": round(seconds, 1)}
    predictions = model.predict(vectoriser.transform(splits["test"][0]))
    test = _scores(splits["test"][1], predictions)
    return {"name": peer.name, **chosen, "test": test, "tried": tried}


def _scores(targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    return {
        "balanced_accuracy": round(balanced_accuracy(targets, predictions), 6),
        "accuracy": round(accuracy(targets, predictions), 6),
    }


def compare(params: Params, keys: list[str]) -> dict[str, Any]:
    """Train, choose and measure peers.

    Args:
        params: Parameters of the data and the subset, and the seed.
        keys: Keys of PEERS.

    Returns:
        Values for JSON: settings, rows, classes and peers.

    Raises:
        DataError: The data cannot be used; see read_titles and make_subset.
    """
    raw = read_titles(params.data, params.subset.language)
    subset = make_subset(raw, params.subset, params.seed)
    for notice in raw.notices:
        say(notice)
    class_of = {label: index for index, label in enumerate(subset.labels)}
    splits: Splits = {}
    for name in SPLITS:
        table = subset.splits[name]
        titles = [" ".join(tokenise(title)) for title in table["title"]]
        splits[name] = titles, table["category"].map(class_of).to_numpy(np.int64)
    settings = params.model_dump(include={"seed", "data", "subset"})
    settings["data"]["path"] = Path(params.data.path).name
    return {
        "settings": settings,
        "rows": subset.summary["rows"],
        "classes": len(subset.labels),
        "peers": {key: _judge(key, splits, params) for key in keys},
    }


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="The file to write.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replaces a value of params.yaml."),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="PEER", help=f"One of {', '.join(PEERS)}.")
    ] = None,
) -> None:
    """Train the peers, choose a setting of each on validation, and write test scores as JSON."""
    with reported_errors():
        params = with_settings("params.yaml", settings or [])
        if unknown := sorted(set(only or []) - set(PEERS)):
            raise ParamsError(f"--only {unknown[0]}: no such peer; known: {', '.join(PEERS)}")
        keys = [key for key in PEERS if not only or key in only]
        if "fasttext" in keys and find_spec("floret") is None:
            raise ParamsError("fasttext needs floret: `pip install floret`, or use --only")
        write_json(out, compare(params, keys))


if __name__ == "__main__":
    app()
