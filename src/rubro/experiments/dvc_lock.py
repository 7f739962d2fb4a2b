"""Read dvc.lock, which records the inputs and outputs of each stage, and compare its stages."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from rubro.base.errors import ParamsError
from rubro.base.yaml_files import parse_yaml


class LockedFile(BaseModel):
    """A file or folder that a stage read or wrote.

    Attributes:
        path: Path of the file.
        md5: Hash of the content, if DVC computed it.
    """

    model_config = ConfigDict(extra="allow")

    path: str
    md5: str | None = None


class LockedStage(BaseModel):
    """Inputs and outputs of a stage in its last run.

    Attributes:
        cmd: Command or commands of the stage.
        params: Values of the parameters, by file and by key.
        deps: Files and folders that the stage read.
        outs: Files and folders that the stage wrote.
    """

    cmd: str | list[str] = ""
    params: dict[str, dict[str, Any]] = {}
    deps: list[LockedFile] = []
    outs: list[LockedFile] = []


Stages = dict[str, LockedStage]


def parse_stages(text: str, source: str) -> Stages:
    """Return the stages in a dvc.lock, by name; an empty file has no stages.

    Args:
        text: Content of the file.
        source: Name of the file, for error messages.

    Raises:
        ParamsError: The text is not valid YAML, or it is not a dvc.lock.
    """
    content = parse_yaml(text, source) or {}
    if not isinstance(content, dict):
        raise ParamsError(f"{source}: not a dvc.lock: the file is not a mapping")
    try:
        return TypeAdapter(Stages).validate_python(content.get("stages") or {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("stages", *first["loc"])))
        raise ParamsError(f"{source}: not a dvc.lock: {place}: {first['msg']}") from None


def changed_stages(before: Stages, now: Stages) -> tuple[dict[str, list[str]], list[str]]:
    """Compare the stages of two dvc.lock files.

    Args:
        before: Stages of the earlier dvc.lock, by name.
        now: Stages of the later dvc.lock, by name.

    Returns:
        Changed inputs of each stage, by stage name, except inputs that other stages write. Also
        the names of stages whose outputs changed although their inputs did not.
    """
    outputs = {out.path for stage in now.values() for out in stage.outs}
    changed, irreproducible = {}, []
    for name, stage in now.items():
        earlier = before.get(name, LockedStage())
        old, new = _inputs(earlier), _inputs(stage)
        inputs = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if own := [key for key in inputs if key not in outputs]:
            changed[name] = own
        elif not inputs and stage.outs != earlier.outs:
            irreproducible.append(name)
    return changed, irreproducible


def _inputs(stage: LockedStage) -> dict[str, Any]:
    """Return the command, parameters and file hashes that a stage depends on, by name."""
    params = {key: value for file in stage.params.values() for key, value in file.items()}
    return {"cmd": stage.cmd, **params, **{dep.path: dep.md5 for dep in stage.deps}}


def ran_with(params: dict[str, Any], stages: Stages) -> bool:
    """Return whether all stages in a dvc.lock ran with the given parameters.

    Args:
        params: Content of params.yaml.
        stages: Stages of the dvc.lock, by name.
    """
    return all(
        _value_of(key, params) == value
        for stage in stages.values()
        for key, value in stage.params.get("params.yaml", {}).items()
    )


def _value_of(key: str, params: Any) -> Any:
    """Return the value of a key such as ensemble.members; None if there is none."""
    for name in key.split("."):
        params = params.get(name) if isinstance(params, dict) else None
    return params
