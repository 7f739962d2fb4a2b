"""The application: its routes, and what lives as long as it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from importlib.resources import files
from typing import Any

from fastapi import FastAPI
from pydantic_core import to_json
from starlette.middleware import Middleware
from starlette.responses import Response

from rubro import __version__
from rubro.prediction.explanation import WordContribution
from rubro.service import schemas
from rubro.service.batching import Batcher, Best
from rubro.service.guard import Guard
from rubro.service.metrics import Metrics
from rubro.service.problems import add_handlers, documented
from rubro.service.served import Served, Source, Stamp, watch

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/script.js": ("script.js", "text/javascript"),
}
_METRICS_TYPE = "text/plain; version=0.0.4"
_ANSWERED = documented(400, 408, 413, 422, 503)


class Service:
    """What answers requests: a model, the batches of its titles, and counters.

    Args:
        served: Model to begin with.

    Attributes:
        served: Model in use.
        metrics: Counters.
        batcher: Batches of titles.
    """

    def __init__(self, served: Served) -> None:
        self.metrics = Metrics()
        self.batcher = Batcher(self.metrics.batch)
        self.served = served
        self.metrics.model(served)

    def replace(self, served: Served | None) -> None:
        """Take another model from the next request on.

        Args:
            served: New model; None = it cannot be read, and the old one stays.
        """
        self.metrics.reload(served is not None)
        if served is not None:
            self.served = served
            self.metrics.model(served)

    async def predict(self, request: schemas.PredictRequest) -> dict[str, Any]:
        """Return the answer to a request, as JSON has it."""
        served = self.served
        titles = [request.titles] if isinstance(request.titles, str) else request.titles
        answers = await self._answers(served, titles, request.top, request.min_confidence)
        return {"model": served.identity, "answers": answers}

    async def explain(self, request: schemas.ExplainRequest) -> dict[str, Any]:
        """Return the answer to a request, as JSON has it."""
        served = self.served
        (answer,) = await self._answers(
            served, [request.title], request.top, request.min_confidence
        )
        found: dict[str, Any] = {"other": None, "foreign": False, "words": []}
        if answer["error"] is None and len(served.classifier.classes_) > 1:
            explanation = served.classifier.explain(request.title)
            found = {name: getattr(explanation, name) for name in found}
            found["words"] = [_word(word) for word in explanation.words]
        return {"model": served.identity, "answer": answer, **found}

    async def _answers(
        self, served: Served, titles: Sequence[Any], top: int, least: float
    ) -> list[dict[str, Any]]:
        errors = [_problem_of(title) for title in titles]
        good = [title for title, error in zip(titles, errors, strict=True) if error is None]
        found = iter(await self._best(served, good, top, least))
        answers = []
        for error in errors:
            best, is_accepted = next(found) if error is None else ([], False)
            self.metrics.title(best[0][1] if best else None)
            answers.append(_answer(best, is_accepted, error))
        return answers

    async def _best(
        self, served: Served, titles: Sequence[str], top: int, least: float
    ) -> list[tuple[Best, bool]]:
        """The best categories of each title, and whether the first is accepted."""
        found = await self.batcher.top(served.classifier, titles, top)
        if served.thresholds is None:
            return [(best, best[0][1] >= least) for best in found]
        unknown = served.classifier.out_of_vocabulary(titles)
        return [
            (best, best[0][1] >= least and served.thresholds.accepts(*best[0], share))
            for best, share in zip(found, unknown.tolist(), strict=True)
        ]


def _problem_of(title: Any) -> str | None:
    if not isinstance(title, str):
        return "the title is not text"
    if not title.strip():
        return "the title is empty"
    try:
        title.encode()
    except UnicodeEncodeError:
        return "the title holds half of a surrogate pair"
    return None


def _answer(best: Best, is_accepted: bool, error: str | None) -> dict[str, Any]:
    top = [{"category": name, "confidence": round(p, 6)} for name, p in best]
    return {
        "category": top[0]["category"] if is_accepted else None,
        "confidence": top[0]["confidence"] if top else None,
        "top": top,
        "error": error,
    }


def _word(word: WordContribution) -> dict[str, Any]:
    return {name: getattr(word, name) for name in schemas.Word.model_fields}


def make_app(served: Served, source: Source, stamp: Stamp) -> FastAPI:
    """Return the application.

    Args:
        served: Model to begin with.
        source: Files of the model, watched for changes.
        stamp: Stamp of these files before they were read.
    """
    service = Service(served)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(watch(source, stamp, service.replace))
        yield
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    app = FastAPI(
        title="rubro",
        version=__version__,
        summary="Categories of product titles.",
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        middleware=[Middleware(Guard, metrics=service.metrics)],
    )
    add_handlers(app)
    _add_questions(app, service)
    _add_facts(app, service)
    _add_page(app)
    return app


def _add_questions(app: FastAPI, service: Service) -> None:
    @app.post("/predict", response_model=schemas.PredictAnswer, responses=_ANSWERED)
    async def predict(request: schemas.PredictRequest) -> Response:
        """Predict the categories of one title or many."""
        return _json(await service.predict(request))

    @app.post("/explain", response_model=schemas.ExplainAnswer, responses=_ANSWERED)
    async def explain(request: schemas.ExplainRequest) -> Response:
        """Predict the categories of a title, and tell which words speak for the first one."""
        return _json(await service.explain(request))


def _add_facts(app: FastAPI, service: Service) -> None:
    @app.get("/categories", response_model=schemas.Categories)
    async def categories() -> Response:
        """List the categories of the model."""
        served = service.served
        return _json({"model": served.identity, "categories": served.classifier.classes_})

    @app.get("/version", response_model=schemas.Version)
    async def version() -> Response:
        """Tell which model answers."""
        return _json({"model": service.served.identity, "rubro": __version__})

    @app.get("/health", response_model=schemas.Health)
    async def health() -> Response:
        """Tell whether the service answers."""
        return _json({"status": "ok"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {_METRICS_TYPE: {}}}})
    async def metrics() -> Response:
        """Return counters for Prometheus."""
        return Response(service.metrics.text(), media_type=_METRICS_TYPE)


def _add_page(app: FastAPI) -> None:
    folder = files("rubro.service") / "page"
    for path, (name, media_type) in _PAGE.items():
        response = partial(
            Response,
            (folder / name).read_bytes(),
            headers={"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"},
            media_type=media_type,
        )
        app.add_api_route(path, _constant(response), include_in_schema=False)


def _constant(response: partial[Response]) -> Any:
    async def answer() -> Response:
        return response()

    return answer


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
