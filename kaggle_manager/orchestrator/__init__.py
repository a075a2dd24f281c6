"""The loop that carries out what `runs` decides, and writes the journal. Only `cli` and the public API are above it."""
