"""What a terminal shows: lines, the live line, transfers, numbers in words. Imports `errors` alone."""
