"""Where sessions run, each platform behind one adapter. Imports `errors` alone; no type of an SDK leaves this room."""
