"""Prompt files, `<type>/<version>.md`, and their loader."""
