"""Damaged files are read, quarantined row by row, or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rubro.base.params import DataParams
from rubro.data.raw_titles import RawTitles, read_titles
from support.fuzzing import MUTATIONS, Fault, fuzz


def test_damaged_files_are_read_or_refused_and_no_row_is_lost(tmp_path: Path) -> None:
    outcomes = fuzz(300, seed=0, folder=tmp_path)
    assert {name for name, _ in outcomes} == set(MUTATIONS)
    assert {outcome for _, outcome in outcomes} == {"read", "quarantined", "refused"}
    assert outcomes["formula", "read"] > 0


def test_a_parquet_file_whose_row_groups_lost_their_rows_is_refused(tmp_path: Path) -> None:
    assert fuzz(1, seed=9777, folder=tmp_path) == {("flipped_bits", "refused"): 1}


def test_the_seed_determines_the_damage(tmp_path: Path) -> None:
    assert fuzz(20, seed=5, folder=tmp_path / "a") == fuzz(20, seed=5, folder=tmp_path / "b")


def test_a_reader_that_loses_a_row_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(params: DataParams, language: str | None) -> RawTitles:
        raw = read_titles(params, language)
        return RawTitles(raw.table.iloc[1:], raw.quarantine, raw.empty_rows)

    monkeypatch.setattr("support.fuzzing.read_titles", forgetful)
    with pytest.raises(Fault, match=r"^seed \d+: ") as caught:
        fuzz(20, seed=0, folder=tmp_path)
    assert "rows instead of" in str(caught.value.__cause__)


@pytest.mark.slow
def test_ten_thousand_damaged_files(tmp_path: Path) -> None:
    fuzz(10_000, seed=1000, folder=tmp_path)
