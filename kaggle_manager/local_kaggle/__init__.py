"""The local Kaggle: it speaks the same HTTP API and really runs the kernel. Imports `errors` and `system`."""
