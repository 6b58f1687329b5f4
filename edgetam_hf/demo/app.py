"""The server's addresses: the page, its sessions, and the socket over which a page calls them."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from .access import Access, Guard
from .asked import read_integer
from .files import respond_with
from .film import FilmPlan, write_film
from .media import Video, as_jpeg, shown_name
from .messages import read_object, unpack
from .sessions import FAULT, FullError, Session, Sessions

MOST_WAITING_MESSAGES = 16  # to a page that is slow to take them, before its calls wait
SECONDS_BETWEEN_CLEANINGS = 60.0
SECONDS_TO_STOP = 5.0
PLAIN_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")
CHUNK = 2**20


def make_app(
    files: dict[str, Path], settings: Callable[[], dict[str, Any]], access: Access, sessions: Sessions | None
) -> ASGIApp:
    """The application.

    Args:
        files: that it gives out, by their addresses.
        settings: what `settings.json` says.
        access: who may use it.
        sessions: of a server that computes; None where the browser does.
    """

    async def give_file(request: Request) -> Response:
        path = files.get(request.url.path)
        if path is None:
            raise HTTPException(404, "there is no such file")
        return respond_with(request, path)

    async def give_settings(request: Request) -> Response:
        return JSONResponse(settings())

    routes: list[BaseRoute] = [Route("/settings.json", give_settings)]
    if sessions is not None:
        routes += SessionRoutes(sessions).routes()
    routes.append(Route("/{path:path}", give_file))
    app = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _tell, Exception: _tell},
        lifespan=None if sessions is None else _running(sessions),
    )
    return Guard(app, access)


async def _tell(request: Request, error: Exception) -> Response:
    """The answer for an error: its sentence."""
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": FAULT}, 500)


def _running(sessions: Sessions) -> Any:
    """What happens while the server runs: the worker works, and idle sessions are forgotten."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        sessions.worker.start()
        cleaning = asyncio.create_task(clean())
        try:
            yield
        finally:
            cleaning.cancel()
            await to_thread.run_sync(sessions.worker.stop, SECONDS_TO_STOP)
            sessions.close_all()

    async def clean() -> None:
        while True:
            await asyncio.sleep(SECONDS_BETWEEN_CLEANINGS)
            await to_thread.run_sync(sessions.free_idle)

    return lifespan


class SessionRoutes:
    """What is asked about sessions by HTTP; their calls come over a socket, see `Conversation`."""

    def __init__(self, sessions: Sessions):
        self.sessions = sessions

    def routes(self) -> list[BaseRoute]:
        """The addresses."""
        return [
            Route("/sessions", self.create, methods=["POST"]),
            Route("/sessions/{session}/media", self.receive_file, methods=["PUT"]),
            Route("/sessions/{session}/media", self.open_file, methods=["POST"]),
            Route("/sessions/{session}/frames/{frame:int}.jpg", self.give_frame),
            Route("/sessions/{session}/overlay", self.make_film, methods=["POST"]),
            Route("/sessions/{session}/close", self.close, methods=["POST"]),
            WebSocketRoute("/sessions/{session}/socket", self.converse),
        ]

    async def create(self, request: Request) -> Response:
        """The id of a new session."""
        try:
            session = await to_thread.run_sync(self.sessions.create)
        except FullError as error:
            raise HTTPException(503, str(error)) from error
        return JSONResponse({"session": session.session_id})

    async def close(self, request: Request) -> Response:
        """Forgets a session."""
        await to_thread.run_sync(self.sessions.close, request.path_params["session"])
        return JSONResponse(None)

    async def receive_file(self, request: Request) -> Response:
        """What is open, after the file that was sent was opened."""
        session = self._session(request)
        name = shown_name(request.query_params.get("name", ""))
        suffix = Path(name).suffix
        path = session.new_path(suffix if PLAIN_SUFFIX.fullmatch(suffix) else "")
        try:
            await self._store(request, session, path)
            media = await self._in_thread(session, session.open, path, name)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        session.keep_upload(path)
        return JSONResponse(media)

    async def open_file(self, request: Request) -> Response:
        """What is open, after the file of the command line was opened."""
        session, file = self._session(request), self.sessions.file
        if file is None:
            raise HTTPException(404, "the server was started without a file: open one from here")
        media = await self._in_thread(session, session.open, file, file.name)
        session.keep_upload(None)
        return JSONResponse(media)

    async def give_frame(self, request: Request) -> Response:
        """A frame as JPEG."""
        session = self._session(request)
        media = None if session.work is None else session.work.media
        if media is None:
            raise HTTPException(404, "there is no frame: open a picture or a video first")
        try:
            jpeg = await self._in_thread(session, lambda: as_jpeg(media.frame(request.path_params["frame"])))
        except IndexError as error:
            raise HTTPException(404, str(error)) from error
        return Response(jpeg, media_type="image/jpeg")

    async def make_film(self, request: Request) -> Response:
        """A film of the masks that were sent, while it is written."""
        session = self._session(request)
        video = None if session.work is None else session.work.media
        if not isinstance(video, Video):
            raise HTTPException(400, "a film can be made of a video only: open one first")
        sent, path = session.new_path(".masks"), session.new_path(".mp4")
        try:
            await self._store(request, session, sent)
            plan = await self._in_thread(session, FilmPlan.read, sent, video)
        except BaseException:
            sent.unlink(missing_ok=True)
            raise
        parts = write_film(plan, video, path)

        async def stream() -> AsyncIterator[bytes]:
            try:
                async for part in iterate_in_threadpool(parts):
                    session.used()
                    yield part
            finally:
                with suppress(ValueError):  # it is at work while the server stops
                    parts.close()
                for finished in (sent, path):
                    finished.unlink(missing_ok=True)

        return StreamingResponse(stream(), media_type="video/mp4")

    async def converse(self, socket: WebSocket) -> None:
        """The calls of a page, until it goes."""
        session = self.sessions.get(socket.path_params["session"])
        if session is None:
            await socket.close(4404, "this session is over")
            return
        await socket.accept()
        await Conversation(socket, session).run()

    def _session(self, request: Request) -> Session:
        session = self.sessions.get(request.path_params["session"])
        if session is None:
            raise HTTPException(404, "this session is over: load the page again, and open the file or the project anew")
        return session

    async def _in_thread(self, session: Session, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function returns that takes its time; its errors become sentences."""
        try:
            return await to_thread.run_sync(function, *arguments)
        except IndexError:
            raise
        except Exception as error:
            raise HTTPException(400, session.sentence_of(error)) from error

    async def _store(self, request: Request, session: Session, path: Path) -> None:
        """Writes the body of a request to a file.

        What exceeds the limit is read, up to as much again, and dropped: a browser that is cut off while it sends would
        not show the answer.
        """
        limit, num_bytes = self.sessions.limits.upload, 0
        sentence = f"the file is larger than the {limit / 1e9:g} GB that this server takes (--max-upload)"
        if int(request.headers.get("content-length", 0)) > 2 * limit:
            raise HTTPException(413, sentence)
        with open(path, "wb") as file:
            try:
                async for chunk in request.stream():
                    num_bytes += len(chunk)
                    session.used()
                    if num_bytes <= limit:
                        await to_thread.run_sync(file.write, chunk)
                    elif num_bytes > 2 * limit:
                        break
            except ClientDisconnect as error:
                raise HTTPException(400, "the file has not arrived as a whole") from error
            except OSError as error:
                raise HTTPException(507, f"the server cannot keep the file: {error.strerror}") from error
        if num_bytes > limit:
            raise HTTPException(413, sentence)


class SocketChannel:
    """Answers on their way to a page; `send` may be called by any thread."""

    def __init__(self, has_room_again: Callable[[], None]):
        self._loop, self._has_room_again = asyncio.get_running_loop(), has_room_again
        self._messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        self._lock, self._num_waiting = threading.Lock(), 0

    @property
    def has_room(self) -> bool:
        """Whether fewer messages wait than may."""
        return self._num_waiting < MOST_WAITING_MESSAGES

    def send(self, message: str | bytes) -> None:
        """Sends a message without waiting."""
        with self._lock:
            self._num_waiting += 1
        with suppress(RuntimeError):  # the loop is closed, as the server stops
            self._loop.call_soon_threadsafe(self._messages.put_nowait, message)

    async def deliver(self, socket: WebSocket) -> None:
        """Passes messages on for ever."""
        while True:
            message = await self._messages.get()
            if isinstance(message, str):
                await socket.send_text(message)
            else:
                await socket.send_bytes(message)
            with self._lock:
                self._num_waiting -= 1
            self._has_room_again()


class Conversation:
    """Calls of a page over its socket, and the answers to them."""

    def __init__(self, socket: WebSocket, session: Session):
        self.socket, self.session = socket, session
        self.channel = SocketChannel(session.wake)

    async def run(self) -> None:
        """Takes calls until the page goes."""
        self.session.attach(self.channel)
        delivery = asyncio.create_task(self.channel.deliver(self.socket))
        try:
            while (message := await self.socket.receive())["type"] != "websocket.disconnect":
                await self._take(message.get("text") or message.get("bytes") or b"")
        except WebSocketDisconnect:
            pass
        finally:
            self.session.detach(self.channel)
            delivery.cancel()

    async def _take(self, message: str | bytes) -> None:
        """Begins a call; errors are answered."""
        call_id = None
        try:
            header, payload = (read_object(message), b"") if isinstance(message, str) else unpack(message)
            params, method = header.get("params") or {}, header.get("method")
            call_id = read_integer(header, "id")
            if not isinstance(params, dict) or not isinstance(method, str):
                raise ValueError("a call must have a method and params")
            await self._begin(call_id, method, params, payload)
        except Exception as error:
            self.channel.send(json.dumps({"id": call_id, "error": self.session.sentence_of(error)}))

    async def _begin(self, call_id: int, method: str, params: dict[str, Any], payload: bytes) -> None:
        if method == "cancel":
            self.session.cancel(read_integer(params, "call"))
            self._answer(call_id, None)
        elif method == "start_live":
            self._answer(call_id, await to_thread.run_sync(self.session.start_live, params))
        else:
            self.session.call(call_id, method, (params, payload), self.channel)

    def _answer(self, call_id: int, result: Any) -> None:
        self.channel.send(json.dumps({"id": call_id, "result": result}))
