"""Damaged files between stages are refused with one error, and pickles are never executed.

Model folders have tests of their own, in tests/prediction.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file, save_file

from rubro.base.errors import DataError, FileError
from rubro.base.files import read_json
from rubro.data.splits import SourceInfo, load_labels, load_split, save_splits
from rubro.features.embedding import Embedding
from rubro.features.titles import load_features, save_features
from rubro.features.vocabulary import load_subwords
from support.tiny_models import LABELS, MakeTitles

pytest_plugins = ["support.tiny_models"]

Change = Callable[[Any], Any]


@pytest.fixture(scope="session")
def folders(
    tmp_path_factory: pytest.TempPathFactory, make_titles: MakeTitles, embedding: Embedding
) -> Path:
    """Folder with the outputs embedding, features and subset of earlier stages."""
    folder = tmp_path_factory.mktemp("whole")
    titles, distinct_tokens = make_titles(["apple red", "", "zzz drill saw"], [0, 1, 2])
    embedding.save(folder / "embedding")
    save_features(folder / "features", {"train": titles}, distinct_tokens)
    columns = {"title": ["Apple", "drill 20v"], "category": LABELS[:2]}
    table = pd.DataFrame({**columns, "label_quality": ["reliable", "unreliable"]})
    info = SourceInfo(title_column="title", category_column="category", max_title_length=1000)
    save_splits(folder / "subset", {"train": table}, LABELS, info)
    return folder


@pytest.fixture
def copy(folders: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folders, tmp_path / "copy"))


LOADERS: dict[str, Callable[[Path], Any]] = {
    "embedding": Embedding.load,
    "features": lambda folder: load_features(folder, "train"),
    "subset": lambda folder: (
        load_split(folder, "train"),
        load_labels(folder),
        read_json(folder / "source.json", SourceInfo),
    ),
}
FILES = [
    *("embedding/vocabulary.json", "embedding/subwords.json", "embedding/table.safetensors"),
    *("features/tokens.safetensors", "features/train.safetensors"),
    *("subset/train.parquet", "subset/labels.json", "subset/source.json"),
]


def load(path: Path) -> Any:
    """Load a file with the function that reads it."""
    return LOADERS[path.parent.name](path.parent)


def refused(path: Path, *fragments: str) -> None:
    with pytest.raises(FileError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), message
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message, message


@pytest.mark.parametrize("name", FILES)
def test_unchanged_file_is_read(copy: Path, name: str) -> None:
    load(copy / name)


@pytest.mark.parametrize("name", FILES)
def test_missing_file_is_named(copy: Path, name: str) -> None:
    (copy / name).unlink()
    refused(copy / name, "no such file")
    (copy / name).mkdir()
    refused(copy / name, "no such file")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [b"", b"\0" * 100, b"{}", b"[1]", b"null", b'["\xff"]', b"[" * 9999, 0.02, 0.5, 0.9],
    ids=lambda damage: repr(damage)[:12],
)
def test_other_or_truncated_content_is_refused(
    copy: Path, name: str, damage: bytes | float
) -> None:
    content = (copy / name).read_bytes()
    if isinstance(damage, float):  # the share of the content that is left
        damage = content[: int(len(content) * damage)]
    (copy / name).write_bytes(damage)
    if (name, damage) == ("embedding/vocabulary.json", b"{}"):
        refused(copy / "embedding/subwords.json")
    else:
        refused(copy / name)


class _Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("dump", [lambda o, path: path.write_bytes(pickle.dumps(o)), torch.save])
def test_pickle_is_refused_and_not_run(
    copy: Path, name: str, dump: Callable[[object, Path], object]
) -> None:
    payload, path = _Payload(copy / "executed"), copy / name
    dump(payload, path)
    refused(path)
    assert not payload.mark.exists()
    pickle.loads(pickle.dumps(payload))  # the payload itself works
    assert payload.mark.exists()


@pytest.mark.parametrize("name", FILES)
def test_flipped_bits_never_cause_a_traceback(copy: Path, name: str) -> None:
    """A flipped bit in a weight is another valid weight; no flipped bit may cause a traceback."""
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


# The embedding


def test_vocabulary_that_does_not_match_the_table_is_refused(copy: Path) -> None:
    path = copy / "embedding" / "vocabulary.json"
    words = json.loads(path.read_text())
    first, *_, last = words
    shorter = {word: count for word, count in words.items() if word != last}
    for changed in (shorter, {**words, "another": 1}):
        path.write_text(json.dumps(changed))
        with pytest.raises(DataError, match=r"table\.safetensors: .*F32"):
            load(path)
    path.write_text(json.dumps({**words, last: 0}))
    refused(path, "greater than or equal to 1")
    path.write_text(json.dumps({**words, last: 10**6}))
    refused(path.with_name("subwords.json"))
    path.write_text(json.dumps(words).replace(f'"{last}"', f'"{first}"'))
    refused(path, first)


@pytest.mark.parametrize(
    "changes",
    [
        *({"buckets": value} for value in (-1, 0, 2**31, 40.5, None)),
        *({"max_n": 2}, {"min_n": 0}, {"titles": None}, {"titles": 0}, {"hash": "md5"}),
    ],
)
def test_impossible_ngram_settings_are_refused(copy: Path, changes: dict[str, Any]) -> None:
    path = copy / "embedding/subwords.json"
    settings = json.loads(path.read_text()) | changes
    path.write_text(
        json.dumps({key: value for key, value in settings.items() if value is not None})
    )
    with pytest.raises(DataError, match=r"subwords\.json"):
        load_subwords(path.parent)


def with_first(value: float) -> Change:
    def put(tensor: np.ndarray) -> np.ndarray:
        tensor.reshape(-1)[:1] = value
        return tensor

    return put


TABLE, TRAIN, TOKENS = "embedding/table", "features/train", "features/tokens"


@pytest.mark.parametrize(
    ("file", "tensor", "changed", "fragment"),
    [
        (TABLE, "table", with_first(np.nan), "NaN"),
        (TABLE, "table", lambda t: t[:-1], "F32 [60, 8]"),
        (TABLE, "table", lambda t: t.astype(np.float16), "F16"),
        (TABLE, "table", lambda t: t[:, :0], "empty"),
        (TABLE, "table", lambda t: t[:, 0], "F32 [61]"),
        (TRAIN, "targets", with_first(-1), "targets"),
        (TRAIN, "targets", lambda t: t[:-1], "number of titles"),
        (TRAIN, "targets", lambda t: t.astype(np.float32), "F32 [3]"),
        (TRAIN, "reliable", lambda t: t[:0], "number of titles"),
        (TRAIN, "reliable", lambda t: t[None], "BOOL [1, 3]"),
        (TRAIN, "reliable", lambda t: np.array([2, 0, 1], np.uint8).view(bool), "reliable"),
        (TRAIN, "tokens.offsets", with_first(1), "offsets"),
        (TRAIN, "tokens.offsets", lambda t: t[::-1], "offsets"),
        (TRAIN, "tokens.offsets", lambda t: t[:0], "offsets"),
        (TRAIN, "tokens.offsets", lambda t: np.array([0, 5, 2, 5]), "offsets"),
        (TRAIN, "bigrams.offsets", lambda t: t[:-1], "offsets"),
        (TRAIN, "tokens.values", with_first(-1), "tokens.values"),
        (TRAIN, "tokens.values", with_first(10**9), "tokens.safetensors"),
        (TRAIN, "bigrams.values", None, "bigrams.values"),
        (TOKENS, "values", with_first(-5), "tensor values"),
        (TOKENS, "offsets", lambda t: t[:-1], "offsets"),
        (TOKENS, "offsets", lambda t: t.astype(np.int32), "I32"),
        (TOKENS, "weights", lambda t: t[:-1], "number of tokens"),
        (TOKENS, "weights", with_first(np.nan), "NaN"),
    ],
)
def test_changed_or_missing_tensor_is_refused(
    copy: Path, file: str, tensor: str, changed: Change | None, fragment: str
) -> None:
    path = copy / f"{file}.safetensors"
    tensors = load_file(path)
    before = tensors.pop(tensor)
    if changed is not None:
        tensors[tensor] = np.array(changed(before.copy()), order="C")
    save_file(tensors, path)
    refused(path, fragment)


# Splits


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        (lambda t: t.drop(columns="title"), "'title'"),
        (lambda t: t.assign(title=5), "'title'"),
        (lambda t: t.assign(category=["A", None]), "'category'"),
        (lambda t: t.assign(category=None), "'category'"),
        (lambda t: t.drop(columns="tokens"), "'tokens'"),
        (lambda t: t.assign(tokens=2.5), "'tokens'"),
        (lambda t: t.assign(title=[["a"], ["b"]]), "'title'"),
    ],
)
def test_changed_split_is_refused(copy: Path, changed: Change, fragment: str) -> None:
    path = copy / "subset/train.parquet"
    changed(pd.read_parquet(path)).to_parquet(path)
    refused(path, fragment)


@pytest.mark.parametrize("changed", [["A", "A"], ["A", 5], {"A": 1}, "A", [["A"]]])
def test_changed_labels_are_refused(copy: Path, changed: Any) -> None:
    (copy / "subset/labels.json").write_text(json.dumps(changed))
    refused(copy / "subset/labels.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_title_length", 0), ("max_title_length", "9"), ("title_column", None), ("format", 1)],
)
def test_changed_source_description_is_refused(copy: Path, key: str, value: Any) -> None:
    path = copy / "subset/source.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    refused(path, f"{key}: ")
