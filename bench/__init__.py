"""Benchmarks: each module prints its figures as JSON lines. Ratios hold; absolute times are this machine's."""
