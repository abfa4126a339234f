"""The worker process: settings, clients, registry of what each role runs, life from start to graceful end."""
