"""What holds for every test: what it starts has default signals, however pytest itself was started."""

from __future__ import annotations

import signal


def hand_down_default_signals() -> None:
    """Give what this process starts the default signals where it ignores them itself.

    `nohup` ignores SIGHUP and a shell's `&` SIGINT and SIGQUIT, and a program inherits what its parent ignores, so a
    test that sends one would wait for ever. A handler that does nothing goes on ignoring here and ends at an exec.
    """
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
        number = getattr(signal, name, None)  # Windows has half of them
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


hand_down_default_signals()  # in each process of pytest-xdist
