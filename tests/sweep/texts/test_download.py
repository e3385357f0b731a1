"""The downloader against a real server on this machine's loopback address."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from packsweep.errors import TextsError
from packsweep.sweep.texts import download, load

CONTENT = bytes(range(256)) * 8_000


@dataclass
class Site:
    """What the server does, and what it was asked.

    Attributes:
        status: how it answers.
        resumes: whether it honors a request for a part.
        break_after: bytes after which a connection ends, one entry for each; then none breaks.
        content: what it serves.
        ranges: the parts it was asked for.
    """

    status: int = 200
    resumes: bool = True
    break_after: list[int] = field(default_factory=list)
    content: bytes = CONTENT
    ranges: list[str | None] = field(default_factory=list)


class _Server(ThreadingHTTPServer):
    site: Site


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        site, wanted = self.server.site, self.headers["Range"]
        site.ranges.append(wanted)
        start = int(wanted[len("bytes=") : -1]) if wanted and site.resumes else 0
        part = site.content[start:]
        self.send_response(206 if start else site.status)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[: site.break_after.pop(0)] if site.break_after else part)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, download.Archive]]:
    """A server, and the archive that it has."""
    monkeypatch.setenv("no_proxy", "*")
    server = _Server(("127.0.0.1", 0), _Handler)
    server.site = Site()
    archive = download.Archive(
        url=f"http://127.0.0.1:{server.server_address[1]}/set.tar.gz",
        num_bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        pause_s=0.0,
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.site, archive
    server.shutdown()
    thread.join()
    server.server_close()


Served = tuple[Site, download.Archive]


def _refused(archive: download.Archive, folder: Path, *expected: str) -> None:
    with pytest.raises(TextsError) as caught:
        download.fetch(archive, folder)
    message = str(caught.value)
    assert "\n" not in message
    for part in (archive.url, "texts.source to builtin", *expected):
        assert part in message
    assert not list(folder.glob("*"))


def test_fetch_writes_the_archive_under_its_name(site: Served, tmp_path: Path) -> None:
    """The file is whole, and no part of it is left beside it."""
    path = download.fetch(site[1], tmp_path / "new" / "folder")
    assert path.read_bytes() == CONTENT
    assert [each.name for each in path.parent.iterdir()] == ["set.tar.gz"]


def test_fetch_of_what_is_there_asks_nobody(site: Served, tmp_path: Path) -> None:
    """A file with the right hash is not downloaded again."""
    (tmp_path / "set.tar.gz").write_bytes(CONTENT)
    download.fetch(site[1], tmp_path)
    assert site[0].ranges == []


def test_fetch_over_a_wrong_file_replaces_it(site: Served, tmp_path: Path) -> None:
    """A file with another hash is not believed."""
    (tmp_path / "set.tar.gz").write_bytes(CONTENT[:-1])
    assert download.fetch(site[1], tmp_path).read_bytes() == CONTENT


def test_fetch_when_the_connection_breaks_resumes_where_it_broke(
    site: Served, tmp_path: Path
) -> None:
    """The second request asks for what is missing."""
    site[0].break_after = [1_000_000]
    assert download.fetch(site[1], tmp_path).read_bytes() == CONTENT
    assert site[0].ranges == [None, "bytes=1000000-"]


def test_fetch_when_the_server_cannot_resume_starts_again(site: Served, tmp_path: Path) -> None:
    """The whole file as the answer to a part replaces what came before."""
    site[0].break_after, site[0].resumes = [1_000_000], False
    assert download.fetch(site[1], tmp_path).read_bytes() == CONTENT


def test_fetch_when_the_connection_keeps_breaking_gives_up(site: Served, tmp_path: Path) -> None:
    """The message says how far it came; nothing is left."""
    site[0].break_after = [1_000] * 20
    _refused(site[1], tmp_path, "the connection broke 6 times", "6,000 bytes")


def test_fetch_of_another_content_is_refused(site: Served, tmp_path: Path) -> None:
    """The same size with another hash is not the archive."""
    site[0].content = CONTENT[::-1]
    _refused(site[1], tmp_path, "SHA-256", site[1].sha256)


def test_fetch_of_another_size_is_refused_before_it_comes(site: Served, tmp_path: Path) -> None:
    """A login page instead of the archive is noticed by its length."""
    site[0].content = b"<html>Please log in.</html>"
    _refused(site[1], tmp_path, "offers another file (27 bytes, expected 2,048,000)")


def test_fetch_of_a_missing_page_is_refused(site: Served, tmp_path: Path) -> None:
    """The server's own answer is in the message."""
    site[0].status = 404
    _refused(site[1], tmp_path, "the server answers 404")


def test_fetch_without_a_server_is_refused(site: Served, tmp_path: Path) -> None:
    """A closed port is reported at once."""
    archive = replace(site[1], url=f"http://127.0.0.1:{_closed_port()}/set.tar.gz")
    _refused(archive, tmp_path, "no connection", "refused")


def test_fetch_into_a_place_that_is_no_folder_is_refused(site: Served, tmp_path: Path) -> None:
    """What the file system says is in the message."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(TextsError, match=r"taken: (Not a directory|File exists)"):
        download.fetch(site[1], tmp_path / "taken")


def test_fetch_in_a_log_writes_plain_lines(
    site: Served, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a terminal there is a line at the start and at every tenth at most."""
    download.fetch(site[1], tmp_path)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"downloading {site[1].url} (2.0 MB)"
    assert lines[-1] == "downloading set.tar.gz: 100 %"
    assert len(lines) <= 11


def test_fetch_on_a_terminal_shows_a_bar(
    site: Served,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a terminal the archive's name and the rate are drawn."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    download.fetch(site[1], tmp_path)
    assert "set.tar.gz" in capsys.readouterr().err


def test_load_imdb_without_network_says_what_to_do_instead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line names the two ways around: generated texts, or a file of one's own."""
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{_closed_port()}")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(TextsError, match=r"no connection .*builtin.*table") as caught:
        load("imdb", limit=1)
    assert "\n" not in str(caught.value)


def test_official_archive_is_the_published_one() -> None:
    """The figures are those of TensorFlow Datasets' and Hugging Face Datasets' checksum lists."""
    assert download.OFFICIAL.num_bytes == 84_125_825
    assert download.OFFICIAL.sha256.startswith("c40f74a18d3b61f9")


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
