"""Static files, read once: served under names that hold their digest, so that browsers keep them for good."""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
COMPRESSED = (".css", ".js", ".svg", ".txt")
TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".woff2": "font/woff2",
}
FOR_GOOD = "public, max-age=31536000, immutable"
FOR_AN_HOUR = "public, max-age=3600"
_URL = re.compile(rb'url\("([\w.-]+)"\)')


@dataclass(frozen=True)
class Asset:
    """One file: its bytes, plain and compressed (None where that saves nothing), its media type and digest."""

    plain: bytes
    compressed: bytes | None
    media_type: str
    digest: str


class Assets:
    """The files of a folder. ``path("style.css")`` is what a template links to."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, Asset] = {}
        self._paths: dict[str, str] = {}
        files = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: (p.suffix == ".css", p.name))
        for file in files:  # stylesheets last: they name other files
            content = file.read_bytes()
            if file.suffix == ".css":
                content = _URL.sub(self._lasting_url, content)
            digest = hashlib.sha256(content).hexdigest()[:12]
            media_type = TYPES[file.suffix]
            packed = gzip.compress(content, 9, mtime=0) if file.suffix in COMPRESSED else None
            asset = Asset(content, packed, media_type, digest)
            stem, _, suffix = file.name.rpartition(".")
            self._paths[file.name] = f"/static/{stem}.{digest}.{suffix}"
            self._files[file.name] = asset
            self._files[f"{stem}.{digest}.{suffix}"] = asset

    def _lasting_url(self, match: re.Match[bytes]) -> bytes:
        return f'url("{self._paths[match[1].decode()]}")'.encode()

    def path(self, name: str) -> str:
        """The path of a file under its lasting name. Raises KeyError for a file that is not there."""
        return self._paths[name]

    def respond(self, request: Request, name: str) -> Response | None:
        """The file as an answer, or None if there is no such file."""
        asset = self._files.get(name)
        if asset is None:
            return None
        headers = {
            "Cache-Control": FOR_AN_HOUR if name in self._paths else FOR_GOOD,
            "ETag": f'"{asset.digest}"',
            "Vary": "Accept-Encoding",
        }
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        if asset.compressed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            headers["Content-Encoding"] = "gzip"
            return Response(asset.compressed, headers=headers, media_type=asset.media_type)
        return Response(asset.plain, headers=headers, media_type=asset.media_type)
