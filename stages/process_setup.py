"""Preparation of the process of a stage; each stage imports it first.

A stage runs the code of its own checkout, not of an installed copy: `dvc exp run --temp` and
`--queue` run in a copy of the repository. numpy and torch compute on one thread; what rubro shares
among threads itself takes all cores, or OMP_NUM_THREADS. Where packages are missing, or Ctrl-C or a
scheduler's signal comes during the imports, the process ends with a message.
"""

import os
import signal
import sys
from pathlib import Path

CODE = Path(__file__).resolve().parent.parent / "src" / "rubro"
sys.path.insert(0, str(CODE.parent))
# The process that started this one to share its training; None in any other process.
LEADER = os.environ.get("RUBRO_LEADER")
if LEADER not in (None, str(os.getppid())):
    sys.exit(1)  # it has ended

from rubro.base.parallel import THREADS_VARIABLE, cores_to_use
from rubro.base.signals import ENDING


def _interrupted(number: int, _: object) -> None:
    if LEADER is None:
        os.write(2, b"interrupted; run the same command again to resume\n")
    os._exit(128 + number)


for _number in ENDING:
    if _number == signal.SIGINT or signal.getsignal(_number) is not signal.SIG_IGN:
        signal.signal(_number, _interrupted)

if LEADER is None:
    for _name in [*os.environ]:
        if _name.startswith("PL_TRAINER_"):  # would be arguments of Lightning's trainer
            del os.environ[_name]
    os.environ[THREADS_VARIABLE] = str(cores_to_use())
# The last bits of a sum depend on the number of threads that share it, and on the instructions that
# a library chooses for the CPU: here those that every x86-64 CPU with AVX2 has.
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
# Where processes connect, torch warns of names that no server of names knows.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

try:
    import rubro.base.stage  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run `make setup`, then "
        "`source .venv/bin/activate`"
    )
