"""What a processor computes is measured once for a machine, and not kept beside other load."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from packsweep.machine import calibration
from packsweep.machine.calibration import Calibration, of_this_processor

FOUND = Calibration(dtype="float32", flops_per_s=2e11, bytes_per_s=3e10, import_s=2.0)
FASTER = Calibration(dtype="float32", flops_per_s=4e11, bytes_per_s=3e10, import_s=2.0)


class Machine:
    """A machine with torch, on which a measurement says what is set here."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.load = 0.0
        self.says = json.dumps(asdict(FOUND))
        self.cache = cache
        monkeypatch.setenv("PACKSWEEP_CACHE", str(cache))
        monkeypatch.setattr(os, "getloadavg", lambda: (self.load, 0.0, 0.0))
        monkeypatch.setattr(calibration, "find_spec", lambda _: object())
        monkeypatch.setattr(subprocess, "run", self._run)

    def _run(self, command: list[str], **_: Any) -> SimpleNamespace:
        if not self.says:
            raise subprocess.CalledProcessError(1, command)
        return SimpleNamespace(stdout=self.says)

    @property
    def kept(self) -> list[Path]:
        return list(self.cache.glob("processor-*.json"))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path / "cache", monkeypatch)


def test_is_measured_once(machine: Machine) -> None:
    assert of_this_processor() == FOUND
    machine.says = json.dumps(asdict(FASTER))
    assert of_this_processor() == FOUND
    assert len(machine.kept) == 1


def test_is_not_kept_beside_other_load(machine: Machine) -> None:
    machine.load = 1000.0
    assert of_this_processor() == FOUND
    assert machine.kept == []


@pytest.mark.parametrize("content", ["", "[]", '{"dtype": "float32"}', "{"])
def test_damaged_one_is_measured_again(machine: Machine, content: str) -> None:
    of_this_processor()
    (kept,) = machine.kept
    kept.write_text(content, encoding="utf-8")
    assert of_this_processor() == FOUND
    assert json.loads(kept.read_text(encoding="utf-8")) == asdict(FOUND)


@pytest.mark.parametrize("flops_per_s", [0.0, -1.0, float("nan"), float("inf")])
def test_rate_that_is_none_is_no_calibration(machine: Machine, flops_per_s: float) -> None:
    machine.says = json.dumps(asdict(FOUND) | {"flops_per_s": flops_per_s})
    assert of_this_processor() is None


def test_none_where_measuring_fails(machine: Machine) -> None:
    machine.says = ""
    assert of_this_processor() is None
    assert machine.kept == []


def test_none_without_torch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "find_spec", lambda _: None)
    assert of_this_processor() is None
    assert machine.kept == []
