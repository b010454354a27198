"""The HTTP application: lifespan, routers, problem handlers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from app import __version__
from app.api import (
    api_keys,
    audit_log,
    bots,
    calendar_events,
    calendars,
    connect,
    connect_links,
    decisions,
    docs,
    handlers,
    health,
    launchers,
    oauth_apps,
    openapi,
    project,
    push,
    replays,
    rules,
    webhook_deliveries,
    webhooks,
)
from app.api.middleware import Observed
from app.runtime import Runtime, calm_collector, open_runtime
from app.settings import Settings


def create_app(runtime: Runtime | None = None, settings: Settings | None = None) -> FastAPI:
    """The application on an open runtime, or on one that its lifespan opens from `settings` (default: environment)."""
    given = runtime.settings if runtime is not None else settings or Settings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if runtime is not None:
            yield
            return
        calm_collector()
        async with open_runtime(given, application="punctual serve") as opened:
            app.state.runtime = opened
            yield

    app = FastAPI(
        title="Punctual",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
    )
    app.state.runtime = runtime
    routers = _routers(given)
    for router in routers:
        app.include_router(router)
    app.add_middleware(Observed)
    if given.trusted_proxies:
        app.add_middleware(ProxyHeadersMiddleware, trusted_hosts=[str(network) for network in given.trusted_proxies])
    handlers.install(app, [route for router in routers for route in router.routes])
    openapi.install(app)
    return app


def _routers(settings: Settings) -> list[APIRouter]:
    # Tried in this order: the busiest first.
    routers = [
        push.router,
        calendar_events.router,
        calendars.router,
        decisions.router,
        webhooks.router,
        webhook_deliveries.router,
        replays.router,
        bots.router,
        rules.router,
        launchers.router,
        oauth_apps.router,
        project.router,
        api_keys.router,
        audit_log.router,
        connect_links.router,
        connect.router,
        health.router,
    ]
    return [*routers, docs.router] if settings.docs_enabled else routers


def _operation_id(route: APIRoute) -> str:
    """Names of methods in generated clients: those of our functions."""
    return route.name
