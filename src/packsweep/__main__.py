"""``python -m packsweep``."""

from packsweep.cli import main

main()
