"""Whether metrics got worse than those of another revision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

# Names of metrics, and the sign of a change for the better. What has no line here is not judged:
# counts, sizes, weights, bounds, and figures of the training titles.
DIRECTIONS = {
    r"evaluate\.\w+\.\w+\.((balanced_|top\d_)?accuracy|macro_f1)": +1,
    r"evaluate\.\w+\.\w+\.(loss|ece)": -1,
    r"(ensemble|train_\w+)\.validation\.(balanced_)?accuracy": +1,
}
# Seeds that agree by chance prove no lack of noise: smaller changes are none, whatever they tell.
MIN_TOLERANCE = 0.002
_DIGITS = 9  # of a change: those after them are the computer's, not the metrics'


class Verdict(StrEnum):
    """What a change of a metric means; the worst come first."""

    worse = "worse"
    missing = "missing"
    better = "better"
    new = "new"
    noise = "within noise"
    unjudged = "not judged"


FAILURES = (Verdict.worse, Verdict.missing)


@dataclass(frozen=True)
class Change:
    """A metric that differs between two revisions.

    Attributes:
        name: File without suffix and keys, joined by dots.
        before: Value in the earlier revision; None where it has no such metric.
        now: Value in the later one; None where it has no such metric.
        tolerance: Largest change that counts as noise; None for a metric that is not judged.
        verdict: Meaning of the change.
    """

    name: str
    before: float | None
    now: float | None
    tolerance: float | None
    verdict: Verdict

    @property
    def difference(self) -> float | None:
        """Value now minus the one before; None where one of them is missing."""
        return None if self.before is None or self.now is None else self.now - self.before


@dataclass(frozen=True)
class Comparison:
    """What differs between the working tree and a revision.

    Attributes:
        revision: Name of the revision, and its commit.
        changes: Metrics that differ, the worst first.
        params: Values before and now of each parameter that differs, by name.
        stages: Stages that ran again, and which inputs of each changed beside outputs of others.
        notes: Sentences about what weakens the comparison.
    """

    revision: str
    changes: list[Change]
    params: dict[str, tuple[Any, Any]]
    stages: dict[str, list[str]]
    notes: list[str]

    @property
    def failed(self) -> bool:
        """Whether a metric is worse or missing."""
        return any(change.verdict in FAILURES for change in self.changes)


def numbers_in(values: Any, name: str) -> Iterator[tuple[str, float]]:
    """Yield pairs of a dotted name and a number from nested values of JSON.

    Args:
        values: Values; those that are no numbers are left out.
        name: Name before those of the keys.
    """
    if isinstance(values, dict):
        for key, value in values.items():
            yield from numbers_in(value, f"{name}.{key}")
    elif isinstance(values, int | float) and not isinstance(values, bool):
        yield name, values


def changes_between(
    before: dict[str, float], now: dict[str, float], noise: dict[str, float]
) -> list[Change]:
    """Judge every metric that differs.

    Args:
        before: Metrics of the earlier revision, by name.
        now: Metrics of the later one, by name.
        noise: Largest change between two seeds of each metric, by name.

    Returns:
        Changes, the worst verdicts first, in the order of the files.
    """
    names = [*before, *(name for name in now if name not in before)]
    found = [
        _change(name, before.get(name), now.get(name), noise)
        for name in names
        if before.get(name) != now.get(name)
    ]
    order = list(Verdict)
    return sorted(found, key=lambda change: order.index(change.verdict))


def _change(name: str, before: float | None, now: float | None, noise: dict[str, float]) -> Change:
    direction = _direction(name)
    tolerance = max(MIN_TOLERANCE, noise.get(name, 0.0)) if direction else None
    return Change(name, before, now, tolerance, _verdict(before, now, direction, tolerance))


def _verdict(
    before: float | None, now: float | None, direction: int, tolerance: float | None
) -> Verdict:
    if now is None:
        return Verdict.missing
    if before is None:
        return Verdict.new
    if tolerance is None:
        return Verdict.unjudged
    gain = round(direction * (now - before), _DIGITS)
    if abs(gain) <= tolerance:
        return Verdict.noise
    return Verdict.better if gain > 0 else Verdict.worse


def _direction(name: str) -> int:
    """Return the sign of a change for the better; 0 for a metric that is not judged."""
    return next((sign for pattern, sign in DIRECTIONS.items() if re.fullmatch(pattern, name)), 0)
