"""The results: their schema, their files and where they lie."""
