"""The launch order: what a session is told, checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, StringConstraints, ValidationError

from kaggle_manager.checkpoints import Lineage
from kaggle_manager.errors import ConfigError
from kaggle_manager.sections.model import inside_its_folder

SCHEMA = 2
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class _Order(BaseModel):
    # Fields other parts of the kernel use (packages) and those of newer managers are let through.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Parent(_Order):
    """What to continue: the newest checkpoint's manifest, its step at least, and the dataset it travels in."""

    manifest_sha256: Sha256
    min_step: Annotated[int, Field(ge=0)]
    dataset: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]


class LaunchOrder(_Order):
    """See docs/architecture.md. `deadline_s` and `trainer_started` (monotonic clock) are as `entry` hands them over."""

    run_id: str
    generation: PositiveInt
    section: str
    section_folder: Annotated[str, AfterValidator(inside_its_folder)]
    scenario: str
    target: PositiveInt
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    quick: bool = False
    fresh: bool = False
    parent: Parent | None = None
    deadline_s: float | None = None
    elapsed_s: float = 0.0
    trainer_started: float | None = None
    max_steps: PositiveInt | None = None
    save_every: PositiveInt | None = None
    accelerator: str | None = None
    bundle_sha256: str = ""
    identity: dict[str, Any] = {}

    @property
    def lineage(self) -> Lineage:
        """The lineage of this session's checkpoints."""
        parent = self.parent
        return Lineage(
            run_id=self.run_id,
            generation=self.generation,
            parent_sha256=parent.manifest_sha256 if parent else None,
            min_step=parent.min_step if parent else 0,
        )


def read_order(order: dict[str, Any]) -> LaunchOrder:
    """Check a launch order.

    Raises:
        ConfigError: a field is missing or has a value that is not accepted.
    """
    if order.get("schema") != SCHEMA:
        raise ConfigError(f"The launch order has schema {order.get('schema')!r}; this trainer reads {SCHEMA}.")
    try:
        return LaunchOrder.model_validate(order)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(map(str, detail["loc"]))
        raise ConfigError(f"The launch order's {key} is not accepted: {detail['msg']}.") from error
