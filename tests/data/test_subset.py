"""Selection of rows and categories, and creation of splits."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rubro.base.errors import DataError
from rubro.base.text import normalise
from rubro.data.raw_titles import CORRECTIONS, RawTitles
from rubro.data.splits import SPLITS
from rubro.data.subset import Subset, make_subset
from support.raw_titles import Row, raw_titles

Make = Callable[..., Subset]


@pytest.fixture(scope="module")
def subset(make_params: Callable[..., Any]) -> Make:
    def make(raw: RawTitles | list[Row], seed: int = 1, **changes: Any) -> Subset:
        values: dict[str, Any] = {"language": None, "top_categories": 0, "max_rows": 0}
        values |= {"validation_share": 0.1, "test_share": 0.1, **changes}
        params = make_params({f"subset.{key}": value for key, value in values.items()})
        if not isinstance(raw, RawTitles):
            raw = raw_titles(raw)
        return make_subset(raw, params.subset, seed)

    return make


def many(sizes: dict[str, int], split: str = "", start: int = 0) -> list[Row]:
    """Return rows with a given number of different titles per category."""
    return [(f"{name} {i + start}", name, split) for name in sizes for i in range(sizes[name])]


def three(train: dict[str, int], rest: dict[str, int]) -> list[Row]:
    """Return training rows of some sizes, and validation and test rows of other sizes."""
    return [*many(train, "train"), *many(rest, "validation", 10_000), *many(rest, "test", 20_000)]


def counts(result: Subset, split: str) -> Counter[str]:
    return Counter(result.splits[split]["category"])


def dropped(result: Subset) -> dict[str, int]:
    value = result.summary["dropped"]
    assert isinstance(value, dict)
    return value


# Splits that the source does not have

SIZES = st.dictionaries(
    st.sampled_from("ABCDEFGHIJ"), st.integers(1, 60), min_size=2, max_size=10
).filter(lambda sizes: sum(size >= 5 for size in sizes.values()) >= 2)
SHARES = st.sampled_from([0.01, 0.1, 0.25, 0.4])


@settings(max_examples=60, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 2**32 - 1), validation=SHARES, test=SHARES)
def test_created_splits_partition_the_rows_and_contain_every_category(
    subset: Make, sizes: dict[str, int], seed: int, validation: float, test: float
) -> None:
    rows = many(sizes)
    result = subset(rows, seed, validation_share=validation, test_share=test)
    made = [title for split in result.splits.values() for title in split["title"]]
    assert sorted(made) == sorted(title for title, _, _ in rows)
    for category, size in sizes.items():
        assert counts(result, "train")[category] >= 1
        for split in ("validation", "test"):
            assert size < 5 or counts(result, split)[category] >= 1


@pytest.mark.parametrize(("size", "validation"), [(3, 0.1), (3, 0.4), (4, 0.4)])
def test_a_category_of_three_rows_is_in_each_split(
    subset: Make, size: int, validation: float
) -> None:
    result = subset(many({"A": 30, "B": 30, "RARE": size}), validation_share=validation)
    assert all(counts(result, split)["RARE"] for split in result.splits)


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.2, 0.4), (0.4, 0.2)])
def test_each_category_is_split_by_the_shares_of_all_rows(
    subset: Make, validation: float, test: float
) -> None:
    sizes = {"A": 1000, "B": 100}
    result = subset(many(sizes), validation_share=validation, test_share=test)
    for category, size in sizes.items():
        assert counts(result, "validation")[category] == pytest.approx(size * validation, abs=1)
        assert counts(result, "test")[category] == pytest.approx(size * test, abs=1)


def test_the_seed_determines_the_splits(subset: Make) -> None:
    rows = many({"A": 40, "B": 40})
    one, again, other = (subset(rows, seed).splits["test"] for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one, again)
    assert set(one["title"]) != set(other["title"])


def test_created_splits_are_drawn_from_all_rows(subset: Make) -> None:
    positions = [int(t.split()[1]) for t in subset(many({"A": 200, "B": 200})).splits["test"].title]
    assert 50 < sum(positions) / len(positions) < 150


@pytest.mark.parametrize(("given", "missing"), [("test", "validation"), ("validation", "test")])
def test_only_the_missing_split_is_created(subset: Make, given: str, missing: str) -> None:
    rows = [*many({"A": 50, "B": 50}, "train"), *many({"A": 7, "B": 7}, given, 1000)]
    result = subset(rows, **{f"{missing}_share": 0.2})
    assert counts(result, given) == {"A": 7, "B": 7}
    assert counts(result, missing) == {"A": 10, "B": 10}
    assert counts(result, "train") == {"A": 40, "B": 40}


def test_given_splits_are_kept_and_other_rows_are_for_training(subset: Make) -> None:
    rows = [*three({"A": 2, "B": 2}, {"A": 1, "B": 3}), *many({"A": 3}, "", 500)]
    result = subset(rows)
    assert counts(result, "train") == {"A": 5, "B": 2}
    assert counts(result, "validation") == counts(result, "test") == {"A": 1, "B": 3}


# Titles in several splits


def test_a_title_in_several_splits_is_kept_in_the_last_split(subset: Make) -> None:
    rows = [
        *three({"A": 3, "B": 3}, {"A": 1, "B": 1}),
        ("Cámara  HD", "A", "train"),
        ("camara hd", "B", "validation"),
        ("CAMARA HD ", "A", "test"),
        ("Mesa Ratona", "A", "train"),
        ("mesa ratona", "A", "validation"),
    ]
    result = subset(rows)
    held = {name: set(split["title"]) for name, split in result.splits.items()}
    assert "CAMARA HD " in held["test"]
    assert "mesa ratona" in held["validation"]
    assert not held["train"] & {"Cámara  HD", "Mesa Ratona"}
    assert "camara hd" not in held["validation"]
    assert dropped(result)["duplicate_of_other_split"] == 3


def test_repeated_titles_within_a_split_are_kept(subset: Make) -> None:
    rows = [*three({"A": 3, "B": 3}, {"A": 1, "B": 1}), ("A 0", "A", "train")]
    assert counts(subset(rows), "train")["A"] == 4


# Titles that are repeated


def repeated(titles: dict[str, int], copies: int) -> list[Row]:
    """Return copies of rows on several days, whose titles differ only in case and spaces."""
    spellings: list[Callable[[str], str]] = [str, str.upper, "{}  ".format]
    return [
        (spellings[day % 3](title), category, "")
        for day in range(copies)
        for title, category, _ in many(titles)
    ]


@pytest.mark.parametrize("copies", [2, 5, 30])
def test_all_rows_of_a_repeated_title_are_drawn_for_one_split(subset: Make, copies: int) -> None:
    titles = {"A": 60, "B": 30, "RARE": 3}
    result = subset(repeated(titles, copies))
    sizes = {name: len(split) / copies for name, split in result.splits.items()}
    assert sizes == {"train": 93 - 20, "validation": 10, "test": 10}
    for category in titles:
        assert all(counts(result, split)[category] >= copies for split in SPLITS)
    assert dropped(result)["duplicate_of_other_split"] == 0
    (notice,) = result.notices
    assert str(93 * (copies - 1)) in notice


@pytest.mark.parametrize("copies", [1, 4])
def test_a_repeated_title_is_drawn_as_often_as_one_that_occurs_once(
    subset: Make, copies: int
) -> None:
    rows = [*many({"A": 500, "B": 500}), *many({"A": 250, "B": 250}) * (copies - 1)]
    shares = []
    for seed in range(20):
        titles = set(subset(rows, seed).splits["test"]["title"])
        shares.append(np.mean([int(title.split()[1]) < 250 for title in titles]))
    assert np.mean(shares) == pytest.approx(0.5, abs=0.04)


def test_rows_of_a_title_with_several_categories_are_in_one_split(subset: Make) -> None:
    rows = [*many({"A": 30, "B": 30}), *[(f"A {i}", "B", "") for i in range(30)]]
    result = subset(rows)
    assert sum(len(split) for split in result.splits.values()) == 90
    assert counts(result, "test")["B"] > counts(result, "test")["A"] > 0


def test_titles_that_occur_once_are_drawn_as_before(subset: Make) -> None:
    result = subset(many({"A": 12, "B": 10, "C": 3}), 7)
    drawn = {name: list(split["title"]) for name, split in result.splits.items()}
    assert drawn["validation"] == ["A 4", "B 5", "C 1"]
    assert drawn["test"] == ["A 3", "B 7", "C 2"]


# Corrections


def test_corrections_that_are_not_used_are_counted_with_the_reason(subset: Make) -> None:
    rows = [
        *three({"A": 5, "B": 4}, {"A": 2, "B": 2}),
        ("A 0", "B", CORRECTIONS),
        ("a  20000", "B", CORRECTIONS),
        ("new", "NEW", CORRECTIONS),
        ("newer", "OTHER", CORRECTIONS),
    ]
    result = subset(rows, top_categories=2)
    (notice,) = (notice for notice in result.notices if "are not used" in notice)
    assert "2 of 4 corrections" in notice
    assert all(fact in notice for fact in ("NEW", "OTHER", "subset.top_categories"))
    assert list(result.corrections["result"]) == ["replaced", "replaced", "dropped", "dropped"]
    assert result.summary["corrections"]["dropped"] == 2
    assert not any("are not used" in notice for notice in subset(rows[:-2]).notices)
    without = subset(rows[:-4])
    assert not any("corrections" in notice for notice in without.notices)
    assert "corrections" not in without.summary and without.corrections.empty


def test_categories_that_no_metric_measures_are_counted(subset: Make) -> None:
    rows = [*many({"A": 30, "B": 30}), *many(dict.fromkeys("CDEF", 1))]
    notices = subset(rows).notices
    for notice, split in zip(notices, ("validation", "test"), strict=True):
        assert notice.startswith(f"{split} has no row of 4 of 6 categories")


def test_the_error_of_an_unusable_source_lists_the_dropped_rows(subset: Make) -> None:
    rows = [*many({"A": 9, "B": 9}, "train"), *many({"A": 9, "B": 8}, "test")]
    with pytest.raises(DataError, match=r"(?s)17 rows dropped.*later split"):
        subset([*rows, *many({"A": 2}, "validation", 100)], seed=3)


# Categories


def test_categories_are_selected_by_their_number_of_training_rows(subset: Make) -> None:
    rows = three({"A": 5, "B": 4, "C": 3}, {"A": 1, "B": 1, "C": 50})
    result = subset(rows, top_categories=2)
    assert result.labels == ["A", "B"]
    assert counts(result, "test") == {"A": 1, "B": 1}
    assert dropped(result)["category_not_selected"] == 3 + 50 + 50


def test_equally_frequent_categories_are_selected_by_name(subset: Make) -> None:
    sizes = {"D": 3, "B": 3, "C": 3, "A": 1, "E": 9}
    assert subset(three(sizes, sizes), top_categories=3).labels == ["B", "C", "E"]


def test_labels_are_sorted_for_any_order_of_the_rows(subset: Make) -> None:
    rows = three({"b": 3, "Á": 9, "B": 1, "a": 2}, {"b": 1, "Á": 1, "B": 1, "a": 1})
    assert subset(rows).labels == subset(rows[::-1]).labels == ["B", "a", "b", "Á"]


def test_categories_without_training_rows_are_dropped_and_counted(subset: Make) -> None:
    rows = [*three({"A": 3, "B": 3}, {"A": 1, "B": 1}), *many({"NEW": 4}, "test")]
    result = subset(rows)
    assert result.labels == ["A", "B"]
    assert counts(result, "test") == {"A": 1, "B": 1}
    assert dropped(result)["category_not_in_train"] == 4


@pytest.mark.parametrize(
    ("rows", "top_categories", "facts"),
    [
        (many({"A": 30}), 0, r"1 category .*raise subset\.top_cat"),
        (many({"A": 30, "B": 20}), 1, r"1 category .*raise subset\.top_cat"),
        (many({"A": 1, "B": 1}), 0, "validation split has no row"),
        (many({"A": 9, "B": 9}, "test"), 0, "in the training rows"),
    ],
)
def test_a_single_category_or_an_empty_split_is_an_error(
    subset: Make, rows: list[Row], top_categories: int, facts: str
) -> None:
    with pytest.raises(DataError, match=facts):
        subset(rows, top_categories=top_categories)


# Rows


def test_max_rows_is_a_random_sample_of_the_training_rows(subset: Make) -> None:
    rows = three({"A": 60, "B": 40}, {"A": 3, "B": 3})
    one, again = subset(rows, max_rows=30), subset(rows, max_rows=30)
    train = one.splits["train"]
    assert len(train) == 30
    assert set(train["title"]) < {title for title, _, split in rows if split == "train"}
    assert len(one.splits["test"]) == len(one.splits["validation"]) == 6
    assert dropped(one)["over_max_rows"] == 70
    pd.testing.assert_frame_equal(train, again.splits["train"])
    assert set(train["category"]) == {"A", "B"}
    assert set(train["title"]) != set(subset(rows, 2, max_rows=30).splits["train"]["title"])


def test_max_rows_above_the_number_of_rows_changes_nothing(subset: Make) -> None:
    rows = three({"A": 6, "B": 4}, {"A": 3, "B": 3})
    assert list(subset(rows, max_rows=10).splits["train"]["title"]) == [t for t, _, _ in rows[:10]]


def test_validation_and_test_have_at_most_max_held_out_rows(subset: Make) -> None:
    given = three({"A": 60, "B": 40}, {"A": 30, "B": 30})
    result = subset(given, max_held_out_rows=20)
    assert [len(result.splits[name]) for name in SPLITS] == [100, 20, 20]
    assert dropped(result)["over_max_held_out_rows"] == 80
    (notice,) = result.notices
    assert notice.startswith("80 rows") and "subset.max_held_out_rows" in notice

    drawn = subset(many({"A": 600, "B": 400}), max_held_out_rows=20)
    assert [len(drawn.splits[name]) for name in SPLITS] == [960, 20, 20]
    assert dropped(drawn)["over_max_held_out_rows"] == 0


def test_a_category_may_end_in_a_character_that_numpy_strips(subset: Make) -> None:
    result = subset(many({"A\x00": 20, "B": 20}), zipf_exponent=0.5, flipped_label_share=0.3)
    assert result.labels == ["A\x00", "B"]


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
ANY_TITLE = ANY_TEXT | st.sampled_from(["mesa", "Mesa", "silla", "cama", "sofá", "sofa"])


@settings(max_examples=100, deadline=None)
@given(data=st.data(), labels=st.lists(ANY_TEXT, min_size=1, max_size=6, unique=True))
def test_any_rows_make_a_consistent_subset_or_a_data_error(
    subset: Make, data: st.DataObject, labels: list[str]
) -> None:
    splits = st.sampled_from(["train", "validation", "test", "", ""])
    rows = data.draw(
        st.lists(st.tuples(ANY_TITLE, st.sampled_from(labels), splits), min_size=1, max_size=80)
    )
    changes = {
        "top_categories": data.draw(st.integers(0, 7)),
        "max_rows": data.draw(st.integers(0, 60)),
        "zipf_exponent": data.draw(st.sampled_from([0.0, 0.5, 3.0])),
        "flipped_label_share": data.draw(st.sampled_from([0.0, 0.3, 0.99])),
    }
    try:
        result = subset(rows, data.draw(st.integers(0, 2**32 - 1)), **changes)
    except DataError:
        return
    assert result.labels == sorted(set(result.labels))
    assert set(result.labels) <= set(labels)
    for split in result.splits.values():
        assert set(split["category"]) <= set(result.labels)
        columns = ["title", "category", "label_quality", "file", "line"]
        assert list(split.columns) == columns
    keys = [set(split["title"].map(normalise)) for split in result.splits.values()]
    assert not (keys[0] & keys[1] or keys[0] & keys[2] or keys[1] & keys[2])
    written = Counter(title for split in result.splits.values() for title in split["title"])
    assert written <= Counter(title for title, _, _ in rows)
    kept = {name: len(split) for name, split in result.splits.items()}
    assert result.summary["rows"] == {**kept, "total": sum(kept.values())}
    assert sum(kept.values()) + sum(dropped(result).values()) == len(rows)
    json.dumps(result.summary, allow_nan=False)


def test_texts_stay_with_their_titles(subset: Make) -> None:
    raw = raw_titles([*many({"A": 50, "B": 40, "C": 3}), ("A 7", "B", "")])
    alone = subset(raw, max_rows=40, top_categories=2, conflicting_titles="first")
    raw.table["text.brand"] = "brand of " + raw.table["title"]
    raw.table["text.size"] = [str(place) for place in range(len(raw.table))]
    result = subset(raw, max_rows=40, top_categories=2, conflicting_titles="first")
    for name in SPLITS:
        split = result.splits[name]
        pd.testing.assert_frame_equal(split[[*alone.splits[name]]], alone.splits[name])
        assert list(split["text.brand"]) == [f"brand of {title}" for title in split["title"]]
        titles = raw.table["title"].iloc[split["text.size"].astype(int)]
        assert list(titles) == list(split["title"])
    assert "text_not_text" not in alone.summary["dropped"]


def test_quarantined_rows_are_counted_by_reason(subset: Make) -> None:
    raw = raw_titles(many({"A": 20, "B": 20}))
    raw.quarantine["reason"] = ["not_json", "title_empty", "not_json"]
    result = dropped(subset(raw))
    assert (result["not_json"], result["title_empty"], result["not_csv"]) == (2, 1, 0)


# Wrong labels


EVEN = dict.fromkeys("ABCDE", 60)
HELD = dict.fromkeys("ABCDE", 8)


def assert_held_out_equal(one: Subset, other: Subset) -> None:
    for split in ("validation", "test"):
        pd.testing.assert_frame_equal(one.splits[split], other.splits[split])


@pytest.mark.parametrize("share", [0.001, 0.1, 0.333, 0.9, 0.999])
@pytest.mark.parametrize("rows", [three(EVEN, HELD), many({"A": 90, "B": 51, "C": 12})])
def test_the_given_share_of_the_training_labels_is_replaced(
    subset: Make, rows: list[Row], share: float
) -> None:
    clean, flipped = subset(rows), subset(rows, flipped_label_share=share)
    before, after = clean.splits["train"], flipped.splits["train"]
    assert (before["category"] != after["category"]).sum() == round(share * len(before))
    pd.testing.assert_frame_equal(before.drop(columns="category"), after.drop(columns="category"))
    assert before["category"].dtype == after["category"].dtype
    assert set(after["category"]) <= set(clean.labels)
    assert flipped.labels == clean.labels
    assert_held_out_equal(flipped, clean)
    assert dropped(flipped) == dropped(clean)


def test_labels_of_every_category_are_replaced_evenly(subset: Make) -> None:
    rows = three(dict.fromkeys("ABCDE", 1000), HELD)
    before = subset(rows).splits["train"]["category"]
    after = subset(rows, flipped_label_share=0.4).splits["train"]["category"]
    wrong = before != after
    pairs = Counter(zip(before[wrong], after[wrong], strict=True))
    assert len(pairs) == 5 * 4
    for count in pairs.values():
        assert count == pytest.approx(1000 * 0.4 / 4, rel=0.35)
    for name in "ABCDE":
        assert wrong[before == name].sum() == pytest.approx(400, rel=0.15)
    positions = np.flatnonzero(wrong)
    assert positions.mean() == pytest.approx(2500, rel=0.05)


# Categories thinned to Zipf's law


def zipf_sizes(largest: int, classes: int, exponent: float) -> list[int]:
    return [max(round(largest / rank**exponent), 3) for rank in range(1, classes + 1)]


@pytest.mark.parametrize("exponent", [0.3, 1.0, 2.0, 5.0])
def test_categories_of_one_size_are_thinned_to_zipfs_law(subset: Make, exponent: float) -> None:
    rows = three(dict.fromkeys("ABCDEFGHIJ", 500), dict.fromkeys("ABCDEFGHIJ", 4))
    clean, thinned = subset(rows), subset(rows, zipf_exponent=exponent)
    sizes = sorted(counts(thinned, "train").values(), reverse=True)
    assert sizes == zipf_sizes(500, 10, exponent)
    assert dropped(thinned) == {**dropped(clean), "thinned_to_zipf": 5000 - sum(sizes)}
    assert thinned.labels == clean.labels
    assert thinned.summary["rows"]["total"] == sum(sizes) + 80
    assert_held_out_equal(thinned, clean)


def test_the_seed_determines_which_categories_are_thinned(subset: Make) -> None:
    rows = three(EVEN, HELD)
    thinned = [counts(subset(rows, seed, zipf_exponent=1), "train") for seed in range(8)]
    orders = {tuple(name for name, _ in each.most_common()) for each in thinned}
    assert len(orders) > 4
    assert len({order[0] for order in orders}) > 1


@pytest.mark.parametrize("seed", range(6))
def test_a_thinned_category_keeps_at_least_three_rows(subset: Make, seed: int) -> None:
    sizes = {"A": 400, "B": 50, "C": 3, "D": 2, "E": 1, "F": 120}
    rows = three(sizes, {"A": 2, "B": 2})
    kept = counts(subset(rows, seed, zipf_exponent=2), "train")
    assert set(kept) == set(sizes)
    allowed = zipf_sizes(400, 6, 2)
    for name, size in sizes.items():
        assert min(size, 3) <= kept[name] <= size
        assert kept[name] == size or kept[name] in allowed
    # Ranking the categories by size keeps the largest number of rows.
    ranked = zip(sorted(sizes.values(), reverse=True), allowed, strict=True)
    assert sum(kept.values()) <= sum(min(pair) for pair in ranked)


def test_thinned_rows_are_a_random_sample_in_order(subset: Make) -> None:
    rows = three(dict.fromkeys("ABCDE", 300), HELD)
    before = subset(rows).splits["train"]
    after = subset(rows, zipf_exponent=1).splits["train"]
    places = [list(before["title"]).index(title) for title in after["title"]]
    assert places == sorted(places)
    assert list(after.index) == list(range(len(after)))
    pd.testing.assert_frame_equal(after, before.iloc[places].reset_index(drop=True))
    second = [int(title.split()[1]) for title in after["title"]]
    assert sum(second) / len(second) == pytest.approx(150, rel=0.1)


def test_thinning_and_wrong_labels_can_be_combined(subset: Make) -> None:
    rows = three(dict.fromkeys("ABCDE", 300), HELD)
    thinned = subset(rows, zipf_exponent=1).splits["train"]
    both = subset(rows, zipf_exponent=1, flipped_label_share=0.2).splits["train"]
    assert list(both["title"]) == list(thinned["title"])
    assert (both["category"] != thinned["category"]).sum() == round(0.2 * len(thinned))


@pytest.mark.parametrize("change", [{"zipf_exponent": 1.0}, {"flipped_label_share": 0.2}])
def test_the_seed_determines_the_changed_rows(subset: Make, change: dict[str, float]) -> None:
    rows = three(dict.fromkeys("ABCDE", 100), HELD)
    one, again, other = (subset(rows, seed, **change) for seed in (5, 5, 6))
    pd.testing.assert_frame_equal(one.splits["train"], again.splits["train"])
    assert one.summary == again.summary
    assert not one.splits["train"].equals(other.splits["train"])
    assert_held_out_equal(one, other)


# Languages


def mixed() -> RawTitles:
    rows = many({"A": 30, "B": 30})
    return raw_titles(rows, (["spanish"] * 10 + ["portuguese"] * 20) * 2)


@pytest.mark.parametrize(
    ("raw", "language", "kept"),
    [(mixed(), "Spanish", 20), (mixed(), None, 60), (many({"A": 30, "B": 30}), "spanish", 60)],
    ids=["one language", "all languages", "rows without a language"],
)
def test_rows_in_other_languages_are_dropped_and_counted(
    subset: Make, raw: RawTitles | list[Row], language: str | None, kept: int
) -> None:
    result = subset(raw, language=language)
    assert result.summary["rows"]["total"] == kept
    assert dropped(result)["other_language"] == 60 - kept


def test_an_unknown_language_is_an_error_with_the_languages_found(subset: Make) -> None:
    with pytest.raises(DataError) as caught:
        subset(mixed(), language="english")
    for fact in ("language 'english'", "portuguese (40), spanish (20)", "set subset.language"):
        assert fact in str(caught.value)


# Titles without categories


def with_unlabelled(
    rows: list[Row], titles: list[str], language: str | list[str] = "", **texts: list[str]
) -> RawTitles:
    raw = raw_titles(rows)
    columns = {"title": titles, "category": "", "split": "", "language": language}
    raw.unlabelled = pd.DataFrame(
        {**columns, **texts, "label_quality": "reliable", "file": "u.csv", "line": 7}
    ).assign(line=range(len(titles)))
    raw.without_category = Counter(category_empty=len(titles))
    return raw


def test_repeated_titles_without_a_category_are_dropped(subset: Make) -> None:
    rows = [*three({"A": 5, "B": 5, "C": 1}, {"A": 2, "B": 2}), ("new", "A", CORRECTIONS)]
    titles = ["x  1", "A 0", "a 10000", "B 20001", "X 1", "c 0", "y", "New", "É 1", "e 1"]
    result = subset(with_unlabelled(rows, titles), top_categories=2, max_rows=7)
    assert result.unlabelled is not None
    assert list(result.unlabelled) == ["title", "file", "line"]
    assert list(result.unlabelled["title"]) == ["x  1", "y", "É 1"]
    assert list(result.unlabelled["line"]) == [0, 6, 8]
    assert result.summary["unlabelled"] == {"titles": 3, "other_language": 0, "repeated_title": 7}
    (notice,) = [notice for notice in result.notices if "no category" in notice]
    assert notice.startswith("10 rows") and "3 titles" in notice and "7 " in notice


def test_titles_without_a_category_change_nothing_else(subset: Make) -> None:
    rows = many({"A": 30, "B": 30})
    before, after = subset(rows), subset(with_unlabelled(rows, ["x", "y"]))
    for name in SPLITS:
        pd.testing.assert_frame_equal(before.splits[name], after.splits[name])
    without = {name: value for name, value in after.summary.items() if name != "unlabelled"}
    assert without == before.summary
    assert before.unlabelled is None


def test_titles_without_a_category_must_have_the_language(subset: Make) -> None:
    languages = ["spanish", "portuguese", "", "portuguese"]
    raw = with_unlabelled(many({"A": 30, "B": 30}), ["w", "x", "y", "z"], languages)
    result = subset(raw, language="Spanish")
    assert result.unlabelled is not None
    assert list(result.unlabelled["title"]) == ["w", "y"]
    assert result.summary["unlabelled"]["other_language"] == 2
    everything = subset(raw, language=None).unlabelled
    assert everything is not None and len(everything) == 4


def test_very_few_titles_without_a_category_are_left_out(subset: Make) -> None:
    rows = three({"A": 150, "B": 50}, {"A": 2, "B": 2})
    result = subset(with_unlabelled(rows, ["x", "X"]))
    assert result.unlabelled is None
    assert "unlabelled" not in result.summary
    assert dropped(result)["category_empty"] == 2
    assert any("2 rows have no category: left out" in notice for notice in result.notices)
    assert subset(with_unlabelled(rows, ["x", "y"])).unlabelled is not None


def test_ignored_titles_without_a_category_are_counted(subset: Make) -> None:
    raw = raw_titles(many({"A": 30, "B": 30}))
    raw.without_category = Counter(category_empty=1, category_missing=2)
    result = subset(raw)
    assert (dropped(result)["category_empty"], dropped(result)["category_missing"]) == (1, 2)
    assert any("3 rows" in notice and "data.unlabelled" in notice for notice in result.notices)


def test_titles_without_a_category_keep_their_texts(subset: Make) -> None:
    rows = many({"A": 30, "B": 30})
    raw = with_unlabelled(rows, ["x", "x", "y"], **{"text.brand": ["p", "q", "r"]})
    raw.table["text.brand"] = "b"
    unlabelled = subset(raw).unlabelled
    assert unlabelled is not None
    assert list(unlabelled["text.brand"]) == ["p", "r"]


def test_splits_contain_the_place_of_each_row(subset: Make) -> None:
    raw = raw_titles(many({"A": 30, "B": 30}))
    raw.table.index = pd.Index(range(100, 160))
    places = dict(zip(raw.table["title"], raw.table["line"], strict=True))
    for split in subset(raw).splits.values():
        assert set(split["file"]) == {"x.csv"}
        assert list(split["line"]) == [places[title] for title in split["title"]]


# The summary


def test_the_balance_of_even_and_uneven_sources(subset: Make) -> None:
    even = subset(three({"A": 10, "B": 10}, {"A": 1, "B": 1})).summary["balance"]
    uneven = subset(three({"A": 30, "B": 5, "C": 1}, {"A": 1, "B": 1})).summary["balance"]
    assert even == {"largest_class": 10, "median_class": 10.0, "smallest_class": 10, "entropy": 1.0}
    assert isinstance(uneven, dict)
    assert (uneven["largest_class"], uneven["median_class"], uneven["smallest_class"]) == (30, 5, 1)
    assert 0 < uneven["entropy"] < 0.7


def test_the_summary_has_the_share_of_reliable_labels_per_split(subset: Make) -> None:
    raw = raw_titles(three({"A": 2, "B": 2}, {"A": 1, "B": 1}))
    raw.table.loc[0, "label_quality"] = "unreliable"
    assert subset(raw).summary["reliable_share"] == {"train": 0.75, "validation": 1.0, "test": 1.0}


# Dropped rows and suspicious labels


def test_notices_give_the_reasons_for_dropped_rows(subset: Make) -> None:
    rows = [
        *many({"A": 30, "B": 20, "C": 5}, "train"),
        *many({"A": 3, "B": 3, "D": 2}, "validation", 9000),
        *many({"A": 3, "B": 3}, "test", 9500),
        ("a 0", "A", "test"),
    ]
    languages = ["spanish"] * (len(rows) - 2) + ["Español".lower(), "spanish"]
    raw = raw_titles(rows, languages)
    raw.empty_rows = 7
    result = subset(raw, language="spanish", top_categories=2, max_rows=50)
    not_selected = result.summary["dropped"]["category_not_selected"]
    facts = [
        ("7 rows", "neither a title nor a category"),
        ("1 row ", "subset.language"),
        ("1 row ", "later split"),
        ("4 rows", "subset.max_rows"),
        (f"{not_selected} rows", "subset.top_categories"),
        ("2 rows", "without training rows"),
        ("1 row repeats", "same split"),
        ("", "español 1; set subset.language=null"),
    ]
    for notice, (count, reason) in zip(result.notices, facts, strict=True):
        assert notice.startswith(count) and reason in notice


def test_similar_categories_are_merged_before_the_splits_are_drawn(subset: Make) -> None:
    rows = [*many({"Bota": 20, "Mesa": 20}), *many({"BOTA": 10}, start=100)]
    assert subset(rows).labels == ["BOTA", "Bota", "Mesa"]
    assert subset(rows).summary["doubtful_labels"]["similar_categories"] == 2
    merged = subset(rows, similar_categories="merge")
    assert merged.labels == ["Bota", "Mesa"]
    assert sum(len(split) for split in merged.splits.values()) == 50
    assert list(merged.label_problems["problem"]) == ["similar_categories"]


def test_dropped_labels_are_counted(subset: Make) -> None:
    rows = [*many({"A": 20, "B": 20, "nan": 5}), ("x", "A", ""), ("X", "B", "")]
    result = subset(rows, null_categories="drop", conflicting_titles="drop")
    assert (dropped(result)["null_category"], dropped(result)["conflicting_title"]) == (5, 2)
    assert result.labels == ["A", "B"]


def test_corrections_become_training_rows_only(subset: Make) -> None:
    source = many({"a": 40, "b": 40})
    corrections = [("new 1", "a", CORRECTIONS), ("new 2", "c", CORRECTIONS)]
    before, after = subset(source), subset([*source, *corrections])
    for name in ("validation", "test"):
        for column, values in before.splits[name].items():
            assert list(after.splits[name][column]) == list(values)
    assert list(after.splits["train"]["title"]) == [
        *before.splits["train"]["title"],
        "new 1",
        "new 2",
    ]
    assert after.labels == ["a", "b", "c"]


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_correction_replaces_the_category_of_its_title_in_every_split(
    subset: Make, split: str
) -> None:
    source = three({"a": 5, "b": 5}, {"a": 2, "b": 2})
    title = next(title for title, category, place in source if (category, place) == ("a", split))
    before, after = subset(source), subset([*source, (f" {title.upper()}", "b", CORRECTIONS)])
    for name, old in before.splits.items():
        new = after.splits[name]
        assert list(new["title"]) == list(old["title"])
        changed = new["category"].astype("str") != old["category"].astype("str")
        assert list(new.loc[changed, "title"]) == [title] * (name == split)
    assert counts(after, split)["b"] == counts(before, split)["b"] + 1
    comparable = [notice for notice in after.notices if "not comparable" in notice]
    assert bool(comparable) == (split != "train")


@settings(max_examples=30, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99), policy=st.sampled_from(["keep", "first", "drop"]))
def test_corrections_move_no_title_to_another_split(
    subset: Make, data: st.DataObject, seed: int, policy: str
) -> None:
    source = [*many({"a": 30, "b": 20, "c": 6}), ("a 1", "b", ""), ("b 2", "c", "")]
    titles = st.sampled_from([title for title, _, _ in source] + ["new"])
    chosen = data.draw(st.lists(st.tuples(titles, st.sampled_from("abcd")), min_size=1))
    corrections = [(title, category, CORRECTIONS) for title, category in chosen]
    before = subset(source, seed, conflicting_titles=policy)
    after = subset([*source, *corrections], seed, conflicting_titles=policy)
    split_of = {title: name for name in SPLITS for title in before.splits[name]["title"]}
    right = dict(chosen)
    for name in SPLITS:
        rows = after.splits[name][["title", "category"]].itertuples(index=False)
        for title, category in rows:
            assert split_of.get(title, "train") == name
            assert right.get(title, category) == category


def test_corrected_labels_are_reliable(subset: Make) -> None:
    rows = [*many({"a": 10, "b": 10}, "train"), *three({}, {"a": 2, "b": 2})]
    rows += [("a 0", "b", CORRECTIONS), ("a 1", "a", CORRECTIONS)]
    raw = raw_titles(rows)
    raw.table["label_quality"] = "unreliable"
    train = subset(raw).splits["train"]
    reliable = train.loc[train["label_quality"] == "reliable", "title"]
    assert list(reliable) == ["a 0", "a 1"]
