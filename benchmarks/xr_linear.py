"""Define the classifier XR-Linear of PECOS for comparisons in benchmarks/scale.py.

libpecos needs older libraries than this project, so install it in a separate environment:

    python -m venv .venv-pecos
    .venv-pecos/bin/pip install 'numpy<2' 'scipy<1.14' 'pandas<3' 'pyarrow<20' scikit-learn pydantic \
        pyyaml ruamel.yaml safetensors typer
    .venv-pecos/bin/pip install --no-deps libpecos
    make bench PECOS=.venv-pecos/bin/python
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.sparse import csr_matrix

from peers import Peer, Setting, words_and_characters


@dataclass
class XrLinear:
    """A tree of linear classifiers; up to 100 categories share one leaf."""

    setting: Setting
    seed: int

    def fit(self, rows: csr_matrix, targets: np.ndarray) -> None:
        """Train on TF-IDF rows and class indices."""
        from pecos.xmc import Indexer, LabelEmbeddingFactory
        from pecos.xmc.xlinear.model import XLinearModel

        positions = np.arange(len(targets)), targets
        labels = csr_matrix((np.ones(len(targets), np.float32), positions))
        features = LabelEmbeddingFactory.create(labels, rows, method="pifa")
        tree = Indexer.gen(features, seed=self.seed % 2**31)
        trained = XLinearModel.train(rows, labels, C=tree, **self.setting)
        self._folder = TemporaryDirectory()
        trained.save(self._folder.name)
        # A model loaded only for prediction is many times faster than the trained one.
        self._model = XLinearModel.load(self._folder.name, is_predict_only=True)

    def predict(self, rows: csr_matrix) -> np.ndarray:
        """Return the class index of each row."""
        best: np.ndarray = self._model.predict(rows, only_topk=1).indices
        return best

    def save(self, folder: Path) -> None:
        """Write the model to a folder."""
        shutil.copytree(self._folder.name, folder, dirs_exist_ok=True)


PEER = Peer(
    "TF-IDF of words and characters + PECOS XR-Linear",
    words_and_characters,
    lambda params, setting: XrLinear(setting, params.seed),
    [
        {"Cp": 1.0, "Cn": 1.0},
        {"Cp": 3.0, "Cn": 3.0},
        {"Cp": 3.0, "Cn": 3.0, "threshold": 0.01},
    ],
)
