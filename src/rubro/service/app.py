"""Create the FastAPI application, which answers requests with the model in use."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from rubro import __version__
from rubro.base.errors import DataError
from rubro.prediction.answers import Answer, answers
from rubro.prediction.explanation import FOREIGN_SHARE, Explanation
from rubro.service import schemas
from rubro.service.batching import Batcher, parts
from rubro.service.collected import CollectedCorrections, StoredRow
from rubro.service.guard import Budget, Guard, Take
from rubro.service.logs import log_event
from rubro.service.metrics import ServiceMetrics
from rubro.service.problems import HANDLERS, RESPONSES, documented
from rubro.service.products import (
    document_products,
    product_error,
    read_correction,
    read_products,
)
from rubro.service.served import Served, watch

_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}
_Question = schemas.PredictRequest | schemas.ExplainRequest
_JSON_TYPE = "application/json"
_METRICS_TYPE = "text/plain; version=0.0.4"
_MEMORY = 2**28  # bytes that requests in progress may use
_BYTES_PER_CHOICE = 200  # estimated memory of a category in an answer


class Service:
    """Predicts categories with the model in use, and updates the Prometheus metrics.

    Args:
        served: Model to start with.
        corrections: Folder that collects corrections; None = refuse them.

    Attributes:
        served: Model in use, and its files.
        metrics: Prometheus metrics of the service.
        is_stopping: Whether the service no longer accepts connections.
    """

    def __init__(self, served: Served, corrections: CollectedCorrections | None = None) -> None:
        self.metrics = ServiceMetrics()
        self.is_stopping = False
        self._corrections = corrections
        self._batcher = Batcher(self.metrics.batch_titles.observe)
        # Explanations of long texts run one at a time, because each of them needs memory.
        self._explaining = asyncio.Lock()
        self._use(served)

    def _use(self, served: Served) -> None:
        self.served = served
        names = ("name", "hash", "objective", "commit")
        labels = [served.identity[name] or "" for name in names]
        self.metrics.model.clear()
        self.metrics.model.labels(*labels, __version__).set(1)
        self.metrics.categories.set(len(served.classifier.classes_))
        self.metrics.loaded.set_to_current_time()

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
        _check_level(served, request.level)
        items = request.titles if isinstance(request.titles, list) else [request.titles]
        products = read_products(served.classifier, "titles", items)
        choices = 1 + min(request.top, len(served.classifier.classes_))
        estimate = _BYTES_PER_CHOICE * len(products) * choices
        take(estimate)
        found = [
            to_json(await self._answers(served, part, request))
            for part in parts(served.classifier, products)
        ]
        joined = b",".join(part[1:-1] for part in found)
        answer = b'{"model":%b,"answers":[%b]}' % (to_json(served.identity), joined)
        take(len(answer) - estimate)
        return answer

    async def explain(self, request: schemas.ExplainRequest) -> dict[str, Any]:
        """Explain the prediction for a product, and return the content of an `ExplainAnswer`."""
        served = self.served
        _check_level(served, request.level)
        products = read_products(served.classifier, "title", [request.title])
        (answer,) = await self._answers(served, products, request)
        found: dict[str, Any] = {"other": None, "foreign": False, "words": []}
        if answer["error"] is None and len(served.classifier.level(request.level).nodes) > 1:
            explanation = await self._explanation(served, products[0], request.level)
            found = {name: getattr(explanation, name) for name in found}
            fields = list(schemas.ExplainedWord.model_fields)
            if not served.classifier.text_columns:
                fields.remove("column")
            found["words"] = [
                {name: getattr(word, name) for name in fields} for word in explanation.words
            ]
        return {"model": served.identity, "answer": answer, **found}

    def stop(self, reason: str) -> None:
        """Report in /ready and in the log that the service stops.

        Args:
            reason: What stops it, such as SIGTERM.
        """
        self.is_stopping = True
        message = f"{reason}: the service stops after it has answered the requests that have begun"
        log_event("stop", message, model_hash=self.served.identity["hash"])

    @property
    def collects_corrections(self) -> bool:
        """Whether the service stores corrections."""
        return self._corrections is not None

    async def change_corrections(
        self, action: Literal["added", "removed"], correction: Mapping[str, Any]
    ) -> StoredRow | None:
        """Store a correction or remove a stored one, and return its place; None if it is not stored.

        Args:
            action: What to do with the correction.
            correction: Content of the request.
        """
        if self._corrections is None:
            detail = "the service does not collect corrections; start it with --corrections FOLDER"
            raise HTTPException(404, detail)
        row = read_correction(self.served.classifier, correction)
        corrections = self._corrections
        try:
            place = await asyncio.to_thread(
                corrections.add if action == "added" else corrections.remove, row
            )
        except OSError as error:
            reason = error.strerror or str(error)
            log_event(
                "refuse_correction", f"a correction cannot be stored: {reason}", logging.ERROR
            )
            detail = f"the correction cannot be stored: {reason}; try again later"
            raise HTTPException(503, detail) from None
        if place is not None:
            self.metrics.corrections.labels(action).inc()
        return place

    async def _explanation(self, served: Served, product: Any, level: int | None) -> Explanation:
        if not served.classifier.text_columns:
            return served.classifier.explain(product, level=level)
        # Long texts take up to a second, in which other requests are answered.
        async with self._explaining:
            return await asyncio.to_thread(served.classifier.explain, product, level=level)

    async def _answers(
        self,
        served: Served,
        products: Sequence[Any],
        request: _Question,
    ) -> list[dict[str, Any]]:
        errors = [product_error(served.classifier, product) for product in products]
        valid = [product for product, error in zip(products, errors, strict=True) if error is None]
        choose = self._categories if served.classifier.tree is None else self._paths
        found = iter(await choose(served, valid, request))
        return [next(found) if error is None else self._refusal(served, error) for error in errors]

    def _refusal(self, served: Served, error: str) -> dict[str, Any]:
        self.metrics.answers.labels("error").inc()
        answer: dict[str, Any] = {"category": None, "confidence": None, "top": [], "error": error}
        return {**answer, "predicted_level": 0, "path": []} if served.paths else answer

    async def _categories(
        self,
        served: Served,
        products: Sequence[Any],
        request: _Question,
    ) -> list[dict[str, Any]]:
        """Answer with a model whose categories are not paths.

        The result is the same as in `_paths`. It takes a quarter less CPU time for single titles,
        because the categories are ranked once for a whole batch.
        """
        rankings = await self._batcher.top(served.classifier, products, request.top)
        unknown_shares = served.classifier.out_of_vocabulary(products).tolist()
        thresholds = served.thresholds
        found: list[dict[str, Any]] = []
        for ranking, unknown_share in zip(rankings, unknown_shares, strict=True):
            category, confidence = ranking[0]
            is_accepted = confidence >= request.min_confidence and (
                thresholds is None or thresholds.accepts(category, confidence, unknown_share)
            )
            self._count(confidence, is_accepted, is_foreign=unknown_share > FOREIGN_SHARE)
            found.append(
                {
                    "category": category if is_accepted else None,
                    "confidence": round(confidence, 6),
                    "top": [{"category": name, "confidence": round(p, 6)} for name, p in ranking],
                    "error": None,
                }
            )
            if thresholds is not None:
                found[-1]["threshold"] = thresholds.categories[category].confidence
        return found

    async def _paths(
        self,
        served: Served,
        products: Sequence[Any],
        request: _Question,
    ) -> list[dict[str, Any]]:
        """Answer with a model whose categories are paths."""
        probabilities = await self._batcher.probabilities(served.classifier, products)
        found = answers(
            served.classifier,
            products,
            request.top,
            min_confidence=request.min_confidence,
            thresholds=served.thresholds,
            level=request.level,
            details=True,
            probabilities=probabilities,
        )
        for answer in found:
            self._count(answer.best[0][1], answer.category is not None, answer.is_foreign)
        has_thresholds = served.thresholds is not None
        return [
            _path_answer(answer, served.paths)
            | ({"threshold": answer.threshold} if has_thresholds else {})
            for answer in found
        ]

    def _count(self, confidence: float, is_accepted: bool, is_foreign: bool) -> None:
        self.metrics.confidences.observe(confidence)
        outcome = "answered" if is_accepted else "below_threshold"
        self.metrics.answers.labels("foreign" if is_foreign else outcome).inc()


def _path_answer(answer: Answer, paths: Mapping[str, list[str]]) -> dict[str, Any]:
    return {
        "category": answer.category,
        "confidence": round(answer.confidence, 6),
        "top": [
            {"category": name, "confidence": round(p, 6), "path": paths[name]}
            for name, p in answer.best
        ],
        "predicted_level": answer.level,
        "path": [] if answer.category is None else paths[answer.category],
        "error": None,
    }


def _check_level(served: Served, level: int | None) -> None:
    if level is None:
        return
    try:
        served.classifier.level(level)
    except (DataError, ValueError) as error:
        raise HTTPException(422, f"body.level: {error}") from None


class App(FastAPI):
    """FastAPI application whose OpenAPI description names the columns of the model in use.

    Attributes:
        service: Service that answers the requests.
    """

    service: Service

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description."""
        description = deepcopy(super().openapi())
        document_products(self.service.served.classifier, description["components"]["schemas"])
        return description


def make_app(
    served: Served,
    hosts: frozenset[str] | None = None,
    root_path: str = "",
    queue: Path | None = None,
    corrections: Path | None = None,
    logs_requests: bool = False,
) -> App:
    """Return the web application, which reloads the model when its files change.

    Args:
        served: Model to start with.
        hosts: Names that the Host header may contain; see Guard.
        root_path: Prefix of the paths, such as "/rubro", if a proxy adds one.
        queue: csv file of titles that the page opens at the start; None = the user opens a file.
        corrections: Folder that collects the corrections of all users; None = refuse them.
        logs_requests: Whether to write a line for each request to the log.

    Raises:
        DataError: The folder of corrections cannot be written.
        OSError: The file of titles cannot be read.
    """
    collected = None if corrections is None else CollectedCorrections(corrections)
    service = Service(served, collected)
    guard = Middleware(Guard, service.metrics, Budget(_MEMORY), hosts, root_path, logs_requests)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch(served, service.replace))
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    app = App(
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
    app.service = service
    _add_routes(app, service)
    for file in (files("rubro.service") / "page").iterdir():
        media_type = _MEDIA_TYPES.get(Path(file.name).suffix)
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            answer = Response(file.read_bytes(), headers=_PAGE_HEADERS, media_type=media_type)
            app.add_api_route(path, _fixed_endpoint(answer), include_in_schema=False)
    answer = Response(status_code=204)
    if queue is not None:
        name = {"Content-Location": quote(queue.name)}
        answer = Response(queue.read_bytes(), headers=name, media_type="text/csv")
    app.add_api_route("/queue", _fixed_endpoint(answer), include_in_schema=False)
    return app


def _add_routes(app: FastAPI, service: Service) -> None:
    @app.post("/predict", response_model=schemas.PredictAnswer, responses=RESPONSES)
    async def predict(request: schemas.PredictRequest, http: Request) -> Response:
        """Predict the categories of one or more products."""
        answer = await service.predict(request, http.state.take)
        return Response(answer, media_type=_JSON_TYPE)

    @app.post("/explain", response_model=schemas.ExplainAnswer, responses=RESPONSES)
    async def explain(request: schemas.ExplainRequest) -> Response:
        """Predict the categories of a product and show which words support the first category."""
        return _json(await service.explain(request))

    @app.get("/categories", response_model=schemas.Categories)
    async def categories() -> Response:
        """List the categories of the model, and name the columns of its training file."""
        served = service.served
        classes = served.classifier.classes_
        text = served.classifier.description.text
        names = text.category_column
        content: dict[str, Any] = {
            "model": served.identity,
            "categories": classes,
            "title_column": text.title_column,
            "category_columns": [names] if isinstance(names, str) else names,
        }
        if served.paths:
            content["paths"] = [served.paths[name] for name in classes]
        return _json(content)

    @app.get("/version", response_model=schemas.Version)
    async def version() -> Response:
        """Return the versions of the service and of the model in use."""
        served = service.served
        names = served.classifier.text_columns
        columns = {"columns": [served.classifier.title_column, *names]} if names else {}
        promise = {}
        if served.thresholds is not None:
            promise["promised_precision"] = served.thresholds.precision
        return _json({"model": served.identity, "rubro": __version__, **columns, **promise})

    @app.get("/health", response_model=schemas.Health)
    async def health() -> Response:
        """Check that the process answers; it always does while it runs."""
        return _json({"status": "ok"})

    @app.get("/ready", response_model=schemas.Health, responses=documented(503))
    async def ready() -> Response:
        """Check that the service has a model and accepts requests; 503 while it stops."""
        if service.is_stopping:
            raise HTTPException(503, "the service is stopping", {"Retry-After": "1"})
        return _json({"status": "ready"})

    @app.get("/model", response_model=schemas.ModelInformation)
    async def model() -> Response:
        """Describe the model in use, and whether the service stores corrections."""
        served = service.served
        content = {
            "model": served.identity,
            "date": served.date,
            "categories": len(served.classifier.classes_),
            "examples": served.examples,
            "collects_corrections": service.collects_corrections,
        }
        return _json(content)

    stored: Any = {
        "response_model": schemas.StoredCorrection,
        "responses": documented(400, 404, 408, 413, 415, 421, 422, 503),
    }

    @app.post("/corrections", status_code=201, **stored)
    async def add_correction(request: schemas.CorrectionRequest) -> Response:
        """Store the right category of a product, if the service collects corrections."""
        place = await service.change_corrections("added", request)
        return _json(place and place._asdict(), 201)

    @app.delete("/corrections", **stored)
    async def remove_correction(request: schemas.CorrectionRequest) -> Response:
        """Remove the last stored correction with the same content, if there is one."""
        place = await service.change_corrections("removed", request)
        return _json(place._asdict() if place else {"file": None, "line": None})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {_METRICS_TYPE: {}}}})
    async def metrics() -> Response:
        """Return the metrics of the service for Prometheus."""
        return Response(service.metrics.text(), media_type=_METRICS_TYPE)


def _fixed_endpoint(answer: Response) -> Callable[[], Coroutine[Any, Any, Response]]:
    async def send() -> Response:
        return Response(answer.body, answer.status_code, dict(answer.headers))

    return send


def _json(content: Any, status: int = 200) -> Response:
    return Response(to_json(content), status, media_type=_JSON_TYPE)
