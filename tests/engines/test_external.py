"""A server of somebody else's that is none, or is another than the sweep is about."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from packsweep.engines import external
from packsweep.engines.server import Endpoint
from packsweep.errors import UserError

OK = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"


@contextmanager
def saying(answer: bytes) -> Iterator[str]:
    """Give the address of a socket that says the same to whoever connects."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # it was closed
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()


def models(*entries: dict[str, str]) -> bytes:
    return OK + json.dumps({"data": entries}).encode()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (b"SSH-2.0-OpenSSH_9\r\n", "cannot be reached: it does not speak HTTP: BadStatusLine"),
        (b"", "cannot be reached: it does not speak HTTP: RemoteDisconnected"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "cannot be reached: it does not speak HTTP: IncompleteRead",
        ),
        (OK + b"<html>", "/v1/models: is no list of models; is it a server?"),
        (OK + b"[]", "/v1/models: is no list of models"),
        (OK + b'{"data": [7]}', "/v1/models: is no list of models"),
        (OK + b"[" * 100_000, "/v1/models: is no list of models"),
        (models(), ": serves nothing, and not m: set model.name"),
        (models(*({"id": f"a{n}"} for n in range(9))), "a0, a1, a2, a3, a4 and 4 more, and not m"),
    ],
)
def test_served_model_of_no_server(answer: bytes, problem: str) -> None:
    """Whatever answers is one line."""
    with saying(answer) as url, pytest.raises(UserError, match=problem) as raised:
        external.served_model(url, None, "m")
    assert "\n" not in str(raised.value)
    assert url in str(raised.value)


@pytest.mark.parametrize(
    ("entries", "name"),
    [
        ([{"id": "m"}, {"id": "other"}], "m"),
        ([{"id": "other"}], "other"),  # the one that there is; its tokens are compared later
        ([{"id": "a", "root": "x"}, {"id": "b", "root": "m"}], "b"),  # --served-model-name
    ],
)
def test_served_model(entries: list[dict[str, str]], name: str) -> None:
    with saying(models(*entries)) as url:
        assert external.served_model(url, None, "m") == name


def test_served_model_refuses_the_key() -> None:
    """A key that was named is wrong; it is not shown."""
    with (
        saying(b"HTTP/1.1 401 Unauthorized\r\n\r\n") as url,
        pytest.raises(UserError) as raised,
    ):
        external.served_model(url, "sesame-17", "m")
    assert str(raised.value) == f"{url}: refuses the key (HTTP 401)"


@pytest.mark.parametrize(
    ("name", "key", "problem"),
    [
        ("MY_KEY", None, "--api-key-env MY_KEY: no such environment variable is set"),
        ("MY_KEY", " \n", "--api-key-env MY_KEY: no such environment variable is set"),
        ("MY_KEY", "sesa\nme", "--api-key-env MY_KEY: it contains a character that no key has"),
        ("MY_KEY", "ses\u00e4me", "--api-key-env MY_KEY: it contains a character that no key has"),
        ("VLLM_AUTH", "sesame", "--api-key-env VLLM_AUTH: variables that begin so tune an engine"),
        ("sk-sesame", None, "--api-key-env: takes the name of a variable"),
        ("", None, "--api-key-env: takes the name of a variable"),
    ],
)
def test_api_key_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, key: str | None, problem: str
) -> None:
    """No message holds a key, also where it stands in the place of its name."""
    if key is not None:
        monkeypatch.setenv(name, key)
    with pytest.raises(UserError) as raised:
        external.api_key(name)
    assert str(raised.value).startswith(problem)
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize("name", ["my_key", "VLLM_API_KEY"])
def test_api_key(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, " sesame\n")
    assert external.api_key(name) == "sesame"
    assert external.api_key(None) is None


@pytest.mark.parametrize(
    "page",
    [
        b"HTTP/1.1 404 Not Found\r\n\r\n",
        OK + b"<html>",
        OK + b"vllm:num_requests_running inf\n",
        b"SSH-2.0\r\n",
    ],
)
def test_figures_of_another_server(page: bytes) -> None:
    """A server without vLLM's page of metrics says nothing of itself; nothing is 0."""
    with saying(page) as url:
        found = Endpoint(url).figures()
    assert (found.running, found.waiting, found.cache_queries, found.preemptions) == (None,) * 4
