"""Randomised vectors are standard normal, and saving and loading preserves every bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rubro.features.embedding import Embedding
from rubro.features.subwords import SubwordParams, Subwords
from rubro.features.vocabulary import load_subwords

pytest_plugins = ["support.tiny_models"]


def test_randomised_vectors_are_standard_normal() -> None:
    subwords = Subwords({"mesa": 1}, SubwordParams(min_n=3, max_n=5, buckets=2000, titles=1))
    table = np.random.default_rng(1).random((2001, 50), dtype=np.float32)
    ours, before = Embedding(subwords, table), table.copy()
    random = ours.randomised(3)
    assert random.subwords == ours.subwords
    assert random.table.shape == ours.table.shape
    assert random.table.dtype == np.float32
    assert random.table.mean() == pytest.approx(0, abs=0.02)
    assert random.table.std() == pytest.approx(1, abs=0.02)
    assert abs(np.corrcoef(random.table.ravel(), ours.table.ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(random.table, ours.randomised(3).table)
    assert (random.table != ours.randomised(4).table).mean() > 0.99
    np.testing.assert_array_equal(ours.table, before)


def test_a_saved_embedding_is_loaded_and_saved_again_in_the_same_bytes(
    embedding: Embedding, tmp_path: Path
) -> None:
    embedding.save(tmp_path / "deep" / "one")
    loaded = Embedding.load(tmp_path / "deep" / "one")
    loaded.save(tmp_path / "two")
    for name in ("subwords.json", "table.safetensors", "vocabulary.json"):
        one, two = tmp_path / "deep" / "one" / name, tmp_path / "two" / name
        assert one.read_bytes() == two.read_bytes()
    assert loaded.subwords == embedding.subwords == load_subwords(tmp_path / "two")
    assert list(loaded.subwords.vocabulary) == list(embedding.subwords.vocabulary)
    np.testing.assert_array_equal(loaded.table, embedding.table, strict=True)
