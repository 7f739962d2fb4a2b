"""subset: make tables of training, validation and test titles from raw titles."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # where PYTHONSAFEPATH lets Python not look
import workspace  # noqa: F401

from rubro.base.console import say
from rubro.base.files import replacing, write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.sources import read_titles
from rubro.data.splits import SourceInfo, save_splits
from rubro.data.subset import make_subset


def main(params: Params) -> None:
    raw = read_titles(params.data, params.subset.language)
    subset = make_subset(raw, params.subset, params.seed)
    folder = Path("data/subset")
    columns = SourceInfo(**params.data.model_dump(include=set(SourceInfo.model_fields)))
    save_splits(folder, subset.splits, subset.labels, columns)
    with replacing(folder / "quarantine.csv") as partial:
        raw.quarantine.to_csv(partial, index=False)
    write_json(Path("metrics/subset.json"), subset.summary)
    for notice in raw.notices:
        say(notice)
    rows = subset.summary["rows"]
    say(f"{len(subset.labels)} categories; rows: {rows}; quarantined: {len(raw.quarantine)}")


if __name__ == "__main__":
    run_stage(main)
