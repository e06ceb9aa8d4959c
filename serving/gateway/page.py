"""The web page: the files of serving/web, with a policy that lets a browser load nothing else."""

import mimetypes
import secrets
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

WEB = Path(__file__).resolve().parents[1] / "web"
NONCE = "{{nonce}}"  # in index.html; wavesurfer.js sets it on the style element that it adds
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; style-src 'self' 'nonce-{nonce}'; "
    "script-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
mimetypes.add_type("text/javascript", ".js")  # on some systems the registry says otherwise
router = APIRouter(include_in_schema=False)


class WebFiles(StaticFiles):
    """The files of the page. Browsers ask again for each, with its ETag, so that they never mix two versions."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update({**HEADERS, "Cache-Control": "no-cache"})
        return response


@router.head("/")
@router.get("/")
async def index() -> Response:
    """Return the page, with a nonce of its own."""
    nonce = secrets.token_urlsafe(16)
    content = (WEB / "index.html").read_text(encoding="utf-8").replace(NONCE, nonce)
    headers = {**HEADERS, "Content-Security-Policy": POLICY.format(nonce=nonce), "Cache-Control": "no-store"}
    return Response(content, 200, headers, "text/html; charset=utf-8")
