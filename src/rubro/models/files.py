"""A trained classifier as a folder that needs nothing beside it: safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rubro.embedding import Subwords
from rubro.files import write_json
from rubro.models.layers import ModelShape
from rubro.params import FeaturizeParams, TokensParams, TrainParams

Model = TypeVar("Model", bound=nn.Module)


def save_model(
    folder: Path,
    model: str,
    weights: dict[str, torch.Tensor],
    shape: ModelShape,
    hyperparameters: TrainParams,
    labels: list[str],
    subwords: Subwords,
    tokens: TokensParams,
    featurize: FeaturizeParams,
) -> None:
    """Write model.safetensors, model.json, vocabulary.json and subwords.json.

    Args:
        folder: made if missing.
        model: the kind, "mlp" or "cnn".
        weights: the module's state.
        shape: the sizes it was built with.
        hyperparameters: the parameters it was built and trained with.
        labels: the class names in order.
        subwords: how tokens become rows.
        tokens: what a token is.
        featurize: how titles become integers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    subwords.save(folder)
    description = {
        "model": model,
        "shape": asdict(shape),
        "hyperparameters": hyperparameters.model_dump(),
        "tokens": tokens.model_dump(),
        "featurize": featurize.model_dump(),
        "labels": labels,
    }
    write_json(folder / "model.json", description)


def load_model(folder: Path, kind: type[Model], params_kind: type[TrainParams]) -> Model:
    """Read what save_model wrote.

    Args:
        folder: of the model.
        kind: the class of the module.
        params_kind: the class of its parameters.

    Returns:
        The module, in evaluation mode.
    """
    description = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    hyperparameters = params_kind.model_validate(description["hyperparameters"])
    model = kind(ModelShape(**description["shape"]), hyperparameters)
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval()
