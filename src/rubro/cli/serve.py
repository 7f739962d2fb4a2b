"""The `rubro serve` command: answers over HTTP, and a page."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rubro.base.console import say
from rubro.base.errors import DataError
from rubro.cli.common import require_model

_PACKAGES = ("fastapi", "httptools", "prometheus_client", "uvicorn")


@dataclass(frozen=True)
class Options:
    """What the user asked for.

    Attributes:
        model: Folder of the model.
        thresholds: File of thresholds of the model; None = any answer is accepted.
        host: Address to listen on.
        port: Port to listen on; 0 = any that is free.
    """

    model: Path
    thresholds: Path | None
    host: str
    port: int


def serve(options: Options) -> None:
    """Answer requests until SIGTERM or Ctrl-C.

    Raises:
        DataError: The model or the address cannot be used, or a package is missing.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise DataError(f"{', '.join(missing)}: not installed; pip install 'rubro[serve]'")
    require_model(options.model)
    # Reading waits for the disk and hashing for neither: meanwhile FastAPI is imported.
    with ThreadPoolExecutor(1) as thread:
        from rubro.service.served import read_model

        reading = thread.submit(read_model, options.model, options.thresholds)
        from rubro.service.app import make_app
        from rubro.service.server import open_socket, run_server

        served = reading.result()
    listening = open_socket(options.host, options.port)
    app = make_app(served)
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    say(
        f"{served.classifier.name}, {len(served.classifier.classes_)} categories: http://{shown}:{port}"
    )
    run_server(app, listening)
