"""What ``packsweep doctor`` prints in a narrow terminal."""

from __future__ import annotations

from packsweep.cli.commands.doctor import _lines
from packsweep.machine.doctor import Check, Finding


def test_messages_are_broken_between_words_below_each_other() -> None:
    """A path or a setting stays whole, to be copied."""
    finding = Finding(status="warn", message="19 GiB of 23 GiB free", remedy="--set engine.x=1")
    lines = _lines([(Check(name="memory", find=lambda _: finding), finding)], 30)
    assert [str(line) for line in lines] == [
        "warn   memory  19 GiB of 23",
        "               GiB free",
        "               -> --set",
        "               engine.x=1",
    ]
