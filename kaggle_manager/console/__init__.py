"""What a terminal shows: lines, the live line, transfers, checks. Imports `errors` and `system`."""
