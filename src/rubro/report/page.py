"""Render the report as one self-contained web page."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, TypeVar, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rubro.base.metric_names import CAPTIONS, LEVEL_CAPTIONS, PATH_CAPTIONS, Objective, captions_for
from rubro.base.params_file import flat
from rubro.base.text import first_names
from rubro.gate.metric_changes import Comparison
from rubro.gate.report import HEADINGS, UNIMPORTANT, change_cells, conclusion
from rubro.report.charts import Chart, most_errors_first, share_interval
from rubro.report.content import (
    REPORTED_MODEL,
    ConfusionCell,
    Content,
    Mistake,
    ModelMetrics,
    NodeMetrics,
)

_MAX_NAMED = 3
_MAX_WRONG_CATEGORIES = 30
_InCategory = TypeVar("_InCategory", Mistake, ConfusionCell)


@dataclass(frozen=True)
class _TreeNode:
    row: NodeMetrics
    children: list[_TreeNode] = field(default_factory=list)


def render(
    content: Content,
    charts: Mapping[str, Chart],
    comparison: Comparison | None = None,
    previous: Content | None = None,
) -> str:
    """Return the HTML of the report, which loads no other files and forbids loading any.

    Args:
        content: Content of the metrics folder.
        charts: Charts from charts_of, by name.
        comparison: Differences from another commit; None = do not compare.
        previous: Metrics of this commit; None if they cannot be read.
    """
    environment = Environment(
        loader=PackageLoader("rubro.report", "templates"),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    environment.filters["thousands"] = lambda count: f"{count:,}"
    environment.filters["breakable"] = _breakable
    environment.filters["path"] = lambda category: _path(content, category)
    environment.filters["first_names"] = lambda rows: first_names([row.category for row in rows])
    environment.filters["share"] = lambda value: "-" if value is None else f"{value:.3f}"
    environment.filters["digits"] = lambda value: f"{value:.4f}"
    environment.filters["json"] = lambda value: json.dumps(value, ensure_ascii=False, default=str)
    environment.filters["short"] = lambda digest: digest[:12]
    script = _resource("tables.js")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        style=Markup(_resource("style.css")),
        script=Markup(script),
        script_hash=digest,
        content=content,
        best=content.models.get(REPORTED_MODEL),
        others=_other_metrics(content, comparison, previous),
        titles=sum(row.titles for row in content.categories),
        metrics=captions_for(content.objective),
        objective=CAPTIONS[content.objective],
        charts=charts,
        chart=lambda name: Markup(charts[name].inline_svg()),
        interval=share_interval,
        categories=most_errors_first(content.categories),
        mistakes=_by_category(content.mistakes),
        anchors={row.category: f"c{number}" for number, row in enumerate(content.categories)},
        recall_before={row.category: row.recall for row in previous.categories} if previous else {},
        confusions=_by_category(content.confusions),
        comparison=comparison,
        conclusion=comparison and conclusion(comparison),
        change_headings=HEADINGS,
        changes=_change_tables(comparison) if comparison else {},
        wrong_categories=[row for row in content.audited if row.wrong][:_MAX_WRONG_CATEGORIES],
        column_metrics={
            name: text
            for name, text in captions_for(content.objective).items()
            if name in get_args(Objective)
        },
        level_metrics=LEVEL_CAPTIONS,
        path_metrics=PATH_CAPTIONS,
        tree=_nested(content.nodes),
        flat=_flat,
        missing=lambda *parts: _missing(content, parts),
    )


def _other_metrics(
    content: Content, comparison: Comparison | None, previous: Content | None
) -> dict[str, ModelMetrics]:
    """Return the metrics of the ensemble on the other splits, and in the other commit."""
    models = {split: models for split, models in content.splits.items() if split != content.split}
    if comparison and previous:
        models[f"in {comparison.revision}"] = previous.models
    return {
        name: those[REPORTED_MODEL] for name, those in models.items() if REPORTED_MODEL in those
    }


def _change_tables(comparison: Comparison) -> dict[str, list[tuple[str, ...]]]:
    """Return the rows of the important changes and of the other changes, by caption."""
    captions = ("Metrics that changed", "Other changes: within noise or not judged")
    tables: dict[str, list[tuple[str, ...]]] = {caption: [] for caption in captions}
    for change in comparison.changes:
        caption = captions[change.verdict in UNIMPORTANT]
        tables[caption].append(change_cells(change))
    return tables


def _by_category(rows: Iterable[_InCategory]) -> dict[str, list[_InCategory]]:
    found: dict[str, list[_InCategory]] = {}
    for row in rows:
        found.setdefault(row.category, []).append(row)
    return found


def _resource(name: str) -> str:
    return (files("rubro.report") / "templates" / name).read_text(encoding="utf-8")


def _breakable(name: str) -> Markup:
    """Escape a name for HTML, and allow line breaks after its underscores."""
    return Markup(str(escape(name)).replace("_", "_<wbr>"))


def _path(content: Content, category: str) -> Markup:
    """Format a category for HTML, and make the last name of a path stand out."""
    separator = content.description and content.description.separator
    if not separator:
        return _breakable(category)
    names, last = content.split_path(category)
    parts = [*map(_breakable, names)]
    parts[last] = Markup("<b>{}</b>").format(parts[last])
    joined = Markup("{}<wbr>").format(separator).join(parts)
    return Markup('<span class="path">{}</span>').format(joined)


def _nested(rows: Iterable[NodeMetrics]) -> list[_TreeNode]:
    """Return the roots of the tree, whose nodes are each followed by their descendants."""
    top: list[_TreeNode] = []
    open_lists = [top]
    for row in rows:
        node = _TreeNode(row)
        del open_lists[row.level :]
        open_lists[-1].append(node)
        open_lists.append(node.children)
    return top


def _flat(values: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for name, value in flat(values)
    ]


def _missing(content: Content, parts: tuple[str, ...]) -> str:
    """List the missing metrics files whose path contains one of the given names."""
    names = [path.as_posix() for path in content.missing if not set(parts).isdisjoint(path.parts)]
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
