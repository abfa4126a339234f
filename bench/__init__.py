"""Measurements: each module is a command that prints one JSON line. Figures in docs come from these."""
