"""Makes a stage run the code of its own checkout, not of an installed copy.

`dvc exp run --temp` and `--queue` run in a copy of the repository; importing this first puts that
copy's src/ before everything else.
"""

import os
import sys
from pathlib import Path

# Before torch is imported: without these a busy second process slows OpenMP down many times over.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

try:
    import rubro.console  # noqa: F401
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {sys.executable} has no module '{error.name}'; run `make setup`, then "
        "`source .venv/bin/activate`"
    )
