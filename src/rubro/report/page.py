"""Render the report as one self-contained web page."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, get_args

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rubro.base.metric_names import CAPTIONS, LEVEL_CAPTIONS, PATH_CAPTIONS, Objective, captions_for
from rubro.base.params_file import flat
from rubro.base.text import first_names
from rubro.report.charts import Chart, share_interval, sorted_by_recall
from rubro.report.content import REPORTED_MODEL, Content, NodeMetrics

_MAX_NAMED = 3
_MAX_WRONG_CATEGORIES = 30


@dataclass(frozen=True)
class _TreeNode:
    row: NodeMetrics
    children: list[_TreeNode] = field(default_factory=list)


def render(content: Content, charts: Mapping[str, Chart]) -> str:
    """Return the HTML of the report, which loads no other files and forbids loading any.

    Args:
        content: Content of the metrics folder.
        charts: Charts from charts_of, by name.
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
    script = _resource("search.js")
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html").render(
        style=Markup(_resource("style.css")),
        script=Markup(script),
        script_hash=digest,
        content=content,
        best=content.models.get(REPORTED_MODEL),
        titles=sum(row.titles for row in content.categories),
        metrics=captions_for(content.objective),
        objective=CAPTIONS[content.objective],
        charts=charts,
        chart=lambda name: Markup(charts[name].inline_svg()),
        interval=share_interval,
        categories=sorted_by_recall(content.categories),
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
