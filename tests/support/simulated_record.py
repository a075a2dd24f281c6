"""How often what goes wrong on the simulated Kaggle; and one session as it really is, which the manager never sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from simulated_session import Ending, Fate

from kaggle_manager.platforms.platform import SessionState


@dataclass(frozen=True)
class Odds:
    """How often what goes wrong, 0 to 1, and the platform's habits."""

    call_fails: float = 0.0
    unknown: float = 0.0
    wrong_version: float = 0.0
    denied: float = 0.0
    partial: float = 0.0
    damage: float = 0.0
    push_unanswered: float = 0.0
    push_changed: float = 0.0
    stale_mount: float = 0.0
    death: float = 0.0
    fates: tuple[str, ...] = ("killed",)
    queue_s: float = 60.0
    end_lag_s: float = 5.0
    outputs_lag_s: float = 2.0
    busy: float = 0.0
    cleaned: float = 0.0
    stops: float = 0.0
    publish_unanswered: float = 0.0
    ingestion_s: float = 30.0
    image_moves: float = 0.0
    image_gone: float = 0.0
    late_mount: float = 0.0
    other_sizes: float = 0.0
    erratic_quota: float = 0.0
    unshown: float = 0.0


@dataclass
class Session:
    """One session as it really is. Times are on the clock.

    Attributes:
        told: the state Kaggle named last; None after a denial, and before.
        struck: passing trouble it has met.
        cut_at: when the user deleted it.
        image: digest of what it runs in; image_told: whether the last question about that was answered.
        moves_asked: how often the run was to leave its image before it was pushed.
        hidden_until: until then Kaggle shows of it that there is a kernel of that name, and nothing else.
    """

    slug: str
    version: int
    order: dict[str, Any] = field(repr=False)
    source: str = field(repr=False)
    pushed_at: float
    starts_at: float
    limit_s: float
    mounts: bool
    fate: Fate
    visible_at: float
    end_lag_s: float
    image: str = ""
    image_told: bool = False
    moves_asked: int = 0
    ending: Ending | None = None
    cut_at: float | None = None
    hidden_until: float = 0.0
    told: SessionState | None = None
    struck: Counter[str] = field(default_factory=Counter)

    @property
    def generation(self) -> int:
        return int(self.order["generation"])

    @property
    def is_misfiled(self) -> bool:
        """It was started under another address than asked for: nothing it does counts."""
        return self.slug.endswith("-other")

    @property
    def ends_at(self) -> float:
        if self.cut_at is not None:
            return self.cut_at
        return self.starts_at + (self.ending.lasts_s if self.ending else self.limit_s)
