"""Room for a run's next session: looked for before a push, and waited for in line (see `runs.slots`)."""

from __future__ import annotations

from kaggle_manager.errors import RemoteError
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.runs import slots
from kaggle_manager.system.accelerators import runs_on
from kaggle_manager.system.formatting import count

# Cause of the wait, and how long it lasts: doubled each time.
NO_ROOM = "capacity"
ROOM_WAIT_S, ROOM_LONGEST_S = 30.0, 300.0


def is_there(run: RunContext, *, is_first: bool) -> bool:
    """Whether the next session may be pushed, as far as that can be known before; else the journal waits.

    The account's sessions are counted where others wait for the same room, and before a first push, of which a refusal
    may cost a name. Any other push is tried: a refusal costs nothing.
    """
    kind = runs_on(run.config.section.kernel.accelerator)
    room = run.connection.client.limits().room.get(kind)
    if room is None:
        return True
    own = slots.place_of(run.row.run_id, run.row.place, run.clock())
    ahead = slots.ahead_of(own, run.state.journal.line(run.pool))
    if not ahead and not is_first:
        return True
    try:
        live = run.connection.client.live(run.row.owner)[kind]
    except RemoteError as error:
        run.reporter.warn(
            f"the account's sessions could not be counted, and room is taken to be there: {error.message}"
        )
        return True
    if live + ahead < room:
        return True
    why = f"{live} {kind} sessions of this account are live, and the platform runs {room} at once"
    before = f"; {count(ahead, 'run')} waited for room before this one" if ahead else ""
    with run.state.together():
        stand_in_line(run)
        run.postpone(NO_ROOM, f"{why}{before}.", ROOM_WAIT_S, ROOM_LONGEST_S)
    return False


def stand_in_line(run: RunContext) -> None:
    """Keep the run's place, or give it the last one: it has looked for room and found none."""
    place = slots.place_of(run.row.run_id, run.row.place, run.clock())
    run.state.change_settings(in_line={"pool": run.pool, "since": place.since, "looked_at": place.looked_at})
