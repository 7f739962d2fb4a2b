"""Model folders: the same bytes each time, and nothing read that is not as it was written."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from rubro.base.errors import DataError
from rubro.prediction.classifier import Classifier
from rubro.prediction.folder import Model
from support.tiny_models import BIGRAM_BUCKETS, LABELS, MakeModel

pytest_plugins = ["support.tiny_models"]

TABLE = "token_vectors.table.weight"
SCALE = "token_vectors.table.scale"
FILES = ["model.json", "vocabulary.json", "mlp.safetensors", "cnn.safetensors", "svm.safetensors"]
TITLES = ["apple drill", "", "zzz red boot"]
Change = Callable[[Any], Any]


@pytest.fixture(scope="module")
def model(make_model: MakeModel) -> Model:
    """All three models in one: float32 tables in the MLP, int8 in the CNN."""
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


def refused(path: Path, fragment: str = "") -> None:
    """Its folder is not read, and the message names this file and what is wrong."""
    with pytest.raises(DataError) as caught:
        Classifier.load(path.parent)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    assert "`dvc repro`" in message
    assert "\n" not in message
    assert fragment in message, message


def test_a_model_folder_has_these_files(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == sorted(FILES)
    description = json.loads((whole / "model.json").read_text(encoding="utf-8"))
    assert description["format"] == "rubro-1"
    assert description["labels"] == LABELS
    assert list(description["members"]) == ["mlp", "cnn", "svm"]


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
def test_a_model_comes_back_as_it_was_in_the_same_bytes(
    names: list[str], overrides: dict[str, Any], make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(*names, **overrides)
    model.save(tmp_path / "deep" / "once")
    model.save(tmp_path / "twice")
    loaded = Model.load(tmp_path / "deep" / "once")
    loaded.save(tmp_path / "again")
    loaded.save(tmp_path / "deep" / "once")  # over the files that it was read from
    assert loaded.description == model.description
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


def test_tables_are_smaller_the_coarser_they_are(make_model: MakeModel, tmp_path: Path) -> None:
    sizes = {}
    for precision in ("float32", "float16", "int8"):
        model = make_model("mlp", bigram_buckets=9000, hidden_sizes=[], table_precision=precision)
        model.save(tmp_path / precision)
        sizes[precision] = (tmp_path / precision / "mlp.safetensors").stat().st_size
    assert sizes["float32"] / sizes["float16"] == pytest.approx(2, rel=0.05)
    assert sizes["float32"] / sizes["int8"] == pytest.approx(32 / 12, rel=0.05)  # 8 + a scale


# Any file


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    refused(folder / name, "no such file")
    (folder / name).mkdir()
    refused(folder / name, "no such file")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"{}", b"[1]", b"null", b'["\xff"]', b"[" * 9999, b'{"a":' * 9999],
    ids=lambda content: ascii(content[:6]),
)
def test_other_content_is_refused(folder: Path, name: str, content: bytes) -> None:
    path = folder / name
    path.write_bytes(content)
    if (name, content) == ("vocabulary.json", b"{}"):
        refused(folder / "model.json", "subwords: the vocabulary is empty")
    else:
        refused(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(folder: Path, name: str, share: float) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * share)])
    refused(folder / name)


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("form", ["pickle", "torch.save", "zip"])
def test_a_pickle_in_place_of_a_file_is_refused_and_not_run(
    folder: Path, name: str, form: str
) -> None:
    payload, path = _Payload(folder / "executed"), folder / name
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
def test_flipped_bits_are_refused_or_harmless(folder: Path, name: str) -> None:
    """A flipped bit in a weight is a weight; it may not be a traceback, nor out of bounds."""
    content, random = (folder / name).read_bytes(), np.random.default_rng(7)
    for _ in range(80):
        flipped = bytearray(content)
        for place in random.integers(0, min(len(content), 2000), 2):
            flipped[place] ^= 1 << random.integers(8)
        (folder / name).write_bytes(flipped)
        try:
            classifier = Classifier.load(folder)
        except DataError as error:
            assert str(error).startswith(str(folder)), error
        else:
            with np.errstate(all="ignore"):
                assert classifier.logits(TITLES).shape[0] == len(TITLES)


# model.json


def put(path: Path, keys: str, value: Any) -> None:
    """Change a key of a JSON file; None = remove it."""
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
        ("format", "rubro-2", "format: Input should be 'rubro-1'"),
        ("format", 1, "format: "),
        ("name", None, "name: Field required"),
        ("author", "x", "author: Extra inputs are not permitted"),
        ("labels", None, "labels: Field required"),
        ("labels", [], "labels: List should have at least 1 item"),
        ("labels", ["A", "B", "C", "A"], "a label is listed twice"),
        ("labels", ["A", "B", "C", 5], "labels: 3: Input should be a valid string"),
        ("labels", "ABCD", "labels: "),
        ("text", None, "text: Field required"),
        ("text/max_tokens", 0, "text: max_tokens: Input should be greater than or equal to 1"),
        ("text/max_tokens", 2.5, "text: max_tokens: "),
        ("text/max_title_length", None, "text: max_title_length: Field required"),
        ("text/bigram_buckets", -1, "text: bigram_buckets: "),
        ("text/bigram_buckets", 2**31, "text: bigram_buckets: Input should be less than"),
        ("text/bigram_buckets", 10**30, "text: bigram_buckets: Input should be less than"),
        ("text/language", "spanish", "text: language: Extra inputs are not permitted"),
        ("subwords/min_n", 0, "subwords: min_n: "),
        ("subwords/max_n", 2, "subwords: n-grams have impossible lengths"),
        ("subwords/buckets", 0, "subwords: n-grams have impossible lengths or no buckets"),
        ("subwords/buckets", -1, "subwords: buckets: "),
        ("subwords/buckets", 2**31, "subwords: buckets: "),
        ("subwords/buckets", 40.5, "subwords: buckets: "),
        ("subwords/titles", 0, "subwords: titles: "),
        ("subwords/titles", 1, "subwords: a word occurs in more titles"),
        ("subwords/titles", 10**400, "subwords: titles: "),
        ("subwords/titles", None, "subwords: titles: Field required"),
        ("subwords/hash", "md5", "subwords: hash: Extra inputs are not permitted"),
        ("members", {}, "members: Dictionary should have at least 1 item"),
        ("members", None, "members: Field required"),
        ("members/mlp/kind", "tree", "members: mlp: "),
        ("members/mlp/kind", None, "members: mlp: "),
        ("members/mlp/kind", "svm", "members: mlp: svm: "),
        ("members/mlp/weight", -0.1, "weight: Input should be greater than or equal to 0"),
        ("members/mlp/weight", 1e300, "weight: Input should be less than or equal to 1000"),
        ("members/mlp/weight", float("nan"), "weight: "),
        ("members/mlp/weight", "1", "weight: "),
        ("members/mlp/vector_size", "8", "vector_size: Input should be a valid integer"),
        ("members/mlp/vector_size", 8.5, "vector_size: "),
        ("members/mlp/pooling", "max", "pooling: "),
        ("members/mlp/token_weighting", None, "token_weighting: Field required"),
        ("members/mlp/table_precision", "float8", "table_precision: "),
        ("members/mlp/hidden_sizes", [-4], "hidden_sizes: 0: "),
        ("members/mlp/hidden_sises", [4], "hidden_sises: Extra inputs are not permitted"),
        ("members/cnn/filters", 0, "filters: "),
        ("members/cnn/filter_sizes", [], "filter_sizes: "),
        ("members/cnn/filter_sizes", [0], "filter_sizes: 0: "),
        ("members/cnn/linear_path", "yes", "linear_path: "),
        ("members/svm/weights", -1, "weights: Input should be greater than or equal to 0"),
        ("calibration/low", 0, "calibration: low: Input should be greater than or equal to 0.001"),
        ("calibration/low", 1e-300, "calibration: low: "),
        ("calibration/low", float("inf"), "calibration: low: "),
        ("calibration/high", -1.0, "calibration: high: "),
        ("calibration/high", float("nan"), "calibration: high: "),
        ("calibration/low_share", 1.5, "calibration: low_share: "),
        ("calibration/shape", "round", "calibration: shape: Extra inputs are not permitted"),
    ],
)
def test_a_changed_model_json_is_refused(folder: Path, key: str, value: Any, fragment: str) -> None:
    put(folder / "model.json", key, value)
    refused(folder / "model.json", fragment)


@pytest.mark.parametrize(
    "name",
    [
        "../svm",
        "a/b",
        "..",
        ".",
        "",
        "a\0b",
        "a" * 65,
        "a" * 5000,
        "svm.safetensors/..",
        "ñ",
        "a\n",
    ],
    ids=lambda name: ascii(name[:20]),
)
def test_a_member_whose_name_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    path = folder / "model.json"
    content = json.loads(path.read_text())
    content["members"][name] = content["members"].pop("svm")
    path.write_text(json.dumps(content))
    refused(path, "String should match pattern")


@pytest.mark.parametrize(
    ("key", "value", "file", "fragment"),
    [
        ("labels", ["A", "B", "C"], "mlp", "is F32 [4, 16], and F32 [3, 16] is needed"),
        ("labels", list("ABCDE"), "mlp", "is F32 [4, 16], and F32 [5, 16] is needed"),
        ("text/bigram_buckets", 2**31 - 1, "mlp", "tensor bigrams.weight is F32 [64, 8]"),
        ("text/bigram_buckets", 0, "mlp", "unknown tensor 'bigrams.weight'"),
        ("subwords/buckets", 41, "mlp", "is F32 [61, 8], and F32 [62, 8] is needed"),
        ("subwords/buckets", 2**31 - 1, "mlp", f"tensor {TABLE} is F32 [61, 8]"),
        ("members/mlp/vector_size", 10**9, "mlp", "is F32 [61, 8], and F32 [61, 1000000000]"),
        ("members/mlp/vector_size", 10**30, "mlp", "tensor "),
        ("members/mlp/hidden_sizes", [10**9], "mlp", "tensor dense.0."),
        ("members/mlp/hidden_sizes", [10**30, 10**30], "mlp", "no tensor 'dense.2."),
        ("members/mlp/hidden_sizes", [16, 16], "mlp", "no tensor 'dense.2."),
        ("members/mlp/hidden_sizes", [], "mlp", "unknown tensor 'dense.1."),
        ("members/mlp/table_precision", "int8", "mlp", "no tensor 'bigrams.scale'"),
        ("members/mlp/table_precision", "float16", "mlp", "is F32 [61, 8], and F16 [61, 8]"),
        ("members/cnn/filters", 10**30, "cnn", "tensor "),
        ("members/cnn/filter_sizes", [10**30], "cnn", "unknown tensor 'filters.1.bias'"),
        ("members/cnn/filter_sizes", [1, 2, 10**9], "cnn", "tensor filters.2.weight"),
        ("members/cnn/filter_sizes", [2, 1, 3], "cnn", "tensor filters.0.weight is F32 [8, 8]"),
        ("members/cnn/linear_path", False, "cnn", "unknown tensor 'bigrams.scale'"),
        ("members/svm/weights", 10**30, "svm", "tensor categories is I16"),
        ("members/svm/weights", 0, "svm", "tensor categories is I16"),
        ("labels", list(map(str, range(2**15 + 1))), "mlp", "and F32 [32769, 16] is needed"),
    ],
)
def test_sizes_that_are_not_those_of_the_weights_are_refused_and_take_no_memory(
    folder: Path, key: str, value: Any, file: str, fragment: str
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    put(folder / "model.json", key, value)
    refused(folder / f"{file}.safetensors", fragment)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_of_more_categories_than_int16_has_the_svm_has_wider_numbers(
    folder: Path, model: Model
) -> None:
    svm = model.description.members["svm"]
    for classes, dtype in ((2**15, "I16"), (2**15 + 1, "I32")):
        assert svm.layout(61, BIGRAM_BUCKETS, classes)["categories"][0] == dtype


@pytest.mark.parametrize(
    ("text", "again", "key"),
    [
        ('"format": "rubro-1"', '"format": "rubro-1", "format": "rubro-1"', "format"),
        ('"kind": "mlp"', '"kind": "mlp", "kind": "mlp"', "kind"),
        ('"apple":', '"apple": 1, "apple":', "apple"),
    ],
)
def test_a_key_that_is_there_twice_is_refused(
    folder: Path, text: str, again: str, key: str
) -> None:
    path = folder / ("vocabulary.json" if key == "apple" else "model.json")
    content = path.read_text()
    assert text in content
    path.write_text(content.replace(text, again))
    refused(path, f"'{key}' is there twice")


def test_what_is_told_of_the_training_is_not_read(folder: Path) -> None:
    put(folder / "model.json", "members/mlp/training", {"anything": [1, {"at": "all"}]})
    loaded = Model.load(folder)
    assert loaded.description.members["mlp"].training == {"anything": [1, {"at": "all"}]}


# vocabulary.json


def test_another_vocabulary_than_the_tables_have_rows_for_is_refused(folder: Path) -> None:
    path = folder / "vocabulary.json"
    words = json.loads(path.read_text())
    fewer = dict(list(words.items())[:-1])
    for changed in (fewer, {**words, "another": 1}):
        path.write_text(json.dumps(changed))
        refused(folder / "mlp.safetensors", f"tensor {TABLE} is F32 [61, 8]")


@pytest.mark.parametrize(
    ("count", "file", "fragment"),
    [
        (0, "vocabulary", "Input should be greater than or equal to 1"),
        (-1, "vocabulary", "Input should be greater than or equal to 1"),
        (2.5, "vocabulary", "apple: "),
        ("3", "vocabulary", "apple: "),
        (None, "vocabulary", "apple: "),
        (101, "model", "a word occurs in more titles"),
        (10**30, "model", "a word occurs in more titles"),
    ],
)
def test_a_word_in_an_impossible_number_of_titles_is_refused(
    folder: Path, count: Any, file: str, fragment: str
) -> None:
    path = folder / "vocabulary.json"
    words = json.loads(path.read_text())
    path.write_text(json.dumps({**words, "apple": count}))
    refused(folder / f"{file}.json", fragment)


# Weights


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
        ("svm", "idf", with_first(np.nan), "holds NaN or infinity"),
        ("svm", "weights", with_first(np.nan), "holds NaN or infinity"),
        ("svm", "bias", with_first(-np.inf), "holds NaN or infinity"),
        ("cnn", SCALE, with_first(np.nan), "holds NaN or infinity"),
        ("cnn", SCALE, with_first(3.4e38), "overflows"),
        ("cnn", SCALE, lambda t: t[:1], "scale is F32 [1, 1]"),
        ("cnn", TABLE, lambda t: t.astype(np.float32), "is F32 [61, 8], and I8 [61, 8]"),
        ("mlp", TABLE, lambda t: None, f"no tensor '{TABLE}'"),
        ("mlp", TABLE, lambda t: t[:-1], f"tensor {TABLE} is F32 [60, 8]"),
        ("mlp", TABLE, lambda t: t.T, "is F32 [8, 61]"),
        ("mlp", TABLE, lambda t: t[None], "is F32 [1, 61, 8]"),
        ("mlp", TABLE, lambda t: t.astype(np.float64), "is F64 [61, 8]"),
        ("mlp", TABLE, lambda t: t.astype(np.int64), "is I64 [61, 8]"),
        ("svm", "weights", lambda t: t.astype(np.float32), "weights is F32"),
        ("svm", "weights", lambda t: t[1:], "tensor weights is F16"),
        ("svm", "categories", lambda t: t.astype(np.int32), "tensor categories is I32"),
        ("svm", "categories", with_first(-1), "categories is out of range"),
        ("svm", "categories", with_first(4), "categories is out of range"),
        ("svm", "starts", with_first(1), "starts is out of range"),
        ("svm", "starts", with_first(-1), "starts is out of range"),
        ("svm", "starts", lambda t: t[::-1], "starts is out of range"),
        (
            "svm",
            "starts",
            lambda t: np.append(t[:-1], t[-1] + 1),
            "starts is out of range",
        ),
        (
            "svm",
            "starts",
            lambda t: np.append(t[:-2], [-1, t[-1]]).astype(np.int32),
            "out of range",
        ),
        (
            "svm",
            "starts",
            lambda t: np.append(t[:-2], [10**6, t[-1]]).astype(np.int32),
            "starts is out of range",
        ),
        ("svm", "starts", lambda t: t[:-1], "tensor starts is I32"),
        ("svm", "bias", lambda t: t[:-1], "tensor bias is F32 [3], and F32 [4] is needed"),
    ],
)
def test_changed_weights_are_refused(
    folder: Path, name: str, tensor: str, changed: Change, fragment: str
) -> None:
    path = folder / f"{name}.safetensors"
    change(path, tensor, changed)
    refused(path, fragment)


def test_a_tensor_too_many_is_refused(folder: Path) -> None:
    path = folder / "mlp.safetensors"
    save_file({**load_file(path), "backdoor": np.zeros(3)}, path)
    refused(path, "unknown tensor 'backdoor'")


def test_a_file_too_many_is_not_read(folder: Path, whole: Path) -> None:
    (folder / "tree.safetensors").write_bytes(b"nothing")
    np.testing.assert_array_equal(
        Classifier.load(folder).logits(TITLES), Classifier.load(whole).logits(TITLES)
    )
