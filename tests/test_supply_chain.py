"""Third-party code is pinned to versions without published vulnerabilities."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").iterdir())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# The last versions with a published vulnerability.
VULNERABLE = {
    "filelock": "3.20.2",  # CVE-2026-22701
    "jinja2": "3.1.5",  # CVE-2025-27516
    "lightning": "2.6.5",  # CVE-2026-58659
    "pyarrow": "23.0.0",  # CVE-2026-25087
    "starlette": "1.3.0",  # CVE-2026-54283
    "torch": "2.12.1",  # CVE-2025-3000
}


def requirements() -> list[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    return [Requirement(text) for group in (PROJECT["dependencies"], *extras) for text in group]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_with_their_version(workflow: Path) -> None:
    uses = re.findall(r"uses:(.*)", workflow.read_text())
    assert uses
    for action in uses:
        assert re.fullmatch(r" [\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_no_job_that_may_write_runs_code_of_a_pull_request(workflow: Path) -> None:
    content: dict[str, Any] = YAML(typ="safe").load(workflow)
    assert "pull_request_target" not in content["on"]
    assert content["permissions"] == {"contents": "read"}
    for job in content["jobs"].values():
        if "write" in job.get("permissions", {}).values():
            actions = [step["uses"] for step in job["steps"] if "uses" in step]
            assert all(action.startswith("actions/download-artifact@") for action in actions)
            assert not any("${{" in step.get("run", "") for step in job["steps"])


def test_checkouts_do_not_keep_the_token() -> None:
    for workflow in WORKFLOWS:
        for job in YAML(typ="safe").load(workflow)["jobs"].values():
            for step in job["steps"]:
                if step.get("uses", "").startswith("actions/checkout@"):
                    assert step["with"]["persist-credentials"] is False


@pytest.mark.parametrize("name", VULNERABLE)
def test_minimum_versions_exclude_published_vulnerabilities(name: str) -> None:
    (required,) = [found for found in requirements() if found.name == name]
    assert VULNERABLE[name] not in required.specifier


def test_each_tool_that_CI_installs_has_a_hash() -> None:
    runs = [
        step.get("run", "")
        for workflow in WORKFLOWS
        for job in YAML(typ="safe").load(workflow)["jobs"].values()
        for step in job["steps"]
    ]
    assert not re.search(r"\b(pipx?|npx|curl|wget)\b", "\n".join(runs))
    hooks = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    remote = [repo["rev"] for repo in hooks if repo["repo"] != "local"]
    assert all(re.fullmatch(r"[0-9a-f]{40}", revision) for revision in remote)
