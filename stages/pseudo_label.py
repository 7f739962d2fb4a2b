"""pseudo_label: let a teacher label the unlabelled titles, for the training of all models."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from rubro.base.files import require_file, write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage


def main(params: Params) -> None:
    folder, features = Path("data/pseudo_labels"), Path("data/features")
    require_file(features / "tokens.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    summary = {"unlabelled_titles": 0}
    if (features / "unlabelled.safetensors").exists():
        # Imported only here, because its imports take longer than the rest of the stage.
        from teacher import write_pseudo_labels

        summary = write_pseudo_labels(folder, params)
    write_json(folder / "summary.json", summary)  # because DVC does not restore empty folders
    write_json(Path("metrics/pseudo_label.json"), summary)


if __name__ == "__main__":
    run_stage(main)
