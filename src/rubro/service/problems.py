"""Create error responses in the format application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from rubro.base.errors import DataError
from rubro.service.schemas import Problem

_MEDIA_TYPE = "application/problem+json"
_MAX_ERRORS = 5
_MESSAGES = {"extra_forbidden": "unknown key; GET /openapi.json describes the keys"}


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the response to a failed request.

    Args:
        status: HTTP status.
        detail: Sentence that explains the problem and its remedy.
        headers: Response headers in addition to the content type, by name.
    """
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    # ASCII, because the detail may quote unpaired surrogates.
    return Response(json.dumps(content, ensure_ascii=True), status, headers, _MEDIA_TYPE)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    errors = error.errors()
    shown = [
        f"{'.'.join(str(part)[:100] for part in each['loc'])}: {_MESSAGES.get(each['type'], each['msg'])}"
        for each in errors[:_MAX_ERRORS]
    ]
    is_json = all(each["type"] != "json_invalid" for each in errors)
    if is_json and "json" not in request.headers.get("Content-Type", ""):
        shown.append("send the header 'Content-Type: application/json'")
    return problem_response(422 if is_json else 400, "; ".join(shown))


async def _refused(request: Request, error: HTTPException) -> Response:
    detail, headers = error.detail, error.headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # Starlette names only the methods of the first route of a path.
        routes = [
            each for each in request.app.routes if each.matches(request.scope)[0] != Match.NONE
        ]
        methods = {method for route in routes for method in route.methods}
        headers = {"Allow": ", ".join(sorted(methods))}
        detail = (
            f"{request.url.path[:100]} does not support {request.method}; use {headers['Allow']}"
        )
    elif error.status_code == HTTPStatus.NOT_FOUND and detail == HTTPStatus.NOT_FOUND.phrase:
        detail = f"there is no {request.url.path[:100]}; GET /openapi.json describes all paths"
    return problem_response(error.status_code, detail, headers)


async def _not_predicted(request: Request, error: DataError) -> Response:
    return problem_response(503, str(error))


async def _failed(request: Request, error: Exception) -> Response:
    return problem_response(500, "the service has a bug; see its log for details")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of errors.

    Args:
        statuses: HTTP statuses of the errors.
    """
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {_MEDIA_TYPE: {"schema": Problem.model_json_schema()}},
        }
        for status in statuses
    }


# Handlers of all errors, and the OpenAPI description of the errors of a request with titles.
HANDLERS: Any = {
    RequestValidationError: _invalid,
    HTTPException: _refused,
    DataError: _not_predicted,
    Exception: _failed,
}
RESPONSES = documented(400, 408, 413, 415, 421, 422, 503)
