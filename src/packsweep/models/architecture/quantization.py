"""How a checkpoint's matrices are quantized, by its ``quantization_config``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

Table = Mapping[str, object]
_Kind = tuple[object, object]  # bits and type

_FP8_ALGORITHMS = frozenset({"FP8", "FP8_PB_WO", "FP8_PER_CHANNEL_PER_TOKEN"})
_LONGEST_WORD = 40
# Lists of modules that stay as they are, by whoever writes them.
_KEPT = (
    "exclude_modules",
    "ignore",
    "ignored_layers",
    "llm_int8_skip_modules",
    "modules_to_not_convert",
)
# Parts of names of modules that hold no matrix of a layer, or next to nothing.
_SMALL = ("audio", "embed", "lm_head", "norm", "projector", "router", "vision", "visual")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """What a checkpoint says of its matrices.

    Attributes:
        name: ``fp8`` or ``int8`` where weights and activations both are; else the config's own
            word for the method.
        scheme: a row of ``plan.formats.SCHEMES``; None: what an entry takes is not known.
        bits: of an entry.
        group_size: entries that share a scale; None: a row or more.
        zero_points: a group has one, too.
        block_size: rows and columns of a square of entries that share a scale; None: no squares.
        kv_dtype: what vLLM takes for the cache where nothing else is asked; None: not said.
    """

    name: str
    scheme: str | None = None
    bits: int = 8
    group_size: int | None = None
    zero_points: bool = False
    block_size: int | None = None
    kv_dtype: str | None = None


def read(stored: object) -> Quantization | None:
    """Return what ``quantization_config`` says; None if there is none.

    Source: vLLM 0.32, model_executor/layers/quantization, which reads the same keys.
    """
    if not stored:
        return None
    if not isinstance(stored, Mapping):
        return Quantization(name="unknown")
    inner = stored.get("quantization")
    table = {**stored, **inner} if isinstance(inner, Mapping) else stored
    method = _method(table)
    found = _READ.get(method, _unknown)(table, method)
    if not _keeps_little(table):
        found = Quantization(name=found.name)
    return replace(found, kv_dtype=_kv_dtype(table, method))


def _unknown(_: Table, method: str) -> Quantization:
    return Quantization(name=method)


def _fp8(table: Table, _: str) -> Quantization:
    block = table.get("weight_block_size")
    size = block[0] if isinstance(block, list) and block and isinstance(block[0], int) else None
    return Quantization(name="fp8", scheme="fp8", block_size=size)


def _modelopt(table: Table, method: str) -> Quantization:
    algorithm = str(table.get("quant_algo")).upper()
    if algorithm in _FP8_ALGORITHMS:
        return Quantization(name="fp8", scheme="fp8")
    if algorithm == "NVFP4":
        group_size = _whole(table, "group_size") or 16
        return Quantization(name=method, scheme="fp4", bits=4, group_size=group_size)
    return Quantization(name=method)


def _kv_dtype(table: Table, method: str) -> str | None:
    """Return the dtype of the cache that a checkpoint asks for, by vLLM's word.

    Source: vLLM 0.32, utils/torch_utils.py (``get_kv_cache_quant_algo_string``) and
    model_executor/layers/attention/attention.py.
    """
    said = table.get("kv_cache_scheme") or table.get("kv_cache_quant_algo")
    if method == "compressed-tensors":
        return "fp8" if said else None
    if not method.startswith("modelopt"):
        return None
    if isinstance(said, Mapping):
        kinds: dict[_Kind, str] = {(8, "float"): "fp8", (4, "float"): "nvfp4"}
        return kinds.get(_kind(said))
    return {"fp8": "fp8", "nvfp4": "nvfp4"}.get(str(said).lower())


def _awq(table: Table, method: str) -> Quantization:
    bits = _whole(table, "bits") or _whole(table, "w_bit")
    group = _whole(table, "group_size") or _whole(table, "q_group_size")
    zeros = table.get("zero_point") is not False
    return _packed(method, bits, group, zero_points=zeros)


def _gptq(table: Table, method: str) -> Quantization:
    if table.get("lm_head") is True or table.get("dynamic"):  # more, or less, than the layers
        return Quantization(name=method)
    group = _whole(table, "group_size")
    return _packed(method, _whole(table, "bits"), group, zero_points=True)


def _packed(
    method: str, bits: int | None, group_size: int | None, *, zero_points: bool
) -> Quantization:
    """Return integers of ``bits`` each, packed; of an odd width nothing is known."""
    if bits not in {2, 3, 4, 8}:
        return Quantization(name=method)
    return Quantization(
        name=method, scheme="int", bits=bits, group_size=group_size, zero_points=zero_points
    )


def _bitsandbytes(table: Table, method: str) -> Quantization:
    if table.get("load_in_8bit") is True:
        return Quantization(name=method, scheme="int", bits=8)
    return Quantization(name=method, scheme="bitsandbytes", bits=4, group_size=64)


def _mxfp4(_: Table, method: str) -> Quantization:
    return Quantization(name=method, scheme="mxfp4-experts", bits=4, group_size=32)


def _compressed(table: Table, method: str) -> Quantization:
    """Return what all groups of compressed-tensors have in common."""
    groups = table.get("config_groups")
    kinds = {_group(group) for group in groups.values()} if isinstance(groups, Mapping) else set()
    if len(kinds) != 1:
        return Quantization(name=method)
    weights, activations, group_size, zeros = kinds.pop()
    bits, kind = weights
    if weights == activations and bits == 8:  # noqa: PLR2004  # W8A8
        name = {"float": "fp8", "int": "int8"}.get(str(kind))
        return Quantization(name=name or method, scheme=name)
    if kind == "int" and isinstance(bits, int):
        return _packed(method, bits, group_size, zero_points=zeros)
    widths: dict[tuple[object, object, int | None], str] = {
        (8, "float", None): "int",
        (4, "float", 16): "fp4",
        (4, "float", 32): "fp4",
    }
    scheme = widths.get((bits, kind, group_size))
    if scheme is None or not isinstance(bits, int):
        return Quantization(name=method)
    return Quantization(name=method, scheme=scheme, bits=bits, group_size=group_size)


def _group(group: object) -> tuple[_Kind, _Kind, int | None, bool]:
    """Return a group's weights and activations, and how the weights are scaled."""
    table = group if isinstance(group, Mapping) else {}
    weights, activations = (
        part if isinstance(part := table.get(name), Mapping) else {}
        for name in ("weights", "input_activations")
    )
    zeros = weights.get("symmetric") is False
    return _kind(weights), _kind(activations), _whole(weights, "group_size"), zeros


def _kind(part: Table) -> _Kind:
    return _plain(part.get("num_bits")), _plain(part.get("type"))


def _plain(value: object) -> object:
    return value if isinstance(value, int | str) else None


def _whole(table: Table, key: str) -> int | None:
    """Return a positive whole number; None for anything else, -1 among it."""
    value = table.get(key)
    return value if isinstance(value, int) and 0 < value < 2**20 else None


def _method(table: Table) -> str:
    """Return the word for who wrote the checkpoint."""
    word, producer = table.get("quant_method"), table.get("producer")
    if word is None and isinstance(producer, Mapping):
        word = producer.get("name")
    plain = word if isinstance(word, str) and word else "unknown"
    return plain.lower().replace("compressed_tensors", "compressed-tensors")[:_LONGEST_WORD]


def _keeps_little(table: Table) -> bool:
    """Return whether the modules left out are none of the layers' matrices."""
    names: list[object] = []
    for key in _KEPT:
        value = table.get(key)
        if isinstance(value, list):
            names += value
        elif value:
            return False
    if _method(table) in {"mxfp4", "gpt_oss_mxfp4"}:  # all but the experts
        return True
    return all(_is_small(str(name)) for name in names)


def _is_small(name: str) -> bool:
    """Tell a head, a table, a norm or a router from a layer's matrices."""
    last = name.rstrip("*$.").rsplit(".", 1)[-1]
    return last in {"gate", "shared_expert_gate"} or any(part in name for part in _SMALL)


_READ = {
    "auto-gptq": _gptq,
    "auto_awq": _awq,
    "auto_gptq": _gptq,
    "awq": _awq,
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gpt_oss_mxfp4": _mxfp4,
    "gptq": _gptq,
    "modelopt": _modelopt,
    "modelopt_fp4": _modelopt,
    "mxfp4": _mxfp4,
}
