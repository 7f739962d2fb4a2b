"""Files between stages that somebody changed: one error that names the file, and no code is run."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from rubro.base.errors import DataError
from rubro.base.params import CnnParams, MlpParams, Params, TrainParams
from rubro.data.splits import load_labels, load_split, save_splits
from rubro.features.embedding import Embedding, Subwords
from rubro.features.titles import TitleFeatures, featurize, load_features, save_features
from rubro.models.cnn import Cnn
from rubro.models.folder import Origin, load_model, save_model
from rubro.models.layers import ModelShape
from rubro.models.mlp import Mlp
from rubro.models.svm import Svm
from rubro.training.svm import fit_svm

pytest_plugins = ["helpers"]

KINDS: dict[str, Any] = {"mlp": Mlp, "cnn": Cnn}
ORIGIN = Origin.of_here(torch.device("cpu"), devices=1)
WEIGHTS = "model.safetensors"
TABLE = "token_vectors.table.weight"
Change = Callable[[Any], Any]


@pytest.fixture(scope="session")
def folders(
    tmp_path_factory: pytest.TempPathFactory,
    make_params: Callable[..., Params],
    make_features: Callable[..., Any],
    hyperparameters: Callable[..., TrainParams],
    embedding: Embedding,
    labels: list[str],
) -> Path:
    """What the stages leave: mlp (float32), cnn (int8), embedding, features and subset."""
    folder = tmp_path_factory.mktemp("whole")
    params = make_params()
    rows, size = embedding.table.shape
    shape = ModelShape(rows, size, 64, len(labels))
    features, distinct_tokens = make_features(["apple red", "", "zzz drill saw"], [0, 1, 2])
    svm = fit_svm(
        features, distinct_tokens, embedding.subwords, 64, len(labels), params.train_svm, seed=1
    )
    svm.save(folder / "svm")
    for name, kind in KINDS.items():
        chosen = hyperparameters(name, table_precision="float32" if name == "mlp" else "int8")
        model = kind(shape, chosen)
        torch.nn.init.normal_(model.token_vectors.table.weight)
        if name == "cnn":
            model.svm = svm
        save_model(
            folder / name,
            name,
            model,
            replace(shape, svm_weights=len(svm.weights) if model.svm else 0),
            chosen,
            labels,
            embedding.subwords,
            params.tokens,
            params.featurize,
            ORIGIN,
        )
    embedding.save(folder / "embedding")
    save_features(folder / "features", {"train": features}, distinct_tokens)
    table = pd.DataFrame(
        {
            "title": ["apple", "drill"],
            "category": labels[:2],
            "label_quality": ["reliable", "unreliable"],
            "tokenized_title": ["apple", None],
        }
    )
    save_splits(folder / "subset", {"train": table}, labels)
    return folder


@pytest.fixture
def copy(folders: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders, tmp_path / "copy"))


LOADERS: dict[str, Callable[[Path], Any]] = {
    "mlp": lambda folder: load_model(folder, Mlp, MlpParams),
    "cnn": lambda folder: load_model(folder, Cnn, CnnParams),
    "embedding": Embedding.load,
    "svm": lambda folder: Svm.load(folder, 61, 64, 4),
    "features": lambda folder: load_features(folder, "train"),
    "subset": lambda folder: (load_split(folder, "train"), load_labels(folder)),
}
FILES = [
    *(f"{kind}/{name}" for kind in KINDS for name in ("model.json", WEIGHTS)),
    "mlp/vocabulary.json",
    "mlp/subwords.json",
    "embedding/vocabulary.json",
    "embedding/subwords.json",
    "embedding/table.safetensors",
    "svm/svm.safetensors",
    "features/tokens.safetensors",
    "features/train.safetensors",
    "subset/train.parquet",
    "subset/labels.json",
]


def load(path: Path) -> Any:
    """Whatever reads this file."""
    return LOADERS[path.parent.name](path.parent)


def refused(path: Path, *fragments: str) -> None:
    with pytest.raises(DataError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    assert "`dvc repro`" in message
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize("name", FILES)
def test_files_as_a_stage_wrote_them_are_read(copy: Path, name: str) -> None:
    load(copy / name)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refused(copy / name, "no such file")
    (copy / name).mkdir()
    refused(copy / name, "no such file")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"{}", b"[1]", b"null", b'["\xff"]', b"[" * 9999]
)
def test_other_content_is_refused(copy: Path, name: str, content: bytes) -> None:
    (copy / name).write_bytes(content)
    refused(copy / name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(copy: Path, name: str, share: float) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[: int(len(content) * share)])
    refused(copy / name)


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["pickle", "torch.save", "zip"])
def test_a_pickle_in_place_of_a_file_is_refused_and_not_run(
    copy: Path, name: str, form: str
) -> None:
    payload, path = _Payload(copy / "executed"), copy / name
    if form == "pickle":
        path.write_bytes(pickle.dumps(payload))
    elif form == "torch.save":
        torch.save(payload, path)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("data.pkl", pickle.dumps(payload))
    refused(path)
    assert not payload.mark.exists()
    pickle.loads(pickle.dumps(payload))  # it would have shown
    assert payload.mark.exists()


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_refused_or_harmless(copy: Path, name: str) -> None:
    """A flipped bit in a weight is a weight; it may not be a traceback."""
    content, random = (copy / name).read_bytes(), np.random.default_rng(7)
    for _ in range(60):
        flipped = bytearray(content)
        for place in random.integers(0, min(len(content), 2000), 2):
            flipped[place] ^= 1 << random.integers(8)
        (copy / name).write_bytes(flipped)
        try:
            load(copy / name)
        except DataError as error:
            assert str(error).startswith(str(copy / Path(name).parent)), error


# model.json


def put(path: Path, keys: str, value: Any) -> None:
    content = json.loads(path.read_text())
    *sections, last = keys.split(".")
    section = content
    for key in sections:
        section = section[key]
    if value is None:
        del section[last]
    else:
        section[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value", "fragment"),
    [
        ("shape", None, "shape: Field required"),
        ("labels", None, "labels: Field required"),
        ("shape.rows", None, "shape: rows: Field required"),
        ("hyperparameters.dropout", None, "hyperparameters: dropout: Field required"),
        ("author", "x", "author: Extra inputs are not permitted"),
        ("shape.height", 3, "shape: height: "),
        ("hyperparameters.dropuot", 0.1, "dropuot: Extra inputs are not permitted"),
        ("shape.rows", "61", "shape: rows: Input should be a valid integer"),
        ("shape.rows", 61.5, "shape: rows: "),
        ("shape.rows", -1, "shape: rows: Input should be greater than or equal to 1"),
        ("shape.rows", 10**9, "shape.rows is 1000000000"),
        ("shape.rows", 10**30, "shape.rows is 1000000000"),
        ("shape.vector_size", 10**9, "tensor "),
        ("shape.vector_size", 10**18, "sizes that no model can have"),
        ("shape.vector_size", 10**30, "sizes that no model can have"),
        ("shape.bigram_buckets", 10**8, "tensor bigrams.weight is F32 [64, 8]"),
        ("shape.bigram_buckets", 0, "unknown tensor 'bigrams.weight'"),
        ("shape.classes", 5, "4 labels, and shape.classes is 5"),
        ("shape.svm_weights", -1, "shape: svm_weights: Input should be greater than or equal to 0"),
        ("shape.svm_weights", 5, "no tensor 'svm.bias'"),
        ("shape.svm_weights", 10**30, "sizes that no model can have"),
        ("hyperparameters.hidden_sizes", [10**9], "tensor dense.0.weight"),
        ("hyperparameters.hidden_sizes", [10**10, 10**10], "sizes that no model can have"),
        ("hyperparameters.hidden_sizes", [16, 16], "tensor "),
        ("hyperparameters.hidden_sizes", [], "no tensor 'dense.1."),
        ("hyperparameters.table_precision", "int8", "no tensor 'bigrams.scale'"),
        ("hyperparameters.table_precision", "float16", "and F16 [61, 8] is needed"),
        ("hyperparameters.table_precision", "float8", "table_precision: "),
        ("hyperparameters.dropout", 1.5, "dropout: "),
        ("model", "tree", "model: "),
        ("origin", None, "origin: "),
        ("origin.devices", 0, "origin: devices: Input should be greater than or equal to 1"),
        ("labels", ["A", "B", "C", "A"], "a label is there twice"),
        ("labels", ["A", "B", "C", 5], "labels: 3: Input should be a valid string"),
        ("labels", ["A", "B", "C"], "3 labels, and shape.classes is 4"),
        ("labels", "ABCD", "labels: "),
        ("calibration", None, "calibration: Field required"),
        ("calibration.low", None, "calibration: low: Field required"),
        ("calibration.low", 0, "calibration: low: Input should be greater than 0"),
        ("calibration.high", -1.0, "calibration: high: Input should be greater than 0"),
        ("calibration.high", float("nan"), "calibration: high: "),
        ("calibration.low", float("inf"), "calibration: low: "),
        ("calibration.low_share", 1.5, "calibration: low_share: "),
    ],
)
def test_a_changed_model_json_is_refused(copy: Path, key: str, value: Any, fragment: str) -> None:
    path = copy / "mlp" / "model.json"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    put(path, key, value)
    with pytest.raises(DataError) as caught:
        load(path)
    assert fragment in str(caught.value)
    assert str(copy / "mlp") in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize(
    ("tensor", "value", "problem"),
    [
        ("starts", -1, "starts leads out of its weights"),
        ("starts", 10**6, "starts leads out of its weights"),
        ("categories", -1, "categories names a category that there is not"),
        ("categories", 4, "categories names a category that there is not"),
        ("weights", np.nan, "holds NaN or infinity"),
    ],
)
def test_an_svm_that_leads_nowhere_is_refused(
    copy: Path, tensor: str, value: float, problem: str
) -> None:
    for file, prefix in (("svm/svm.safetensors", ""), (f"cnn/{WEIGHTS}", "svm.")):
        tensors = load_file(copy / file)
        tensors[prefix + tensor][-2] = value
        save_file(tensors, copy / file)
        refused(copy / file, problem)


def test_an_svm_of_more_weights_than_categories_is_refused(copy: Path) -> None:
    tensors = load_file(copy / "svm/svm.safetensors")
    save_file({**tensors, "weights": tensors["weights"][1:]}, copy / "svm/svm.safetensors")
    refused(copy / "svm/svm.safetensors", "not of the same number of weights")


@pytest.mark.parametrize("key", ["filter_sizes", "filters"])
def test_a_cnn_of_huge_filters_is_refused(copy: Path, key: str) -> None:
    for size in (10**9, 10**30):
        put(copy / "cnn/model.json", f"hyperparameters.{key}", [size] if "_" in key else size)
        with pytest.raises(DataError, match=r"sizes that no model can have|tensor "):
            load(copy / "cnn/model.json")


def test_a_model_of_other_labels_than_the_titles_is_refused(copy: Path, labels: list[str]) -> None:
    load_model(copy / "mlp", Mlp, MlpParams, labels)
    with pytest.raises(DataError, match="its labels are not those of the titles"):
        load_model(copy / "mlp", Mlp, MlpParams, labels[::-1])


@pytest.mark.parametrize("name", ["mlp/vocabulary.json", "embedding/vocabulary.json"])
def test_another_vocabulary_than_the_table_has_rows_for_is_refused(copy: Path, name: str) -> None:
    path = copy / name
    words = json.loads(path.read_text())
    first, *_, last = words
    shorter = {word: count for word, count in words.items() if word != last}
    for changed in (shorter, {**words, "another": 1}):
        path.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=r"vocabulary and n-grams make|tensor table is F32"):
            load(path)
    path.write_text(json.dumps({**words, last: 0}))
    refused(path, "Input should be greater than or equal to 1")
    path.write_text(json.dumps({**words, last: 10**6}))
    refused(path, "a word is in more titles than there are")
    path.write_text(json.dumps(words).replace(f'"{last}"', f'"{first}"'))
    refused(path, "is there twice")


def test_a_key_that_is_there_twice_is_refused(copy: Path) -> None:
    path = copy / "mlp" / "model.json"
    text = path.read_text()
    path.write_text(text.replace('"model": "mlp",', '"model": "mlp", "model": "mlp",'))
    refused(path, "'model' is there twice")


@pytest.mark.parametrize(
    "ngrams",
    [
        {"min_n": 3, "max_n": 4, "buckets": -1, "titles": 100},
        {"min_n": 3, "max_n": 4, "buckets": 0, "titles": 100},
        {"min_n": 3, "max_n": 4, "buckets": 2**31, "titles": 100},
        {"min_n": 3, "max_n": 4, "buckets": 40.5, "titles": 100},
        {"min_n": 3, "max_n": 2, "buckets": 40, "titles": 100},
        {"min_n": 0, "max_n": 4, "buckets": 40, "titles": 100},
        {"min_n": 3, "max_n": 4, "titles": 100},
        {"min_n": 3, "max_n": 4, "buckets": 40},
        {"min_n": 3, "max_n": 4, "buckets": 40, "titles": 0},
        {"min_n": 3, "max_n": 4, "buckets": 40, "titles": 100, "hash": "md5"},
    ],
)
def test_ngrams_that_cannot_be_are_refused(copy: Path, ngrams: dict[str, Any]) -> None:
    path = copy / "embedding/subwords.json"
    path.write_text(json.dumps(ngrams))
    with pytest.raises(DataError, match=r"subwords\.json"):
        Subwords.load(path.parent)


# safetensors


def change(path: Path, name: str, change: Change) -> None:
    tensors = load_file(path)
    changed = change(tensors[name].copy())
    if changed is None:
        del tensors[name]
    else:
        tensors[name] = np.array(changed, order="C")
    save_file(tensors, path)


def with_first(value: float) -> Change:
    def put(tensor: np.ndarray) -> np.ndarray:
        tensor.reshape(-1)[:1] = value
        return tensor

    return put


@pytest.mark.parametrize(
    ("name", "tensor", "changed", "fragment"),
    [
        ("mlp", TABLE, with_first(np.nan), "holds NaN or infinity"),
        ("mlp", "dense.0.bias", with_first(np.inf), "holds NaN or infinity"),
        ("cnn", "token_vectors.table.scale", with_first(np.nan), "holds NaN or infinity"),
        ("cnn", "token_vectors.table.scale", with_first(3.4e38), "make infinity"),
        ("cnn", "token_vectors.table.scale", lambda t: t[:1], "scale is F32 [1, 1]"),
        ("cnn", TABLE, lambda t: t.astype(np.float32), "is F32 [61, 8], and I8 [61, 8]"),
        ("mlp", TABLE, lambda t: None, f"no tensor '{TABLE}'"),
        ("mlp", TABLE, lambda t: t[:-1], "tensor token_vectors.table.weight is F32 [60, 8]"),
        ("mlp", TABLE, lambda t: t.T, "is F32 [8, 61]"),
        ("mlp", TABLE, lambda t: t[None], "is F32 [1, 61, 8]"),
        ("mlp", TABLE, lambda t: t.astype(np.float64), "is F64 [61, 8]"),
        ("mlp", TABLE, lambda t: t.astype(np.int64), "is I64 [61, 8]"),
    ],
)
def test_changed_weights_are_refused(
    copy: Path, name: str, tensor: str, changed: Change, fragment: str
) -> None:
    path = copy / name / WEIGHTS
    change(path, tensor, changed)
    refused(path, fragment)


def test_a_tensor_too_many_is_refused(copy: Path) -> None:
    path = copy / "mlp" / WEIGHTS
    save_file({**load_file(path), "backdoor": np.zeros(3)}, path)
    refused(path, "unknown tensor 'backdoor'")


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        (with_first(np.nan), "holds NaN or infinity"),
        (lambda t: t[:-1], "tensor table is F32 [60, 8], and F32 [61, any] is needed"),
        (lambda t: t.astype(np.float16), "tensor table is F16"),
        (lambda t: t[:, :0], "the table is empty"),
        (lambda t: t[:, 0], "tensor table is F32 [61]"),
    ],
)
def test_a_changed_table_of_vectors_is_refused(copy: Path, changed: Change, fragment: str) -> None:
    path = copy / "embedding/table.safetensors"
    change(path, "table", changed)
    refused(path, fragment)


@pytest.mark.parametrize(
    ("name", "tensor", "changed", "fragment"),
    [
        ("train", "targets", with_first(-1), "a class is negative"),
        ("train", "targets", lambda t: t[:-1], "not of the same number of titles"),
        ("train", "targets", lambda t: t.astype(np.float32), "tensor targets is F32 [3]"),
        ("train", "reliable", lambda t: t[:0], "not of the same number of titles"),
        ("train", "has_oov", lambda t: t[None], "tensor has_oov is BOOL [1, 3]"),
        ("train", "tokens.offsets", with_first(1), "lists that are no lists"),
        ("train", "tokens.offsets", lambda t: t[::-1], "lists that are no lists"),
        ("train", "tokens.offsets", lambda t: t[:0], "lists that are no lists"),
        ("train", "tokens.offsets", lambda t: np.array([0, 5, 2, 5]), "lists that are no lists"),
        ("train", "bigrams.offsets", lambda t: t[:-1], "lists that are no lists"),
        ("train", "tokens.values", with_first(-1), "lists that are no lists"),
        ("train", "tokens.values", with_first(10**9), "a token is not in tokens.safetensors"),
        ("train", "bigrams.values", lambda t: None, "no tensor 'bigrams.values'"),
        ("tokens", "values", with_first(-5), "lists that are no lists"),
        ("tokens", "offsets", lambda t: t[:-1], "lists that are no lists"),
        ("tokens", "offsets", lambda t: t.astype(np.int32), "tensor offsets is I32"),
    ],
)
def test_changed_features_are_refused(
    copy: Path, name: str, tensor: str, changed: Change, fragment: str
) -> None:
    path = copy / "features" / f"{name}.safetensors"
    change(path, tensor, changed)
    refused(path, fragment)


def test_booleans_of_other_bytes_than_0_and_1_are_refused(copy: Path) -> None:
    path = copy / "features/train.safetensors"
    change(path, "reliable", lambda t: np.array([2, 0, 1], np.uint8).view(bool))
    refused(path, "tensor reliable holds bytes that are no booleans")


# Splits


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        (lambda t: t.drop(columns="title"), "no column 'title'"),
        (lambda t: t.assign(title=5), "column 'title' is not text"),
        (lambda t: t.assign(category=["A", None]), "column 'category' has gaps"),
        (lambda t: t.assign(category=None), "column 'category' is not text"),
        (lambda t: t.assign(tokenized_title=2.5), "column 'tokenized_title' is not text"),
        (lambda t: t.assign(title=[["a"], ["b"]]), "column 'title' is not text"),
    ],
)
def test_a_changed_split_is_refused(copy: Path, changed: Change, fragment: str) -> None:
    path = copy / "subset/train.parquet"
    changed(pd.read_parquet(path)).to_parquet(path)
    refused(path, fragment)


@pytest.mark.parametrize("changed", [["A", "A"], ["A", 5], {"A": 1}, "A", [["A"]]])
def test_changed_labels_are_refused(copy: Path, changed: Any) -> None:
    path = copy / "subset/labels.json"
    path.write_text(json.dumps(changed))
    refused(path)


def test_a_category_that_is_no_label_is_refused(copy: Path) -> None:
    table = load_split(copy / "subset", "train")
    with pytest.raises(DataError, match="category 'FRUIT' is not among the labels"):
        featurize(table, [["a"], ["b"]], ["TOOL"], None)  # type: ignore[arg-type]


def test_features_that_were_loaded_are_those_that_were_saved(copy: Path) -> None:
    (features,), rows = load_features(copy / "features", "train")
    assert isinstance(features, TitleFeatures)
    save_features(copy / "again", {"train": features}, rows)
    for name in ("train.safetensors", "tokens.safetensors"):
        assert (copy / "again" / name).read_bytes() == (copy / "features" / name).read_bytes()
