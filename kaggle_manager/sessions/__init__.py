"""One session, from its bundle to its verified outputs. Below `status` and `orchestrator`; `trees` is beside it."""
