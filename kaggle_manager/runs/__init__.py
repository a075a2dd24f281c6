"""What is written down of a run and what is decided from it: a journal, and pure decisions. Imports `errors` alone."""
