"""Test Wilson's interval against scipy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from rubro.report.intervals import wilson_interval


@pytest.mark.parametrize(("right", "titles"), [(0, 1), (1, 1), (5, 9), (950, 1000), (1000, 1000)])
def test_wilson_interval_matches_scipy(right: int, titles: int) -> None:
    expected = binomtest(right, titles).proportion_ci(method="wilson")
    found = wilson_interval(right / titles, titles)
    assert found == pytest.approx((expected.low, expected.high), abs=1e-6)
