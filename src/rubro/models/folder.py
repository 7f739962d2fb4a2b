"""A trained classifier as a folder that needs nothing beside it: safetensors and JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import Field, create_model
from safetensors.torch import save_file
from torch import nn

from rubro.base.files import damaged, read_json, read_tensors, write_json
from rubro.base.params import FeaturizeParams, TokensParams, TrainParams
from rubro.base.schema import Positive, Section
from rubro.features.embedding import Subwords
from rubro.models.layers import Classifier, ModelShape, RowTable
from rubro.models.svm import layout_of
from rubro.prediction.calibration import Calibration

Model = TypeVar("Model", bound=Classifier)
_SCALE = ".scale"
_DTYPES = {"float32": "F32", "float16": "F16", "int8": "I8"}


class _Calibration(Section):
    """What Calibration needs; every key."""

    low: Annotated[float, Field(gt=0.0)]
    high: Annotated[float, Field(gt=0.0)]
    low_share: Annotated[float, Field(ge=0.0, le=1.0)]


class Origin(Section):
    """What the last bits of the weights depend on, beside the commit and the data.

    Attributes:
        torch_version: with its build.
        instruction_set: of the CPU, as torch uses it: "AVX2", "AVX512", "DEFAULT" ...
        device: that trained: "cpu", or the name of a GPU.
        devices: how many shared the training.
    """

    torch_version: str
    instruction_set: str
    device: str
    devices: Positive

    @classmethod
    def of_here(cls, device: torch.device, devices: int) -> Origin:
        """This machine's."""
        return cls(
            torch_version=str(torch.__version__),
            instruction_set=torch.backends.cpu.get_cpu_capability(),
            device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            devices=devices,
        )


class _Description(Section):
    """model.json; load_model adds the hyperparameters, which each kind has its own of."""

    model: Literal["mlp", "cnn"]
    origin: Origin
    shape: ModelShape
    tokens: TokensParams
    featurize: FeaturizeParams
    labels: list[str]
    calibration: _Calibration


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
    origin: Origin,
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
        origin: where the weights were trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_stored(model, hyperparameters.table_precision), folder / "model.safetensors")
    subwords.save(folder)
    description = {
        "model": name,
        "origin": origin.model_dump(),
        "shape": asdict(shape),
        "hyperparameters": hyperparameters.model_dump(),
        "tokens": tokens.model_dump(),
        "featurize": featurize.model_dump(),
        "calibration": asdict(model.calibration),
        "labels": labels,
    }
    write_json(folder / "model.json", description)


def load_model(
    folder: Path, kind: type[Model], params_kind: type[TrainParams], labels: list[str] | None = None
) -> Model:
    """Read what save_model wrote.

    Args:
        folder: of the model.
        kind: the class of the module.
        params_kind: the class of its parameters.
        labels: those that the model must have, in their order; None = any.

    Returns:
        The module, in evaluation mode.

    Raises:
        DataError: a file is missing, damaged or does not go with the others.
    """
    path = folder / "model.json"
    schema: Any = create_model(
        "Description", __base__=_Description, hyperparameters=(params_kind, ...)
    )
    description = read_json(path, schema)
    shape, hyperparameters = description.shape, description.hyperparameters
    classes = len(description.labels)
    if len(set(description.labels)) < classes:
        raise damaged(path, "a label is there twice")
    if classes != shape.classes:
        raise damaged(path, f"{classes} labels, and shape.classes is {shape.classes}")
    if labels not in (None, description.labels):
        raise damaged(path, "its labels are not those of the titles")
    rows = Subwords.load(folder).row_count
    if rows != shape.rows:
        raise damaged(
            path, f"shape.rows is {shape.rows}, and the vocabulary and n-grams make {rows}"
        )
    model = _without_memory(kind, shape, hyperparameters, path)
    state = _read_state(folder / "model.safetensors", model, hyperparameters.table_precision)
    model.to_empty(device="cpu").load_state_dict(state)
    if model.svm is not None and (problem := model.svm.problem()):
        raise damaged(folder / "model.safetensors", f"svm: {problem}")
    model.calibration = Calibration(**description.calibration.model_dump())
    return model.eval()


def _without_memory(
    kind: type[Model], shape: ModelShape, hyperparameters: TrainParams, path: Path
) -> Model:
    """The module with the shapes of its weights alone: model.json may name any size."""
    try:
        with torch.device("meta"):
            return kind(shape, hyperparameters)
    except (RuntimeError, TypeError, OverflowError):
        raise damaged(path, "sizes that no model can have") from None


def _read_state(path: Path, model: Classifier, precision: str) -> dict[str, torch.Tensor]:
    layout = layout_of(model)
    for table, module in model.named_modules():
        if isinstance(module, RowTable):
            rows, vector_size = module.weight.shape
            layout[f"{table}.weight"] = (_DTYPES[precision], (rows, vector_size))
            if precision == "int8":
                layout[table + _SCALE] = ("F32", (rows, 1))
    tensors = read_tensors(path, layout)
    state = _restored({name: torch.from_numpy(value) for name, value in tensors.items()})
    if not all(value.isfinite().all() for value in state.values()):
        raise damaged(path, "a table and its scales make infinity")
    return state


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
