"""The application at work on a socket, until a signal ends it."""

import socket
from types import FrameType

import uvicorn
import websockets  # noqa: F401 - uvicorn answers sockets with it, and tells nobody where it is missing
from starlette.types import ASGIApp

SECONDS_TO_CLOSE = 3  # for connections that are open when the server stops
LARGEST_MESSAGE = 2**26  # bytes of a call: run lengths of a mask, a frame of a camera


class Server(uvicorn.Server):
    """A server that ends normally when it is asked to, however often."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Ends it; uvicorn would raise the signal again, and break off at a second one."""
        self.should_exit = True


def serve_on(listening: socket.socket, app: ASGIApp) -> None:
    """Serves an application on a socket, until Ctrl-C or SIGTERM."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws_max_size=LARGEST_MESSAGE,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=SECONDS_TO_CLOSE,
    )
    Server(config).run(sockets=[listening])
