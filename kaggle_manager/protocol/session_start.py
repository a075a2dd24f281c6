"""What a session says before it trains: its `session_start.json`."""

from __future__ import annotations

from typing import ClassVar

from kaggle_manager.protocol.document import Document, Line, Part


class ResumedFrom(Part):
    """The checkpoint a session continues: timesteps trained, and the sha256 of its manifest."""

    step: int
    manifest_sha256: Line


class Versions(Part):
    """What a session computes with.

    Attributes:
        torch, numpy: None: it is not installed.
        cuda: that torch was built for; None: for none, or it was not asked.
        driver: of the GPU; None: there is none.
    """

    python: Line
    torch: Line | None = None
    numpy: Line | None = None
    cuda: Line | None = None
    driver: Line | None = None


class SessionStart(Document):
    """What a session continues, and on what.

    Attributes:
        device: "cpu" or "cuda".
        accelerator: what the order asked for; None for the CPU.
        target: timesteps in all, over every session of the run.
        resumed: what it continues; None for a start from zero.
        from_zero: why it starts from zero; None when it continues something.
        versions: of what it computes with.
    """

    SCHEMA: ClassVar[int] = 3

    run_id: Line
    generation: int
    bundle_sha256: Line
    device: Line
    accelerator: Line | None
    target: int
    resumed: ResumedFrom | None = None
    from_zero: Line | None = None
    versions: Versions | None = None
