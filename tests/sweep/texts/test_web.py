"""Files of texts at an address: a server with TLS and one of S3's protocol, on loopback."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.s3_server import S3Server

from packsweep.errors import TextsError
from packsweep.results import storage
from packsweep.sweep.texts import LabelledText, cache, load, web
from packsweep.sweep.texts.columns import Reading

TEAMS = Reading(labels=("billing", "bug"))
CSV = b"body,team\nI paid twice,billing\nIt crashes,bug\n"
TEXTS = (
    LabelledText(text="I paid twice", label="billing"),
    LabelledText(text="It crashes", label="bug"),
)


@dataclass
class Site:
    """What the server does, and what it was asked.

    Attributes:
        content: what it serves.
        told_bytes: the length it announces; None: the true one.
        leads_to: where an address redirects to, by path.
    """

    content: bytes = CSV
    kind: str = "text/csv"
    told_bytes: int | None = None
    leads_to: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    site: Site


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        site = self.server.site
        site.asked.append(self.path)
        if place := site.leads_to.get(self.path):
            self.send_response(302)
            self.send_header("Location", place)
            self.end_headers()
            return
        self.send_response(404 if "missing" in self.path else 200)
        self.send_header("Content-Type", site.kind)
        length = len(site.content) if site.told_bytes is None else site.told_bytes
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(site.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of this machine's loopback address, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    about = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([*command.split(), *about, *files], check=True, capture_output=True)
    with path.open("ab") as file:
        file.write(path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def site(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, str]]:
    """A server that is trusted, and its address."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = _Server(("127.0.0.1", 0), _Handler)
    server.site = Site()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.site, f"https://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


Served = tuple[Site, str]


def _refused(source: str, told: str) -> None:
    with pytest.raises(TextsError) as caught:
        load(source, limit=1, reading=TEAMS)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)
    folder = cache.folder() / "web"
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_a_file_is_fetched_once(site: Served) -> None:
    """The address is asked once; what follows its path is no part of what is said."""
    served, address = site
    for _ in range(2):
        notes: list[str] = []
        found = load(f"{address}/t.csv?key=secret", limit=2, reading=TEAMS, notes=notes)
        assert found == TEXTS
        assert notes[0].startswith(f"{address}/t.csv was fetched to ")
        assert not any("secret" in note for note in notes)
    assert served.asked == ["/t.csv?key=secret"]


def test_a_redirect_is_followed_to_https_alone(site: Served) -> None:
    served, address = site
    served.leads_to = {"/a.csv": f"{address}/b.csv", "/c.csv": "http://127.0.0.1/c.csv"}
    _refused(f"{address}/c.csv", "leads to http://127.0.0.1/c.csv, not to https://")
    assert load(f"{address}/a.csv", limit=2, reading=TEAMS) == TEXTS


def test_redirects_without_end_are_given_up(site: Served) -> None:
    served, address = site
    served.leads_to = {f"/{i}.csv": f"{address}/{i + 1}.csv" for i in range(9)}
    _refused(f"{address}/0.csv", "cannot be fetched: the server answers 302")
    assert len(served.asked) <= 7


def test_what_is_no_whole_file_is_refused_and_nothing_stays(
    site: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served, address = site
    _refused(f"{address}/missing.csv", "cannot be fetched: the server answers 404")
    served.told_bytes = len(CSV) + 1
    _refused(f"{address}/torn.csv", "cannot be fetched: ")
    served.told_bytes = None
    monkeypatch.setattr(web, "MAX_BYTES", len(CSV) - 1)
    _refused(f"{address}/large.csv", "is larger than")
    served.kind = "text/html; charset=utf-8"
    _refused(f"{address}/login.csv", "is a page, not a file of texts")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("https://example.org/", "names no file of texts, which ends in .csv"),
        ("https://example.org/a.pdf", "names no file of texts"),
        ("https://me:word@example.org/a.csv", "an address of texts holds no credentials"),
        ("https:///a.csv", "names no file of texts"),
        ("https://[x/a.csv", "is no address"),
        (
            "http://example.org/a.csv",
            "texts are not read from http://, but from https:// and s3://",
        ),
        ("gs://bucket/a.csv", "texts are not read from gs://"),
    ],
)
def test_addresses_that_are_none_of_texts(source: str, told: str) -> None:
    _refused(source, told)


def test_an_object_of_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in S3 is read as any other; one that is not there is one line."""
    pytest.importorskip("obstore")
    with S3Server() as server:
        for name, value in server.environ.items():
            monkeypatch.setenv(name, value)
        bucket = server.make_bucket()
        storage.at(f"s3://{bucket}/in").write("t.csv", CSV)
        assert load(f"s3://{bucket}/in/t.csv", limit=2, reading=TEAMS) == TEXTS
        with pytest.raises(TextsError, match=r"cannot be fetched: there is no such object"):
            load(f"s3://{bucket}/in/u.csv", limit=1, reading=TEAMS)
