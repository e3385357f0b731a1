"""Running a sweep: one process for each cell, and what it measures."""
