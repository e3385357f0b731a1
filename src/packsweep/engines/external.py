"""A server that is there: nothing of it is started or stopped here.

Its key comes from the environment, is sent to that address alone, and is written nowhere.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
from typing import TYPE_CHECKING

from packsweep.engines import EngineInfo
from packsweep.engines.server import Endpoint, Figures, said_of
from packsweep.errors import EngineError, UserError
from packsweep.machine import environment

if TYPE_CHECKING:
    from packsweep.sweep.cells import Cell

_REDIRECTS = range(300, 400)
_REFUSED = (401, 403)
_NAME = re.compile("[A-Z_][A-Z0-9_]*")
_NUM_SHOWN = 5  # models


def api_key(name: str | None) -> str | None:
    """Return the key that the environment holds under ``name``.

    Raises:
        UserError: it holds none.
    """
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key and not _NAME.fullmatch(name):  # not shown: it may be the key itself
        raise UserError("--api-key-env: takes the name of a variable, such as MY_KEY, not the key")
    if not key:
        raise UserError(f"--api-key-env {name}: no such environment variable is set")
    if environment.measuring({name: key}):
        raise UserError(
            f"--api-key-env {name}: variables that begin so tune an engine and are stored with the "
            "results; hold the key in one of another name, such as MY_KEY"
        )
    if not (key.isascii() and key.isprintable()):
        raise UserError(f"--api-key-env {name}: it contains a character that no key has")
    return key


def served_model(base_url: str, key: str | None, wanted: str) -> str:
    """Return what the server calls the model.

    Raises:
        UserError: the server is not there, refuses the key, sends elsewhere, or has no such model.
    """
    try:
        answer = json.loads(Endpoint(base_url, key).call("/v1/models", timeout_s=10.0))
        roots = {str(model["id"]): model.get("root") for model in answer["data"]}
    except urllib.error.HTTPError as error:
        raise UserError(f"{base_url}: {_refusal(error, has_key=key is not None)}") from None
    except OSError as error:
        raise UserError(f"{base_url}: cannot be reached: {said_of(error)}") from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise UserError(f"{base_url}/v1/models: is no list of models; is it a server?") from None
    if wanted in roots:
        return wanted
    renamed = [name for name, root in roots.items() if root == wanted]
    if renamed or len(roots) == 1:
        return next(iter(renamed or roots))
    raise UserError(f"{base_url}: serves {_listed(list(roots))}, and not {wanted}: set model.name")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NUM_SHOWN:,} more" if len(names) > _NUM_SHOWN else ""
    return (", ".join(names[:_NUM_SHOWN]) or "nothing") + more


def _refusal(error: urllib.error.HTTPError, *, has_key: bool) -> str:
    if error.code in _REFUSED:
        if has_key:
            return f"refuses the key (HTTP {error.code})"
        return f"requires a key (HTTP {error.code}): name its variable with --api-key-env"
    if error.code in _REDIRECTS:
        where = error.headers.get("Location", "another address")
        return f"redirects to {where}, which is not followed: name that address"
    return f"/v1/models answers HTTP {error.code}"


class ExternalServer:
    """The protocol of ``server.Server`` for a server of somebody else's."""

    def __init__(self, cell: Cell, key: str | None) -> None:
        """Look whether it is there.

        Raises:
            UserError: it is not.
        """
        assert cell.load.url is not None
        self.base_url = cell.load.url
        self._key = key
        self._wanted = cell.model
        self._endpoint = Endpoint(self.base_url, key)
        self.model = served_model(self.base_url, key, cell.model)
        cache = self.figures().cache_config
        blocks = cache.get("block_size", "")
        version = self._endpoint.version()
        self.info = EngineInfo(
            resolved={},
            block_size=int(blocks) if blocks.isdecimal() else None,
            num_blocks=None,
            import_s=0.0,
            versions={} if version is None else {"vllm": version},
        )

    def figures(self) -> Figures:
        return self._endpoint.figures()

    def reset_prefix_cache(self) -> None:
        self._endpoint.reset_prefix_cache()

    def check(self) -> None:
        try:
            served_model(self.base_url, self._key, self._wanted)
        except UserError as error:
            raise EngineError(str(error)) from None

    def close(self) -> None:
        """Leave it as it is."""
