"""An error says what happened, what is safe and what comes next; and whether time alone can help."""

from __future__ import annotations

import pytest

from kaggle_manager import errors
from kaggle_manager.errors import (
    Busy,
    CapacityReached,
    ConfigError,
    KaggleManagerError,
    NotFinished,
    NotFound,
    QuotaError,
    StorageError,
    Unavailable,
    error_context,
    retryable_exit_codes,
)


def test_quota_platform_a_busy_run_and_an_unreached_target_pass_by_themselves_and_nothing_else() -> None:
    assert retryable_exit_codes() == (5, 6, 8, 10)
    assert all(kind.retryable for kind in (QuotaError, Unavailable, CapacityReached, Busy))
    assert not any(kind.retryable for kind in (ConfigError, StorageError, NotFound))


def test_not_finished_is_all_that_8_says() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KaggleManagerError)]
    assert [kind for kind in kinds if kind.exit_code == NotFinished.exit_code] == [NotFinished]
    assert [kind for kind in kinds if kind.exit_code == Busy.exit_code] == [Busy]


def test_an_error_is_completed_on_its_way_and_stays_the_same_error() -> None:
    error = Unavailable("no answer", safe="")
    with (
        pytest.raises(Unavailable) as raised,
        error_context(message=lambda text: f"Kaggle: {text}", safe="everything", next_step=lambda text: text + "!"),
    ):
        raise error
    assert raised.value is error
    assert (error.message, error.safe) == ("Kaggle: no answer", "everything")
    assert error.next_step.endswith("stopped!")


def test_only_the_errors_it_is_about_are_touched() -> None:
    with pytest.raises(NotFound) as raised, error_context(Unavailable, safe="everything"):
        raise NotFound("nothing there")
    assert raised.value.safe == ""
