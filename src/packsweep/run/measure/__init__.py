"""A measurement: prompts into requests, requests into answers, answers into metrics."""
