"""``POST /auth``: whether a registry accepts a user's credentials (``docker login``)."""

from typing import TYPE_CHECKING

from scow.api.decode import parse_json
from scow.registry.auth import AuthConfig
from scow.web.response import Response, json_response
from scow.web.router import Routes

if TYPE_CHECKING:
    from scow.daemon.engine import Engine
    from scow.web.request import Request

routes = Routes()


@routes.post("/auth")
async def system_auth(engine: "Engine", request: "Request") -> Response:
    """SystemAuth: check credentials; the token to keep instead of the password, where the registry gives one."""
    auth = AuthConfig.from_json(parse_json(await request.json_text() or b"{}"))
    token = await engine.registry.check_login(auth)
    return json_response({"Status": "Login Succeeded", "IdentityToken": token})
