"""What is written down of a run and decided from it: a journal, and pure decisions. Imports `errors` and `system`."""
