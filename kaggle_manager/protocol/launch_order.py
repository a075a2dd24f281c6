"""The launch order: what the manager tells a session, as JSON inside the kernel script; see docs/architecture.md."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, PositiveInt, StringConstraints

from kaggle_manager.checkpoints import Lineage
from kaggle_manager.errors import UPDATE, ConfigError
from kaggle_manager.protocol.document import Document, LaterSchema, Line, Part, Sha256
from kaggle_manager.protocol.lanes import NAME
from kaggle_manager.sections.fields import InputText, inside_its_folder
from kaggle_manager.sections.trial import Trial


class Parent(Part):
    """What to continue: the newest checkpoint's manifest, its step at least, and the dataset it travels in.

    Attributes:
        vouched_by: who vouches for that checkpoint, in words; a session opens the pickles of no other.
    """

    manifest_sha256: Sha256
    min_step: Annotated[int, Field(ge=0)]
    dataset: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    vouched_by: str = ""


class Wheels(Part):
    """Wheels of what the section pins, mounted as a private dataset: name of each file -> its SHA-256."""

    dataset: Annotated[str, StringConstraints(pattern=r"^[\w.-]+/[\w.-]+$")]
    files: dict[str, Sha256]


class LaunchOrder(Document):
    """What one session is to do.

    Attributes:
        section_folder: the section's folder, relative to the root of the bundle.
        target: timesteps in all, over every session of the run.
        parent: what to continue; None to start from zero.
        deadline_s: seconds after which the session must have ended, counted from the start of the kernel's process;
            `trainer/entry.py` hands the trainer what is left of them.
        max_steps: timesteps this session may train at most; None for no limit.
        save_every: timesteps between checkpoints; None for the scenario's own.
        accelerator: the name of the machine in section.toml, or `any GPU`; None for the CPU.
        image: digest of the docker image it was asked to run in; "" for the newest.
        packages: pinned packages (`name==version`) that `trainer/packages.py` installs when the image lacks them.
        installs: a session may install them; else they have to be there.
        output_bytes, output_files: of what it leaves, the bytes that the platform keeps and the number of files that it
            lists; None for no bound.
        wheels: what they are installed from; None: from the package index, under constraints.
        inputs: data of the platform that is mounted, each with its version, see `sections.inputs`.
        identity: what the manager can fingerprint of the experiment without importing its environment.
        lane: in a session that several runs share, which lane is this run's (`protocol.lanes`); "" in one of its own.
        trial: of a sweep, which the scenario is; None: it is one of section.toml.
        accept_changes: continue though the environment or the reward was changed since the parent, on purpose.
        accepted_files: the files of inputs that are accepted with it, each the digest that the user was told of.
        elapsed_s: seconds `trainer/entry.py` took to unpack and install.
        trainer_started: when it started the trainer, on the machine's monotonic clock; None before.
    """

    SCHEMA: ClassVar[int] = 5

    run_id: str
    generation: PositiveInt
    section: str
    section_folder: Annotated[str, AfterValidator(inside_its_folder)]
    scenario: str
    lane: Annotated[str, StringConstraints(pattern=rf"^({NAME})?$")] = ""
    trial: Trial | None = None
    target: PositiveInt
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    quick: bool = False
    fresh: bool = False
    parent: Parent | None = None
    deadline_s: float | None = None
    max_steps: PositiveInt | None = None
    save_every: PositiveInt | None = None
    accelerator: str | None = None
    image: Line = ""
    packages: tuple[str, ...] = ()
    installs: bool = True
    output_bytes: PositiveInt | None = None
    output_files: PositiveInt | None = None
    wheels: Wheels | None = None
    inputs: tuple[InputText, ...] = ()
    bundle_sha256: str
    identity: dict[str, Any] = Field(default_factory=dict)
    accept_changes: bool = False
    accepted_files: dict[str, Sha256] = Field(default_factory=dict)
    elapsed_s: float = 0.0
    trainer_started: float | None = None

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


def read_order(order: object) -> LaunchOrder:
    """Check a launch order.

    Raises:
        ConfigError: it has another schema, or a field is missing or has a value that is not accepted.
    """
    try:
        return LaunchOrder.from_json(order)
    except ValueError as error:
        again = "start the session again with the version of kaggle-manager that is installed now"
        raise ConfigError(
            f"The launch order is not accepted: {error}.",
            safe="nothing was trained",
            next_step=UPDATE if isinstance(error, LaterSchema) else again,
        ) from error
