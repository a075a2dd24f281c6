"""A schedule calls `tick` as it was asked for, touches nothing of anybody else's, and can be taken out again."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from kaggle_manager.cli.commands import app
from kaggle_manager.cli.schedule.command import entry_for
from kaggle_manager.cli.schedule.entry import install, remove
from kaggle_manager.cli.schedule.job import TickJob, spread, tick_job
from kaggle_manager.cli.schedule.means import HOURS, MINUTES, Means
from kaggle_manager.config import build_config
from kaggle_manager.errors import ConfigError, StorageError
from kaggle_manager.platforms.kaggle.network_settings import NETWORK_VARIABLES
from kaggle_manager.sections.scaffold import new_section

ROOT = Path(__file__).resolve().parents[3]
SECTION = "section_7_6_rl_performance"
AWKWARD = 'it\'s 100% "my" $HOME; \\ folder'
TOKEN = "KGAT_" + "0123456789abcdef"  # in two: the doctor searches this file for secrets
pytestmark = pytest.mark.skipif(os.name != "posix", reason="crontab, systemd and the paths of these tests are POSIX's")

CRONTAB = """#!/bin/sh
set -e
case "$1" in
  -l) if [ -f "$CRONTAB_FILE" ]; then cat "$CRONTAB_FILE"; else echo "no crontab for me" >&2; exit 1; fi ;;
  -) cat > "$CRONTAB_FILE" ;;
esac
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("KM_", "KAGGLE_", "XDG_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file behind a `crontab` command that really runs."""
    program(tmp_path / "bin/crontab", CRONTAB)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CRONTAB_FILE", str(tmp_path / "spool"))
    return tmp_path / "spool"


WHICH = (SECTION, "--scenario", "traffic_light_control")


def job(every: str = "15m", *, package: str | None = None, seeds: int | None = None, **options: Any) -> TickJob:
    return tick_job(build_config(SECTION, project_root=ROOT, **options), every, package=package, seeds=seeds)


def awkward_job(tmp_path: Path, exit_code: int = 0) -> TickJob:
    """A job whose every path holds what shells and schedulers read as their own; its Python is a stub that records."""
    folder = tmp_path / AWKWARD
    recorder = f"import json, os, sys; json.dump([os.getcwd(), *sys.argv[1:]], open({str(tmp_path / 'seen')!r}, 'w'))"
    stub = program(
        folder / "python",
        f"#!{sys.executable}\n{recorder}; print('said'); print('warned', file=sys.stderr); sys.exit({exit_code})\n",
    )
    return dataclasses.replace(job(workdir=folder / "runs"), python=stub, project=folder)


def test_a_crontab_keeps_every_foreign_byte_and_gets_one_line(crontab: Path) -> None:
    foreign = b"MAILTO=me\r\n# caf\xe9 # kaggle-manager-of-somebody\n0 5 * * * /bin/true # nightly"
    crontab.write_bytes(foreign)
    for every in ("15m", "15m", "30m"):
        install(entry_for(job(every), Means.CRON))
    other = entry_for(job(quick=True), Means.CRON)
    assert install(other) == ["the crontab"]
    assert install(other) == []
    first, second = crontab.read_bytes().removeprefix(foreign + b"\n").splitlines()
    assert first.decode() == entry_for(job("30m"), Means.CRON).crontab_line
    assert second.decode() == other.crontab_line
    assert remove(entry_for(job(), Means.CRON)) == ["the crontab"]
    assert remove(entry_for(job(), Means.CRON)) == []
    assert remove(other) == ["the crontab"]
    assert crontab.read_bytes() == foreign + b"\n"


def test_a_first_crontab_is_made_and_one_that_cannot_be_read_is_never_written(crontab: Path, tmp_path: Path) -> None:
    entry = entry_for(job(), Means.CRON)
    install(entry)
    assert crontab.read_text() == f"{entry.crontab_line}\n"
    crontab.write_text("0 5 * * * /bin/true\n")
    program(tmp_path / "bin/crontab", CRONTAB.replace("-l) ", '-l) echo "spool is locked" >&2; exit 1; '))
    with pytest.raises(StorageError, match="spool is locked"):
        install(entry)
    assert crontab.read_text() == "0 5 * * * /bin/true\n"
    (tmp_path / "bin/crontab").unlink()


def test_without_a_crontab_command_the_other_means_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as refused:
        install(entry_for(job(), Means.CRON))
    assert "systemd" in refused.value.next_step


@pytest.mark.parametrize("exit_code", [0, 8])
def test_what_cron_runs_is_the_tick_that_was_asked_for(tmp_path: Path, exit_code: int) -> None:
    awkward = awkward_job(tmp_path, exit_code)
    fields = entry_for(awkward, Means.CRON).crontab_line.split(" ", 5)
    assert "%" not in fields[5].replace("\\%", "")
    program(tmp_path / "bin/sleep", "#!/bin/sh\n")
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = ["/bin/sh", "-c", fields[5].replace("\\%", "%")]
    done = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout + done.stderr == ""  # or cron would mail it
    assert json.loads((tmp_path / "seen").read_text()) == [str(awkward.project), *awkward.command[1:]]
    assert sorted(awkward.log.read_text().split()) == ["said", "warned"]


@pytest.mark.parametrize("means", [Means.CRON, Means.SYSTEMD, Means.WINDOWS])
def test_a_schedule_of_a_run_that_is_there_never_begins_one_and_makes_no_folder_for_it(means: Means) -> None:
    def text(each: TickJob) -> str:
        entry = entry_for(each, means)
        return entry.crontab_line + "".join(
            file.decode("utf-16" if means is Means.WINDOWS else "utf-8") for file in entry.files.values()
        )

    begun = text(dataclasses.replace(job(), existing=True))
    assert "--existing" in begun
    assert "mkdir" not in begun
    assert "--existing" not in text(job()), "else nothing would ever begin it"


def test_a_line_that_cron_would_cut_or_misread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="990"):
        entry_for(job(workdir=tmp_path / "/".join(["x" * 200] * 4)), Means.CRON)
    for means in (Means.CRON, Means.SYSTEMD, Means.WINDOWS):
        with pytest.raises(ConfigError, match="line break"):
            entry_for(job(workdir=tmp_path / "two\nlines"), means)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_accepts_the_units_and_keeps_the_distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    entry = entry_for(awkward_job(tmp_path), Means.SYSTEMD)
    install(entry)
    verify = ["systemd-analyze", "verify", "--man=no", *map(str, entry.files)]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "kaggle-manager" in line]
    assert (done.returncode, ours) == (0, [])
    for every in ("5m", "1h", "6h", "24h"):
        timer = next(
            text for path, text in entry_for(job(every), Means.SYSTEMD).files.items() if path.suffix == ".timer"
        )
        calendar = re.search(r"OnCalendar=(.*)", timer.decode())
        assert calendar
        subprocess.run(["systemd-analyze", "calendar", calendar[1]], capture_output=True, check=True)


def test_units_are_written_once_and_removed_with_what_systemd_made_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    entry = entry_for(awkward_job(tmp_path), Means.SYSTEMD)
    folder = tmp_path / "systemd/user"
    assert len(install(entry)) == 2
    assert install(entry) == []
    (folder / "timers.target.wants").mkdir()
    (folder / f"timers.target.wants/{entry.name}.timer").symlink_to(folder / f"{entry.name}.timer")
    (folder / "foreign.timer").write_text("[Timer]\n")
    service = (folder / f"{entry.name}.service").read_text()
    assert "SuccessExitStatus=5 6 8 10\n" in service
    assert "100%%" in service
    assert len(remove(entry)) == 3
    assert [path.name for path in folder.rglob("*") if not path.is_dir()] == ["foreign.timer"]


def test_the_windows_task_is_read_back_as_it_was_meant() -> None:
    drive, program_file, folder = Path("D:\\"), Path("C:\\My Python\\python.exe"), Path("C:\\a & b\\")
    windows = dataclasses.replace(job(every="1h"), python=program_file, project=folder, workdir=drive)
    (content,) = entry_for(windows, Means.WINDOWS).files.values()
    assert content.startswith(b"\xff\xfe")
    task = ElementTree.fromstring(content)
    texts = {element.tag.partition("}")[2]: element.text for element in task.iter()}
    assert texts["Interval"] == "PT60M"
    assert texts["MultipleInstancesPolicy"] == "IgnoreNew"
    assert texts["WorkingDirectory"] == "C:\\a & b\\"
    assert texts["Command"] == "cmd.exe"
    assert texts["Arguments"] == (
        f'/d /s /c ""C:\\My Python\\python.exe" "-m" "kaggle_manager.cli" "tick" "{SECTION}" "--scenario"'
        f' "traffic_light_control" "--platform" "local" "--workdir" "D:\\\\" >> "{windows.log}" 2>&1"'
    )
    with pytest.raises(ConfigError, match="Windows would replace"):
        entry_for(dataclasses.replace(windows, project=Path("C:\\100%TEMP%")), Means.WINDOWS)


def workflow(**options: Any) -> dict[Any, Any]:
    return parsed_workflow(job(package=".", **options))


def parsed_workflow(scheduled: TickJob) -> dict[Any, Any]:
    ((path, content),) = entry_for(scheduled, Means.GITHUB).files.items()
    assert path.parent == scheduled.project / ".github/workflows"
    parsed = yaml.safe_load(content)
    assert isinstance(parsed, dict)
    return parsed


def steps_of(parsed: dict[Any, Any]) -> dict[str, dict[str, Any]]:
    return {step.get("name", step.get("uses")): step for step in parsed["jobs"]["tick"]["steps"]}


def test_the_workflow_can_read_alone_and_shows_its_secrets_to_one_step() -> None:
    parsed = workflow()
    assert parsed["permissions"] == {"contents": "read"}
    assert parsed["concurrency"] == {"group": parsed["name"], "cancel-in-progress": False}
    assert parsed[True]["schedule"] == [{"cron": entry_for(job(), Means.CRON).crontab_line.split(" sleep")[0]}]
    steps = steps_of(parsed)
    assert all(re.fullmatch(r"actions/[a-z/-]+@v\d+", step["uses"]) for step in steps.values() if "uses" in step)
    with_secrets = [name for name, step in steps.items() if "secrets." in json.dumps(step)]
    assert with_secrets == ["Tick"]
    assert "secrets." not in steps["Tick"]["run"]
    kept, restored = steps["Keep what this tick knows"], steps["Restore what the last tick knew"]
    assert kept["with"]["path"] == restored["with"]["path"]
    assert kept["with"]["key"].startswith(restored["with"]["restore-keys"])
    assert kept["if"].startswith("always()")
    assert not any("local_kaggle" in line or "account" in line for line in kept["with"]["path"].split())
    # A quick run's state must not be taken for the production run's: keys are matched by their beginning.
    quick = steps_of(workflow(quick=True))["Keep what this tick knows"]["with"]["key"]
    assert not quick.startswith(restored["with"]["restore-keys"])


def test_each_seed_and_each_campaign_has_a_workflow_and_a_cache_of_its_own() -> None:
    jobs = [job(package="."), *(job(package=".", seed=seed) for seed in (3, 33)), job(package=".", seeds=5)]
    jobs += [job(package=".", quick=True, seed=3)]
    for means in (Means.GITHUB, Means.CRON, Means.SYSTEMD, Means.WINDOWS):
        entries = [entry_for(each, means) for each in jobs]
        assert len({entry.name for entry in entries}) == len(jobs)
        files = [file for entry in entries for file in entry.files]
        assert len(set(files)) == len(files)
    kept = [steps_of(parsed_workflow(each))["Keep what this tick knows"]["with"] for each in jobs]
    prefixes = [each["key"].partition("/")[0] for each in kept]
    assert len(set(prefixes)) == len(jobs)
    of_a_campaign = kept[3]["path"].split()
    tree = job().trees[0].removeprefix(f"{ROOT}/")
    assert {tree, f"{tree}_seed_*"} <= set(of_a_campaign)
    assert f"'{tree}_seed_*/**'" in kept[3]["key"]
    assert f"{tree}_seed_3" in kept[1]["path"].split()


@pytest.mark.parametrize(("code", "shown"), [(0, 0), (8, 0), (10, 0), (5, 0), (6, 0), (1, 1), (4, 4), (7, 7)])
def test_the_workflow_fails_for_what_a_later_tick_will_not_mend(tmp_path: Path, code: int, shown: int) -> None:
    program(tmp_path / "python", f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/arguments"\nexit {code}\n')
    script = steps_of(workflow(timesteps=700))["Tick"]["run"]
    environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", "-e", "-c", script], env=environ, capture_output=True, check=False)
    assert done.returncode == shown
    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments == f"-m kaggle_manager.cli tick {' '.join(WHICH)} --timesteps 700 --platform kaggle".split()


def test_a_runner_of_github_is_not_sent_to_folders_of_this_machine(tmp_path: Path) -> None:
    for options in ({"workdir": tmp_path}, {"platform": "local"}):
        with pytest.raises(ConfigError, match="runner"):
            workflow(**options)


@pytest.fixture
def user_project(tmp_path: Path) -> Path:
    """A repository of the user's own, which does not hold this program."""
    new_section("mine", tmp_path / "project")
    (tmp_path / "project/.git").mkdir()
    return tmp_path / "project"


def user_job(project: Path, package: str | None) -> TickJob:
    return tick_job(build_config("mine", project_root=project), package=package)


def installed_by(scheduled: TickJob, tmp_path: Path) -> list[str]:
    """What the workflow's install step really gives to `python`, in the shell of a runner."""
    program(tmp_path / "bin/python", f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/arguments"\n')
    script = steps_of(parsed_workflow(scheduled))["Install the manager, without the training libraries"]["run"]
    environ = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    subprocess.run(["bash", "-e", "-c", script], env=environ, cwd=tmp_path, check=True)
    return (tmp_path / "arguments").read_text().splitlines()


@pytest.mark.parametrize(
    "package",
    [
        "kaggle-manager==0.1.0",
        "kaggle-manager>=0.1,<1",
        "git+https://example.org/a/b.git@v0.1.0",
        "kaggle-manager @ git+ssh://git@example.org/a/b.git@v0.1.0",
        "x'; touch hacked; echo \"$(touch hacked)`touch hacked` # : &",
    ],
)
def test_the_workflow_installs_what_was_named_as_one_word_of_its_shell(
    package: str, user_project: Path, tmp_path: Path
) -> None:
    install = ["-m", "pip", "install", "--quiet"]
    assert installed_by(user_job(user_project, package), tmp_path) == [*install, package]
    (user_project / "constraints.txt").touch()
    constrained = [*install, "--constraint", "constraints.txt", package]
    assert installed_by(user_job(user_project, package), tmp_path) == constrained
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("", "names no package"),
        ("--index-url=https://example.org", "names no package"),
        ("a\nb", "names no package"),
        (".", "no package that"),
        ("../elsewhere", "no package that"),
        ("/tmp", "no package that"),
        ("git+https://user:secret@example.org/a/b.git", "no place for one"),
        ("kaggle-manager${{ secrets.KAGGLE_API_TOKEN }}", "GitHub would replace"),
    ],
)
def test_what_a_runner_could_not_install_or_must_not_read_is_refused(
    package: str, words: str, user_project: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        entry_for(user_job(user_project, package), Means.GITHUB)


def test_a_project_that_is_not_the_root_of_its_repository_has_no_workflow(tmp_path: Path) -> None:
    new_section("mine", tmp_path / "project")
    (tmp_path / ".git").mkdir()
    with pytest.raises(ConfigError, match="root of a repository"):
        entry_for(user_job(tmp_path / "project", "kaggle-manager"), Means.GITHUB)


def test_no_package_is_guessed_and_none_is_asked_for_to_remove_a_workflow(
    user_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(user_project)
    line = ["schedule", "mine", "github", "--json"]
    for incomplete in (line, [*line, "--write"]):
        unnamed = CliRunner().invoke(app, incomplete)
        assert unnamed.exit_code == 2
        assert "--package" in unnamed.stderr
    assert not (user_project / ".github").exists()
    written = CliRunner().invoke(app, [*line, "--package", "kaggle-manager==0.1.0", "--write"])
    (file,) = json.loads(written.stdout)["changed"]
    assert "kaggle-manager==0.1.0" in Path(file).read_text()
    assert json.loads(CliRunner().invoke(app, [*line, "--remove"]).stdout)["changed"] == [file]
    assert not Path(file).exists()
    assert CliRunner().invoke(app, ["schedule", "mine", "cron", "--package", "."]).exit_code == 2


@pytest.mark.parametrize("every_s", [*(60 * m for m in MINUTES), *(3600 * h for h in HOURS)])
def test_ticks_are_evenly_apart_and_spread_over_the_users(every_s: int) -> None:
    starts = set()
    for user in range(50):
        slots = spread(f"user {user}", every_s)
        day = sorted(3600 * h + 60 * m + slots.second for h in slots.hours or range(24) for m in slots.minutes)
        assert {after - before for before, after in zip(day, [*day[1:], day[0] + 86400], strict=True)} == {every_s}
        assert slots == spread(f"user {user}", every_s)
        starts.add(day[0])
    assert len(starts) > 35


@pytest.mark.parametrize("every", ["7m", "1m", "90m", "5h", "0", "-15m", "often", "2d"])
def test_a_distance_that_not_every_scheduler_can_keep_is_refused(every: str) -> None:
    with pytest.raises(ConfigError, match="--every"):
        job(every)


def test_variables_that_a_scheduler_will_lack_are_named_without_their_values(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:hidden@proxy:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/company.pem")
    monkeypatch.setenv("KM_NOTIFY", "ntfy://hidden")
    program(tmp_path / "home/.kaggle/access_token", TOKEN).chmod(0o600)
    (caution,) = job().cautions
    for name in ("HTTPS_PROXY", "REQUESTS_CA_BUNDLE", "KM_NOTIFY"):
        assert name in caution
    assert "hidden" not in caution


def test_what_this_shell_knows_and_a_scheduler_does_not_is_written_out_or_cautioned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in NETWORK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KM_TIMESTEPS", "700")
    monkeypatch.setenv("KM_SESSION_LIMIT", "90m")
    monkeypatch.setenv("KM_QUOTA_PER_WEEK", "20h")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    unattended = job()
    limits = ("--session-limit", "5400s", "--quota-per-week", "72000s")
    assert unattended.arguments == (*WHICH, "--timesteps", "700", *limits)
    assert unattended.platform == "kaggle"
    assert "does not see" in unattended.cautions[0]
    program(tmp_path / "home/.kaggle/access_token", TOKEN).chmod(0o600)
    assert job().cautions == ()
    for means in Means:
        assert TOKEN not in repr(entry_for(job(package="."), means))


def test_the_command_shows_by_default_and_writes_and_removes_when_told(crontab: Path) -> None:
    line = ["schedule", SECTION, "cron", "--json"]
    shown = json.loads(CliRunner().invoke(app, line).stdout)
    assert shown["changed"] == []
    assert not crontab.exists()
    assert json.loads(CliRunner().invoke(app, [*line, "--write"]).stdout)["changed"] == ["the crontab"]
    assert crontab.read_text() == shown["crontab_line"] + "\n"
    assert json.loads(CliRunner().invoke(app, [*line, "--remove"]).stdout)["changed"] == ["the crontab"]
    assert crontab.read_text() == ""
    assert CliRunner().invoke(app, [*line, "--remove", "--write"]).exit_code == 2
    assert CliRunner().invoke(app, ["schedule", "no_such_section", "cron"]).exit_code == 2
    for means in Means:
        package = ["--package", "."] if means is Means.GITHUB else []
        readable = CliRunner().invoke(app, ["schedule", SECTION, means.value, *package])
        assert readable.exit_code == 0
        assert "Nothing was written" in readable.stdout


def test_tick_knows_every_option_a_schedule_gives_it(tmp_path: Path) -> None:
    given = job(scenario="traffic_light_control", timesteps=7, quick=True, session_limit="90m", workdir=tmp_path)
    answer = CliRunner().invoke(app, [*given.command[3:], "--help"])
    assert answer.exit_code == 0
    for option in [word for word in shlex.join(given.command).split() if word.startswith("--")]:
        assert option in answer.stdout


def test_a_campaign_and_a_seed_are_scheduled_as_they_were_asked_for(tmp_path: Path) -> None:
    config = build_config(SECTION, workdir=tmp_path, seed=43)
    assert ("--seed", "43") in list(zip(tick_job(config).arguments, tick_job(config).arguments[1:], strict=False))
    campaign = tick_job(build_config(SECTION, workdir=tmp_path), seeds=5, max_sessions=3).arguments
    assert campaign[-4:] == ("--seeds", "5", "--max-sessions", "3")


def test_a_schedule_stays_on_the_platform_that_was_named_and_says_which_of_its_variables_it_will_not_see(
    tmp_path: Path,
) -> None:
    config = build_config(SECTION, workdir=tmp_path, platform="slurm", environ={})
    job = tick_job(config, environ={"KM_SLURM_PARTITION": "gpu"})
    assert ("--platform", "slurm") in list(zip(job.command, job.command[1:], strict=False))
    assert any("KM_SLURM_PARTITION" in caution for caution in job.cautions)
    assert not any("Kaggle" in caution for caution in job.cautions), "whose credentials nobody needs"
