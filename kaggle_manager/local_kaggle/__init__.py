"""A Kaggle on this machine: it speaks the same HTTP API and really runs the kernel. Imports `errors` and `system`."""
