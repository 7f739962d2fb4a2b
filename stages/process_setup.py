"""Setup of a stage's process; every stage imports this module first.

A stage runs the code of its own checkout instead of an installed copy, because `dvc exp run --temp`
and `--queue` run in a copy of the repository. numpy and torch use one thread; code that rubro runs
in parallel itself uses all cores, or OMP_NUM_THREADS. If packages are missing, or if Ctrl-C or a
scheduler's signal arrives during the imports, the process ends with a message.
"""

import os
import signal
import sys
from getpass import getuser
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from threading import Thread
from typing import Any

CODE = Path(__file__).resolve().parent.parent / "src" / "rubro"
sys.path.insert(0, str(CODE.parent))
# ID of the process that started this one to share its training; None in all other processes.
LEADER = os.environ.get("RUBRO_LEADER")
if LEADER not in (None, str(os.getppid())):
    sys.exit(1)  # that process has ended


def _end_with_leader() -> None:
    os.read(0, 1)  # standard input is a pipe that the leader closes when it ends or is killed
    os._exit(1)


if LEADER is not None:
    Thread(target=_end_with_leader, daemon=True).start()

from rubro.base.console import EXIT_BAD_INPUT, end_if_machine_error
from rubro.base.memory import limit_memory
from rubro.base.parallel import THREADS_VARIABLE, cores_to_use
from rubro.base.signals import ENDING


def _reported(kind: Any, error: BaseException, trace: Any) -> None:
    """Report a lack of memory during the imports of a stage, as run_stage does later."""
    try:
        end_if_machine_error(error)
    except SystemExit:
        os._exit(EXIT_BAD_INPUT)
    sys.__excepthook__(kind, error, trace)


limit_memory()
sys.excepthook = _reported


def _interrupted(number: int, _: object) -> None:
    if LEADER is None:
        os.write(2, b"interrupted; run the same command again to resume\n")
    os._exit(128 + number)


for _number in ENDING:
    if _number == signal.SIGINT or signal.getsignal(_number) is not signal.SIG_IGN:
        signal.signal(_number, _interrupted)

if LEADER is None:
    for _name in [*os.environ]:
        if _name.startswith("PL_TRAINER_"):  # Lightning would use them as arguments of its trainer
            del os.environ[_name]
    os.environ[THREADS_VARIABLE] = str(cores_to_use())
# The last bits of a sum depend on the number of threads and on the instructions that a library
# chooses for the CPU. These values select what every x86-64 CPU with AVX2 supports.
os.environ |= {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
}


def _is_writable(folder: Path) -> bool:
    try:
        folder = folder.expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except (OSError, RuntimeError):  # RuntimeError: this user has no home folder
        return False
    return True


# numba stores compiled code in one of these folders, and fails if it can write to none of them.
_IN_CODE = CODE / "kernels" / "__pycache__"
_IN_HOME = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "numba")
_CHOSEN = Path(os.environ.get("NUMBA_CACHE_DIR") or _IN_CODE)
if not any(map(_is_writable, (_CHOSEN, _IN_CODE, _IN_HOME))):
    _COMPILED = TemporaryDirectory(prefix="rubro-numba-")
    os.environ["NUMBA_CACHE_DIR"] = _COMPILED.name
# DVC needs the name of the user; in a container, the user may have none.
try:
    getuser()
except (KeyError, OSError):
    os.environ["USER"] = str(os.getuid())
# When processes connect, torch warns about host names that DNS cannot resolve.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

try:
    import rubro.base.stage  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run `make setup`, then "
        "`source .venv/bin/activate`"
    )
