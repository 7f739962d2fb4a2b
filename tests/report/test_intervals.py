"""Wilson's interval against values from his formula, worked out elsewhere."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from rubro.report.intervals import wilson_interval


@pytest.mark.parametrize(("right", "titles"), [(0, 1), (1, 1), (5, 9), (950, 1000), (1000, 1000)])
def test_the_interval_is_scipys(right: int, titles: int) -> None:
    expected = binomtest(right, titles).proportion_ci(method="wilson")
    found = wilson_interval(right / titles, titles)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)
