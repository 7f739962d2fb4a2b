"""Measure `rubro serve`: its start, the time of answers at a steady rate, and its memory.

The server runs on one core and this client on another. Requests are sent at a steady rate, even if
earlier requests are still unanswered. The time of an answer includes the time that a request waits for a
free connection.

    python benchmarks/serve.py --model models/ensemble --titles data/subset/test.parquet
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from rubro.base.console import reported_errors, say
from rubro.base.files import write_json

_CONNECTIONS = 64
_BATCH = 1000
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}


class Connection:
    """An HTTP/1.1 connection that stays open.

    Args:
        port: Port of the server on this machine.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, content: Any) -> tuple[int, bytes]:
        """Send JSON content to /predict, and return the status and body of the response."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        body = json.dumps(content).encode()
        writer.write(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body) + body
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length, head
        return int(head[9:12]), await reader.readexactly(int(length[1]))


@contextmanager
def server(model: Path, core: int | None) -> Iterator[tuple[int, int, float]]:
    """Run `rubro serve` until the end of the block.

    Args:
        model: Path of the model folder.
        core: Number of the CPU core that the server runs on; None = any core.

    Yields:
        Process id, port, and seconds until the first answer.
    """
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, sys.executable, "-m", "rubro.cli", "serve", "--port=0", f"--model={model}"]
    started = time.perf_counter()
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **_ONE_THREAD}
    ) as process:
        assert process.stderr
        port = int(json.loads(process.stderr.readline())["url"].rpartition(":")[2])
        asyncio.run(Connection(port).post({"titles": "first"}))
        try:
            yield process.pid, port, time.perf_counter() - started
        finally:
            process.terminate()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def megabytes(pid: int) -> float:
    """Return the resident memory of a process in megabytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 2**20, 1)


@contextmanager
def reported_results(out: Path | None) -> Iterator[dict[str, Any]]:
    """Print the results that a block adds, with the load of the machine before and after the block.

    Args:
        out: JSON file to write, too; None = only print.

    Yields:
        Results, to which the block adds.
    """
    with reported_errors():
        results: dict[str, Any] = {"load_average": os.getloadavg()}
        yield results
        results["load_average_after"] = os.getloadavg()
        say(json.dumps(results, indent=1))
        if out is not None:
            write_json(out, results)


async def steady(port: int, titles: list[str], rate: int, seconds: float) -> dict[str, Any]:
    """Send requests with one title each at a steady rate, and summarise the response times."""
    loop = asyncio.get_running_loop()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(_CONNECTIONS):
        free.put_nowait(Connection(port))
    statuses: Counter[str] = Counter()
    times: list[float] = []

    async def ask(title: str, due: float) -> None:
        connection = await free.get()
        try:
            status, _ = await connection.post({"titles": title})
            statuses[str(status)] += 1
        except (OSError, EOFError) as error:
            statuses[type(error).__name__] += 1
            connection = Connection(port)
        times.append(loop.time() - due)
        free.put_nowait(connection)

    begin = loop.time()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            group.create_task(ask(titles[number % len(titles)], due))
    took = loop.time() - begin
    p50, p99, most = np.percentile(times, [50, 99, 100]) * 1000
    return {
        "asked_per_second": rate,
        "answered_per_second": round(len(times) / took, 1),
        "statuses": dict(statuses),
        "ms_p50": round(float(p50), 2),
        "ms_p99": round(float(p99), 2),
        "ms_max": round(float(most), 2),
    }


def main(
    model: Annotated[Path, typer.Option(help="Model folder.")] = Path("models/ensemble"),
    titles: Annotated[Path, typer.Option(help="Parquet file with a column of titles.")] = Path(
        "data/subset/test.parquet"
    ),
    rates: Annotated[
        str, typer.Option(help="Requests per second, separated by commas.")
    ] = "500,1000",
    seconds: Annotated[float, typer.Option(help="Duration of each rate.")] = 60.0,
    core: Annotated[int | None, typer.Option(help="Core on which the server runs.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    import pyarrow.parquet

    with reported_results(out) as results:
        texts = pyarrow.parquet.read_table(titles, columns=["title"])["title"].to_pylist()
        results["steady"] = []
        with server(model, core) as (pid, port, start):
            results |= {"start_seconds": round(start, 2), "start_cpu_seconds": cpu_seconds(pid)}
            results["start_megabytes"] = megabytes(pid)
            for rate in map(int, rates.split(",")):
                before = cpu_seconds(pid)
                found = asyncio.run(steady(port, texts, rate, seconds))
                spent = (cpu_seconds(pid) - before) / (rate * seconds)
                found |= {"cpu_ms_per_request": round(1000 * spent, 3), "megabytes": megabytes(pid)}
                results["steady"].append(found)
                say(f"{found}")
            batch = {"titles": texts[:_BATCH]}
            times = []
            for _ in range(5):
                began = time.perf_counter()
                status, _ = asyncio.run(Connection(port).post(batch))
                assert status == 200
                times.append(round(time.perf_counter() - began, 3))
            results["batch_seconds"] = times


if __name__ == "__main__":
    typer.run(main)
