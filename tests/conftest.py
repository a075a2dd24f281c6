"""What holds for every test: default signals for what it starts, however pytest was started, and no bound on speed."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings


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
# By default an example may take 200 ms of wall clock, which a machine with other work does not always grant.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
