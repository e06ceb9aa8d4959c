"""The ASGI application: routes, middleware, and errors as problems."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from serving.gateway import kserve, operations, page, routes
from serving.gateway.middleware import Guard, RequestRecorder
from serving.gateway.options import ClassifyOptions, ExplainOptions
from serving.gateway.problems import Problem
from serving.gateway.service import Gateway, context_of

ROUTERS = (routes.router, kserve.router, operations.router, page.router)


def create_app(gateway: Gateway) -> FastAPI:
    """Return the application of a gateway."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with gateway.upstream:
            yield

    app = FastAPI(
        title="audiocnn",
        description="Classifies environmental sound.",
        version="1",
        docs_url=None,  # its scripts come from another site
        redoc_url=None,
        redirect_slashes=False,  # to an address that the header Host of the client chooses
        lifespan=lifespan,
        middleware=[
            Middleware(RequestRecorder, metrics=gateway.metrics),
            Middleware(
                CORSMiddleware,
                allow_origins=gateway.settings.cors_origins,
                allow_methods=["GET", "POST", "PUT"],
                allow_headers=["Authorization", "Content-Type", "X-Request-Id", "traceparent"],
                expose_headers=["X-Request-Id", "Retry-After"],
            ),
            Middleware(Guard, keys=gateway.keys, settings=gateway.settings),
        ],
        exception_handlers={
            Problem: _problem,
            RequestValidationError: _validation_problem,
            HTTPException: _http_problem,
        },
    )
    app.state.gateway = gateway
    for router in ROUTERS:
        app.include_router(router)
    app.mount("/static", page.WebFiles(directory=page.WEB))
    return app


async def _problem(request: Request, error: Any) -> Response:
    problem: Problem = error
    context = context_of(request)
    context.reason, context.detail = problem.reason, str(problem)
    return problem.response(context.request_id)


async def _validation_problem(request: Request, error: Any) -> Response:
    details = error.errors()[0]
    name = str(details["loc"][-1])
    model = ExplainOptions if request.url.path == "/explain" else ClassifyOptions
    allowed = {field.alias or known: field.description for known, field in model.model_fields.items()}
    if name in allowed:
        sentence = f"the option {name} is {allowed[name]}, not {details['input']!r:.80}"
    else:
        sentence = f"there is no option {name!r:.80}; the options are {', '.join(allowed)}"
    return await _problem(request, Problem(400, "invalid_option", sentence))


async def _http_problem(request: Request, error: Any) -> Response:
    reason = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "refused")
    detail = {404: "there is nothing at this address", 405: "this address does not have this method"}
    sentence = detail.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    if "Allow" in headers and (route := request.scope.get("route")):
        # The router names the methods of one function only; an address may have several.
        known = [each for router in ROUTERS for each in router.routes if isinstance(each, APIRoute)]
        methods = {method for each in known if each.path == route.path for method in each.methods or ()}
        headers["Allow"] = ", ".join(sorted(methods)) or headers["Allow"]
    return await _problem(request, Problem(error.status_code, reason, sentence, headers))
