"""Load on a server: when requests are sent, what becomes of them, and which rate it sustains."""
