"""Asks for the engine's key on every route but health: vLLM asks for it below /v1 alone, and its development routes, of
which sleeping is one, call any method of its workers for whoever can connect, a web page's script included."""

import hmac
import os


class WantsKey:
    def __init__(self, app):
        self.app = app
        self.expected = b"Bearer " + os.environ["VLLM_API_KEY"].encode()

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan" or scope.get("path") == "/health":
            return await self.app(scope, receive, send)
        given = dict(scope["headers"]).get(b"authorization", b"")
        if hmac.compare_digest(given, self.expected):
            return await self.app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
