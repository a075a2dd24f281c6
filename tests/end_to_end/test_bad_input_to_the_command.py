"""What cannot be done ends in a message with three answers and the right exit code, never in a traceback."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from small_project import SECTION, Bench, installed, make_project

from kaggle_manager import cli
from kaggle_manager.errors import KaggleManagerError, StorageError
from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop
from kaggle_manager.runs.journal import Journal
from kaggle_manager.runs.rows import RunRow
from kaggle_manager.sessions import bundle
from kaggle_manager.trees import backups

REAL = "section_7_6_rl_performance"
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")


def words_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    return int(left.value.code or 0), shown.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("no_such_section",), "choose one of: section_7_6_rl_performance"),
        ((REAL, "--scenario", "nope"), "choose one of: "),
        ((REAL, "--timesteps", "-5"), "timesteps = -5"),
        ((REAL, "--timesteps", "0"), "timesteps = 0"),
        ((REAL, "--timesteps", "9" * 40), "at most"),
        ((REAL, "--session-limit", "soon"), "'soon' is not a duration"),
        ((REAL, "--session-limit", "1s"), "between 20 s and 12 h"),
        ((REAL, "--session-limit", "99h"), "between 20 s and 12 h"),
        ((REAL, "--platform", "moon"), "accepted: auto, local, kaggle"),
        ((REAL, "--quick", "--demo"), "--demo does not go with --quick"),
        ((REAL, "--demo", "--seed", "0"), "--demo does not go with --seed"),
    ],
)
def test_flags_that_cannot_be_used(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = words_of(capsys, "run", *options, "--workdir", str(tmp_path / "work"))
    assert code == 2
    assert words in shown
    assert "Safe: nothing was started" in shown
    assert "Next: " in shown
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--json", "No such option"),
        ("export --json", "Missing argument"),
        ("status --json --no-such-option", "No such option"),
        ("schedule some_section moon --json", "moon"),
        ("status --watch soon --json", "--watch"),
    ],
)
def test_a_line_that_is_no_command_is_a_document_too(line: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(line.split())
    shown = capsys.readouterr()
    document = json.loads(shown.out)
    assert (left.value.code, document["schema"], document["state"], document["exit_code"]) == (2, 1, "error", 2)
    assert words in document["why"]
    assert words in shown.err
    assert "Value error" not in document["why"] + shown.err
    assert document["next"].endswith("--help")


CTRL_C = """
import runpy, signal, sys

class While:
    def find_spec(self, name, path=None, target=None):
        if name == imported:
            signal.raise_signal(int(number))

_, imported, number, *sys.argv = sys.argv
sys.meta_path.insert(0, While())
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize(
    ("imported", "number", "code"),
    [
        ("typer", signal.SIGINT, 130),
        ("kaggle_manager.orchestrator.manager", signal.SIGINT, 130),
        pytest.param("kaggle_manager.orchestrator.manager", signal.SIGTERM, 143, marks=POSIX),
    ],
)
def test_ctrl_c_and_sigterm_while_it_is_still_importing_are_one_line(
    imported: str, number: int, code: int, tmp_path: Path
) -> None:
    script = Path(__file__).resolve().parents[2] / "scripts/run_kaggle_validation_section_7_6.py"
    command = [sys.executable, "-c", CTRL_C, imported, str(int(number)), str(script)]
    command += ["--quick", "--workdir", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "interrupted\n")


@POSIX
def test_sigterm_says_that_a_session_goes_on_and_what_to_do_then_as_ctrl_c_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(backups, "back_up", lambda config, why: signal.raise_signal(signal.SIGTERM))
    code, shown = words_of(capsys, "checkpoints", "backup", REAL, "--workdir", str(tmp_path))
    assert code == 143
    assert "A running session continues on its platform" in shown
    assert "Next: run the same command again to resume" in shown
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_variable_that_cannot_be_used_is_refused_before_the_tree_is_set_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = tmp_path / "validation_ch7" / REAL / "data/models/checkpoints"
    checkpoints.mkdir(parents=True)
    monkeypatch.setenv("KM_KEEP_GB", "lots")
    code, shown = words_of(capsys, "run", REAL, "--fresh", "--platform", "local", "--workdir", str(tmp_path))
    assert (code, "(from KM_KEEP_GB)" in shown) == (2, True)
    assert "Safe: nothing was started" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["validation_ch7"]
    assert checkpoints.is_dir()


@pytest.mark.parametrize("command", ["status", "history"])
def test_a_section_that_does_not_exist_is_an_error_and_one_whose_folder_is_gone_is_shown(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = words_of(capsys, command, "nope", "--workdir", str(tmp_path))
    assert (code, f"choose one of: {REAL}" in shown) == (2, True)
    with closing(Journal(tmp_path / "journal.sqlite")) as journal:
        tree, at = str(tmp_path / "gone"), "2026-11-22T00:00:00+00:00"
        journal.add_run(RunRow("r", "nope", "walk", 30, False, tree, "local", "me", "slug", at))
    with contextlib.suppress(SystemExit):
        cli.main([command, "nope", "--workdir", str(tmp_path)])
    assert "run r" in capsys.readouterr().out


@pytest.mark.parametrize("line", [f"stop {REAL}", f"logs {REAL}", "history --compare a b", "status"])
def test_what_comes_next_is_about_the_same_folder(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([*line.split(), "--workdir", str(tmp_path)])
    shown = capsys.readouterr()
    assert f" --workdir {tmp_path}\n" in shown.out + shown.err


@pytest.mark.slow
def test_a_new_section_whose_environment_is_not_there_is_not_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mytoy.py").write_text("")
    monkeypatch.chdir(tmp_path)
    code, shown = words_of(capsys, "init", "bad", "--env", "mytoy:Nope")
    assert (code, "has no attribute 'Nope'" in shown) == (2, True)
    assert "Safe: nothing was written" in shown
    assert not (tmp_path / "validation_ch7").exists()


def test_what_stock_already_loads_is_not_exported_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, shown = words_of(capsys, "checkpoints", "export-sb3", REAL, "best", str(tmp_path / "out"))
    assert (code, "Next: " in shown, "as they are" in shown) == (2, True, True)


def a_file_in_its_place(workdir: Path) -> None:
    workdir.write_text("not a folder")


def a_file_for_the_tree(workdir: Path) -> None:
    workdir.mkdir()
    (workdir / "validation_ch7").write_text("not a folder")


@pytest.mark.parametrize("spoil", [a_file_in_its_place, a_file_for_the_tree])
def test_folders_that_cannot_be_written(
    spoil: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tmp_path / "work")
    code, shown = words_of(capsys, "run", REAL, "--quick", "--platform", "local", "--workdir", str(tmp_path / "work"))
    assert code == 1
    assert "is not a folder" in shown
    assert "Safe: nothing was changed" in shown
    assert "Next: move that file to another name" in shown
    assert "or give another --workdir" in shown


@pytest.mark.parametrize(
    "line", [f"export {REAL} elsewhere", f"checkpoints import-sb3 {REAL} model.zip --replace", "status"]
)
def test_a_workdir_that_cannot_be_one_is_told_by_commands_that_never_hold_it_alone(
    line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "import-sb3" in line:
        pytest.importorskip("stable_baselines3")
    a_file_in_its_place(tmp_path / "work")
    code, shown = words_of(capsys, *line.split(), "--workdir", str(tmp_path / "work"))
    assert code == StorageError.exit_code
    assert str(tmp_path / "work") in shown
    assert "Safe: " in shown
    assert "Next: " in shown


def test_kaggle_without_credentials(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("KAGGLE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    code, shown = words_of(capsys, "run", REAL, "--platform", "kaggle", "--workdir", str(tmp_path / "work"))
    assert code == 4
    assert "--platform local" in shown


def including(entry: str, toml: Path) -> None:
    toml.write_text(toml.read_text().replace("[kernel]", f'[kernel]\ninclude = ["{entry}"]'))


BROKEN = {
    "missing": lambda toml: toml.unlink(),
    "not TOML": lambda toml: toml.write_text("name = "),
    "not text": lambda toml: toml.write_bytes(b"\xff\xfe\x00"),
    "unknown key": lambda toml: toml.write_text(toml.read_text().replace("seed = 1", "sede = 1")),
    "wrong kind": lambda toml: toml.write_text(toml.read_text().replace("timesteps = 4", 'timesteps = "four"')),
    "climbing models": lambda toml: toml.write_text(toml.read_text().replace('"data/models"', '"../../../models"')),
    "climbing code": lambda toml: toml.write_text(
        toml.read_text().replace("[kernel]", '[kernel]\ninclude = ["../outside"]')
    ),
    "missing code": lambda toml: toml.write_text(
        toml.read_text().replace("[kernel]", '[kernel]\ninclude = ["no_such_folder"]')
    ),
    "missing source": lambda toml: (toml.parent / "environment.py").unlink(),
}


@pytest.fixture(scope="module")
def trained(kaggle_here: ServerInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundle, "INSTALLED", installed(folder / "project"))
        bench = Bench(make_project(folder / "project"), folder / "work", kaggle_here)
        bench.run(timesteps=2)
        yield bench


@pytest.mark.slow
@pytest.mark.parametrize("case", BROKEN)
def test_a_section_that_is_not_valid_starts_nothing(case: str, trained: Bench) -> None:
    bench, folder = trained, trained.project / "sections" / SECTION
    good = {path: path.read_bytes() for path in folder.iterdir()}
    BROKEN[case](folder / "section.toml")
    try:
        with pytest.raises(KaggleManagerError) as caught:
            bench.run(timesteps=4)
    finally:
        for path, content in good.items():
            path.write_bytes(content)
    assert caught.value.exit_code == 2
    assert caught.value.safe
    assert caught.value.next_step
    assert bench.steps() == [2, 1]
    assert "[STEP2]" not in bench.output


# --- a full disk ------------------------------------------------------------------------------------------------------


@pytest.fixture
def little_disk(tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    """Mount a disk of a given size at a folder."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
            )
        except OSError as error:
            pytest.skip(f"mount cannot be run: {error}")
        if done.returncode != 0:
            pytest.skip(f"mounting a small disk takes root: {done.stderr.decode().strip()}")
        mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(bytes(4096))
        except OSError:
            return filler


@pytest.mark.slow
@pytest.mark.parametrize("where", ["downloads", "sections", "."])
def test_a_disk_that_fills_up_here_loses_nothing_and_the_same_command_goes_on(
    where: str, bench: Bench, little_disk: Callable[[Path, str], None]
) -> None:
    little_disk(bench.workdir / where, "1m")
    bench.run(timesteps=2)
    fillers: list[Path] = []
    bench.told = type(bench.told)()
    bench.told.hooks.append(("[STEP3]", lambda: fillers.append(fill(bench.workdir / where))))
    with pytest.raises(StorageError) as caught:
        bench.manager().run_validation_section(SECTION, timesteps=4)
    assert caught.value.exit_code == 1
    assert caught.value.safe
    assert "free" in caught.value.next_step
    assert bench.steps() == [2, 1]
    fillers[0].unlink()
    report = bench.run(timesteps=4)
    assert (report.step, len(report.sessions)) == (4, 2), "the session that had run was not repeated"


@pytest.mark.slow
def test_a_disk_that_fills_up_in_the_kernel_keeps_what_was_saved(
    bench: Bench, tmp_path: Path, little_disk: Callable[[Path, str], None]
) -> None:
    """The session's own disk is full at the second save: it says so, and the first one is restored."""
    root = tmp_path / "kaggle"
    little_disk(root / "sessions", "4m")
    bench.server = ensure_running(root, idle_exit_s=60)
    try:
        bench.plan(g1="too large")
        report = bench.run(timesteps=3)
    finally:
        stop(root)
    assert [session.outcome for session in report.sessions] == ["crashed", "completed"]
    assert "StorageError" in report.sessions[0].why
    assert "1 step gained, 1 saved" in report.sessions[0].why
    assert bench.steps() == [3, 2]
