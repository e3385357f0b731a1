"""Where results lie: the same verbs in a folder and in a bucket, and every way they can fail."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.s3_server import Gate, S3Server

from packsweep.errors import ResultsError
from packsweep.results import storage
from packsweep.results.storage import Storage
from packsweep.results.storage.local import LocalStorage
from packsweep.results.storage.objects import ObjectStorage
from packsweep.results.store import Store


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty folder, and an empty bucket."""
    if request.param == "s3":
        return storage.at(request.getfixturevalue("bucket"))
    (tmp_path / "results").mkdir()
    return storage.at(tmp_path / "results")


@pytest.fixture
def gate(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A gate before the S3 server, which clients made from now on go through."""
    found = Gate(s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", found.url)
    yield found
    found.close()


@pytest.fixture
def objects(gate: Gate, bucket: str) -> ObjectStorage:
    """A client that goes through the gate."""
    assert gate.url
    return ObjectStorage(bucket)


def _line(error: pytest.ExceptionInfo[ResultsError]) -> str:
    """Return what the user reads, after checking that it is one line of bearable length."""
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# The verbs.


def test_read_missing(place: Storage) -> None:
    """What is not there is None."""
    assert place.read("a/b") is None


def test_write_replaces(place: Storage) -> None:
    """The last content counts, whole."""
    place.write("a/b", b"1" * 100)
    place.write("a/b", b"2")
    assert place.read("a/b") == b"2"


def test_write_empty(place: Storage) -> None:
    """Nothing is a content too."""
    place.write("a", b"")
    assert place.read("a") == b""


def test_create_once(place: Storage) -> None:
    """The first content stays."""
    assert place.create("a/b", b"1")
    assert not place.create("a/b", b"2")
    assert place.read("a/b") == b"1"


def test_create_same_again(place: Storage) -> None:
    """A content that is there already counts as created: it may be ours, its answer lost."""
    assert place.create("a", b"1")
    assert place.create("a", b"1")


def test_create_racing(place: Storage) -> None:
    """Of many at once one wins, and its content is the one that stays."""
    for round_ in range(10):
        barrier = threading.Barrier(6)
        won: list[bytes] = []

        def race(
            content: bytes,
            key: str = f"k{round_}",
            barrier: threading.Barrier = barrier,
            won: list[bytes] = won,
        ) -> None:
            barrier.wait()
            if place.create(key, content):
                won.append(content)

        threads = [threading.Thread(target=race, args=(b"%d" % i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert won == [place.read(f"k{round_}")]


def test_list(place: Storage) -> None:
    """All below a folder, by key, with the time of change; nothing of its neighbours."""
    for key in ("a/b/c", "a/d", "ab/e", "f"):
        place.write(key, b"x")
    assert sorted(key for key, _ in place.list("a")) == ["a/b/c", "a/d"]
    assert sorted(key for key, _ in place.list("")) == ["a/b/c", "a/d", "ab/e", "f"]
    assert all(changed > 1e18 for _, changed in place.list(""))


def test_list_missing(place: Storage) -> None:
    """Nothing lies in a folder that is not there."""
    assert list(place.list("no")) == []


def test_list_many_pages(bucket: str) -> None:
    """S3 lists a thousand at a time; all of them come."""
    place = storage.at(bucket)
    keys = [f"cells/{index:04}/COMMIT" for index in range(1100)]
    list(storage.in_parallel(lambda key: place.write(key, b"x"), keys))
    assert sorted(key for key, _ in place.list("cells")) == keys


def test_list_hidden(tmp_path: Path) -> None:
    """Names that begin with a dot are scratch files of ours or somebody else's."""
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").touch()
    (tmp_path / ".0.tmp").touch()
    assert list(storage.at(tmp_path).list("")) == []


# Names of places.


def test_at_folder(tmp_path: Path) -> None:
    """A path is a folder, and so is a file URI, with its escapes."""
    for where in (tmp_path / "a b", str(tmp_path / "a b"), f"file://{tmp_path}/a%20b"):
        assert storage.at(where) == LocalStorage(tmp_path / "a b")


def test_at_same_client(bucket: str) -> None:
    """A process connects once; a slash at the end makes no difference to the name."""
    assert storage.at(bucket) is storage.at(bucket)
    assert storage.at(f"{bucket}/").root == bucket


def test_at_path_of_uri(bucket: str) -> None:
    """pathlib makes one slash of two; the place is meant all the same."""
    assert storage.at(Path(bucket)).root == bucket


def test_at_unknown() -> None:
    """Another kind of URI is refused with those there are."""
    with pytest.raises(ResultsError) as error:
        storage.at("ftp://host/results")
    assert "ftp:// is not known; results lie in a folder or at s3://bucket" in _line(error)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("s3:", "'s3:': is not an address; write s3://bucket/prefix or file:///folder"),
        ("S3:bucket/x", "'S3:bucket/x': is not an address"),
        ("file:folder", "is not an address"),
        ("s3://", "names no bucket; expected s3://bucket/prefix"),
        ("S3:///", "names no bucket"),
        ("s3://[::1", "names no bucket"),
        ("s3://ü/x", "names no bucket"),
        ("s3://b?x=1", "names no bucket"),
        ("s3://b/a//c", "a part of the prefix is empty or made of dots"),
        ("s3://b/../c", "a part of the prefix is empty or made of dots"),
        ("s3://b/a\nc", "holds a character that keys may not hold"),
        ("s3://b/a\0", "holds a character that keys may not hold"),
        ("s3://b/%zz", "holds a character that keys may not hold"),
        ("s3://b/" + "a" * 501, "has more than 500 letters"),
        ("s3://AKIA:pass@b/x", "'s3://***@b/x': an address holds no credentials"),
        ("s3://AKIA:pa/ss@b/x", "'s3://***@b/x': names no bucket"),
        ("ftp://AKIA:pa@ss@b/x", "ftp://***@b/x: ftp:// is not known"),
    ],
)
def test_at_refused(where: str, message: str) -> None:
    """An address that is none is one line, before a client sees it, without its credentials."""
    with pytest.raises(ResultsError) as error:
        storage.at(where)
    text = str(error.value)
    assert message in text
    assert text.isprintable()
    assert "pa" not in text.replace("part", "")
    assert storage.is_uri(where)


def test_at_scheme_in_capitals(bucket: str, tmp_path: Path) -> None:
    """``S3://`` and ``FILE://`` are what they look like; a colon makes no URI of a folder."""
    assert storage.at(bucket.replace("s3:", "S3:")).root == bucket
    assert storage.at(f"FILE://{tmp_path}") == LocalStorage(tmp_path)
    assert storage.at("run:1") == LocalStorage(Path("run:1"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "localhost"),
        ("AWS_ENDPOINT_URL", "http://"),
        ("AWS_ENDPOINT_URL", "http://host:99999"),
        ("AWS_ENDPOINT_URL", "http://[::1"),
        ("AWS_ENDPOINT_URL", "http://a b"),
        ("AWS_ENDPOINT_URL", "http://user:secret@host:9000"),
        ("AWS_ENDPOINT_URL_S3", "http://host\n"),
        ("AWS_REGION", "eu central"),
        ("AWS_REGION", "eu\n"),
    ],
)
def test_environment_refused(
    bucket: str, name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would make the client panic is named by the variable's name."""
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(ResultsError) as error:
        ObjectStorage(bucket)
    assert str(error.value).startswith(f"{name}: ")
    assert "secret" not in _line(error)


@pytest.mark.parametrize("missing", ["obstore", "boto3"])
def test_at_client_missing(missing: str) -> None:
    """Without the client, one line says what to install."""
    code = (
        f"import sys; sys.modules['{missing}'] = None; "
        f"sys.modules['{missing}.store'] = None; "
        "from packsweep.cli import main; main(['show', 's3://b/p'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    message = f"packsweep: s3://b/p: needs {missing}; make setup, or pip install obstore boto3\n"
    assert (done.returncode, done.stderr) == (2, message)


def test_no_credentials(s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials nothing is sent."""
    assert s3.port
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ResultsError) as error:
        ObjectStorage(bucket)
    assert "no credentials; set AWS_ACCESS_KEY_ID" in _line(error)


def test_no_profile(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is not there is named."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ResultsError) as error:
        ObjectStorage(bucket)
    assert "nobody" in _line(error)


def test_profile(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from the user's AWS profile where the environment has none."""
    file = tmp_path / "credentials"
    file.write_text("[mine]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "mine")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    place = ObjectStorage(bucket)
    place.write("a", b"1")
    assert place.read("a") == b"1"


# A folder that fails.


def test_folder_full(tmp_path: Path) -> None:
    """A full disk: one line, no half file, and what was there before is still whole."""
    code = (
        "import resource, sys; from packsweep.results import storage; "
        "place = storage.at(sys.argv[1]); place.write('a', b'whole'); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10)); "
        "from packsweep.errors import ResultsError\n"
        "try: place.write('a', bytes(100))\n"
        "except ResultsError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == f"{tmp_path}: cannot be written: File too large\n"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert storage.at(tmp_path).read("a") == b"whole"


def test_folder_not_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be read is an error: it must not pass for what is not there."""
    (tmp_path / "a").touch()

    def fail(_path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(ResultsError) as error:
        storage.at(tmp_path).read("a")
    assert "a: cannot be read: Input/output error" in _line(error)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)


STRANGE = {"a FIFO": os.mkfifo, "a socket": _socket, "a loop of links": _loop}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("kind", STRANGE)
def test_folder_strange(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is no file is passed over and named once: by a listing, and where a key is read."""
    for name in ("a", "c"):
        (tmp_path / name).touch()
    STRANGE[kind](tmp_path / "b")
    place = storage.at(tmp_path)
    assert place.read("b") is None
    assert sorted(key for key, _ in place.list("")) == ["a", "c"]
    assert caplog.messages == [f"packsweep: {tmp_path}/b: is {kind} and no file; it is ignored"]


def test_folder_link_up(tmp_path: Path) -> None:
    """A link to a folder above is not followed for ever, one to a folder elsewhere is followed."""
    cells = tmp_path / "cells"
    for path in (cells / "x", tmp_path / "elsewhere"):
        path.mkdir(parents=True)
        (path / "COMMIT").touch()
    (cells / "up").symlink_to(cells)
    (cells / "x" / "up").symlink_to("..")
    (cells / "y").symlink_to(tmp_path / "elsewhere")
    (cells / "gone").symlink_to(tmp_path / "nowhere")
    found = [key for key, _ in storage.at(tmp_path).list("cells")]
    assert sorted(found) == ["cells/x/COMMIT", "cells/y/COMMIT"]


def test_folder_vanishing(tmp_path: Path) -> None:
    """A folder that vanishes while the others are listed cuts nothing short."""
    for name in "abcdef":
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").touch()
    found = []
    for key, _ in storage.at(tmp_path).list(""):
        found.append(key)
        if len(found) == 1:
            gone = next(name for name in "abcdef" if f"{name}/x" != key)
            shutil.rmtree(tmp_path / gone)
    assert sorted(found) == [f"{name}/x" for name in "abcdef" if name != gone]


def test_folder_deleted(tmp_path: Path) -> None:
    """Where the folder was deleted, a write does not make another that nobody can read."""
    place = storage.at(tmp_path / "results")
    place.create("packsweep.json", b"")
    shutil.rmtree(tmp_path / "results")
    with pytest.raises(ResultsError) as error:
        place.write("cells/x/a.parquet", b"")
    assert "was it deleted or moved meanwhile?" in _line(error)
    assert not (tmp_path / "results").exists()


# A bucket that fails.


def test_no_bucket(s3: S3Server) -> None:
    """A bucket that is not there is said to be so, at the first look and at the first write."""
    assert s3.port
    for act in (Store("s3://nothing-there/x").check, Store("s3://nothing-there/x").prepare):
        with pytest.raises(ResultsError) as error:
            act()
        assert "there is no such bucket; make it, or name another" in _line(error)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDenied", "access denied; s3:ListBucket, s3:GetObject and s3:PutObject are needed"),
        ("InvalidAccessKeyId", "the access key is not known there"),
        ("SignatureDoesNotMatch", "the secret key is wrong"),
        ("ExpiredToken", "the credentials have expired"),
        ("SomethingNew", "the server answers 403 Forbidden (SomethingNew)"),
    ],
)
def test_denied(gate: Gate, objects: ObjectStorage, code: str, message: str) -> None:
    """What S3 refuses is reported with what to do about it, for every verb."""
    gate.judge = lambda _method, _path: (403, code)
    acts = (
        lambda: objects.read("a"),
        lambda: objects.write("a", b""),
        lambda: objects.create("a", b""),
        lambda: list(objects.list("")),
    )
    for act in acts:
        with pytest.raises(ResultsError) as error:
            act()
        assert message in _line(error)


def test_denied_not_retried(gate: Gate, objects: ObjectStorage) -> None:
    """A refusal would only be repeated."""
    gate.judge = lambda _method, _path: (403, "AccessDenied")
    with pytest.raises(ResultsError):
        objects.write("a", b"")
    assert len(gate.requests) == 1


@pytest.mark.parametrize(("status", "code"), [(500, "InternalError"), (503, "SlowDown")])
def test_server_error_passes(gate: Gate, objects: ObjectStorage, status: int, code: str) -> None:
    """An error of the server that passes is not noticed."""
    left = [2]

    def judge(_method: str, _path: str) -> tuple[int, str] | None:
        left[0] -= 1
        return (status, code) if left[0] >= 0 else None

    gate.judge = judge
    objects.write("a", b"1")
    left[0] = 2
    assert objects.read("a") == b"1"
    left[0] = 2
    assert objects.create("b", b"1")


def test_server_error_stays(gate: Gate, objects: ObjectStorage) -> None:
    """One that stays is reported after a few seconds, where no answer came before."""
    gate.judge = lambda _method, _path: (503, "SlowDown")
    with pytest.raises(ResultsError) as error:
        objects.write("a", b"1")
    assert "the server answers 503 Service Unavailable (SlowDown)" in _line(error)


def test_connection_refused(gate: Gate, objects: ObjectStorage) -> None:
    """A server that does not listen is named."""
    gate.close()
    with pytest.raises(ResultsError) as error:
        objects.read("a")
    assert f"{gate.url} does not answer, or the connection was lost" in _line(error)


def test_slow(gate: Gate, objects: ObjectStorage) -> None:
    """A slow server is waited for."""
    gate.delay_s = 1.0
    objects.write("a", b"1")
    assert objects.read("a") == b"1"


def test_answer_lost(gate: Gate, objects: ObjectStorage) -> None:
    """A write that arrived, its answer lost, is ours: it is not taken for another's."""
    lost = [True]

    def drop(method: str, _path: str) -> bool:
        return method == "PUT" and bool(lost) and lost.pop()

    gate.drop_answer = drop
    assert objects.create("COMMIT", b"ours")
    assert objects.read("COMMIT") == b"ours"
    assert not lost


def test_answer_lost_another_first(gate: Gate, objects: ObjectStorage) -> None:
    """And where another was first, a lost answer does not make ours the first."""
    objects.write("COMMIT", b"theirs")
    lost = [True]
    gate.drop_answer = lambda method, _path: method == "PUT" and bool(lost) and lost.pop()
    assert not objects.create("COMMIT", b"ours")
    assert objects.read("COMMIT") == b"theirs"


def test_condition_ignored(gate: Gate, bucket: str) -> None:
    """A server that takes no notice of If-None-Match is refused before anything is measured."""
    gate.strip = {"if-none-match"}
    storage._at.cache_clear()
    with pytest.raises(ResultsError) as error:
        Store(bucket).prepare()
    assert "the server ignores If-None-Match" in _line(error)
    storage._at.cache_clear()


def test_condition_not_implemented(gate: Gate, objects: ObjectStorage) -> None:
    """A server that refuses the condition is distinguished from one that is broken."""
    gate.judge = lambda method, _path: (501, "NotImplemented") if method == "PUT" else None
    with pytest.raises(ResultsError) as error:
        objects.create("a", b"")
    assert "cannot do what a commit needs, a PUT with If-None-Match" in _line(error)


def test_read_failing_is_not_missing(gate: Gate, bucket: str) -> None:
    """While the server cannot say what is done, nothing passes for not done."""
    storage._at.cache_clear()
    store = Store(bucket)
    store.prepare()
    gate.judge = lambda _method, _path: (403, "AccessDenied")
    with pytest.raises(ResultsError):
        store.done(["some-cell"])
    storage._at.cache_clear()
