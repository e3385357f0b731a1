"""An S3 server on loopback (moto's), behind a gate that can be told to misbehave.

What goes wrong between a client and S3 goes wrong here on the wire: the code under test is the
real one, with its real HTTP client.
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

ERROR = "<Error><Code>{}</Code><Message>told to</Message></Error>"


class S3Server:
    """moto's S3, reached through a ``Gate``."""

    def __init__(self) -> None:
        """Start both."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        moto = DomainDispatcherApplication(create_backend_app)
        writing = threading.Lock()

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            """Write one object at a time: moto looks whether there is one, and then writes."""
            with writing if environ["REQUEST_METHOD"] == "PUT" else contextlib.nullcontext():
                return moto(environ, start_response)

        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.port = self._server.port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def environ(self) -> dict[str, str]:
        """What AWS clients need to find it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "someone",
            "AWS_SECRET_ACCESS_KEY": "something",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def make_bucket(self) -> str:
        """Make a bucket and return its name."""
        name = uuid.uuid4().hex
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("PUT", f"/{name}")
        assert connection.getresponse().status == 200
        connection.close()
        return name


# What a gate does with a request: pass it on (None), or answer with a status and a code instead.
Verdict = tuple[int, str] | None


class Gate:
    """A reverse proxy before an S3 server; ``judge`` decides what becomes of each request.

    Attributes:
        requests: method and path of every request that came.
        drop_answer: tells of a request that reached the server whether its answer is lost.
        strip: header names that are not passed on.
    """

    def __init__(self, server: S3Server) -> None:
        """Open a gate that passes everything on."""
        self.requests: list[tuple[str, str]] = []
        self.judge: Callable[[str, str], Verdict] = lambda _method, _path: None
        self.drop_answer: Callable[[str, str], bool] = lambda _method, _path: False
        self.strip: set[str] = set()
        self.delay_s = 0.0
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Print nothing."""

            def _any(self) -> None:
                gate._handle(self, server.port)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _any  # noqa: N815

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """Stop listening: from now on connections are refused."""
        self._http.shutdown()
        self._http.server_close()

    def _handle(self, request: BaseHTTPRequestHandler, port: int) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append((request.command, request.path))
        time.sleep(self.delay_s)
        verdict = self.judge(request.command, request.path)
        if verdict is not None:
            _answer(request, verdict[0], ERROR.format(verdict[1]).encode(), {})
            return
        headers = {k: v for k, v in request.headers.items() if k.lower() not in self.strip}
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        if self.drop_answer(request.command, request.path):
            request.close_connection = True
            request.connection.close()
            return
        _answer(request, answer.status, content, dict(answer.getheaders()))


def _answer(
    request: BaseHTTPRequestHandler, status: int, content: bytes, headers: dict[str, str]
) -> None:
    request.send_response(status)
    for name, value in headers.items():
        if name.lower() in {"etag", "last-modified", "content-type"}:
            request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(content)
