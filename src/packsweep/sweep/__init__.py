"""A sweep file and what it spells out: cells, prompts, answers, texts."""
