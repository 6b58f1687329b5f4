"""`edgetam demo`: a web page to try a model on, and to label with, and the server behind it."""

import socket
import tempfile
import threading
import webbrowser
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgetam_runtime import is_exported

from ..demo.media import shown_name
from ..demo.models import Models
from ..demo.sessions import Limits, Sessions
from ..demo.worker import Worker
from .support import model_choice

FIRST_PORT, NUM_PORTS = 8770, 50
BROWSER_DTYPES = {None: "fp32", "float32": "fp32", "float16": "fp16", "int8": "q8"}
WILDCARDS = ("0.0.0.0", "::", "")


def run(options: Namespace) -> None:
    """Serves the page until it is stopped."""
    if options.file is not None and not options.file.exists():
        raise ValueError(f"there is no {options.file} to open")
    listening = listen(options.host, options.port)
    uploads = tempfile.TemporaryDirectory(prefix="edgetam_demo_", ignore_cleanup_errors=True)
    with listening, uploads as folder:
        serve(options, listening, Path(folder))


def serve(options: Namespace, listening: socket.socket, folder: Path) -> None:
    """Serves on a socket, with uploads in a folder."""
    try:
        from ..demo.access import Access
        from ..demo.app import make_app
        from ..demo.files import files_in, page_files
        from ..demo.server import serve_on
    except ImportError as error:
        raise ImportError(f'the page needs {error.name}: pip install "edgetam-hf[demo]"') from error

    files, sessions = page_files(), None
    if options.engine == "browser":
        settings = browser_settings(options)
        files |= files_in(Path(options.model), "/model/") | files_in(options.ort, "/ort/")
    else:
        models = Models.load(model_choice(options))
        limits = Limits(options.max_sessions, round(options.max_upload * 1e9), options.max_frames)
        sessions = Sessions(models, Worker(), limits, folder, options.file)
        name = None if options.file is None else shown_name(options.file.resolve().name)
        settings = {"engine": "server", "model": models.description, "media": name}
    port = listening.getsockname()[1]
    access = Access.of(options.host, port)
    address = address_of(options.host, port) + ("" if access.token is None else f"?token={access.token}")
    print(f"the page is at {address} (Ctrl-C ends it)", flush=True)
    if not options.no_browser:
        threading.Thread(target=open_browser, args=(address,), daemon=True).start()
    serve_on(listening, make_app(files, lambda: settings, access, sessions))


def browser_settings(options: Namespace) -> dict[str, Any]:
    """`settings.json` of a page that computes in the browser; raises a ValueError for options that do not fit."""
    if options.ort is None or not is_exported(options.model):
        raise ValueError(
            "--engine browser needs a folder that `edgetam export` has written, --model FOLDER, and that of ONNX "
            "Runtime Web, --ort node_modules/onnxruntime-web/dist"
        )
    if options.file is not None:
        raise ValueError(f"with --engine browser, files are opened in the page: leave out {options.file}")
    if options.dtype not in BROWSER_DTYPES:
        raise ValueError(f"--dtype {options.dtype} is not for browsers: take float32, float16 or int8")
    settings = {"engine": "browser", "model": "model", "ort": "ort", "dtype": BROWSER_DTYPES[options.dtype]}
    if options.device is not None:
        if options.device not in ("webgpu", "wasm"):
            raise ValueError(f"--device {options.device} is not for browsers: take webgpu or wasm, or leave it out")
        settings["device"] = options.device
    return settings


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens on an address; without a port on the first that is free from `FIRST_PORT` on.

    Raises:
        ValueError: for an address that is not of this machine.
        OSError: for a port that is taken.
    """
    try:
        family, _, _, _, (address, *_) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(f"--host {host} is no address of this machine: leave it out, or take 0.0.0.0") from error
    candidates = range(FIRST_PORT, FIRST_PORT + NUM_PORTS) if port is None else [port]
    for candidate in candidates:
        try:
            return socket.create_server((address, candidate), family=family, backlog=128)
        except OSError as error:
            failure = error
    ports = f"ports {FIRST_PORT}..{FIRST_PORT + NUM_PORTS - 1} are" if port is None else f"--port {port} is"
    raise OSError(
        f"{ports} not free on {host} ({failure.strerror}): choose another one, or --port 0 for any"
    ) from failure


def address_of(host: str, port: int) -> str:
    """The address of the page, from other machines where it is for them."""
    name = socket.gethostname() if host in WILDCARDS else host
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"


def open_browser(address: str) -> None:
    """Opens an address in a browser, if there is one."""
    with suppress(webbrowser.Error, OSError):
        webbrowser.open(address)
