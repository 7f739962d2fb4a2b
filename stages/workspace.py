"""Preparation of the process of a stage; each stage imports it first.

A stage runs the code of its own checkout, not of an installed copy: `dvc exp run --temp` and
`--queue` run in a copy of the repository. numpy and torch compute on one thread. Where packages are
missing, or Ctrl-C comes during the imports, the process ends with a message.
"""

import os
import signal
import sys
from pathlib import Path


def _interrupted(*_: object) -> None:
    os.write(2, b"interrupted; run the same command again to resume\n")
    os._exit(130)


signal.signal(signal.SIGINT, _interrupted)
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
CODE = Path(__file__).resolve().parent.parent / "src" / "rubro"
sys.path.insert(0, str(CODE.parent))

try:
    import rubro.base.stage  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run `make setup`, then "
        "`source .venv/bin/activate`"
    )
