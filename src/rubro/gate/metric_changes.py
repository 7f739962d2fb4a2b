"""Decide which changed metrics are better or worse by more than another seed explains."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from rubro.base.metric_names import lower_is_better

# Only these metrics are judged, not counts, sizes, weights, bounds or metrics on training titles.
JUDGED_METRICS = re.compile(
    r"evaluate\.\w+\.\w+\.((balanced_|top\d_)?accuracy|macro_f1|loss|(top3_)?ece)"
    r"|evaluate\.\w+\.\w+\.(levels\.\d+\.((balanced_)?accuracy|(macro|weighted)_f1)"
    r"|hierarchical_f1|mean_weighted_f1)"
    r"|(ensemble|train_\w+)\.validation\.((balanced_)?accuracy|macro_f1)"
)
# Metrics that exist only if the categories form a tree.
_TREE_METRICS = re.compile(r"evaluate\.\w+\.\w+\.(levels\..*|hierarchical_\w+|mean_weighted_f1)")
# Counts that exist only if there are corrections, or titles without a category.
_OPTIONAL_COUNTS = re.compile(r"subset\.(corrections|unlabelled)\..*")
# A few seeds can agree by chance, so that smaller changes are noise even if no noise was measured.
MIN_TOLERANCE = 0.002
_DIGITS = 9  # later digits of a difference are rounding errors


class Verdict(StrEnum):
    """Verdict on the change of a metric; the most important verdict is first."""

    worse = "worse"
    missing = "missing"
    better = "better"
    new = "new"
    noise = "within noise"
    unjudged = "not judged"


FAILURES = (Verdict.worse, Verdict.missing)


@dataclass(frozen=True)
class Change:
    """A metric whose value differs between two revisions.

    Attributes:
        name: Name of the metrics file without suffix, and the keys of the value, joined by dots.
        before: Value in the earlier revision; None if the metric is new.
        now: Value in the later revision; None if the metric is missing.
        tolerance: Largest change that counts as noise; None for a metric that is not judged.
        verdict: Verdict on the change.
    """

    name: str
    before: float | None
    now: float | None
    tolerance: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Comparison:
    """Differences between the working tree and a Git revision.

    Attributes:
        revision: Name and commit hash of the revision.
        changes: Metrics that differ, ordered by their verdicts.
        params: Values in the revision and now of each parameter that differs, by dotted key.
        stages: Changed inputs of each stage that ran again, except inputs that other stages write.
        notes: Sentences about circumstances that weaken the comparison.
        has_same_categories: Whether the categories are the same; if not, their metrics are not judged.
    """

    revision: str
    changes: list[Change]
    params: dict[str, tuple[Any, Any]]
    stages: dict[str, list[str]]
    notes: list[str]
    has_same_categories: bool = True

    @property
    def failed(self) -> bool:
        """True if the verdict on any metric is worse or missing."""
        return any(change.verdict in FAILURES for change in self.changes)


def changes_between(
    before: dict[str, float],
    now: dict[str, float],
    noise: dict[str, float],
    objective: str,
    is_comparable: Callable[[str], bool] = lambda name: True,
) -> list[Change]:
    """Return the metrics whose values differ between two revisions, each with a verdict.

    Args:
        before: Metrics of the earlier revision, by name.
        now: Metrics of the later revision, by name.
        noise: Largest change of each metric that another seed explains, by name.
        objective: Metric that the models are trained for, such as accuracy.
        is_comparable: Function that returns whether the metric with a name describes the same
            categories in both revisions.

    Returns:
        Changes, ordered by verdict (see Verdict). For equal verdicts, changes of the objective come
        first; otherwise the order of the metrics is kept.
    """
    changes = [
        _judge(name, before.get(name), now.get(name), noise.get(name, 0.0), is_comparable(name))
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]
    order = list(Verdict)

    def rank(change: Change) -> tuple[int, bool]:
        return order.index(change.verdict), change.name.rpartition(".")[2] != objective

    return sorted(changes, key=rank)


def _judge(
    name: str, before: float | None, now: float | None, noise: float, is_comparable: bool
) -> Change:
    is_judged = is_comparable and JUDGED_METRICS.fullmatch(name)
    tolerance = max(MIN_TOLERANCE, noise) if is_judged else None
    is_optional = (now is None or before is None) and _OPTIONAL_COUNTS.fullmatch(name)
    has_no_level = now is None and not is_comparable and _TREE_METRICS.fullmatch(name)
    if is_optional or has_no_level:
        verdict = Verdict.unjudged
    elif now is None:
        verdict = Verdict.missing
    elif before is None:
        verdict = Verdict.new
    elif tolerance is None:
        verdict = Verdict.unjudged
    else:
        gain = round(before - now if lower_is_better(name) else now - before, _DIGITS)
        if abs(gain) <= tolerance:
            verdict = Verdict.noise
        else:
            verdict = Verdict.better if gain > 0 else Verdict.worse
    return Change(name, before, now, tolerance, verdict)
