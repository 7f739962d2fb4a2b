"""Render the report as one self-contained web page."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from rubro.base.metric_names import CAPTIONS
from rubro.base.params_file import flat
from rubro.base.text import first_names
from rubro.report.charts import Chart, share_interval, sorted_by_recall
from rubro.report.content import REPORTED_MODEL, Content

_MAX_NAMED = 3


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
    environment.filters["first_names"] = lambda rows: first_names([row.category for row in rows])
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
        metrics=CAPTIONS,
        charts=charts,
        chart=lambda name: Markup(charts[name].inline_svg()),
        interval=share_interval,
        categories=sorted_by_recall(content.categories),
        flat=_flat,
        missing=lambda *parts: _missing(content, parts),
    )


def _resource(name: str) -> str:
    return (files("rubro.report") / "templates" / name).read_text(encoding="utf-8")


def _breakable(name: str) -> Markup:
    """Escape a name for HTML, and allow line breaks after its underscores."""
    return Markup(str(escape(name)).replace("_", "_<wbr>"))


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
