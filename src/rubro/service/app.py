"""Create the FastAPI application, which answers requests with the model in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from rubro import __version__
from rubro.service import schemas
from rubro.service.batching import Batcher, Ranking, parts
from rubro.service.guard import Budget, Guard, Take
from rubro.service.metrics import ServiceMetrics
from rubro.service.problems import HANDLERS, RESPONSES
from rubro.service.served import Served, watch

_PAGE = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/script.js": ("script.js", "text/javascript"),
}
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
_JSON_TYPE = "application/json"
_METRICS_TYPE = "text/plain; version=0.0.4"
_MEMORY = 2**28  # bytes that requests in progress may use
_BYTES_PER_CHOICE = 200  # estimated memory of a category in an answer


class Service:
    """Predicts categories with the model in use, and updates the Prometheus metrics.

    Args:
        served: Model to start with.

    Attributes:
        served: Model in use, and its files.
        metrics: Prometheus metrics of the service.
    """

    def __init__(self, served: Served) -> None:
        self.metrics = ServiceMetrics()
        self._batcher = Batcher(self.metrics.batch_titles.observe)
        self._use(served)

    def _use(self, served: Served) -> None:
        self.served = served
        self.metrics.model.clear()
        self.metrics.model.labels(served.identity["name"], served.identity["hash"]).set(1)

    def replace(self, served: Served | None) -> None:
        """Replace the model in use; later requests are answered with the new model.

        Args:
            served: New model; None = the new model cannot be read, so the present one is kept.
        """
        self.metrics.reloads.labels("refused" if served is None else "replaced").inc()
        if served is not None:
            self._use(served)

    async def predict(self, request: schemas.PredictRequest, take: Take) -> bytes:
        """Predict the categories of titles, and return a `PredictAnswer` as JSON.

        Args:
            request: Titles, and how many categories to return for each.
            take: Function that reserves bytes of memory for the answer, or refuses the request.
        """
        served = self.served
        titles = [request.titles] if isinstance(request.titles, str) else request.titles
        choices = 1 + min(request.top, len(served.classifier.classes_))
        estimate = _BYTES_PER_CHOICE * len(titles) * choices
        take(estimate)
        answers = [
            to_json(await self._answers(served, part, request.top, request.min_confidence))
            for part in parts(served.classifier, titles)
        ]
        joined = b",".join(part[1:-1] for part in answers)
        answer = b'{"model":%b,"answers":[%b]}' % (to_json(served.identity), joined)
        take(len(answer) - estimate)
        return answer

    async def explain(self, request: schemas.ExplainRequest) -> dict[str, Any]:
        """Explain the prediction for a title, and return the content of an `ExplainAnswer`."""
        served = self.served
        (answer,) = await self._answers(
            served, [request.title], request.top, request.min_confidence
        )
        found: dict[str, Any] = {"other": None, "foreign": False, "words": []}
        if answer["error"] is None and len(served.classifier.classes_) > 1:
            explanation = served.classifier.explain(request.title)
            found = {name: getattr(explanation, name) for name in found}
            found["words"] = [
                {name: getattr(word, name) for name in schemas.ExplainedWord.model_fields}
                for word in explanation.words
            ]
        return {"model": served.identity, "answer": answer, **found}

    async def _answers(
        self, served: Served, titles: Sequence[Any], top: int, min_confidence: float
    ) -> list[dict[str, Any]]:
        errors = [_title_error(title) for title in titles]
        valid = [title for title, error in zip(titles, errors, strict=True) if error is None]
        rankings = await self._batcher.top(served.classifier, valid, top)
        are_accepted = _are_accepted(served, valid, rankings, min_confidence)
        found = zip(rankings, are_accepted, strict=True)
        answers: list[dict[str, Any]] = []
        for error in errors:
            if error is not None:
                self.metrics.title_errors.inc()
                answers.append({"category": None, "confidence": None, "top": [], "error": error})
                continue
            ranking, is_accepted = next(found)
            category, confidence = ranking[0]
            self.metrics.confidences.observe(confidence)
            answer = {
                "category": category if is_accepted else None,
                "confidence": round(confidence, 6),
                "top": [{"category": name, "confidence": round(p, 6)} for name, p in ranking],
                "error": None,
            }
            answers.append(answer)
        return answers


def _are_accepted(
    served: Served, titles: Sequence[str], rankings: Sequence[Ranking], min_confidence: float
) -> list[bool]:
    """Return for each title whether its most probable category is confident enough to accept."""
    if served.thresholds is None:
        return [best[1] >= min_confidence for best, *_ in rankings]
    unknown_shares = served.classifier.out_of_vocabulary(titles).tolist()
    return [
        best[1] >= min_confidence and served.thresholds.accepts(*best, unknown_share)
        for (best, *_), unknown_share in zip(rankings, unknown_shares, strict=True)
    ]


def _title_error(title: Any) -> str | None:
    if not isinstance(title, str):
        return "the title is not text"
    if not title.strip():
        return "the title is empty"
    try:
        title.encode()
    except UnicodeEncodeError:
        return "the title contains an unpaired surrogate"
    return None


def make_app(served: Served, hosts: frozenset[str] | None = None, root_path: str = "") -> FastAPI:
    """Return the web application, which reloads the model when its files change.

    Args:
        served: Model to start with.
        hosts: Names that the Host header may contain; see Guard.
        root_path: Prefix of the paths, such as "/rubro", if a proxy adds one.
    """
    service = Service(served)
    guard = Middleware(Guard, service.metrics, Budget(_MEMORY), hosts, root_path)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch(served, service.replace))
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    app = FastAPI(
        title="rubro",
        version=__version__,
        summary="Categories of product titles.",
        docs_url=None,  # these pages would load scripts from another server
        redoc_url=None,
        lifespan=lifespan,
        middleware=[guard],
        redirect_slashes=False,  # Guard removes slashes at the end of paths
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers=HANDLERS,
    )
    _add_routes(app, service)
    for path, (name, media_type) in _PAGE.items():
        content = (files("rubro.service") / "page" / name).read_bytes()
        app.add_api_route(path, _file_endpoint(content, media_type), include_in_schema=False)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/predict", response_model=schemas.PredictAnswer, responses=RESPONSES)
    async def predict(request: schemas.PredictRequest, http: Request) -> Response:
        """Predict the categories of one or more titles."""
        answer = await service.predict(request, http.state.take)
        return Response(answer, media_type=_JSON_TYPE)

    @app.post("/explain", response_model=schemas.ExplainAnswer, responses=RESPONSES)
    async def explain(request: schemas.ExplainRequest) -> Response:
        """Predict the categories of a title and show which words support the first category."""
        return _json(await service.explain(request))

    @app.get("/categories", response_model=schemas.Categories)
    async def categories() -> Response:
        """List the categories of the model."""
        served = service.served
        return _json({"model": served.identity, "categories": served.classifier.classes_})

    @app.get("/version", response_model=schemas.Version)
    async def version() -> Response:
        """Return the versions of the service and of the model in use."""
        return _json({"model": service.served.identity, "rubro": __version__})

    @app.get("/health", response_model=schemas.Health)
    async def health() -> Response:
        """Check that the service answers."""
        return _json({"status": "ok"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {_METRICS_TYPE: {}}}})
    async def metrics() -> Response:
        """Return the metrics of the service for Prometheus."""
        return Response(service.metrics.text(), media_type=_METRICS_TYPE)


def _file_endpoint(content: bytes, media_type: str) -> Callable[[], Coroutine[Any, Any, Response]]:
    async def send_file() -> Response:
        return Response(content, headers=_PAGE_HEADERS, media_type=media_type)

    return send_file


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type=_JSON_TYPE)
