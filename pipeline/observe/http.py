"""What Kubernetes and Prometheus ask: /livez, /readyz, /metrics; others add pages.

Live means that the loops turn; Kafka or Klaviyo being away is no reason to be restarted,
a restart would only add a rebalance. Ready means that nothing waits for a human.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from pipeline.errors import SettingsError
from pipeline.observe.health import Health
from pipeline.observe.mask import Mask
from pipeline.observe.metrics import Metrics
from pipeline.settings import Http

__all__ = ["Probes"]

STOP_WITHIN: Final = 2.0  # s; a scraper that hangs must not hold the process
_BODY: Final = 1024  # bytes read of a request; ours have no body, or a short form


class Probes:
    """The HTTP endpoints of one process. Its own are read-only, without personal data."""

    def __init__(
        self,
        settings: Http,
        health: Health,
        metrics: Metrics,
        more: Sequence[web.RouteDef] = (),
    ) -> None:
        """`more` are routes of others, to be served beside our own."""
        self._settings = settings
        self._health = health
        self._metrics = metrics
        self._more = more
        self._mask = Mask()
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port in use; it is another than the setting when that is 0."""
        addresses = self._runner.addresses if self._runner else []
        return int(addresses[0][1]) if addresses else self._settings.port

    async def start(self) -> None:
        """Listen. Raises `SettingsError` when the address cannot be had."""
        app = web.Application(client_max_size=_BODY)
        app.router.add_get("/livez", self._livez, allow_head=False)
        app.router.add_get("/readyz", self._readyz, allow_head=False)
        app.router.add_get("/metrics", self._metrics_text, allow_head=False)
        app.router.add_routes(self._more)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_WITHIN / 2)
        await runner.setup()
        host, port = self._settings.host, self._settings.port
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise SettingsError(
                f"Cannot listen on {host}:{port} for probes and metrics: "
                f"{error.strerror or error}. Stop what uses the port, or set http.port "
                "(PIPELINE_HTTP__PORT) or http.host (PIPELINE_HTTP__HOST) to another."
            ) from None
        self._runner = runner

    async def stop(self) -> None:
        """Stop listening, within `STOP_WITHIN` seconds; stopping twice does nothing."""
        runner, self._runner = self._runner, None
        if runner is not None:
            try:
                async with asyncio.timeout(STOP_WITHIN):
                    await runner.cleanup()
            except TimeoutError:
                pass  # the process ends in any case, and its sockets with it

    async def _livez(self, _: web.Request) -> web.Response:
        stuck = self._health.stuck()
        return web.json_response(
            {"live": not stuck, "reasons": stuck}, status=503 if stuck else 200
        )

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = [self._mask.text(reason) for reason in self._health.reasons()]
        waiting = {
            what: self._mask.text(message)
            for what, message in self._health.waits().items()
        }
        return web.json_response(
            {"ready": not reasons, "reasons": reasons, "waiting": waiting},
            status=503 if reasons else 200,
        )

    async def _metrics_text(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(
            body=encode(self._metrics.registry), headers={"Content-Type": content_type}
        )
