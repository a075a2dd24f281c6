"""Start a session for one run, or one for several: each is then in a lane of its own, see `protocol.lanes`.

Every run has written its own intent before, and hears the same answer; so a process that is killed at any point leaves
for each of them what it leaves for one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kaggle_manager.errors import KaggleManagerError
from kaggle_manager.orchestrator.image import Refusal, push_in_its_image
from kaggle_manager.orchestrator.run_context import RunContext
from kaggle_manager.orchestrator.wheels import mountable_wheels
from kaggle_manager.platforms.platform import SessionRequest, StartedSession
from kaggle_manager.protocol.lanes import lane_name
from kaggle_manager.protocol.launch_order import LaunchOrder, Wheels
from kaggle_manager.runs.rows import SessionRow
from kaggle_manager.sessions.bundle import Bundle, render_script
from kaggle_manager.sessions.inputs import SettledInput
from kaggle_manager.sessions.launch import kernel_push


@dataclass(frozen=True)
class Ask:
    """What a run wants to have started, and its intent, which is written."""

    run: RunContext
    session: SessionRow
    bundle: Bundle
    order: LaunchOrder
    inputs: Sequence[SettledInput]
    timeout_s: float


def start_session(asks: Sequence[Ask]) -> StartedSession | Refusal:
    """Start one session for all of them, under the name of the first.

    Raises:
        as `Platform.start`.
    """
    lead = asks[0]
    run, config = lead.run, lead.run.config
    beside = f", for {len(asks)} runs" if len(asks) > 1 else ""
    on = config.section.kernel.accelerator or "the CPU"
    run.reporter.step(2, f"push {run.row.owner}/{run.row.slug} for {on}{beside}")

    bounds = {name: getattr(lead.order, name) for name in ("output_bytes", "output_files")}
    share = {name: bound and bound // len(asks) for name, bound in bounds.items()}

    def asking_for(image: str, wheels: Wheels | None) -> SessionRequest:
        orders = [ask.order.model_copy(update={"image": image, "wheels": wheels, **share}).as_json() for ask in asks]
        return kernel_push(
            config,
            run.row,
            render_script(lead.bundle, orders[0], run.connection.client.limits().source_bytes, orders[1:]),
            trees=[ask.order.parent.dataset for ask in asks if ask.order.parent],
            timeout_s=max(ask.timeout_s for ask in asks),
            wheels=wheels,
            inputs=[each for ask in asks for each in ask.inputs],
            image=image,
        )

    def in_the_newest_image() -> SessionRequest:
        return asking_for("", mountable_wheels(run, ""))  # it may have another Python

    push = asking_for(lead.order.image, lead.order.wheels)
    return push_in_its_image(run, lead.session, push, otherwise=in_the_newest_image)


class SharedSession:
    """One session for several runs: each asks for its own, and the last one that asks starts it for all.

    Args:
        begin: each lets one run come to where it asks, with this as the session to share. What keeps a run from asking
            is its own, and no matter to the others.
    """

    def __init__(self, begin: Sequence[Callable[[SharedSession], None]]) -> None:
        self._begin = list(begin)
        self._asks: list[Ask] = []
        self._answer: StartedSession | Refusal | BaseException | None = None

    def begin(self) -> None:
        """Begin the runs that are left, one after the other; each that asks begins those after it from within."""
        while self._begin:
            self._begin.pop(0)(self)

    @property
    def lead(self) -> SessionRow | None:
        """The intent of the run under whose name it is started; None before one has asked."""
        return self._asks[0].session if self._asks else None

    @property
    def size(self) -> int:
        """How many runs have asked."""
        return len(self._asks)

    @property
    def next_lane(self) -> str:
        return lane_name(self.size + 1)

    def takes(self, bundle: Bundle, image: str) -> bool:
        """Whether it can carry a run of this code in this image beside those that have asked."""
        return all((ask.bundle.sha256, ask.order.image) == (bundle.sha256, image) for ask in self._asks)

    def start(self, ask: Ask) -> StartedSession | Refusal:
        """What came of the session, for the run that asks; every run hears the same.

        Raises:
            as `Platform.start`.
        """
        self._asks.append(ask)
        self.begin()
        if self._answer is None:
            try:
                self._answer = start_session(self._asks)
            except BaseException as error:
                self._answer = error  # whatever it is: the platform may have accepted, and no other run asks once more
        if isinstance(self._answer, KaggleManagerError):
            raise _again(self._answer)
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer


def _again(error: KaggleManagerError) -> KaggleManagerError:
    """The same error as an object of its own, for each run adds to it what is its own."""
    again = type(error).__new__(type(error), *error.args)
    vars(again).update(vars(error))
    return again
