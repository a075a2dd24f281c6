"""What every room asks of this machine and of Python, once: files, locks, processes, commands, formats.

Standard library and `errors` alone: it travels into sessions.
"""
