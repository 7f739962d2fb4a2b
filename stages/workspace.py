"""Prepares the process of a stage; each stage imports it first.

It makes the stage run the code of its own checkout, not of an installed copy: `dvc exp run --temp`
and `--queue` run in a copy of the repository. It lets numpy and torch compute on one thread. And
it ends in a message where the environment is not set up, or Ctrl-C comes during the imports.
"""

import os
import signal
import sys
from pathlib import Path


def _interrupted(*_: object) -> None:
    os.write(2, b"interrupted; run the same command again to go on\n")
    os._exit(130)


signal.signal(signal.SIGINT, _interrupted)
# Libraries cut sums by the number of threads that share them, and the last bits depend on it: MKL
# with MKL_CBWR=AUTO,STRICT too, on AMD. A second thread would save 4 % of a training's time.
for _library in ("OMP", "MKL", "OPENBLAS"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"
CODE = Path(__file__).resolve().parent.parent / "src" / "rubro"
sys.path.insert(0, str(CODE.parent))

try:
    import rubro.base.stage  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run `make setup`, then "
        "`source .venv/bin/activate`"
    )
