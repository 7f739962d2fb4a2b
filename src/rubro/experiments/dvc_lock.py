"""The `rubro fresh` command, and comparisons of dvc.lock files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.base.yaml_files import load_yaml, parse_yaml
from rubro.experiments.git import git

EXIT_DIFFERENT = 1
_LOCK = Path("dvc.lock")
_METRICS = "metrics"


def fresh() -> int:
    """Print how dvc.lock and the metrics differ from the last commit.

    Returns:
        Exit code: 0, or 1 if dvc.lock or a metrics file differs.

    Raises:
        DataError: dvc.lock is missing here or in the last commit.
    """
    if not _LOCK.is_file():
        raise DataError(f"{_LOCK}: no such file; `dvc repro` writes it")
    committed = git("show", f"HEAD:./{_LOCK}", check=False)
    if not committed:
        raise DataError(f"{_LOCK}: not in the last commit; commit it first")
    before, now = parse_yaml(committed, _LOCK)["stages"], load_yaml(_LOCK)["stages"]
    changed, irreproducible = changed_stages(before, now)
    if changed:
        stages = "; ".join(f"{stage} ({', '.join(inputs)})" for stage, inputs in changed.items())
        say(
            f"Stages in {_LOCK} have new inputs: {stages}. Commit {_LOCK} and {_METRICS} together "
            "with the change."
        )
    if irreproducible:
        say(
            f"{', '.join(irreproducible)}: the inputs are the same as in the last commit, but the "
            "outputs have other bytes. This happens on a GPU, or on a CPU that is not x86-64, and "
            "metrics differ only within the noise of seeds. Commit "
            f"{_LOCK} and {_METRICS} on a branch, or use the published outputs: "
            f"git checkout {_LOCK} {_METRICS} && dvc pull"
        )
    files = git("status", "--porcelain", "--", str(_LOCK), _METRICS, check=False).splitlines()
    if files and not (changed or irreproducible):
        say(f"Files differ from the last commit: {', '.join(line[3:] for line in files)}")
    return EXIT_DIFFERENT if files else 0


def changed_stages(
    before: dict[str, Any], now: dict[str, Any]
) -> tuple[dict[str, list[str]], list[str]]:
    """Compare the stages of two dvc.lock files.

    Args:
        before: Stages of the earlier dvc.lock, by name.
        now: Stages of the later dvc.lock, by name.

    Returns:
        Changed inputs of each stage, by stage name, without the outputs of other stages; and the
        names of stages whose outputs changed although their inputs did not.
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
    """Return the command, the parameters and the hashes of the dependencies of a stage, by name."""
    params = {
        key: value for file in stage.get("params", {}).values() for key, value in file.items()
    }
    deps = {dep["path"]: dep.get("md5") for dep in stage.get("deps", [])}
    return {"cmd": stage.get("cmd"), **params, **deps}


def ran_with(params: dict[str, Any], stages: dict[str, Any]) -> bool:
    """Return whether all stages ran with the given parameters.

    Args:
        params: Content of params.yaml.
        stages: Stages of a dvc.lock, by name.
    """
    return all(
        params.get(key) == value
        for stage in stages.values()
        for key, value in stage.get("params", {}).get("params.yaml", {}).items()
    )
