"""A section is tried once for each state of its code before it costs a session, and refused when it does not hold."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kaggle_manager import cli
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.console.reporter import Reporter
from kaggle_manager.errors import CheckpointIncompatible, VerificationError
from kaggle_manager.sections.scaffold import new_section
from kaggle_manager.sessions.kept_spaces import refuse_other_spaces, spaces_now
from kaggle_manager.sessions.preflight import check_section, run_preflight

for name in ("torch", "stable_baselines3", "gymnasium"):
    pytest.importorskip(name)  # without them there is no preflight
ROOT = Path(__file__).resolve().parents[2]
OWN = """
import json, pathlib, sys
pathlib.Path({ran!r}).open("a").write("x")
print("an environment may say something")
ok = {ok}
checks = [{{"name": "queues", "ok": ok, "detail": "look at demand.py"}}]
print(json.dumps({{"schema": 1, "ok": ok, "checks": checks}}, indent=2))
print("and something more", json.dumps({{"schema": 2, "of": "an environment"}}, indent=2), '{{\\n  "schema": ...')
sys.exit(0 if ok else 1)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose section has a preflight of its own: a few lines, and no torch."""
    new_section("mine", tmp_path)
    write_own(tmp_path, own(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(project: Path, *, ok: bool = True) -> str:
    return OWN.format(ok=ok, ran=str(project / "ran"))


def write_own(project: Path, source: str) -> None:
    (project / "sections/mine/preflight.py").write_text(source)


def config() -> RunConfig:
    return build_config("mine", environ={})


def said_by_preflight() -> str:
    told = io.StringIO()
    run_preflight(config(), Reporter(told))
    return told.getvalue()


def times_run(project: Path) -> int:
    return len((project / "ran").read_text()) if (project / "ran").exists() else 0


def test_it_runs_once_and_again_when_anything_it_depends_on_changes(project: Path) -> None:
    assert "1 check: 1 ok, no warnings, none failed" in said_by_preflight()
    assert said_by_preflight() == ""
    assert times_run(project) == 1
    environment = project / "sections/mine/environment.py"
    environment.write_text(environment.read_text() + "\nCHANGED = 1\n")
    said_by_preflight()
    assert times_run(project) == 2
    write_own(project, own(project) + "# another\n")
    said_by_preflight()
    assert times_run(project) == 3
    (config().state / "preflight.json").write_text("{broken")
    said_by_preflight()
    assert times_run(project) == 4


def test_a_target_smaller_than_one_rollout_is_said_with_the_figures(project: Path) -> None:
    told = io.StringIO()
    run_preflight(build_config("mine", timesteps=400, environ={}), Reporter(told))
    assert "400 timesteps are fewer than one rollout (n_steps = 2,048): 2,048 are trained" in told.getvalue()
    assert "rollout" not in said_by_preflight()


def test_a_run_does_not_repeat_what_the_command_has_done(project: Path) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine"])
    assert left.value.code == 0
    assert said_by_preflight() == ""
    assert times_run(project) == 1


def test_what_does_not_hold_is_named_and_asked_again_next_time(project: Path) -> None:
    write_own(project, own(project, ok=False))
    for _ in range(2):
        with pytest.raises(VerificationError) as refused:
            said_by_preflight()
        assert "queues: look at demand.py" in refused.value.message
        assert "nothing was pushed" in refused.value.safe
        assert "km preflight mine" in refused.value.next_step
    assert times_run(project) == 2


def test_a_folder_with_the_name_of_this_program_does_not_come_before_it(project: Path) -> None:
    (project / "kaggle_manager").mkdir()
    (project / "kaggle_manager/__init__.py").write_text("raise RuntimeError")
    assert check_section(project, config().section)["ok"]


def test_a_quick_run_is_tried_as_well_and_a_whole_training_after_it_in_full(project: Path) -> None:
    def options() -> str:
        return (project / "options").read_text()

    note = f"import pathlib, sys\npathlib.Path({str(project / 'options')!r}).write_text(' '.join(sys.argv[1:]))\n"
    write_own(project, note + own(project))
    run_preflight(build_config("mine", quick=True, timesteps=10**6, environ={}), Reporter(io.StringIO()))
    assert "--quick" in options()
    said_by_preflight()
    assert "--quick" not in options()
    assert times_run(project) == 2
    run_preflight(build_config("mine", quick=True, environ={}), Reporter(io.StringIO()))
    assert times_run(project) == 2, "a whole training's checks are those of a quick run, and more"


def test_a_session_has_what_its_platform_says_and_is_tried_anew_when_that_is_less(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = f"""
import json, os, pathlib
told = json.loads(os.environ["KM_TRY_OUT"])
pathlib.Path({str(project / "told")!r}).write_text(repr((told["memory_bytes"], told["output_bytes"])))
"""
    write_own(project, note + own(project))

    def told(platform: str) -> str:
        run_preflight(build_config("mine", platform=platform, environ={}), Reporter(io.StringIO()))
        return (project / "told").read_text()

    assert told("local") == repr((30 * 10**9, 20 * 10**9))
    for memory in (64, 8):
        monkeypatch.setenv("KM_SLURM_MEMORY", f"{memory}G")
        assert told("slurm") == repr((memory * 2**30, None))
    monkeypatch.setenv("KM_SLURM_MEMORY", "4G")
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine", "--platform", "slurm"])
    assert left.value.code == 0
    assert (project / "told").read_text() == repr((4 * 2**30, None))


def test_what_has_passed_is_not_tried_again_for_another_target_or_seed(project: Path) -> None:
    for timesteps, seed in ((5_000, None), (4_000, None), (6_000, None), (6_000, 9)):
        run_preflight(build_config("mine", timesteps=timesteps, seed=seed, environ={}), Reporter(io.StringIO()))
    assert times_run(project) == 1


def test_content_that_comes_back_is_not_tried_again(project: Path) -> None:
    environment = project / "sections/mine/environment.py"
    before = environment.read_text()
    said_by_preflight()
    environment.write_text(before + "\nCHANGED = 1\n")
    said_by_preflight()
    environment.write_text(before)
    assert said_by_preflight() == ""
    assert times_run(project) == 2


def test_a_preflight_that_dies_is_no_pass(project: Path) -> None:
    write_own(project, "raise RuntimeError('the simulator is gone')")
    with pytest.raises(VerificationError, match="the simulator is gone"):
        said_by_preflight()


def test_without_the_libraries_it_is_skipped_and_says_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = project / "sections/mine/section.toml"
    toml.write_text(toml.read_text().replace("packages = [", 'packages = [\n  "no-such-package==1.0",'))
    assert "names and files were checked; skipped is what needs no-such-package" in said_by_preflight()
    assert times_run(project) == 0
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine"])
    assert left.value.code == 2
    assert "no-such-package" in capsys.readouterr().err
    toml.write_text(toml.read_text().replace("learning_rate", "learning_rat"))
    with pytest.raises(VerificationError, match="learning_rat: PPO has none of that name; did you mean learning_rate"):
        said_by_preflight()
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine"])
    assert left.value.code == 3


def test_the_command_tells_each_check_and_ends_with_3_when_one_fails(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_own(project, own(project, ok=False))
    with pytest.raises(SystemExit) as left:
        cli.main(["preflight", "mine", "--json"])
    assert left.value.code == 3
    out, err = capsys.readouterr()
    shown = json.loads(out)
    assert (shown["schema"], shown["ok"], shown["checks"][0]["name"]) == (1, False, "queues")
    assert err.endswith("Next: correct what FAILED, and try: km preflight mine\n")


@pytest.mark.slow
def test_the_whole_of_it_makes_an_environment_eight_times_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two for the checks, as `quick` has other arguments; two for how it is saved, two to train, two to evaluate.

    The first of these begins after the first save, and is killed with its trainer.
    """
    made = new_section("mine", tmp_path)
    environment, log = tmp_path / "sections/mine/environment.py", tmp_path / "made.txt"
    source = environment.read_text()
    wait = f"import pathlib, time\n        time.sleep(0.2)\n        pathlib.Path({str(log)!r}).open('a').write('x')\n"
    environment.write_text(
        source.replace("        self.observation_space =", f"        {wait}        self.observation_space =")
    )
    monkeypatch.chdir(tmp_path)
    assert check_section(tmp_path, made.section)["ok"]
    assert len(log.read_text()) <= 8


@pytest.mark.slow
def test_a_trainer_that_saves_nothing_is_no_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = new_section("mine", tmp_path)
    environment = tmp_path / "sections/mine/environment.py"
    broken = "self._step += 1\n        if self.spec_ended():\n            raise OSError('the licence server is gone')"
    source = environment.read_text().replace("self._step += 1", broken)
    # Only a training goes on for long enough to see it.
    source += "\n    _calls = 0\n\n    def spec_ended(self) -> bool:\n"
    source += "        Environment._calls += 1\n        return Environment._calls > 210\n"
    environment.write_text(source)
    toml = tmp_path / "sections/mine/section.toml"
    toml.write_text(
        toml.read_text().replace("timesteps = 32", "timesteps = 512").replace("n_steps = 16", "n_steps = 256")
    )
    monkeypatch.chdir(tmp_path)
    result = check_section(tmp_path, made.section)
    assert not result["ok"]
    assert "the licence server is gone" in result["checks"][-1]["detail"]


@pytest.mark.slow
def test_an_accepted_change_of_the_spaces_is_refused_before_the_push_also_where_its_content_has_passed(
    project: Path,
) -> None:
    now = spaces_now(config(), {})
    run_preflight(config(), Reporter(io.StringIO()), now)
    for changed in ({"action_space_shape": [99]}, {"observation_space": "Box(-9.0, 9.0)"}):
        with pytest.raises(CheckpointIncompatible, match="also with --accept-changes"):
            run_preflight(config(), Reporter(told := io.StringIO()), {**now, **changed})
        assert "compare its spaces" in told.getvalue(), "it takes seconds, and says so before"
    elsewhere = {"observation_space": "Box(-9.0, 9.0)", "versions": {"gymnasium": "0.1"}}
    refuse_other_spaces(config(), {**now, **elsewhere}, now)  # another version writes it in its own way
    refuse_other_spaces(config(), {**now, "action_space_shape": [99]}, {})  # it could not be made here


def test_a_tree_that_something_of_a_killed_trainer_holds_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kaggle_manager.checkpoints.tree_lock import hold_tree
    from kaggle_manager.trainer.sb3 import preflight

    waits: list[float] = []
    with contextlib.ExitStack() as holder:
        holder.enter_context(hold_tree(tmp_path / "tree"))

        def wait(seconds: float) -> None:
            waits.append(seconds)
            holder.close()

        monkeypatch.setattr(preflight.time, "sleep", wait)
        preflight._wait_until_free(tmp_path / "tree")
    assert len(waits) == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGTERM is POSIX's")
@pytest.mark.parametrize("to", ["the command", "the checks alone"])
def test_sigterm_during_the_trial_training_leaves_no_trainer_and_no_folder(tmp_path: Path, to: str) -> None:
    new_section("mine", tmp_path)
    environment = tmp_path / "sections/mine/environment.py"
    hangs = "import os, pathlib, sys, time\nif 'train_dqn' in sys.argv[0]:\n"
    hangs += f"    pathlib.Path({str(tmp_path / 'trainer')!r}).write_text(str(os.getpid()))\n    time.sleep(120)\n"
    environment.write_text(environment.read_text() + hangs)
    (tmp_path / "temporary").mkdir()
    words = ["kaggle_manager.cli", "preflight"] if to == "the command" else ["kaggle_manager.trainer.sb3.preflight"]
    environ = {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *words, "mine"]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.DEVNULL) as preflight_command:
        told, deadline = tmp_path / "trainer", time.monotonic() + 120
        while not (told.is_file() and told.read_text()):
            assert preflight_command.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        preflight_command.terminate()
        assert preflight_command.wait(60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int(told.read_text()), 0)
    assert list((tmp_path / "temporary").glob("km_*")) == []
