"""``vllm serve`` of a cell's own: on the loopback, isolated, every setting passed by name.

Source: vLLM 0.26 to 0.33, ``entrypoints/cli/serve.py``, ``engine/arg_utils.py``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from packsweep.engines import EngineInfo, vllm
from packsweep.engines.server import HOST, ChildServer
from packsweep.machine import environment, processor

if TYPE_CHECKING:
    from packsweep.models.resolve import Model
    from packsweep.sweep.cells import Cell

_PACKAGES = ("torch", "transformers", "tokenizers", "triton", "flashinfer-python")


class VllmServer(ChildServer):
    """A server for one cell."""

    def __init__(self, cell: Cell, model: Model) -> None:
        """Start it and wait until it is ready.

        Raises:
            EngineError: it ended before.
        """
        super().__init__(_serve, (arguments(cell, model),))
        try:
            versions = _versions() | {"vllm": self.version() or "unknown"}
            self.info = info_of(cell, self.figures().cache_config, versions)
        except BaseException:
            self.close()
            raise


def info_of(cell: Cell, cache: Mapping[str, str], versions: dict[str, str]) -> EngineInfo:
    """Return what is known of a server: what it was told, and what its page of metrics says."""
    return EngineInfo(
        resolved={**cell.passed_settings, **_plain(cache), **vllm.links(cell)},
        block_size=_whole(cache.get("block_size")),
        num_blocks=_whole(cache.get("num_gpu_blocks")),
        import_s=0.0,
        versions=versions,
        device=processor.name() if environment.on_cpu() else None,
    )


def arguments(cell: Cell, model: Model) -> list[str]:
    """Return the command line of the server behind its port."""
    named: dict[str, Any] = {
        **cell.passed_settings,
        "tokenizer": model.tokenizer_path,
        "revision": None if os.path.isdir(model.path) else model.revision,  # noqa: PTH112
        "load_format": cell.load_format,
        "distributed_executor_backend": vllm.executor(cell),
        "enable_prompt_tokens_details": True,
        "uvicorn_log_level": "warning",
        "disable_uvicorn_access_log": True,
    }
    options = (_option(name, value) for name, value in named.items() if value is not None)
    return ["serve", model.path, *(word for option in options for word in option)]


def _option(name: str, value: Any) -> list[str]:  # noqa: ANN401
    """Return a setting as vLLM's command line takes it."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]


def _serve(port: int, name: str, line: list[str]) -> None:
    """Become the server, in a process of its own."""
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"  # the endpoint that empties the prefix cache
    where = ["--host", HOST, "--port", str(port)]
    sys.argv = ["vllm", *line, *where, "--served-model-name", name]
    # Not by way of cli.main, which asks for the version of a package that is called vllm: the one
    # for CPUs is called otherwise.
    from vllm.entrypoints.cli.serve import cmd_init
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(prog="vllm")
    (command,) = cmd_init()
    command.subparser_init(parser.add_subparsers(dest="subparser"))
    options = parser.parse_args(sys.argv[1:])
    command.validate(options)
    command.cmd(options)


def _whole(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def _plain(config: Mapping[str, str]) -> dict[str, Any]:
    """Return settings of a page of metrics, where all are text, as values."""
    return {name: _value(text) for name, text in config.items() if text != "None"}


def _value(text: str) -> Any:  # noqa: ANN401
    if text in {"True", "False"}:
        return text == "True"
    try:
        found = json.loads(text)
    except ValueError:
        return text
    return found if isinstance(found, int | float) else text


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
