"""What this machine's system is asked for alike everywhere: locks on files, and commands as its shell takes them."""
