"""subset: make tables of training, validation and test titles from raw titles."""

from pathlib import Path

import workspace  # noqa: F401

from rubro.base.console import say
from rubro.base.files import write_json
from rubro.base.params import Params
from rubro.base.stage import run_stage
from rubro.data.sources import quarantined, read_titles, require_usable
from rubro.data.splits import SourceInfo, save_splits
from rubro.data.subset import make_subset


def main(params: Params) -> None:
    folder = Path("data/subset")
    quarantine = folder / "quarantine.csv"
    raw = read_titles(params.data, params.subset.language)
    folder.mkdir(parents=True, exist_ok=True)
    raw.quarantine.to_csv(quarantine, index=False)
    for notice in raw.notices:
        say(notice)
    require_usable(raw, params.data, quarantine)
    subset = make_subset(raw, params.subset, params.seed)
    columns = SourceInfo(**params.data.model_dump(include=set(SourceInfo.model_fields)))
    save_splits(folder, subset.splits, subset.labels, columns)
    write_json(Path("metrics/subset.json"), subset.summary)
    subset.label_problems.to_csv("metrics/label_problems.csv", index=False)
    for notice in subset.notices:
        say(notice)
    rows = ", ".join(f"{name} {len(split)}" for name, split in subset.splits.items())
    say(f"{len(subset.labels)} categories; rows: {rows}; {quarantined(raw, quarantine)}")


if __name__ == "__main__":
    run_stage(main)
