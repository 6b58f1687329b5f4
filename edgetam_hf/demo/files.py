"""The files that a server gives out: those that it finds in its folders when it starts, and no other."""

import os
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response

WEB = Path(__file__).parents[1] / "web"
# Some systems know other types of these, with which browsers do not run them
TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".wasm": "application/wasm",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".map": "application/json",
}
PAGE_TYPES = (".html", ".css", ".js", ".svg", ".png")


def files_in(folder: Path, address: str, suffixes: tuple[str, ...] | None = None) -> dict[str, Path]:
    """The files in a folder by their addresses, which begin with `address`; no link out of the folder is followed.

    Args:
        folder: with files and folders; hidden ones are left out.
        address: such as `/model/`.
        suffixes: of the files that count; all by default.

    Raises:
        ValueError: for a folder that is not there, or that has no such files.
    """
    root = folder.resolve()
    found = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        is_hidden = any(part.startswith(".") for part in name.parts)
        is_inside = path.resolve().is_relative_to(root)
        if path.is_file() and is_inside and not is_hidden and (suffixes is None or path.suffix in suffixes):
            found[address + name.as_posix()] = path
    if not found:
        raise ValueError(f"there are no files in {folder}: name the folder that has them")
    return found


def page_files() -> dict[str, Path]:
    """The files of the page, by their addresses."""
    files = files_in(WEB, "/", PAGE_TYPES)
    return {**files, "/": files["/index.html"]}


def respond_with(request: Request, path: Path) -> Response:
    """The answer with a file, or that the browser has it already."""
    response = FileResponse(
        path, media_type=TYPES.get(path.suffix, "application/octet-stream"), stat_result=os.stat(path)
    )
    headers = MutableHeaders(raw=response.raw_headers)
    headers["Cache-Control"] = "no-cache"  # it may be used after asking whether it has changed
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers={"etag": headers["etag"], "Cache-Control": "no-cache"})
    return response
