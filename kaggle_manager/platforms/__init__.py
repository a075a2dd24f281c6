"""Where sessions run, each platform behind one adapter. Imports `errors` and `system`; no type of an SDK leaves it."""
