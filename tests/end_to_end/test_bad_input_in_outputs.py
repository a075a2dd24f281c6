"""Outputs that are altered, or not of this session, are refused; the tree here stays; the run goes on.

The files are changed in the local Kaggle's own storage, between the end of a session and the download.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_project import SCENARIO, Bench, installed, make_project
from small_trees import reseal

from kaggle_manager.checkpoints import CheckpointStore, Lineage, TrainingTree
from kaggle_manager.errors import Interrupted, VerificationError
from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.sessions import bundle, output_listing, reconcile, watch
from kaggle_manager.status.report import RunReport

pytestmark = pytest.mark.slow

Change = Callable[[Path], None]


def result_of(working: Path) -> dict[str, Any]:
    return json.loads((working / "session_result.json").read_text())  # type: ignore[no-any-return]


def rewrite(working: Path, **changes: Any) -> None:
    """The last word, with something else in it and true hashes of every file."""
    files = [
        {
            "name": path.relative_to(working).as_posix(),
            "size": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in sorted(working.rglob("*"))
        if path.is_file() and path.name != "session_result.json"
    ]
    (working / "session_result.json").write_text(json.dumps({**result_of(working), "files": files, **changes}))


def a_model(working: Path) -> Path:
    return max((working / "training_tree/checkpoints").glob("*.zip"))


def truncate(working: Path) -> None:
    a_model(working).write_bytes(a_model(working).read_bytes()[:-1])


def alter(working: Path) -> None:
    a_model(working).write_bytes(bytes([a_model(working).read_bytes()[0] ^ 1]) + a_model(working).read_bytes()[1:])


def remove(working: Path) -> None:
    a_model(working).unlink()


def hide_last_word(working: Path) -> None:
    (working / "session_result.json").unlink()


def cut_last_word(working: Path) -> None:
    text = (working / "session_result.json").read_text()
    (working / "session_result.json").write_text(text[: len(text) // 2])


def climb(working: Path) -> None:
    files = result_of(working)["files"]
    rewrite(working, files=[{**files[0], "name": "../../../climbed.txt"}, *files[1:]])


def other_run(working: Path) -> None:
    rewrite(working, run_id="f" * 32)


def other_tree(working: Path) -> None:
    """A valid tree, vouched for in every byte, of another run."""
    store = CheckpointStore(TrainingTree(working / "training_tree", SCENARIO))
    identity = store.valid_checkpoints()[0].manifest.identity
    for path in (working / "training_tree/checkpoints").iterdir():
        path.unlink()
    lineage = Lineage("e" * 32, 2, None, 0)
    for step in (98, 99):
        store.save_latest(
            step=step,
            target=100,
            lineage=lineage,
            bundle_sha256="",
            files={"model": b"m", "state": b"s"},
            identity=identity,
        )
    rewrite(working)


def older_tree(working: Path) -> None:
    """What the session before left."""
    rewrite(working, generation=result_of(working)["generation"] - 1)


def no_checkpoint(working: Path) -> None:
    for path in (working / "training_tree/checkpoints").iterdir():
        path.unlink()
    rewrite(working)


def other_code(working: Path) -> None:
    log = working.parent / "log.jsonl"
    lines = log.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if "KM_BUNDLE" in line)
    first = json.loads(lines[number])
    first["data"], found = re.subn(r'(?<="sha256": ")[0-9a-f]{64}', "a" * 64, first["data"])
    assert found == 1
    log.write_text("\n".join([*lines[:number], json.dumps(first), *lines[number + 1 :]]) + "\n")


CASES: dict[str, tuple[Change, str]] = {
    "a truncated file": (truncate, ".zip"),
    "an altered file": (alter, ".zip"),
    "a missing file": (remove, ".zip"),
    "no last word after a good end": (hide_last_word, "ended in good order"),
    "half a last word": (cut_last_word, "session_result.json is not a session's result"),
    "a name that climbs": (climb, "climbed"),
    "a last word of another run": (other_run, "run: expected"),
    "a last word of another generation": (older_tree, "session: expected"),
    "a manifest of another run": (other_tree, "it belongs to run eeee"),
    "trained, and no checkpoint": (no_checkpoint, "says it trained, but left no checkpoint"),
    "other code than was built": (other_code, "ran code aaaaaaaaaaaa"),
}


DAMAGED, NO_RESULT = "left out, for it does not verify", "left no result"
TAKEN = {
    **dict.fromkeys(["a truncated file", "an altered file", "a missing file"], DAMAGED),
    **dict.fromkeys(
        [
            "no last word after a good end",
            "half a last word",
            "a last word of another run",
            "a last word of another generation",
        ],
        NO_RESULT,
    ),
}


@pytest.fixture(scope="module")
def long_run(kaggle_here: ServerInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One run to a far target, already at step 2; every case takes it two sessions further."""
    folder = tmp_path_factory.mktemp("long_run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "INSTALLED", installed(folder / "project"))
        bench = Bench(make_project(folder / "project"), folder / "work", kaggle_here)
        with pytest.raises(Interrupted):
            bench.run(timesteps=1000, interrupt_at="relaunch")
        yield bench


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_the_tree_is_safe_and_the_next_command_goes_on(
    case: str, long_run: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name, value in (
        (watch, "FIRST_POLL_S", 0.1),
        (reconcile, "LOOK_EVERY_S", 0.0),
        (output_listing, "LOOKS", 2),
    ):
        monkeypatch.setattr(module, name, value)
    change, words = CASES[case]
    bench, (head, older) = long_run, long_run.steps()
    bench.told = type(bench.told)()
    bench.told.hooks.append(("the platform says", lambda: change(bench.newest_session() / "working")))
    report = tick_until_it_waits(bench)
    assert words in report.why
    assert not report.human_action_required, "it is downloaded again without anyone"
    assert bench.steps() == [head, older], "the two latest checkpoints still load"
    assert not list(bench.workdir.parent.rglob("climbed.txt"))

    with pytest.raises(Interrupted):  # the next step it names
        bench.run(timesteps=1000, interrupt_at="relaunch")
    # In the last try, what verifies by itself is taken; where nothing does, the session is given up.
    how = TAKEN.get(case, "given up")
    assert how in bench.output
    if how != DAMAGED:
        assert bench.steps() == [head + 2, head + 1]
    else:
        (kept,) = bench.steps()
        assert kept in (head + 1, head + 2), "the checkpoint that was not damaged"
        # Two checkpoints again, for the next case.
        with pytest.raises(Interrupted):
            bench.run(timesteps=1000, interrupt_at="relaunch")


def tick_until_it_waits(bench: Bench) -> RunReport:
    while (report := bench.manager().tick("small", timesteps=1000)).state != "waiting":
        time.sleep(0.05)
    return report


def test_damage_that_was_the_downloads_own_is_mended_by_the_same_command(bench: Bench) -> None:
    """The platform has the true bytes again a minute later: nothing is given up, and nobody has to do anything."""
    kept: list[bytes] = []

    def damage() -> None:
        model = a_model(bench.newest_session() / "working")
        kept.append(model.read_bytes())
        model.write_bytes(b"x" * len(kept[0]))

    def mend() -> None:
        a_model(bench.newest_session() / "working").write_bytes(kept[0])

    bench.told.hooks += [("the platform says", damage), ("is downloaded again", mend)]
    report = bench.manager().run_validation_section("small", timesteps=2)
    assert sum(bench.slept) >= 58
    assert [session.outcome for session in report.sessions] == ["completed"]


def test_a_session_that_runs_other_code_is_reported_while_it_runs(bench: Bench) -> None:
    entry = installed(bench.project) / "kaggle_manager/trainer/entry.py"
    entry.write_text(
        entry.read_text().replace('"KM_BUNDLE", sha256=bundle_sha256', '"KM_BUNDLE", sha256=bundle_sha256[::-1]')
    )
    with pytest.raises(VerificationError, match="ran code"):
        bench.run(timesteps=2)
    warned, ended = bench.output.index("runs other code"), bench.output.index("the platform says")
    assert warned < ended


@pytest.mark.parametrize("bomb", ["more bytes than announced", "climbing name"])
def test_a_bomb_in_the_trees_dataset_is_refused_in_the_kernel(bench: Bench, bomb: str) -> None:
    bench.run(timesteps=2)

    def tamper() -> None:
        files = max(bench.server.root.glob("datasets/*/*/files"), key=lambda folder: folder.stat().st_mtime)
        pack, index = files / "training_tree.pack", files / "training_tree.json"
        body = json.loads(index.read_text())
        if bomb == "climbing name":
            body["files"][0]["name"] = "../../climbed.txt"
            index.write_bytes(reseal(body))
        else:
            with pack.open("ab") as stream:
                stream.truncate(3 << 30)  # sparse: three gigabytes that nobody announced

    bench.told.hooks.append(("goes in as dataset", tamper))
    report = bench.manager().run_validation_section("small", timesteps=4)
    assert [session.outcome for session in report.sessions] == ["completed", "refused", "completed"]
    expected = {"climbing name": "UnsafePath", "more bytes than announced": "OutputDamaged"}
    assert expected[bomb] in report.sessions[1].why
    assert bench.steps() == [4, 3]
