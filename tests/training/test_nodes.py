"""Trainings on two machines, simulated by network namespaces with a clone each."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.tiny_project import change_params, digests, environment, outputs_of, run_in

pytest_plugins = ["support.tiny_project"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("ip") is None or os.geteuid() != 0,
        reason="network namespaces need root and iproute2",
    ),
]

BY_HAND = {"MASTER_ADDR": "10.77.0.1", "MASTER_PORT": "29500"}
TRAIN = "stages/train_mlp.py"
SHORT: dict[str, object] = {"accelerator": "cpu", "max_epochs": 8}
LOST = "another process of the training has ended or is out of reach"


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@dataclass(frozen=True)
class Machine:
    """A network namespace with a clone of the project."""

    rank: int
    namespace: str
    address: str
    folder: Path

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in a new process group, with a checkpoint after each epoch."""
        variables = BY_HAND | {"NODE_RANK": str(self.rank), "RUBRO_CHECKPOINT_SECONDS": "0"}
        return subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, *command],
            cwd=self.folder,
            env=environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def checkpoints(self) -> list[Path]:
        return list((self.folder / ".checkpoints").glob("*/last.ckpt"))

    def outcome(self) -> dict[str, str]:
        return digests(self.folder, *outputs_of("train_mlp"))


Machines = tuple[Machine, Machine]


@pytest.fixture
def machines(project: Path, tmp_path: Path) -> Iterator[Machines]:
    """Two machines with one process each and without the outputs of train_mlp."""
    change_params(project, devices=1, nodes=2, **SHORT)
    for output in outputs_of("train_mlp"):
        path = project / output
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(project, tmp_path / "second", symlinks=True)
    names = [f"rubro-{os.getpid()}-{rank}" for rank in range(2)]
    pair = (
        Machine(0, names[0], "10.77.0.1", project),
        Machine(1, names[1], "10.77.0.2", tmp_path / "second"),
    )
    try:
        for name in names:
            ip("netns", "add", name)
        link = ["link", "add", "eth7", "netns", names[0], "type", "veth"]
        ip(*link, "peer", "name", "eth7", "netns", names[1])
        for machine in pair:
            inside = ["-n", machine.namespace]
            ip(*inside, "addr", "add", f"{machine.address}/24", "dev", "eth7")
            for interface in ("eth7", "lo"):
                ip(*inside, "link", "set", interface, "up")
        yield pair
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def started(machines: Machines) -> list[subprocess.Popen[str]]:
    """Start the training on each machine."""
    return [machine.start("python", TRAIN) for machine in machines]


def ended(processes: list[subprocess.Popen[str]]) -> tuple[list[int], list[str]]:
    """Wait for processes; return their exit codes and messages."""
    try:
        messages = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert not any("Traceback" in text for text in messages), messages
    return [process.returncode for process in processes], messages


def until_checkpoint(machine: Machine, processes: list[subprocess.Popen[str]]) -> None:
    while not machine.checkpoints():
        assert all(process.poll() is None for process in processes), ended(processes)
        time.sleep(0.01)


@pytest.fixture(scope="module")
def expected(first_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of the outputs of a training with two processes on one machine."""
    folder = tmp_path_factory.mktemp("one") / "project"
    shutil.copytree(first_project, folder, symlinks=True)
    change_params(folder, devices=2, **SHORT)
    run_in(folder, "python", TRAIN)
    return digests(folder, *outputs_of("train_mlp"))


def test_two_machines_give_the_same_bytes_as_two_processes_on_one(
    machines: Machines, expected: dict[str, str]
) -> None:
    first, second = machines
    by_dvc = first.start("dvc", "repro", "--single-item", "train_mlp")
    codes, messages = ended([by_dvc, second.start("python", TRAIN)])
    assert codes == [0, 0], messages
    for node, text in enumerate(messages, 1):
        assert f"node {node} of 2 waits for the others at 10.77.0.1:29500" in text
        assert text.count(f"node {node} of 2 is connected") == 1
    assert first.outcome() == expected
    assert second.outcome() == {}

    shutil.rmtree(first.folder / "models/mlp")
    launcher = ["torchrun", "--nnodes=2", "--nproc-per-node=1", "--master-addr=10.77.0.1"]
    launcher.append("--master-port=29500")
    codes, messages = ended(
        [machine.start(*launcher, f"--node-rank={machine.rank}", TRAIN) for machine in machines]
    )
    assert codes == [0, 0], messages
    assert first.outcome() == expected
    assert second.outcome() == {}


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_machine_ends_the_other_and_both_resume(
    machines: Machines, expected: dict[str, str], killed: int
) -> None:
    processes = started(machines)
    until_checkpoint(machines[0], processes)
    os.killpg(processes[killed].pid, signal.SIGKILL)
    codes, messages = ended(processes)
    assert codes[1 - killed] == 2, messages
    assert messages[1 - killed].count(LOST) == 1, messages
    assert messages[1 - killed].count("error") == 1, messages
    assert machines[0].checkpoints()
    assert not machines[1].checkpoints()

    codes, messages = ended(started(machines))
    assert codes == [0, 0], messages
    assert all("resuming after epoch" in text for text in messages), messages
    assert machines[0].outcome() == expected
    assert not machines[0].checkpoints()


def test_a_lost_connection_ends_both(machines: Machines) -> None:
    for machine in machines:
        module = machine.folder / "src/rubro/training/data_parallel.py"
        text, count = re.subn(
            "_NODE_TIMEOUT = .*", "_NODE_TIMEOUT = timedelta(seconds=4)", module.read_text()
        )
        assert count == 1
        module.write_text(text)
    processes = started(machines)
    until_checkpoint(machines[0], processes)
    ip("-n", machines[1].namespace, "link", "set", "eth7", "down")
    codes, messages = ended(processes)
    assert codes == [2, 2], messages
    assert [text.count(LOST) for text in messages] == [1, 1], messages


def test_a_signal_to_the_first_machine_ends_the_other(machines: Machines) -> None:
    processes = started(machines)
    until_checkpoint(machines[0], processes)
    processes[0].send_signal(signal.SIGTERM)
    codes, messages = ended(processes)
    assert codes == [128 + signal.SIGTERM, 2], messages
    assert messages[0].count("interrupted") == 1, messages
    assert messages[1].count(LOST) == 1, messages


def test_a_machine_that_waits_can_be_interrupted(machines: Machines) -> None:
    waits = machines[0].start("python", TRAIN)
    assert waits.stdout is not None
    assert "waits for the others" in waits.stdout.readline()
    waits.send_signal(signal.SIGINT)
    codes, messages = ended([waits])
    assert codes == [130], messages
    assert messages[0].count("interrupted") == 1, messages


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 3}, "params.yaml"),
        ({"embedding_scale": 0.06}, "params.yaml, the initial network"),
        ({}, "the titles"),
    ],
    ids=["seed", "params and network", "titles"],
)
def test_different_data_or_params_are_an_error(
    machines: Machines, changes: dict[str, object], named: str
) -> None:
    if changes:
        change_params(machines[1].folder, **changes)
    else:
        features = machines[1].folder / "data/features"
        other = (features / "validation.safetensors").read_bytes()
        (features / "train.safetensors").unlink()
        (features / "train.safetensors").write_bytes(other)
    codes, messages = ended(started(machines))
    assert codes == [2, 2], messages
    for text in messages:
        assert text.count("error: ") == 1, messages
        assert f"process 1 of 0 to 1 differs from process 0 in {named}" in text, messages


def test_two_machines_with_two_processes_each_are_four(machines: Machines) -> None:
    for machine in machines:
        change_params(machine.folder, devices=2, max_epochs=2)
    codes, messages = ended(started(machines))
    assert codes == [0, 0], messages
    assert [text.count("epoch 1/") for text in messages] == [2, 2], messages
    assert [text.count("final fit, epoch 1/") for text in messages] == [1, 1], messages
    description = json.loads((machines[0].folder / "models/mlp/model.json").read_text())
    assert description["members"]["mlp"]["training"]["devices"] == 4
    assert machines[1].outcome() == {}
