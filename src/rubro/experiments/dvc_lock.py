"""The `rubro fresh` command: whether dvc.lock and metrics are those of the last commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.base.yaml_files import load_yaml, parse_yaml
from rubro.experiments.git import try_git

EXIT_DIFFERENT = 1
_LOCK = Path("dvc.lock")
_METRICS = "metrics"


def fresh() -> int:
    """Say in which stages dvc.lock differs from the last commit, and why.

    Returns:
        Exit code: 0, or 1 where dvc.lock or a metrics file differs.

    Raises:
        DataError: There is no dvc.lock here or in the last commit.
    """
    if not _LOCK.is_file():
        raise DataError(f"{_LOCK}: no such file; `dvc repro` writes it")
    committed = try_git("show", f"HEAD:./{_LOCK}")
    if committed is None:
        raise DataError(f"{_LOCK}: not in the last commit; commit it, then compare")
    before, now = parse_yaml(committed, _LOCK)["stages"], load_yaml(_LOCK)["stages"]
    changed, other_bytes = changed_stages(before, now)
    if changed:
        stages = "; ".join(f"{stage} ({', '.join(inputs)})" for stage, inputs in changed.items())
        say(f"{_LOCK} has new inputs: {stages}. Commit it and {_METRICS} with the change.")
    if other_bytes:
        say(
            f"{', '.join(other_bytes)}: other bytes than in the last commit from the same inputs, as "
            "on a GPU or a CPU that is no x86-64. Metrics differ within the noise of seeds. Commit "
            f"{_LOCK} and {_METRICS} on a branch, or take the published outputs: "
            f"git checkout {_LOCK} {_METRICS} && dvc pull"
        )
    files = (try_git("status", "--porcelain", "--", str(_LOCK), _METRICS) or "").splitlines()
    if files and not (changed or other_bytes):
        say(f"not as in the last commit: {', '.join(line[3:] for line in files)}")
    return EXIT_DIFFERENT if files else 0


def changed_stages(
    before: dict[str, Any], now: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str]]:
    """Compare the stages of two dvc.lock.

    Args:
        before: Stages of the earlier dvc.lock, by name.
        now: Stages of the later dvc.lock, by name.

    Returns:
        Changed inputs of each stage that are no outputs of another, by its name; stages without
        changed inputs whose outputs changed.
    """
    outputs = {out["path"] for stage in now.values() for out in stage.get("outs", [])}
    changed, other_bytes = {}, []
    for name, stage in now.items():
        old, new = _inputs(before.get(name, {})), _inputs(stage)
        inputs = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        own = [key for key in inputs if key not in outputs]
        if own:
            changed[name] = own
        elif not inputs and stage.get("outs") != before[name].get("outs"):
            other_bytes.append(name)
    return changed, other_bytes


def _inputs(stage: dict[str, Any]) -> dict[str, Any]:
    """Return the command, the hash of each dependency and each parameter of a stage, by name."""
    params = {
        key: value for file in stage.get("params", {}).values() for key, value in file.items()
    }
    deps = {dep["path"]: dep.get("md5") for dep in stage.get("deps", [])}
    return {"cmd": stage.get("cmd"), **params, **deps}


def ran_with(params: dict[str, Any], stages: dict[str, Any]) -> bool:
    """Return whether the stages ran with these parameters.

    Args:
        params: Content of params.yaml.
        stages: Stages of a dvc.lock.
    """
    return all(
        params.get(key) == value
        for stage in stages.values()
        for key, value in stage.get("params", {}).get("params.yaml", {}).items()
    )
