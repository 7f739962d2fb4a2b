"""Embedding table with vectors of words and hashed character n-grams, as in fastText."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rubro.base.files import damaged, read_tensors, write_tensors
from rubro.features.subwords import Subwords
from rubro.features.vocabulary import load_subwords, save_subwords


@dataclass(frozen=True)
class Embedding:
    """Vectors of words and n-grams; the vector of any token is the mean of its rows.

    Attributes:
        subwords: Vocabulary and n-gram sizes, which determine the rows of each token.
        table: Vectors, float32 (rows, vector size).
    """

    subwords: Subwords
    table: np.ndarray

    def randomised(self, seed: int) -> Embedding:
        """Return an embedding of the same words and n-grams with standard normal random vectors."""
        random = np.random.default_rng(seed)
        return Embedding(self.subwords, random.standard_normal(self.table.shape, dtype=np.float32))

    def save(self, folder: Path) -> None:
        """Write the embedding to table.safetensors, vocabulary.json and subwords.json."""
        save_subwords(folder, self.subwords)
        write_tensors(folder / "table.safetensors", {"table": self.table})

    @classmethod
    def load(cls, folder: Path) -> Embedding:
        """Load an embedding from the files that `save` writes.

        Raises:
            DataError: A file is missing or damaged.
        """
        subwords, path = load_subwords(folder), folder / "table.safetensors"
        table = read_tensors(path, {"table": ("F32", (subwords.row_count, None))})["table"]
        if not table.size:
            raise damaged(path, "the table is empty")
        return cls(subwords, table.copy())
