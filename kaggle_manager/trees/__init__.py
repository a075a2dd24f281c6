"""A training tree on this machine: inspected, compared, backed up, recovered, exported. `sessions` is beside it."""
