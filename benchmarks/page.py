"""Measure the view of many titles of the page in Chromium: seconds until all are answered, and frame times.

The titles are pasted into the field for a single title. Then the table is scrolled by a fixed number of
pixels in each frame. On a busy machine, frames wait for other processes, so the CPU time of the page's main
thread is measured too. A frame at 60 Hz has 16.7 ms.

    python benchmarks/page.py --model models/ensemble --titles data/subset/test.parquet
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from serve import reported_results, server

_OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
_SPEEDS = (30, 200, 3000)  # pixels per frame; with 3000, no row stays in sight
_FRAMES = 240
_CPU = {"main_thread": "TaskDuration", "style": "RecalcStyleDuration", "layout": "LayoutDuration"}
_PASTE = """(content) => new Promise((done) => {
    const start = performance.now();
    let first = 0;
    const check = () => {
        const share = document.querySelector("#batch-rows .share");
        if (!first && share?.textContent) first = performance.now() - start;
        if (first && document.querySelector("#batch-bar").hidden) {
            done([first, performance.now() - start]);
        } else requestAnimationFrame(check);
    };
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", content);
    const event = new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true});
    document.querySelector("#title").dispatchEvent(event);
    check();
})"""
_SCROLL = """([pixels, count]) => new Promise((done) => {
    const box = document.querySelector("#batch-scroller");
    box.scrollTop = 0;
    const times = [];
    const frame = (now) => {
        times.push(now);
        box.scrollTop += pixels;
        if (times.length <= count) requestAnimationFrame(frame);
        else done(times.slice(1).map((time, place) => time - times[place]));
    };
    requestAnimationFrame(frame);
})"""


def measure(page: Any, titles: list[str]) -> dict[str, Any]:
    """Paste titles into the page, scroll through their answers, and return the measurements.

    Args:
        page: Page of the service in Playwright.
        titles: Titles without line breaks.
    """
    first, last = page.evaluate(_PASTE, "\n".join(titles))
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def cpu() -> dict[str, float]:
        metrics = session.send("Performance.getMetrics")["metrics"]
        values = {each["name"]: each["value"] for each in metrics}
        return {name: 1000 * values[key] for name, key in _CPU.items()}

    scrolling = []
    for pixels in (0, *_SPEEDS):  # 0 = frames of a still page
        before = cpu()
        frames = page.evaluate(_SCROLL, [pixels, _FRAMES])
        spent = {name: round((value - before[name]) / _FRAMES, 2) for name, value in cpu().items()}
        found = {"pixels_per_frame": pixels, "frames_per_second": round(1000 / np.mean(frames), 1)}
        found |= {f"ms_p{p}": round(np.percentile(frames, p), 1) for p in (50, 95, 99)}
        scrolling.append({**found, "cpu_ms_per_frame": spent})
    return {"seconds_first": first / 1000, "seconds_all": last / 1000, "scrolling": scrolling}


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/ensemble"),
    titles: Annotated[Path, typer.Option(help="Parquet file with a column of titles.")] = Path(
        "data/subset/test.parquet"
    ),
    count: Annotated[int, typer.Option(help="Number of titles; each gets its number.")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    import pyarrow.parquet
    from playwright.sync_api import sync_playwright

    with reported_results(out) as results:
        column = pyarrow.parquet.read_table(titles, columns=["title"])["title"].to_pylist()
        texts = itertools.islice(itertools.cycle(column), count)
        pasted = [f"{' '.join(text.split())} {number}" for number, text in enumerate(texts)]
        results["titles"] = count
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        with server(model, None) as (_, port, _), sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=_OPTIONS)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(f"http://127.0.0.1:{port}")
            page.locator("#model").filter(has_text=model.name).wait_for()
            results |= measure(page, pasted)
            browser.close()


if __name__ == "__main__":
    typer.run(main)
