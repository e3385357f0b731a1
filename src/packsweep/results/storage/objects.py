"""Results in an object store, by S3's protocol or that of Google or Azure.

An object appears whole or not at all, whatever the connection does. The commit needs one thing
more: a PUT that fails where there is an object already (S3: ``If-None-Match: *``, in Amazon's
since August 2024). A server that takes no notice of it is found out by ``Store.prepare``.

This module alone imports obstore, and boto3 for what a user's AWS profile says. Requests that fail
for reasons that pass (5xx, connection lost, no answer) are sent again for up to a minute; before
the first answer of all, when the likelier reason is a mistake, for a few seconds.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from packsweep.errors import ResultsError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

# A request that could be sent again is given up after this.
_PATIENCE_S = 60.0
_FIRST_PATIENCE_S = 5.0
_REQUEST_TIMEOUT_S = 30.0
_CONNECT_TIMEOUT_S = 3.0
_NUM_CREATIONS = 3

_WORD = re.compile(r"[!-~]+")  # what a header can hold
_ENDPOINT = re.compile(r"https?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?(/[!-~]*)?")
_REGION = re.compile(r"[A-Za-z0-9-]+")
_INSTALL = "make setup, or pip install obstore boto3"
# What a server's error code means to the user: code -> what to do.
_ADVICE = {
    "NoSuchBucket": "there is no such bucket; make it, or name another",
    "AccessDenied": "access denied; s3:ListBucket, s3:GetObject and s3:PutObject are needed",
    "InvalidAccessKeyId": "the access key is not known there (AWS_ACCESS_KEY_ID, AWS_PROFILE)",
    "SignatureDoesNotMatch": "the secret key is wrong (AWS_SECRET_ACCESS_KEY, AWS_PROFILE)",
    "ExpiredToken": "the credentials have expired; renew them",
    "PermanentRedirect": "the bucket is in another region; set AWS_REGION",
    "NotImplemented": "the server cannot do what a commit needs, a PUT with If-None-Match",
}


class _UnansweredError(ResultsError):
    """The connection was lost: whether the request was carried out is not known."""


class ObjectStorage:
    def __init__(self, uri: str) -> None:
        """Take ``uri``, ``s3://bucket/prefix``; nothing is asked of the server yet.

        Raises:
            ResultsError: no client, no credentials, or no such form.
        """
        self._uri = uri
        with _as_results_error(uri):
            self._quick = _client(uri, _FIRST_PATIENCE_S)
            self._patient = _client(uri, _PATIENCE_S)
        self._answered = False

    @property
    def root(self) -> str:
        return self._uri

    @property
    def absolute(self) -> str:
        """The URI, which is the same everywhere."""
        return self._uri

    def local(self, key: str) -> Path | None:  # noqa: ARG002  (as the protocol)
        """Return None: no file on this machine."""
        return None

    def read(self, key: str) -> bytes | None:
        """Return an object's content."""
        import obstore

        with self._asking(key) as client:
            try:
                return bytes(obstore.get(client, key).bytes())
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None

    def write(self, key: str, content: bytes) -> None:
        """Put an object in one request."""
        import obstore

        with self._asking(key) as client:
            obstore.put(client, key, content, use_multipart=False)

    def create(self, key: str, content: bytes) -> bool:
        """Put an object if there is none; when an answer is lost, look what came of it."""
        for _ in range(_NUM_CREATIONS - 1):
            with contextlib.suppress(_UnansweredError):
                return self._create_once(key, content)
            found = self.read(key)
            if found is not None:
                return found == content
        return self._create_once(key, content)

    def _create_once(self, key: str, content: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        with self._asking(key) as client:
            try:
                obstore.put(client, key, content, mode="create", use_multipart=False)
            except AlreadyExistsError:
                # It may be ours: sent twice, because the first answer was lost.
                return bytes(obstore.get(client, key).bytes()) == content
        return True

    def list(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield the objects of a prefix, a thousand a request."""
        import obstore

        with self._asking(folder) as client:
            for chunk in obstore.list(client, folder or None):
                for found in chunk:
                    yield found["path"], int(found["last_modified"].timestamp() * 1e9)

    @contextlib.contextmanager
    def _asking(self, key: str) -> Iterator[ObjectStore]:
        """Give the client that suits; what fails is one line."""
        with _as_results_error(f"{self._uri}/{key}".rstrip("/")):
            yield self._patient if self._answered else self._quick
            self._answered = True


def _client(uri: str, patience_s: float) -> ObjectStore:
    """Return a client of the bucket that sends a request again for ``patience_s``."""
    try:
        from obstore.store import from_url
    except ImportError:
        raise ResultsError(f"{uri}: needs obstore; {_INSTALL}") from None
    more: dict[str, Any] = _aws(uri) if uri.startswith("s3://") else {}
    plain_http = str(more.get("endpoint", "")).startswith("http://")
    return from_url(
        uri,
        client_options={
            "allow_http": plain_http,
            "timeout": timedelta(seconds=min(_REQUEST_TIMEOUT_S, patience_s)),
            "connect_timeout": timedelta(seconds=_CONNECT_TIMEOUT_S),
        },
        retry_config={
            "max_retries": 3 if patience_s <= _FIRST_PATIENCE_S else 20,
            "retry_timeout": timedelta(seconds=patience_s),
            "backoff": {"max_backoff": timedelta(seconds=5)},
        },
        **more,
    )


def _aws(uri: str) -> dict[str, Any]:
    """Return what the environment and the user's AWS profile say, as every AWS tool reads them."""
    try:
        import boto3
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError:
        raise ResultsError(f"{uri}: needs boto3; {_INSTALL}") from None
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session()
        credentials = session.get_credentials()
        if credentials is None:
            raise ResultsError(
                f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "AWS_PROFILE"
            )
        if not _WORD.fullmatch(credentials.access_key):
            raise ResultsError(f"{uri}: the access key holds a space or a control character")
        return {
            "credential_provider": Boto3CredentialProvider(session),
            **_place(session.region_name),
        }
    except BotoCoreError as error:  # a profile that is not there, a broken file
        raise ResultsError(f"{uri}: {error}") from None


def _place(region: str | None) -> dict[str, str]:
    """Return region and endpoint; the client panics at what is no such thing."""
    region = region or os.environ.get("AWS_REGION") or "us-east-1"
    if not _REGION.fullmatch(region):
        raise ResultsError(f"AWS_REGION: {region!r} is not a region, such as us-east-1")
    name = "AWS_ENDPOINT_URL_S3" if os.environ.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    endpoint = os.environ.get(name)
    if not endpoint:
        return {"region": region}
    if not _is_endpoint(endpoint):
        raise ResultsError(f"{name}: {endpoint!r} is not an address, such as https://host:9000")
    return {"region": region, "endpoint": endpoint}


def _is_endpoint(url: str) -> bool:
    try:
        return _ENDPOINT.fullmatch(url) is not None and urlsplit(url).port != 0
    except ValueError:  # a port above 65,535, an IPv6 address that is none
        return False


@contextlib.contextmanager
def _as_results_error(where: str) -> Iterator[None]:
    """Turn whatever the client raises into one line."""
    try:
        yield
    except (ResultsError, GeneratorExit):
        raise
    except BaseException as error:  # obstore raises its own, Python's, and panics
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        text = str(error)
        code = _code(error)
        if code in _ADVICE:
            raise ResultsError(f"{where}: {_ADVICE[code]}") from None
        if status := re.search(r"status code: (\d+ [A-Za-z ]*)", text):
            named = f" ({code})" if code else ""
            answer = f"the server answers {status.group(1).strip()}{named}"
            raise ResultsError(f"{where}: {answer}") from None
        if "error sending request" in text or "timed out" in text:
            server = re.search(r"https?://[^/\s]+", text)
            reason = f"{server.group() if server else 'the server'} does not answer"
            raise _UnansweredError(f"{where}: {reason}, or the connection was lost") from None
        reason = " ".join(text.partition("Debug source")[0].split())[:300]
        raise ResultsError(f"{where}: {reason}") from None


def _code(error: BaseException) -> str | None:
    """Return the code in an answer of S3, such as ``NoSuchBucket``."""
    found = re.search(r"<Code>(\w+)</Code>", str(error))
    return found.group(1) if found else None
