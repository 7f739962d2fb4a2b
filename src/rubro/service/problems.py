"""Errors as application/problem+json, RFC 9457."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from rubro.service.batching import Overloaded
from rubro.service.schemas import Problem

_MEDIA_TYPE = "application/problem+json"
_SHOWN_ERRORS = 5


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response to a request that fails.

    Args:
        status: HTTP status.
        detail: Sentence on what is wrong and what helps.
        headers: Headers beside the type of the content.
    """
    content = Problem(
        type="about:blank", title=HTTPStatus(status).phrase, status=status, detail=detail
    )
    # Escaped, for it may quote halves of surrogate pairs.
    text = json.dumps(content.model_dump(), ensure_ascii=True)
    return Response(text, status, headers, _MEDIA_TYPE)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route for its OpenAPI description."""
    schema = {"schema": Problem.model_json_schema()}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {_MEDIA_TYPE: schema}}
        for status in statuses
    }


def add_handlers(app: FastAPI) -> None:
    """Let an application answer every error with a problem."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Overloaded, _overloaded)
    app.add_exception_handler(Exception, _failed)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    shown = [
        f"{'.'.join(str(part)[:100] for part in each['loc'])}: {each['msg']}"
        for each in errors[:_SHOWN_ERRORS]
    ]
    return problem(422, "; ".join(shown))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem(error.status_code, error.detail, error.headers)


async def _overloaded(request: Request, error: Exception) -> Response:
    return problem(503, "too many requests wait; try again later", {"Retry-After": "1"})


async def _failed(request: Request, error: Exception) -> Response:
    return problem(500, "a bug of the service; its log says more")
