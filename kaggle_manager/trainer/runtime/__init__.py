"""What every trainer in a session shares: what is mounted, how long it may run, what it says and leaves."""
