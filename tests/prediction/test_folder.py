"""Model folders are written in the same bytes each time, and changed files are rejected."""

from __future__ import annotations

import json
import operator
import os
import pickle
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from rubro.base.errors import DataError, FileError
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model, ModelColumn
from support.tiny_models import MakeModel, rehash, with_tree

pytest_plugins = ["support.tiny_models"]

TABLE = "token_vectors.table.weight"
SCALE = "token_vectors.table.scale"
FILES = ["model.json", "vocabulary.json", "mlp.safetensors", "cnn.safetensors", "svm.safetensors"]
TITLES = ["apple drill", "", "zzz red boot"]
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> Model:
    """An ensemble of all three kinds, with float32 tables in the MLP and int8 in the CNN."""
    mlp, both = make_model("mlp"), make_model("cnn", "svm", table_precision="int8")
    members = mlp.description.members | both.description.members
    description = both.description.model_copy(update={"members": members})
    return Model(description, both.vocabulary, mlp.tensors | both.tensors)


@pytest.fixture(scope="module")
def whole(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "ensemble"
    model.save(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy of the model folder, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "ensemble"))


def assert_rejected(path: Path, fragment: str = "") -> None:
    """Check that the folder of the file is rejected with a message that names the file."""
    with pytest.raises(FileError) as caught:
        Classifier.load(path.parent)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    assert "\n" not in message
    assert fragment in message, message


@pytest.mark.parametrize(
    ("names", "overrides"),
    [
        (["mlp"], {"table_precision": "float32", "hidden_sizes": [], "pooling": "mean"}),
        (["mlp"], {"table_precision": "int8", "bigram_buckets": 0, "token_weighting": "idf"}),
        (["cnn"], {"table_precision": "float16", "hidden_sizes": [7, 5]}),
        (["cnn"], {"table_precision": "int8", "linear_path": False, "filter_sizes": [4, 1]}),
        (["svm"], {}),
        (["svm"], {"bigram_buckets": 0}),
        (["cnn", "svm", "mlp"], {}),
    ],
)
def test_a_saved_model_is_loaded_and_saved_again_in_the_same_bytes(
    names: list[str], overrides: dict[str, Any], make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(*names, **overrides)
    model.save(tmp_path / "deep" / "once")
    model.save(tmp_path / "twice")
    loaded = Model.load(tmp_path / "deep" / "once")
    loaded.save(tmp_path / "again")
    loaded.save(tmp_path / "deep" / "once")
    written = {path.name for path in (tmp_path / "twice").iterdir()}
    assert written == {"model.json", *loaded.description.files}
    assert loaded.description.model_copy(update={"files": {}}) == model.description
    assert list(loaded.vocabulary.items()) == list(model.vocabulary.items())
    for name, tensors in model.tensors.items():
        assert loaded.tensors[name].keys() == tensors.keys()
        for key, tensor in tensors.items():
            np.testing.assert_array_equal(loaded.tensors[name][key], tensor, strict=True)
    for file in (tmp_path / "twice").iterdir():
        for other in ("deep/once", "again"):
            assert (tmp_path / other / file.name).read_bytes() == file.read_bytes()
    np.testing.assert_array_equal(
        Classifier(loaded).logits(TITLES), Classifier(model).logits(TITLES)
    )


# All files


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_an_error(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert_rejected(folder / name, "no such file")
    (folder / name).mkdir()
    assert_rejected(folder / name, "no such file")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        *(b"", b"\0" * 100, b"{}", b"[1]", b"null", b'["\xff"]', b"[" * 9999, b'{"a":' * 9999),
        *(0.02, 0.5, 0.9),  # the share of the content that is left
    ],
    ids=lambda damage: ascii(damage)[:12],
)
def test_other_or_truncated_content_is_rejected(
    folder: Path, name: str, damage: bytes | float
) -> None:
    content = (folder / name).read_bytes()
    if isinstance(damage, float):
        damage = content[: int(len(content) * damage)]
    (folder / name).write_bytes(damage)
    if name != "model.json":
        rehash(folder)
    if (name, damage) == ("vocabulary.json", b"{}"):
        assert_rejected(folder / "model.json", "subwords: the vocabulary is empty")
    else:
        assert_rejected(folder / name)


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_of_another_model_is_rejected(folder: Path, model: Model, name: str) -> None:
    """The other file is valid and fits the model, as if the folder changed while it was read."""
    other = folder.with_name("other")
    tensors = {key: {k: v.copy() for k, v in value.items()} for key, value in model.tensors.items()}
    for arrays in tensors.values():
        for array in arrays.values():
            if array.dtype == np.float32:
                array += np.float32(0.5)
    words = {word: count + 1 for word, count in model.vocabulary.items()}
    replace(model, vocabulary=words, tensors=tensors).save(other)
    shutil.copy(other / name, folder / name)
    assert_rejected(folder / name, "SHA-256")
    Classifier.load(other)


@pytest.mark.parametrize("name", FILES)
def test_a_sparse_file_of_100_gigabytes_is_rejected_by_its_size(folder: Path, name: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.truncate(folder / name, 10**11)
    assert_rejected(folder / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_files_that_are_overwritten_later_do_not_change_a_loaded_model(folder: Path) -> None:
    loaded = Classifier.load(folder)
    expected = Classifier.load(folder).logits(TITLES)
    for name in FILES:
        (folder / name).write_bytes(b"")
    np.testing.assert_array_equal(loaded.logits(TITLES), expected)


@pytest.mark.parametrize("member", ["mlp", "cnn", "svm"])
@pytest.mark.filterwarnings("error")
def test_finite_weights_whose_sums_overflow_are_an_error(folder: Path, member: str) -> None:
    path = folder / f"{member}.safetensors"
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and name != SCALE and not name.startswith("bigrams"):
            tensors[name] = np.sign(tensor) * np.finfo(tensor.dtype).max
    save_file(tensors, path)
    rehash(folder)
    classifier = Classifier.load(folder)
    for ask in (classifier.predict, classifier.predict_proba, classifier.top):
        with pytest.raises(DataError, match=f"member {member} overflow"):
            ask(TITLES)
    with pytest.raises(DataError, match=f"member {member} overflow"):
        classifier.explain(TITLES[0])


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["pickle", "torch.save"])
def test_a_pickle_is_rejected_and_not_executed(folder: Path, name: str, form: str) -> None:
    payload, path = _Payload(folder / "executed"), folder / name
    if form == "pickle":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path)
    if name != "model.json":
        rehash(folder)
    assert_rejected(path)
    assert not payload.mark.exists()
    pickle.loads(pickle.dumps(payload))  # proves that the payload works
    assert payload.mark.exists()


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_are_rejected_or_harmless(folder: Path, name: str) -> None:
    """A flipped bit in a weight is a valid weight, but it must not cause any other error."""
    content, random = (folder / name).read_bytes(), np.random.default_rng(7)
    for _ in range(80):
        flipped = bytearray(content)
        for place in random.integers(0, min(len(content), 2000), 2):
            flipped[place] ^= 1 << random.integers(8)
        (folder / name).write_bytes(flipped)
        if name != "model.json":
            rehash(folder)
        try:
            classifier = Classifier.load(folder)
        except DataError as error:
            assert str(error).startswith(str(folder)), error
        else:
            with np.errstate(all="ignore"):
                assert classifier.logits(TITLES).shape[0] == len(TITLES)


# model.json


def put(path: Path, keys: str, value: Any) -> None:
    """Change a key of a JSON file, or remove it if the value is None."""
    content = json.loads(path.read_text())
    *sections, last = keys.split("/")
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
        ("format", "rubro-1", "format: Input should be 'rubro-2'"),
        ("name", None, "name: Field required"),
        ("author", "x", "author: Extra inputs are not permitted"),
        ("labels", [], "labels: List should have at least 1 item"),
        ("labels", ["A", "B", "C", "A"], "a label is listed twice"),
        ("labels", ["A", "B", "C", 5], "labels: 3: Input should be a valid string"),
        ("text/max_tokens", 0, "text: max_tokens: Input should be greater than or equal to 1"),
        ("text/bigram_buckets", -1, "text: bigram_buckets: "),
        ("text/bigram_buckets", 2**31, "text: bigram_buckets: Input should be less than"),
        ("subwords/min_n", 0, "subwords: min_n: "),
        ("subwords/buckets", 0, "subwords: n-grams have impossible lengths or no buckets"),
        ("subwords/buckets", -1, "subwords: buckets: "),
        ("subwords/buckets", 2**31, "subwords: buckets: "),
        ("subwords/titles", 0, "subwords: titles: "),
        ("subwords/titles", 10**400, "subwords: titles: "),
        ("members", {}, "members: Dictionary should have at least 1 item"),
        ("members/mlp/kind", "tree", "members: mlp: "),
        ("members/mlp/kind", None, "members: mlp: "),
        ("members/mlp/kind", "svm", "members: mlp: svm: "),
        ("members/mlp/weight", -0.1, "weight: Input should be greater than or equal to 0"),
        ("members/mlp/weight", 1e300, "weight: Input should be less than or equal to 1000"),
        ("members/mlp/weight", float("nan"), "weight: "),
        ("members/mlp/weight", "1", "weight: "),
        ("members/mlp/vector_size", 8.5, "vector_size: Input should be a valid integer"),
        ("members/mlp/pooling", "max", "pooling: "),
        ("members/mlp/table_precision", "float8", "table_precision: "),
        ("members/mlp/hidden_sizes", [-4], "hidden_sizes: 0: "),
        ("members/mlp/hidden_sises", [4], "hidden_sises: Extra inputs are not permitted"),
        ("members/cnn/filters", 0, "filters: "),
        ("members/cnn/filter_sizes", [], "filter_sizes: "),
        ("members/cnn/filter_sizes", [0], "filter_sizes: 0: "),
        ("members/cnn/linear_path", "yes", "linear_path: "),
        ("members/svm/weights", -1, "weights: Input should be greater than or equal to 0"),
        ("objective", "recall", "objective: Input should be 'balanced_accuracy', 'accuracy' or "),
        ("decisions", {"accuracy": {"shift": "1"}}, "decisions: accuracy: shift: "),
        ("decisions", {"accuracy": {"shift": 1.0}}, "category_titles: "),
        ("category_titles", [10**400, 1, 1, 1], "category_titles: 0: "),
        (
            "decisions",
            {"accuracy": {"calibration": {"temperature": 0}}},
            "temperature: Input should be greater than or ",
        ),
        (
            "decisions",
            {"accuracy": {"calibration": {"slope_above": 0}}},
            "slope_above: Input should be greater than 0",
        ),
        ("files", {}, "files: no SHA-256 of vocabulary.json"),
        ("files/svm.safetensors", None, "files: no SHA-256 of svm.safetensors"),
        ("files/svm.safetensors", "0" * 63, "files: svm.safetensors: String should match pattern"),
    ],
)
def test_an_invalid_model_json_is_rejected(
    folder: Path, key: str, value: Any, fragment: str
) -> None:
    put(folder / "model.json", key, value)
    assert_rejected(folder / "model.json", fragment)


@pytest.mark.parametrize(
    ("key", "value", "fragment"),
    [
        ("text/columns/1/name", "brand", "text: a column is listed twice"),
        ("text/columns/1/name", "title", "text: a column is listed twice"),
        ("text/columns/0/max_tokens", -1, "text: columns: 0: max_tokens: "),
        ("text/columns/1/bounds", [2.0, 1.0], "the bounds of column 'price' do not ascend"),
        ("text/columns/1/bounds", [float("nan")], "text: columns: 1: bounds: 0: "),
        ("text/columns/1", None, "text: columns: 1: "),
        ("tree/paths/Phone", ["Food", "Fruit"], "tree: two categories have the same path"),
        ("tree/paths/Phone", None, "tree: its categories are not the labels"),
        ("tree/paths/Phone", [], "tree: paths: Phone: "),
        ("tree/separator", "", "tree: separator: "),
        ("tree/order", "auto", "tree: order: "),
    ],
)
def test_invalid_columns_and_trees_are_rejected(
    make_model: MakeModel, tmp_path: Path, key: str, value: Any, fragment: str
) -> None:
    price = ModelColumn(name="price", bounds=[1.0, 2.0], max_tokens=1)
    columns = [ModelColumn(name="brand", max_tokens=5), price]
    with_tree(make_model("svm", text_columns=columns)).save(tmp_path)
    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    *parents, last = [int(name) if name.isdigit() else name for name in key.split("/")]
    holder = reduce(operator.getitem, parents, content)
    if value is None and last == "Phone":
        del holder[last]
    else:
        holder[last] = value
    path.write_text(json.dumps(content))
    assert_rejected(path, fragment)


@pytest.mark.parametrize(
    "name", ["../svm", "a/b", "..", "", "a\0b", "a" * 65, "ñ", "a\n"], ids=ascii
)
def test_a_member_name_that_could_leave_the_folder_is_rejected(folder: Path, name: str) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    content["members"][name] = content["members"].pop("svm")
    path.write_text(json.dumps(content))
    assert_rejected(path, "String should match pattern")


@pytest.mark.parametrize(
    ("key", "value", "file", "fragment"),
    [
        ("labels", ["A", "B", "C"], "mlp", "is F32 [4, 16], but must be F32 [3, 16]"),
        ("labels", list(map(str, range(2**15 + 1))), "mlp", "but must be F32 [32769, 16]"),
        ("text/bigram_buckets", 2**31 - 1, "mlp", "tensor bigrams.weight is F32 [64, 8]"),
        ("text/bigram_buckets", 0, "mlp", "unknown tensor 'bigrams.weight'"),
        ("subwords/buckets", 41, "mlp", "is F32 [61, 8], but must be F32 [62, 8]"),
        ("members/mlp/vector_size", 10**9, "mlp", "must be F32 [61, 1000000000]"),
        ("members/mlp/vector_size", 10**30, "mlp", "tensor "),
        ("members/mlp/hidden_sizes", [10**9], "mlp", "tensor dense.0."),
        ("members/mlp/hidden_sizes", [10**30, 10**30], "mlp", "no tensor 'dense.2."),
        ("members/mlp/hidden_sizes", [], "mlp", "unknown tensor 'dense.1."),
        ("members/mlp/table_precision", "int8", "mlp", "no tensor 'bigrams.scale'"),
        ("members/mlp/table_precision", "float16", "mlp", "must be F16 [61, 8]"),
        ("members/cnn/filters", 10**30, "cnn", "tensor "),
        ("members/cnn/filter_sizes", [10**30], "cnn", "unknown tensor 'filters.1.bias'"),
        ("members/cnn/filter_sizes", [2, 1, 3], "cnn", "tensor filters.0.weight is F32 [8, 8]"),
        ("members/cnn/linear_path", False, "cnn", "unknown tensor 'bigrams.scale'"),
        ("members/svm/weights", 10**30, "svm", "tensor categories is I16"),
    ],
)
def test_sizes_that_do_not_fit_the_weights_are_rejected_without_allocating_memory(
    folder: Path, key: str, value: Any, file: str, fragment: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    put(folder / "model.json", key, value)
    assert_rejected(folder / f"{file}.safetensors", fragment)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize(
    ("text", "again", "key"),
    [
        ('"format": "rubro-2"', '"format": "rubro-2", "format": "rubro-2"', "format"),
        ('"kind": "mlp"', '"kind": "mlp", "kind": "mlp"', "kind"),
        ('"apple":', '"apple": 1, "apple":', "apple"),
    ],
)
def test_a_repeated_key_is_rejected(folder: Path, text: str, again: str, key: str) -> None:
    path = folder / ("vocabulary.json" if key == "apple" else "model.json")
    content = path.read_text()
    assert text in content
    path.write_text(content.replace(text, again))
    if key == "apple":
        rehash(folder)
    assert_rejected(path, f"'{key}' ")


def test_information_about_the_training_may_have_any_content(folder: Path) -> None:
    put(folder / "model.json", "members/mlp/training", {"anything": [1, {"at": "all"}]})
    loaded = Model.load(folder)
    assert loaded.description.members["mlp"].training == {"anything": [1, {"at": "all"}]}


# vocabulary.json


def test_a_vocabulary_of_another_size_than_the_tables_is_rejected(folder: Path) -> None:
    path = folder / "vocabulary.json"
    words = json.loads(path.read_text())
    fewer = dict(list(words.items())[:-1])
    for changed in (fewer, {**words, "another": 1}):
        path.write_text(json.dumps(changed))
        rehash(folder)
        assert_rejected(folder / "mlp.safetensors", f"tensor {TABLE} is F32 [61, 8]")


@pytest.mark.parametrize(
    ("count", "file", "fragment"),
    [
        (0, "vocabulary", "Input should be greater than or equal to 1"),
        ("3", "vocabulary", "apple: "),
        (101, "model", "a word occurs in more titles"),
        (10**30, "model", "a word occurs in more titles"),
    ],
)
def test_an_impossible_number_of_titles_with_a_word_is_rejected(
    folder: Path, count: Any, file: str, fragment: str
) -> None:
    path = folder / "vocabulary.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps({**words, "apple": count}))
    rehash(folder)
    assert_rejected(folder / f"{file}.json", fragment)


# Weights


def with_value(value: float, position: int = 0) -> Change:
    def change(tensor: np.ndarray) -> np.ndarray:
        tensor.reshape(-1)[position] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("name", "tensor", "changed", "fragment"),
    [
        ("mlp", TABLE, with_value(np.nan), f"tensor {TABLE} "),
        ("mlp", "dense.0.bias", with_value(np.inf), "tensor dense.0.bias "),
        ("svm", "weights", with_value(np.nan), "tensor weights "),
        ("cnn", SCALE, with_value(3.4e38), "overflows"),
        ("cnn", SCALE, lambda t: t[:1], "scale is F32 [1, 1]"),
        ("cnn", TABLE, lambda t: t.astype(np.float32), "is F32 [61, 8], but must be I8 [61, 8]"),
        ("mlp", TABLE, lambda t: None, f"no tensor '{TABLE}'"),
        ("mlp", TABLE, lambda t: t[:-1], f"tensor {TABLE} is F32 [60, 8]"),
        ("mlp", TABLE, lambda t: t.T, "is F32 [8, 61]"),
        ("mlp", TABLE, lambda t: t[None], "is F32 [1, 61, 8]"),
        ("mlp", TABLE, lambda t: t.astype(np.float64), "is F64 [61, 8]"),
        ("svm", "weights", lambda t: t[1:], "tensor weights is F16"),
        ("svm", "categories", lambda t: t.astype(np.int32), "tensor categories is I32"),
        ("svm", "categories", with_value(-1), "categories is out of range"),
        ("svm", "categories", with_value(4), "categories is out of range"),
        ("svm", "starts", with_value(1), "starts is out of range"),
        ("svm", "starts", lambda t: t[::-1], "starts is out of range"),
        ("svm", "starts", lambda t: np.append(t[:-1], t[-1] + 1), "starts is out of range"),
        ("svm", "starts", with_value(-1, -2), "starts is out of range"),
        ("svm", "starts", with_value(10**6, -2), "starts is out of range"),
        ("svm", "bias", lambda t: t[:-1], "tensor bias is F32 [3], but must be F32 [4]"),
    ],
)
def test_changed_weights_are_rejected(
    folder: Path, name: str, tensor: str, changed: Change, fragment: str
) -> None:
    path = folder / f"{name}.safetensors"
    tensors = load_file(path)
    new = changed(tensors.pop(tensor).copy())
    if new is not None:
        tensors[tensor] = np.array(new, order="C")
    save_file(tensors, path)
    rehash(folder)
    assert_rejected(path, fragment)


def test_an_unknown_file_is_ignored(folder: Path, whole: Path) -> None:
    (folder / "tree.safetensors").write_bytes(b"nothing")
    np.testing.assert_array_equal(
        Classifier.load(folder).logits(TITLES), Classifier.load(whole).logits(TITLES)
    )
