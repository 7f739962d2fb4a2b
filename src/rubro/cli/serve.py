"""Answer requests over HTTP, with a web page at /.

If the model folder changes, the new model is loaded without losing a request. SIGTERM, Ctrl-C
and other signals stop the service after the requests in progress are answered.

\b
rubro serve
curl localhost:8000/predict \\
  --json '{"titles": ["Silla De Oficina"], "top": 3}'

Each option can also be set by an environment variable, such as RUBRO_SERVE_PORT for --port.

Requires the service packages: pip install 'rubro[serve]'.

Exit codes: 0 if stopped by SIGTERM, 2 if the model or the address cannot be used, 128 + N if stopped by
another signal N (130 for Ctrl-C).
"""

import os
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import typer

from rubro import __version__
from rubro.base.errors import DataError
from rubro.base.memory import end_memory_limit
from rubro.cli import options
from rubro.cli.runtime import model_required, refuse_both

# Each option can also be set by a variable such as RUBRO_SERVE_PORT.
CONTEXT_SETTINGS = {"auto_envvar_prefix": "RUBRO_SERVE"}
_PACKAGES = ("fastapi", "h11", "prometheus_client", "uvicorn")


def main(
    model: options.ModelFolder = options.DEFAULT_MODEL,
    objective: options.ServedObjective = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Address to listen on. The default accepts requests from this machine only; 0.0.0.0 "
            "accepts requests from every network.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Port; 0 = any free port.")
    ] = 8000,
    thresholds: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File written by rubro thresholds. The category of an answer that it does not accept "
            "is null. Default: thresholds.json in the model folder, if it exists.",
        ),
    ] = None,
    no_thresholds: options.NoThresholds = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name under which a proxy or client may address the service; repeat the option for "
            "several names. By default, only local names are accepted if --host is a local address, and "
            "all names otherwise.",
        ),
    ] = None,
    queue: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="csv file of titles to label or of suspicious labels, which the page opens at the start. "
            "Everybody who can reach the service can read it.",
        ),
    ] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Store the corrections of everybody who uses the page in this folder, in a CSV file per "
            "day.",
        ),
    ] = None,
    access_log: Annotated[
        bool, typer.Option("--access-log", help="Write a line for each request to the log.")
    ] = False,
    root_path: Annotated[
        str,
        typer.Option(
            metavar="PATH",
            help="Prefix that a proxy adds to the paths, such as /rubro, for the OpenAPI description.",
        ),
    ] = "",
) -> None:
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise DataError(f"{', '.join(missing)}: not installed; pip install 'rubro[serve]'")
    # Metrics are kept in memory; these variables would make prometheus_client write files instead.
    for variable in ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir"):
        os.environ.pop(variable, None)
    refuse_both(thresholds, no_thresholds=no_thresholds)
    # The thread mostly waits for the disk and hashes, so FastAPI can be imported at the same time.
    with model_required(model), ThreadPoolExecutor(1) as thread:
        from rubro.service.served import read_model

        reading = thread.submit(read_model, model, thresholds, no_thresholds, objective)
        from rubro.service.app import make_app
        from rubro.service.logs import log_event, write_logs
        from rubro.service.server import open_socket, run_server

        served = reading.result()
    end_memory_limit()
    listening = open_socket(host, port)
    address, used_port = listening.getsockname()[:2]
    hosts = None
    if allowed_host or ip_address(address).is_loopback:
        hosts = frozenset(name.lower() for name in [host, *(allowed_host or [])])
    prefix = root_path.strip("/")
    app = make_app(served, hosts, prefix and f"/{prefix}", queue, corrections, access_log)
    shown = f"[{address}]" if ":" in address else address
    url = f"http://{shown}:{used_port}"
    write_logs()
    log_event(
        "start",
        f"{served.summary}: {url}",
        model_hash=served.identity["hash"],
        url=url,
        version=__version__,
    )
    run_server(app, listening)
