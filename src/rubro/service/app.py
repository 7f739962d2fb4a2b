"""Create the FastAPI application, which answers requests with the model in use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from copy import deepcopy
from importlib.resources import files
from pathlib import Path
from typing import Any
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
from rubro.prediction.explanation import Explanation
from rubro.service import schemas
from rubro.service.batching import Batcher, Ranking, parts
from rubro.service.guard import Budget, Guard, Take
from rubro.service.metrics import ServiceMetrics
from rubro.service.problems import HANDLERS, RESPONSES
from rubro.service.products import document_products, product_error, read_products
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

    Attributes:
        served: Model in use, and its files.
        metrics: Prometheus metrics of the service.
    """

    def __init__(self, served: Served) -> None:
        self.metrics = ServiceMetrics()
        self._batcher = Batcher(self.metrics.batch_titles.observe)
        # Explanations of long texts run one at a time, because each of them needs memory.
        self._explaining = asyncio.Lock()
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
        self.metrics.title_errors.inc()
        answer: dict[str, Any] = {"category": None, "confidence": None, "top": [], "error": error}
        return {**answer, "predicted_level": 0, "path": []} if served.paths else answer

    async def _categories(
        self,
        served: Served,
        products: Sequence[Any],
        request: _Question,
    ) -> list[dict[str, Any]]:
        """Answer with a model whose categories are not paths."""
        rankings = await self._batcher.top(served.classifier, products, request.top)
        are_accepted = _are_accepted(served, products, rankings, request.min_confidence)
        thresholds = served.thresholds
        found: list[dict[str, Any]] = []
        for ranking, is_accepted in zip(rankings, are_accepted, strict=True):
            category, confidence = ranking[0]
            self.metrics.confidences.observe(confidence)
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
            probabilities=probabilities,
        )
        for answer in found:
            self.metrics.confidences.observe(answer.best[0][1])
        has_thresholds = served.thresholds is not None
        return [
            _path_answer(answer, served.paths)
            | ({"threshold": answer.threshold} if has_thresholds else {})
            for answer in found
        ]


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


def _are_accepted(
    served: Served, products: Sequence[Any], rankings: Sequence[Ranking], min_confidence: float
) -> list[bool]:
    """Return for each product whether its most probable category is confident enough to accept."""
    if served.thresholds is None:
        return [best[1] >= min_confidence for best, *_ in rankings]
    unknown_shares = served.classifier.out_of_vocabulary(products).tolist()
    return [
        best[1] >= min_confidence and served.thresholds.accepts(*best, unknown_share)
        for (best, *_), unknown_share in zip(rankings, unknown_shares, strict=True)
    ]


def _check_level(served: Served, level: int | None) -> None:
    if level is None:
        return
    try:
        served.classifier.level(level)
    except (DataError, ValueError) as error:
        raise HTTPException(422, f"body.level: {error}") from None


class _App(FastAPI):
    """FastAPI application whose OpenAPI description names the columns of the model in use."""

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
) -> FastAPI:
    """Return the web application, which reloads the model when its files change.

    Args:
        served: Model to start with.
        hosts: Names that the Host header may contain; see Guard.
        root_path: Prefix of the paths, such as "/rubro", if a proxy adds one.
        queue: csv file of titles that the page opens at the start; None = the user opens a file.

    Raises:
        OSError: The file of titles cannot be read.
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

    app = _App(
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
        """Check that the service answers."""
        return _json({"status": "ok"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {_METRICS_TYPE: {}}}})
    async def metrics() -> Response:
        """Return the metrics of the service for Prometheus."""
        return Response(service.metrics.text(), media_type=_METRICS_TYPE)


def _fixed_endpoint(answer: Response) -> Callable[[], Coroutine[Any, Any, Response]]:
    async def send() -> Response:
        return Response(answer.body, answer.status_code, dict(answer.headers))

    return send


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type=_JSON_TYPE)
