"""``python -m tests.chaos``: many seeded trials of every kind, and a table of how they went."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.chaos import killer, trial
from tests.chaos.cluster import LogicalCluster
from tests.chaos.trial import Arena, Report
from tests.fakes import write_byte_model


def main() -> None:
    """Run the trials; exit with 1 if one of them had a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12, help="of each kind")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", default=killer.KINDS, choices=killer.KINDS)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    cluster = LogicalCluster()
    try:
        arena = Arena(cluster, folder, write_byte_model(folder / "model"))
        seeds = range(args.first_seed, args.first_seed + args.trials)
        reports = [_one(arena, kind, seed) for seed in seeds for kind in args.kinds]
    finally:
        cluster.close()
    for kind in args.kinds:
        _say(_summary(kind, [each for each in reports if each.kind == kind.replace(" ", "-")]))
    _say(f"kept in {folder}")
    sys.exit(any(each.problems for each in reports))


def _one(arena: Arena, kind: str, seed: int) -> Report:
    report = trial.run(arena, kind, seed)
    told = "; ".join(report.problems) or "well"
    _say(f"{kind} {seed}: {report.num_runs} run(s), {report.seconds:.1f} s: {told}")
    return report


def _summary(kind: str, reports: list[Report]) -> str:
    seconds = sum(each.seconds for each in reports)
    failed = sum(bool(each.problems) for each in reports)
    runs = sum(each.num_runs for each in reports)
    return f"{kind}: {len(reports)} trials, {runs} runs, {seconds:.0f} s, {failed} with problems"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
