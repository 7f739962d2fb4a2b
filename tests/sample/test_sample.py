"""Test that the synthetic catalogue is reproducible, has the real layout and contains its faults."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from rubro.sample import broken_positions, catalogue_files, file_sizes, write_catalogue
from rubro.sample.titles import tokenize_title
from rubro.sample.words import load_words

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
KEYS = [
    *("language", "label_quality", "title", "category", "split", "tokenized_title", "data"),
    *("target", "n_labels", "size"),
]
Lines = dict[str, list[bytes]]
Records = dict[str, list[dict[str, object]]]


def collect(rows: int, seed: int) -> Lines:
    return {name: list(lines) for name, lines in catalogue_files(rows, seed)}


@pytest.fixture(scope="module")
def files() -> Lines:
    return collect(20_000, 20_190)


@pytest.fixture(scope="module")
def sound(files: Lines) -> Records:
    skip = set(broken_positions(20_000))
    return {
        name: [
            json.loads(line)
            for at, line in enumerate(lines)
            if name != "spanish.train.jsonl.gz" or at not in skip
        ]
        for name, lines in files.items()
    }


def test_the_committed_files_match_the_generator(files: Lines) -> None:
    assert {name: len(lines) for name, lines in files.items()} == file_sizes(20_000)
    assert sorted(path.name for path in SAMPLE.glob("*.gz")) == sorted(files)
    for name, lines in files.items():
        # Decompressed, because different builds of zlib compress to different bytes.
        assert gzip.decompress((SAMPLE / name).read_bytes()) == b"\n".join([*lines, b""]), name
    assert sum(path.stat().st_size for path in SAMPLE.glob("*.gz")) < 2_000_000


def test_the_seed_determines_the_lines() -> None:
    first, other = collect(1_000, seed=1), collect(1_000, seed=2)
    assert first == collect(1_000, seed=1)
    assert all(set(first[name]).isdisjoint(other[name]) for name in first if "portu" in name)
    assert first["spanish.train.jsonl.gz"] != other["spanish.train.jsonl.gz"]


def test_category_sizes_follow_zipf_with_a_rare_tail(sound: Records) -> None:
    train = Counter(str(row["category"]) for row in sound["spanish.train.jsonl.gz"])
    counts = [count for _, count in train.most_common()]
    assert len(counts) >= 100
    assert counts[99] >= 30
    assert counts[0] > 5 * counts[99]
    assert counts[-5:] == [3, 2, 2, 1, 1]
    assert counts[-6] > 10
    for split in ("validation", "test"):
        others = {row["category"] for row in sound[f"spanish.{split}.jsonl.gz"]}
        assert len(others - train.keys()) == 1  # a category without training rows


def test_sound_rows_have_the_real_layout(sound: Records) -> None:
    for name, rows in sound.items():
        language, split = name.split(".")[:2]
        names = {row["category"]: row["target"] for row in rows}
        assert sorted(names, key=str) == sorted(names, key=lambda key: int(str(names[key])))
        for row in rows:
            assert list(row) == KEYS
            assert row["split"] == split
            assert row["language"] == language or language == "spanish"
            assert row["size"] == file_sizes(20_000)[name]
            assert len(str(row["title"])) <= 60
        assert len({row["n_labels"] for row in rows}) == 1


def test_shares_of_unreliable_labels_and_of_portuguese_titles(sound: Records) -> None:
    for name, rows in sound.items():
        unreliable = sum(row["label_quality"] == "unreliable" for row in rows) / len(rows)
        if ".test." in name:
            assert unreliable == 0
        else:
            assert unreliable == pytest.approx(0.8, abs=0.1)
    languages = Counter(row["language"] for row in sound["spanish.train.jsonl.gz"])
    assert languages["portuguese"] == 40


def test_titles_are_duplicated_within_train_and_across_splits(sound: Records) -> None:
    titles = [str(row["title"]) for row in sound["spanish.train.jsonl.gz"]]
    exact, loose = set(titles), {" ".join(tokenize_title(title, ())) for title in titles}
    assert 80 <= len(titles) - len(exact) <= 200
    for split in ("validation", "test"):
        again = [str(row["title"]) for row in sound[f"spanish.{split}.jsonl.gz"]]
        same = sum(title in exact for title in again)
        similar = sum(" ".join(tokenize_title(title, ())) in loose for title in again)
        assert 30 <= same <= 90
        assert similar > same


def test_every_kind_of_broken_line_occurs(files: Lines) -> None:
    lines = files["spanish.train.jsonl.gz"]
    bad = [lines[at] for at in broken_positions(20_000)]
    assert len(bad) == 15
    for at in (0, 1, 10):
        with pytest.raises(json.JSONDecodeError):
            json.loads(bad[at])
    with pytest.raises(UnicodeDecodeError):
        bad[11].decode("utf-8")
    parsed = {at: json.loads(bad[at]) for at in range(15) if at not in (0, 1, 10, 11)}
    assert "title" not in parsed[2] and "category" not in parsed[7]
    titles = [parsed[at]["title"] for at in (3, 4, 5, 6)]
    assert titles == ["", "   \t ", None, 4815]
    assert [parsed[at]["category"] for at in (8, 14)] == [None, ""]
    assert isinstance(parsed[9], list)
    assert bad[10] == b""
    assert "\x00" in parsed[12]["title"]
    assert len(parsed[13]["title"]) == 3_000


@pytest.mark.parametrize(
    ("title", "tokens"),
    [
        ("Ventilador De Techo Liliana 90w = 3 Aspas", ["ventilador", "techo", "liliana", "aspas"]),
        ("Cámara p/ Niños, CON Envío!!", ["camara", "ninos", "envio"]),
        ("4k X 12 A5", []),
        ("", []),
    ],
)
def test_tokenize_title(title: str, tokens: list[str]) -> None:
    assert tokenize_title(title, frozenset(load_words()[0].stop_words)) == tokens


def test_more_rows_scale_everything_except_the_broken_lines(tmp_path: Path) -> None:
    written = write_catalogue(tmp_path, rows=5_000)
    assert list(written.values()) == [4_000, 500, 500, 301, 37, 37]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(written)
    lines = gzip.decompress((tmp_path / "spanish.train.jsonl.gz").read_bytes()).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == 4_000
    skip = set(broken_positions(5_000))
    assert len(skip) == 15
    rows = [json.loads(line) for at, line in enumerate(lines) if at not in skip]
    assert sum(row["language"] == "portuguese" for row in rows) == 10
    header = (tmp_path / "spanish.test.jsonl.gz").read_bytes()[:8]
    assert header[3:] == bytes(5)  # neither name nor time


def test_fewer_than_a_thousand_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1,000"):
        write_catalogue(tmp_path / "new", rows=999)
    assert not (tmp_path / "new").exists()


def test_the_lexicon_refers_only_to_known_names() -> None:
    shared, lexicon = load_words()
    for name, entry in lexicon.items():
        assert set(entry.neighbours) <= lexicon.keys() - {name}, name
        assert entry.fits is None or entry.fits in lexicon, name
        assert set(entry.attributes) <= shared.kinds.keys(), name


def test_no_name_is_defined_twice() -> None:
    folder = Path(str(resources.files("rubro.sample")))
    nodes: list[Any] = [
        yaml.compose(file.read_text(encoding="utf-8")) for file in folder.rglob("*.yaml")
    ]
    categories = [key.value for node in nodes for key, _ in node.value if key.value.isupper()]
    assert len(categories) == len(set(categories)) == len(load_words()[1])
    while nodes:
        if isinstance(node := nodes.pop(), yaml.MappingNode):
            names = [key.value for key, _ in node.value]
            assert len(names) == len(set(names)), names
            nodes += [value for _, value in node.value]
