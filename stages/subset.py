"""subset: make tables of training, validation and test titles from raw titles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # PYTHONSAFEPATH=1 leaves it out
import process_setup  # noqa: F401

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.columns import text_columns
from rubro.data.raw_titles import quarantined, read_titles, require_usable
from rubro.data.splits import UNLABELLED, SourceInfo, save_splits, write_csv
from rubro.data.subset import make_subset


def main(params: Params) -> None:
    folder = Path("data/subset")
    quarantine = folder / "quarantine.csv"
    raw = read_titles(params.data, params.subset.language)
    write_csv(quarantine, raw.quarantine)
    for notice in raw.notices:
        say(notice)
    require_usable(raw, params.data, quarantine)
    subset = make_subset(raw, params.subset, params.seed, params.data)
    columns, column_notices = text_columns(subset.splits["train"], params.data)
    info = params.data.model_dump(include=set(SourceInfo.model_fields)) | {"text_columns": columns}
    tables = dict(subset.splits)
    if subset.unlabelled is not None:
        tables[UNLABELLED] = subset.unlabelled
    save_splits(folder, tables, subset.labels, SourceInfo(**info), subset.tree)
    data = params.data.model_dump()
    for key in ("path", "unlabelled_path"):
        data[key] = Path(data[key]).name  # without the folders of this machine
    used = {"seed": params.seed, "data": data, "subset": params.subset.model_dump()}
    write_json(Path("metrics/params/subset.json"), used)
    write_json(Path("metrics/subset.json"), subset.summary)
    write_csv(Path("metrics/label_problems.csv"), subset.label_problems)
    write_csv(Path("metrics/corrections.csv"), subset.corrections)
    for notice in [*subset.notices, *column_notices]:
        say(notice)
    rows = ", ".join(f"{name} {len(split)}" for name, split in subset.splits.items())
    say(f"{len(subset.labels)} categories; rows: {rows}; {quarantined(raw, quarantine)}")


if __name__ == "__main__":
    run_stage(main)
