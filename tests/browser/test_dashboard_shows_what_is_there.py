"""The page's values are those of `status`; what is missing or damaged is said, and everything else still shown."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from dashboard_world import BEGAN, FINISHED, HOSTILE, NOW, RUNNING, add_run, build, say, told, tree_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kaggle_manager.dashboard.axes import Scale
from kaggle_manager.dashboard.curves import smoothed, thinned
from kaggle_manager.dashboard.export_html import write_html
from kaggle_manager.dashboard.markup import h
from kaggle_manager.dashboard.page import Asked, Content, document, look
from kaggle_manager.dashboard.verification import Looked, Verifier
from kaggle_manager.dashboard.view import Dashboard
from kaggle_manager.errors import StorageError
from kaggle_manager.protocol.events import EvaluationEvent, ProgressEvent
from kaggle_manager.runs.journal import Journal
from kaggle_manager.status.overview import overview
from kaggle_manager.system.formatting import duration
from kaggle_manager.trees.curves import read_episodes


def page_of(dashboard: Dashboard, asked: Asked | None = None) -> str:
    content: Content = look(dashboard, asked or Asked())
    return document(content, None, live=True)


def everything_in(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "sqlite-" not in path.name}


def test_looking_changes_nothing(dashboard: Dashboard, state: Path) -> None:
    before = everything_in(state)
    look(dashboard, Asked(FINISHED, (RUNNING,)), everything=True)
    assert everything_in(state) == before


def test_a_run_has_its_curve_its_sessions_and_its_log(dashboard: Dashboard) -> None:
    view = dashboard.run(RUNNING)
    assert [(point.step, point.mean, point.episodes) for point in view.curve.evaluations][:2] == [
        (50, -20.1, 2),
        (100, -10.05, 2),
    ]
    assert view.curve.episodes == 20
    assert {session.number: session.first_step for session in view.lineage} == {1: 0, 2: 100, 3: 200}
    assert view.log.generation == 3
    assert view.log.progress == ((250, -12.5),)
    assert view.quota is not None
    assert view.quota.left_s == 36000.0
    # Foreseen: 80 steps for the second session, which gained 100.
    assert view.forecast_error == 0.25


def test_what_a_session_waits_in_a_queue_is_drawn_as_that_and_not_as_its_own_time(
    dashboard: Dashboard, state: Path
) -> None:
    assert "waited in the queue" not in page_of(dashboard, Asked(FINISHED))
    with closing(Journal(state / "journal.sqlite")) as journal:
        first = journal.sessions(FINISHED)[0]
        journal.add_facts(first, seen={"running_since": BEGAN + 540.0})
    page = page_of(dashboard, Asked(FINISHED))
    assert "session 1 waited in the queue" in page
    assert f"session 1, {duration(60.0)}: interrupted" in page, "of the 600 s from its push to its end"


def test_hashes_are_read_in_the_background_and_again_when_a_file_changes(dashboard: Dashboard, state: Path) -> None:
    def once_read() -> Looked:
        while (looked := verifier.look(tree)).verified_at is None:
            time.sleep(0.01)
        return looked

    tree = tree_of(state, RUNNING)
    verifier = Verifier(clock=lambda: NOW)
    assert {view.hash_state for view in verifier.look(tree).checkpoints} == {"not read"}
    assert {view.hash_state for view in once_read().checkpoints} == {"verified"}
    assert verifier.look(tree).verified_at == NOW
    model = tree.checkpoints / tree.name("latest", "model", 200)
    model.write_bytes(b"x" + model.read_bytes()[1:])
    assert {view.hash_state for view in verifier.look(tree).checkpoints} == {"not read"}
    states = {view.manifest.step: view.hash_state for view in once_read().checkpoints if view.manifest}
    assert states[200] == "damaged"


def test_every_text_from_outside_is_escaped(dashboard: Dashboard) -> None:
    for run_id in (FINISHED, RUNNING):
        page = page_of(dashboard, Asked(run_id))
        assert "window.hacked" in page
        assert "<script>window" not in page
        assert "<img" not in page
    assert h("p", HOSTILE, title='"><script>') == (
        '<p title="&quot;&gt;&lt;script&gt;">&lt;script&gt;window.hacked=1&lt;/script&gt;&lt;img src=x '
        "onerror=&#x27;window.hacked=1&#x27;&gt;</p>"
    )


def test_a_log_that_tells_nonsense_moves_no_chart(dashboard: Dashboard, state: Path) -> None:
    event = EvaluationEvent(step=280, score=-3.5, best=True, episodes=1, env_steps=9, seconds=1.0)
    line = told(RUNNING, 3, event)
    for nonsense in ("x", 1e400, math.nan):
        say(state, RUNNING, 3, line.replace("-3.5", json.dumps(nonsense)))
    say(state, RUNNING, 3, line.replace("-3.5", "1e400"), line.replace("280", '"x"'), line[:60], "KM_EVAL [")
    say(state, RUNNING, 3, told(RUNNING, 2, event.model_copy(update={"step": 1})), line)
    assert dashboard.run(RUNNING).log.evaluations == ((280, -3.5),)


def test_the_line_end_before_an_event_leaves_no_empty_line_and_the_users_own_stay(
    dashboard: Dashboard, state: Path
) -> None:
    say(state, RUNNING, 3, "one", "", "two", told(RUNNING, 3, ProgressEvent(step=260, target=400)))
    assert [line.split(" ")[0] for line in dashboard.run(RUNNING).log.lines[-4:]] == ["one", "", "two", "step"]


def test_a_missing_tree_is_said_and_the_rest_is_there(dashboard: Dashboard, state: Path) -> None:
    shutil.rmtree(tree_of(state, FINISHED).root)
    page = page_of(dashboard, Asked(FINISHED))
    assert "no longer contains this run" in page
    assert "interrupted (its time is used up)" in page


def test_damaged_curves_are_said_and_the_rest_is_there(dashboard: Dashboard, state: Path) -> None:
    history = tree_of(state, FINISHED).history
    (history / "evaluations.npz").write_bytes(b"PK\x03\x04 not one")
    (history / "monitor.csv").write_bytes(b"r,l,t,step\n-1.0,10,1,10\n\xff\xfe,,\nnan,1,2,11\n-2.0,10,2,20\n")
    view = dashboard.run(FINISHED)
    assert view.curve.returns == ((10, -1.0), (20, -2.0))
    assert len(view.problems) == 2
    assert "evaluations.npz" in page_of(dashboard, Asked(FINISHED))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_damaged_the_page_is_there(dashboard: Dashboard, state: Path, data: st.DataObject) -> None:
    files = sorted(path for path in tree_of(state, FINISHED).root.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    cut = data.draw(st.booleans())
    try:
        path.write_bytes(
            whole[:at] if cut else whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at + 1 :]
        )
        content = look(dashboard, Asked(FINISHED, (RUNNING,)), everything=data.draw(st.booleans()))
    finally:
        path.write_bytes(whole)
    assert not content.problem
    assert "interrupted (its time is used up)" in document(content, None, live=True)


def test_the_tree_of_a_later_run_is_not_taken_for_this_one(dashboard: Dashboard, state: Path) -> None:
    with closing(Journal(state / "journal.sqlite")) as journal:
        row = add_run(journal, state, "e" * 32)
        with closing(sqlite3.connect(state / "journal.sqlite")) as db, db:
            db.execute("UPDATE runs SET tree = ? WHERE run_id = ?", (str(tree_of(state, FINISHED).root), row.run_id))
    view = dashboard.run("e" * 32)
    assert view.training_tree is None
    assert view.curve.evaluations == ()


def test_an_empty_folder_names_the_first_command(tmp_path: Path) -> None:
    page = page_of(Dashboard(tmp_path / "nothing"))
    assert "No run yet" in page
    assert "--quick" in page
    assert not (tmp_path / "nothing").exists()


def test_what_is_no_journal_is_said_on_the_page(tmp_path: Path) -> None:
    (tmp_path / "journal.sqlite").write_bytes(b"this is not a database" * 100)
    assert "cannot be used" in page_of(Dashboard(tmp_path))
    with pytest.raises(StorageError):
        write_html(tmp_path, tmp_path / "page.html")


def test_it_looks_on_while_a_manager_is_in_the_middle_of_writing(dashboard: Dashboard, state: Path) -> None:
    with closing(sqlite3.connect(state / "journal.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE runs SET target = 999")
        assert {run["target"] for run in dashboard.status()["runs"]} == {400}
        writer.execute("COMMIT")
    assert {run["target"] for run in dashboard.status()["runs"]} == {999}


def test_a_journal_of_an_earlier_version_is_refused_in_words_and_left_as_it_is(
    dashboard: Dashboard, state: Path
) -> None:
    with closing(sqlite3.connect(state / "journal.sqlite")) as db:
        db.execute("PRAGMA user_version = 0")
    before = everything_in(state)
    assert "development version of kaggle-manager" in page_of(dashboard)
    assert everything_in(state) == before


def test_the_file_holds_everything_and_asks_for_nothing(state: Path, tmp_path: Path) -> None:
    path = tmp_path / "out" / "page.html"
    write_html(state, path)
    page = path.read_text(encoding="utf-8")
    assert page.count("<article") == 2
    assert "Side by side" in page
    assert "learning_rate is 0.01" in page
    assert "verified" in page
    assert "not verified yet" not in page
    assert "default-src &#x27;none&#x27;" in page
    for sign in ("http://", "https://", '<link rel="stylesheet"', "<script src", "<img", "@import", "url("):
        assert sign not in page, sign


def test_the_status_is_the_one_of_the_command(dashboard: Dashboard, state: Path) -> None:
    with closing(Journal(state / "journal.sqlite")) as journal:
        expected = overview(journal, None, NOW).as_json()
    assert json.loads(json.dumps(dashboard.status())) == json.loads(json.dumps(expected))


def test_the_command_that_shows_losses_is_named_where_there_are_any(dashboard: Dashboard, state: Path) -> None:
    folder = tree_of(state, FINISHED).history / "tensorboard"
    assert f"tensorboard --logdir {folder}" in page_of(dashboard, Asked(FINISHED))
    shutil.rmtree(folder)
    assert "tensorboard" not in page_of(dashboard, Asked(FINISHED))


def test_long_curves_are_thinned_by_means_and_short_ones_left_alone() -> None:
    points = [(step, float(step % 2)) for step in range(1, 1001)]
    few = thinned(points, most=100)
    assert len(few) == 100
    assert few[0] == (10, 0.5)
    assert few[-1][0] == 1000
    assert thinned(points[:3], most=100) == tuple(points[:3])
    assert smoothed([(1, 2.0), (2, 4.0), (3, 6.0)], 2) == ((1, 2.0), (2, 3.0), (3, 5.0))


def test_episodes_stand_at_timesteps_and_not_at_the_frames_that_a_wrapper_repeats(tmp_path: Path) -> None:
    (tmp_path / "monitor.csv").write_text('#{"t_start": 0}\nr,l,t,step\n-1.5,240,1,60\n-2.5,160,2,100\nrubbish\n')
    assert read_episodes(tmp_path / "monitor.csv") == ([(60, -1.5), (100, -2.5)], 1)


@pytest.mark.parametrize("values", [[], [3.0], [0.0, 0.0], [-1e9, 1e9], [1e-9, 2e-9]])
def test_an_axis_has_round_ticks_inside_its_range_for_any_values(values: list[float]) -> None:
    scale = Scale.around(values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 12
    assert all(scale.low <= tick <= scale.high for tick in ticks)
    assert [scale.percent(value) for value in (scale.low, scale.high)] == [0.0, 100.0]


def test_sessions_are_shown_in_time_with_why_each_ended(tmp_path: Path) -> None:
    state = build(tmp_path / "s")
    page = page_of(Dashboard(state, clock=lambda: BEGAN + 5000), Asked(FINISHED))
    assert page.count('class="bar bad"') == 1
    assert page.count('class="bar good"') == 2
    assert "code error" in page
