"""One durable story a file. Stories import domain alone: no I/O, settings, clock or flag."""
