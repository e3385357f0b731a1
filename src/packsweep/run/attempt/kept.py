"""What the cells of a session share: an engine or a server, and what its processes print."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from packsweep.engines import Engine
from packsweep.engines.server import Server
from packsweep.run.attempt.log import EngineLog


@dataclass(slots=True)
class KeptEngine:
    """The engine or server that cells of a session share; none before the first has ended.

    Attributes:
        warmed: warm-up passes and prompts that the server has had.
        log: what its processes print; None where its first attempt had no log any more.
    """

    engine: Engine | None = None
    server: Server | None = None
    warmed: set[tuple[int, str]] = field(default_factory=set)
    log: EngineLog | None = None

    @property
    def is_empty(self) -> bool:
        return self.engine is None and self.server is None

    def read_on(self, log: Path | None) -> None:
        """From now on, read what is printed into ``log``, where the engine was started."""
        if self.log is not None:
            self.log.close()
        self.log = None if log is None else EngineLog(log)
