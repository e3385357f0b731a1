"""The machine: its devices, what it is doing, and whether an engine can run on it."""
