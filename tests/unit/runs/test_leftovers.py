"""Only what is surely not needed any more may be deleted; whatever is in doubt stays, with the reason."""

from __future__ import annotations

import pytest

from kaggle_manager.runs.leftovers import (
    WHEELS_STAY_S,
    KnownRun,
    following_tree,
    is_wheels,
    kernel_of,
    verdict_on_run,
    verdict_on_wheels,
)

OVER = KnownRun("ab12cd34", True, "finished on 2026-11-28")


@pytest.mark.parametrize("slug", ["km-task-ab12cd34", "km-task-ab12cd34-tree"])
@pytest.mark.parametrize(
    ("run", "delete", "said"),
    [
        (OVER, True, "finished on 2026-11-28"),
        (KnownRun("ab12cd34", False, "task to 4 timesteps"), False, "not over: task to 4 timesteps"),
        (KnownRun("ab12cd34", True, "finished", "the only copy"), False, "the only copy"),
    ],
)
def test_a_kernel_and_its_tree_go_with_their_run(slug: str, run: KnownRun, delete: bool, said: str) -> None:
    verdict = verdict_on_run(slug, {"km-task-ab12cd34": run})
    assert verdict is not None
    assert (verdict.delete, verdict.run_id) == (delete, "ab12cd34")
    assert said in verdict.why


@pytest.mark.parametrize("slug", ["km-task-ab12cd35", "km-task-ab12cd34-trees", "my-notebook", "", "km-task-ab12cd34-"])
def test_what_this_journal_does_not_know_is_not_spoken_of(slug: str) -> None:
    assert verdict_on_run(slug, {"km-task-ab12cd34": OVER}) is None


def test_the_tree_of_a_scenario_called_wheels_is_no_wheels() -> None:
    assert is_wheels("km-wheels-0123456789ab")
    assert not any(map(is_wheels, ["km-wheels-ab12cd34-tree", "km-wheel-1", "my-km-wheels-1", "km-wheels-"]))


@pytest.mark.parametrize(
    ("referenced", "changed_at", "delete"),
    [
        ((), 0.0, True),
        (("km-wheels-1",), 0.0, False),
        ((), None, False),
        ((), 1.0, False),
    ],
)
def test_wheels_stay_while_a_run_installs_from_them_or_may_be_about_to(
    referenced: tuple[str, ...], changed_at: float | None, delete: bool
) -> None:
    verdict = verdict_on_wheels("km-wheels-1", referenced, changed_at, 10**6, WHEELS_STAY_S)
    assert verdict is not None
    assert verdict.delete is delete
    assert verdict_on_wheels("km-wheels-1", referenced, changed_at, 50, WHEELS_STAY_S) is None, "emptied already"


def test_the_name_of_a_deleted_tree_is_not_used_again() -> None:
    names = ["km-task-ab12cd34-tree"]
    for _ in range(11):
        names.append(following_tree(names[-1]))
    assert len(set(names)) == 12
    assert names[1:3] == ["km-task-ab12cd34-t2", "km-task-ab12cd34-t3"]
    assert {kernel_of(name) for name in names} == {"km-task-ab12cd34"}
    assert max(map(len, names)) == len(names[0])
