"""The embedded stack: one machine, no Docker. Nothing outside this package knows that it exists."""
