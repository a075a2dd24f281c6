"""Lets something else than the user call `tick`: cron, a systemd timer, the Windows task scheduler, GitHub Actions.

Promises: what is written holds absolute paths and no secret; writing it twice is writing it once; removing it leaves
everything else that was there. Nothing is written before `install`. It never runs `systemctl` or `schtasks` for the
user: those lines are shown. Ticks that overlap are the manager's concern: its lock lets one of them work.
"""
