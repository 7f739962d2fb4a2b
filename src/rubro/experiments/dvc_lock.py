"""Compare the stages in two dvc.lock files, which record what each stage read and wrote."""

from __future__ import annotations

from typing import Any


def changed_stages(
    before: dict[str, Any], now: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str]]:
    """Compare the stages of two dvc.lock files.

    Args:
        before: Stages of the earlier dvc.lock, by name.
        now: Stages of the later dvc.lock, by name.

    Returns:
        Changed inputs of each stage, by stage name, except inputs that other stages write. Also
        the names of stages whose outputs changed although their inputs did not.
    """
    outputs = {out["path"] for stage in now.values() for out in stage.get("outs", [])}
    changed, irreproducible = {}, []
    for name, stage in now.items():
        old, new = _inputs(before.get(name, {})), _inputs(stage)
        inputs = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        if own := [key for key in inputs if key not in outputs]:
            changed[name] = own
        elif not inputs and stage.get("outs") != before[name].get("outs"):
            irreproducible.append(name)
    return changed, irreproducible


def _inputs(stage: dict[str, Any]) -> dict[str, Any]:
    """Return the command, parameters and file hashes that a stage depends on, by name."""
    params = {
        key: value for file in stage.get("params", {}).values() for key, value in file.items()
    }
    deps = {dep["path"]: dep.get("md5") for dep in stage.get("deps", [])}
    return {"cmd": stage.get("cmd"), **params, **deps}


def ran_with(params: dict[str, Any], stages: dict[str, Any]) -> bool:
    """Return whether all stages in a dvc.lock ran with the given parameters.

    Args:
        params: Content of params.yaml.
        stages: Stages of the dvc.lock, by name.
    """
    return all(
        params.get(key) == value
        for stage in stages.values()
        for key, value in stage.get("params", {}).get("params.yaml", {}).items()
    )
