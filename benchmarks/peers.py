"""Train other classifiers on the same splits and measure them with the same metrics.

All peers are trained on the tokens of this project. Their settings include class weights, and every training
row of a category has the same weight. Of the settings of a peer, the one with the best objective on
validation titles is measured on test titles.

    python benchmarks/peers.py --set data.path=data/sample --out benchmarks/results/peers.json
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
from rubro.base.metric_names import CAPTIONS
from rubro.base.params import Params
from rubro.base.params_file import with_settings
from rubro.base.text import tokenise
from rubro.data.raw_titles import read_titles
from rubro.data.splits import SPLITS
from rubro.data.subset import make_subset
from rubro.evaluation.metrics import objective_metrics

Setting = dict[str, Any]
Splits = dict[str, tuple[list[str], np.ndarray]]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Setting that overrides params.yaml."),
]
_LABEL = "__label__"


@dataclass
class FastText:
    """Supervised fastText classifier, as implemented by its maintained fork floret."""

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
            # Several threads would give another model in each run. The seed is a C++ int.
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
    """A classifier of another library that this project is compared with.

    Attributes:
        name: Name in tables.
        vectoriser: Function that returns an unfitted vectoriser.
        classifier: Function from all parameters and a setting to an untrained classifier.
        grid: Candidate settings.
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
    """Return a TF-IDF vectoriser of words, word pairs and character n-grams of length 3 to 5."""
    characters = _tfidf(analyzer="char_wb", ngram_range=(3, 5))
    return FeatureUnion([("words", _words(2)), ("characters", characters)])


def _with_class_weights(grid: list[Setting]) -> list[Setting]:
    """Return a grid in which each setting occurs without and with balanced class weights."""
    return [*grid, *({**setting, "class_weight": "balanced"} for setting in grid)]


def _svc(params: Params, setting: Setting) -> LinearSVC:
    return LinearSVC(**setting, random_state=params.seed)


def _sgd(params: Params, setting: Setting) -> SGDClassifier:
    return SGDClassifier(**setting, random_state=params.seed, n_jobs=os.cpu_count())


PEERS = {
    "word_svc": Peer(
        "TF-IDF of words + LinearSVC",
        _words,
        _svc,
        _with_class_weights([{"C": 0.3}, {"C": 1.0}, {"C": 3.0}]),
    ),
    "word_char_svc": Peer(
        "TF-IDF of words and characters + LinearSVC",
        words_and_characters,
        _svc,
        _with_class_weights([{"C": 1.0}, {"C": 3.0}]),
    ),
    "word_char_sgd": Peer(
        "TF-IDF of words and characters + SGD",
        words_and_characters,
        _sgd,
        _with_class_weights(
            [
                {"loss": "log_loss", "alpha": 3e-6},
                {"loss": "log_loss", "alpha": 1e-5},
                {"loss": "hinge", "alpha": 3e-5},
                {"loss": "hinge", "alpha": 1e-4},
            ]
        ),
    ),
    "fasttext": Peer(
        "fastText supervised",
        FunctionTransformer,  # returns its input
        lambda params, setting: FastText(setting, params.seed),
        [
            {"epoch": 25, "lr": 0.5, "minn": 0, "maxn": 0},
            {"epoch": 25, "lr": 0.5, "minn": 3, "maxn": 5},
            {"epoch": 50, "lr": 0.5, "minn": 3, "maxn": 5},
        ],
    ),
}


def chosen_peers(only: list[str] | None, peers: Mapping[str, Peer]) -> list[str]:
    """Return the keys of the peers that the option --only names, or of all peers without the option.

    Raises:
        ParamsError: The option names an unknown peer.
    """
    if unknown := sorted(set(only or []) - set(peers)):
        raise ParamsError(f"--only {unknown[0]}: no such peer; known peers: {', '.join(peers)}")
    return [key for key in peers if not only or key in only]


@dataclass(frozen=True)
class Chosen:
    """The best of the classifiers trained with the settings of a peer.

    Attributes:
        setting: Setting that the classifier was trained with.
        vectoriser: Fitted vectoriser.
        classifier: Trained classifier.
        seconds: Time to fit the vectoriser and the classifier.
        validation: Scores on validation titles.
        tried: Validation score of each setting.
    """

    setting: Setting
    vectoriser: Any
    classifier: Any
    seconds: float
    validation: dict[str, float]
    tried: list[dict[str, Any]]

    def predict(self, titles: list[str]) -> np.ndarray:
        """Return the class index of each title (tokens joined by spaces)."""
        predicted: np.ndarray = self.classifier.predict(self.vectoriser.transform(titles))
        return predicted


def choose(key: str, peer: Peer, grid: list[Setting], splits: Splits, params: Params) -> Chosen:
    """Train a peer with each setting and return the best classifier on validation titles.

    Args:
        key: Key of the peer, for messages.
        peer: Peer to train.
        grid: Candidate settings.
        splits: Titles (tokens joined by spaces) and class indices by split.
        params: All parameters of params.yaml.
    """
    titles, targets = splits["train"]
    started = perf_counter()
    vectoriser = peer.vectoriser()
    train = vectoriser.fit_transform(titles)
    vectorised = perf_counter() - started
    validation = vectoriser.transform(splits["validation"][0])
    tried: list[dict[str, Any]] = []
    best: Chosen | None = None
    for setting in grid:
        started = perf_counter()
        classifier = peer.classifier(params, setting)
        classifier.fit(train, targets)
        seconds = vectorised + perf_counter() - started
        scores = objective_metrics(splits["validation"][1], classifier.predict(validation))
        score = scores[params.objective]
        tried.append({"setting": setting, f"validation_{params.objective}": score})
        shown = ", ".join(f"{name} {value}" for name, value in setting.items())
        say(f"{key}: {shown}: validation {CAPTIONS[params.objective]} {score:.4f}, {seconds:.1f} s")
        if best is None or score > best.validation[params.objective]:
            best = Chosen(setting, vectoriser, classifier, seconds, scores, tried)
    assert best is not None
    return best


def _compare(params: Params, keys: list[str]) -> dict[str, Any]:
    """Train and measure peers, and return the results for the JSON file."""
    raw = read_titles(params.data, params.subset.language)
    subset = make_subset(raw, params.subset, params.seed, params.data)
    for notice in raw.notices:
        say(notice)
    class_of = {label: index for index, label in enumerate(subset.labels)}
    splits: Splits = {}
    for name in SPLITS:
        table = subset.splits[name]
        titles = [" ".join(tokenise(title)) for title in table["title"]]
        splits[name] = titles, table["category"].map(class_of).to_numpy(np.int64)
    peers = {}
    for key in keys:
        chosen = choose(key, PEERS[key], PEERS[key].grid, splits, params)
        titles, targets = splits["test"]
        peers[key] = {
            "name": PEERS[key].name,
            "validation": chosen.validation,
            "setting": chosen.setting,
            "fit_seconds": round(chosen.seconds, 1),
            "test": objective_metrics(targets, chosen.predict(titles)),
            "tried": chosen.tried,
        }
    settings = params.model_dump(include={"seed", "objective", "data", "subset"})
    settings["data"]["path"] = Path(params.data.path).name
    rows = subset.summary["rows"]
    return {"settings": settings, "rows": rows, "classes": len(subset.labels), "peers": peers}


app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)


@app.command(help=__doc__)
def main(
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    settings: Overrides = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PEER", help=f"Peer to train: {', '.join(PEERS)}; default: all."),
    ] = None,
) -> None:
    with reported_errors():
        params = with_settings("params.yaml", settings or [])
        keys = chosen_peers(only, PEERS)
        if "fasttext" in keys and find_spec("floret") is None:
            raise ParamsError(
                "The peer fasttext needs floret: `pip install floret`, or choose other peers with --only"
            )
        write_json(out, _compare(params, keys))


if __name__ == "__main__":
    app()
