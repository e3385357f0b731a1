"""What the results say, as tables, files and a page."""
