"""What the passes say: summaries, cells and folders compared, labels."""
