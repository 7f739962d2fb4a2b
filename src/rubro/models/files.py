"""A trained classifier as a folder that needs nothing beside it: safetensors and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from rubro.calibration import Calibration
from rubro.embedding import Subwords
from rubro.files import write_json
from rubro.models.layers import Classifier, ModelShape, RowTable
from rubro.params import FeaturizeParams, TokensParams, TrainParams

Model = TypeVar("Model", bound=Classifier)
_SCALE = ".scale"


def save_model(
    folder: Path,
    name: str,
    model: Classifier,
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
        name: of the kind, "mlp" or "cnn".
        model: the module; its tables are written in hyperparameters.table_precision.
        shape: the sizes it was built with.
        hyperparameters: the parameters it was built and trained with.
        labels: the class names in order.
        subwords: how tokens become rows.
        tokens: what a token is.
        featurize: how titles become integers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_stored(model, hyperparameters.table_precision), folder / "model.safetensors")
    subwords.save(folder)
    description = {
        "model": name,
        "shape": asdict(shape),
        "hyperparameters": hyperparameters.model_dump(),
        "tokens": tokens.model_dump(),
        "featurize": featurize.model_dump(),
        "calibration": asdict(model.calibration),
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
    model.load_state_dict(_restored(load_file(folder / "model.safetensors")))
    model.calibration = Calibration(**description["calibration"])
    return model.eval()


def _stored(model: nn.Module, precision: str) -> dict[str, torch.Tensor]:
    """The module's state; as int8, each row of a table has a scale: its largest value / 127."""
    state = {name: value.detach() for name, value in model.state_dict().items()}
    tables = [name for name, module in model.named_modules() if isinstance(module, RowTable)]
    for table in tables:
        weight = state[f"{table}.weight"]
        if precision == "int8":
            scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo().tiny) / 127
            state[table + _SCALE] = scale
            weight = (weight / scale).round().to(torch.int8)
        state[f"{table}.weight"] = weight.half() if precision == "float16" else weight
    return state


def _restored(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    scales = [name for name in state if name.endswith(_SCALE)]
    for name in scales:
        table = name.removesuffix(_SCALE) + ".weight"
        state[table] = state[table] * state.pop(name)
    return state
