"""Which variables a measuring process gets, and which are part of what is measured."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest

from packsweep.errors import UserError
from packsweep.machine import environment, processor


def test_measuring() -> None:
    """What tunes vLLM and the libraries below it counts; places, printing and secrets do not."""
    given = {
        "VLLM_ATTENTION_BACKEND": "FLASHINFER",
        "VLLM_USE_V2_MODEL_RUNNER": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "0-3",
        "KMP_BLOCKTIME": "1",
        "MKL_NUM_THREADS": "2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "CUDA_LAUNCH_BLOCKING": "1",
        "TORCHINDUCTOR_MAX_AUTOTUNE": "1",
        "TORCH_COMPILE_DISABLE": "1",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
    }
    other = {
        "PATH": "/bin",
        "VLLM_API_KEY": "k",
        "VLLM_S3_TOKEN": "t",
        "TORCH_PASSWORD": "p",
        "VLLM_CACHE_ROOT": "/cache",
        "VLLM_RPC_BASE_PATH": "/sockets",
        "VLLM_HOST_IP": "10.0.0.1",
        "CUDA_VISIBLE_DEVICES": "0",
        "CUDA_VERSION": "13.0",
        "NCCL_DEBUG": "INFO",
        "OMP_NUM_THREADS": "1",
        "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
        "NVSHMEM_DISABLE_NVLS": "1",
    }
    assert environment.measuring(given | other) == given


def test_engine_environ_has_what_the_cell_asks() -> None:
    """On a node with other variables the cell's are in force, and no others."""
    here = {"VLLM_ATTENTION_BACKEND": "TRITON_ATTN", "MKL_NUM_THREADS": "2", "PATH": "/bin"}
    asked = {"VLLM_ATTENTION_BACKEND": "FLASHINFER", "KMP_BLOCKTIME": "1"}
    found = environment.engine_environ(here, json.dumps(asked))
    ours = environment.engine_environ({"PATH": "/bin"})
    assert found == ours | asked


def test_how_gpus_talk_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the host says of the links between its GPUs stays as it is, whatever the cell asks."""
    links = {
        "NCCL_NVLS_ENABLE": "0",
        "NCCL_SOCKET_IFNAME": "eth0",
        "NVSHMEM_DISABLE_NVLS": "1",
        "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
    }
    found = environment.engine_environ({"PATH": "/bin", **links}, "{}")
    assert environment.between_gpus(found) == links
    assert environment.engine_environ({})["NCCL_SOCKET_IFNAME"] == "lo"
    monkeypatch.setenv("NVSHMEM_DISABLE_NVLS", "1")
    assert environment.between_gpus()["NVSHMEM_DISABLE_NVLS"] == "1"


def test_gpus_are_numbered_as_nvml_numbers_them() -> None:
    """The GPU whose clocks are read is the one that computes, unless the user orders otherwise."""
    assert environment.engine_environ({})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    own = environment.engine_environ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "{}")
    assert own["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
    assert environment.measuring(own).keys().isdisjoint({"CUDA_DEVICE_ORDER"})


def test_engine_environ_of_cell_decides_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell that says how vLLM places its threads gets vLLM's own processes."""
    monkeypatch.setattr(environment, "on_cpu", lambda: True)
    placed = environment.engine_environ({}, json.dumps({"VLLM_CPU_OMP_THREADS_BIND": "0-1"}))
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in placed
    plain = environment.engine_environ({"VLLM_CPU_OMP_THREADS_BIND": "0-1"}, "{}")
    assert plain["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert "VLLM_CPU_OMP_THREADS_BIND" not in plain


def test_engine_environ_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a processor several ranks share the cores, each with as many; the user's word counts."""
    monkeypatch.setattr(environment, "on_cpu", lambda: True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6, 7, 8})
    monkeypatch.setattr(processor, "_core", lambda cpu: ("0", str(cpu % 4)))  # 8 is beside 4
    found = environment.engine_environ({}, num_ranks=2)
    assert found["VLLM_CPU_OMP_THREADS_BIND"] == "4,5|6,7"
    assert "VLLM_ENABLE_V1_MULTIPROCESSING" not in found
    assert processor.num_cores() == 4
    own = environment.engine_environ({"VLLM_CPU_OMP_THREADS_BIND": "1|0"}, num_ranks=2)
    assert own["VLLM_CPU_OMP_THREADS_BIND"] == "1|0"
    with pytest.raises(UserError, match="5 ranks takes 5 cores on one machine, and 4 can be used"):
        environment.engine_environ({}, num_ranks=5)


def test_engine_environ_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the user's import path all but the working directory stays."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    given = os.pathsep.join(["", ".", str(tmp_path), str(tmp_path / "lib"), "/elsewhere"])
    found = environment.engine_environ({"PYTHONPATH": given})["PYTHONPATH"].split(os.pathsep)
    assert found[-2:] == [str(tmp_path / "lib"), "/elsewhere"]
    assert not {"", ".", str(tmp_path)} & set(found)


@pytest.mark.parametrize(("num_bytes", "fits"), [(70, True), (71, False)])
def test_socket_problem(num_bytes: int, *, fits: bool) -> None:
    """A socket's path has at most 107 bytes: 70 of the folder, a slash and a UUID of 36."""
    found = environment.socket_problem({"VLLM_RPC_BASE_PATH": "/" + "x" * (num_bytes - 1)})
    assert (found is None) == fits


def test_socket_problem_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 99)
    assert str(environment.socket_problem({})).endswith("107 are allowed; export TMPDIR=/tmp")


@pytest.mark.parametrize(
    ("package", "version", "is_cpu_build"),
    [("vllm-cpu", "0.32.0", True), ("vllm", "0.32.0+cpu", True), ("vllm", "0.32.0", False)],
)
def test_cpu_build(
    package: str,
    version: str,
    is_cpu_build: bool,  # noqa: FBT001
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A build for the CPU is known by the package's name or by its version."""
    monkeypatch.setattr(environment, "versions", lambda *_: {package: version})
    assert environment._vllm.__wrapped__() == (version, is_cpu_build)


def test_versions_of_what_is_installed() -> None:
    assert environment.versions("no-such-package") == {}
    assert list(environment.versions("pytest", "no-such-package")) == ["pytest"]
