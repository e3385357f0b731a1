"""Run a sweep on the Ray cluster that this job belongs to.

    ray job submit --working-dir . -- python sweeps/grid.py --sweep sweeps/quick.toml

The same as ``packsweep run SWEEP``; the package is taken from this checkout where it is not
installed. Without a Ray job around it, the sweep runs on this machine.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Translate this script's options into a ``packsweep run``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sweep", default=str(HERE / "seed.toml"), help="sweep file")
    parser.add_argument("--results", help="results folder, on storage that every node shares")
    args, more = parser.parse_known_args()
    sys.path.insert(0, str(HERE.parent / "src"))
    from packsweep.cli import main as packsweep

    results = ["--results", args.results] if args.results else []
    packsweep(["run", args.sweep, *results, *more])


if __name__ == "__main__":
    main()
