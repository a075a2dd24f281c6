"""The doctor finds what would keep a run from going well, says what to do, and never shows a secret."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from loopback_kaggle import until
from scripted_kaggle import SECRET, ScriptedKaggle, answer

from kaggle_manager import cli
from kaggle_manager.cli.commands import call
from kaggle_manager.cli.doctor import account, machine, secret_files
from kaggle_manager.cli.doctor.assumptions import ASSUMPTIONS, Assumption
from kaggle_manager.cli.doctor.check import Check, counted, worst
from kaggle_manager.cli.doctor.examine import ask_kaggle, examine, exit_code
from kaggle_manager.config import build_config
from kaggle_manager.errors import AuthError, Unavailable
from kaggle_manager.local_kaggle.launcher import ServerInfo
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.platforms.platform import Quota, SessionRequest
from kaggle_manager.sections.scaffold import new_section

NOWHERE = "http://127.0.0.1:9"
TOKEN = "KGAT_" + "0123456789abcdefABCDEF"  # in two, for the search for secrets searches this file too
KEY = "01234567" * 4
NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own, which one stands in."""
    folder = tmp_path / "project"
    new_section("mine", folder)
    monkeypatch.chdir(folder)
    return folder


def look(
    home: Path, environ: Mapping[str, str] | None = None, *, endpoint: str = NOWHERE, workdir: Path | None = None
) -> dict[str, Check]:
    checks = examine("mine", environ=environ or {}, home=home, endpoint=endpoint, workdir=workdir)
    assert TOKEN not in repr(checks)
    found = {check.name: check for check in checks}
    assert len(found) == len(checks)
    for check in checks:
        assert check.state == "ok" or check.todo, f"{check} does not say what to do"
        assert "\n" not in check.says
    found["exit"] = Check("exit", "ok", str(exit_code(checks)))
    return found


def answer_once(server: socket.socket) -> None:
    peer, _ = server.accept()
    with peer:
        peer.recv(65536)
        date = format_datetime(datetime.now(UTC), usegmt=True)
        peer.sendall(f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n".encode())


def states(found: Mapping[str, Check], *names: str) -> list[str]:
    return [found[name].state for name in names]


def test_without_network_and_credentials_there_is_no_problem(project: Path, tmp_path: Path) -> None:
    found = look(tmp_path)
    assert states(found, "credentials", "endpoint") == ["caution", "caution"]
    assert states(found, "python", "packages", "state folder", "journal", "secrets") == ["ok"] * 5
    assert found["verification"].state == "unknown", "which is not the same as well"
    assert found["exit"].says == "0"


def test_credentials_that_nobody_could_check_are_not_called_well(project: Path, tmp_path: Path) -> None:
    found = look(tmp_path, {"KAGGLE_API_TOKEN": TOKEN})
    assert states(found, "credentials", "endpoint") == ["unknown", "caution"]
    assert found["credentials"].says.startswith("found, not checked: Kaggle does not answer (token from ")


def test_where_runs_go_to_another_platform_nothing_is_said_of_kaggle(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "docs/platforms")
    found = look(tmp_path, {"KM_PLATFORM": "own_platform:ThisMachine"})
    assert found["platform"].says == "own_platform:ThisMachine as me, sessions of 12 h at most"
    said = [f"{check.name}: {check.says} -> {check.todo}".replace("kaggle-manager", "") for check in found.values()]
    assert [text for text in said if "kaggle" in text.replace("kaggle_manager", "").lower()] == []


def test_an_account_is_asked_who_it_is_and_what_is_left(project: Path, tmp_path: Path, kaggle_here: ServerInfo) -> None:
    environ = {"KAGGLE_API_TOKEN": kaggle_here.token}
    found = look(tmp_path, environ, endpoint=kaggle_here.url)
    assert found["credentials"].says == "token from KAGGLE_API_TOKEN"
    assert states(found, "endpoint", "clock", "account", "quota") == ["ok"] * 4
    assert f"as {kaggle_here.username}" in found["account"].says
    assert "GPU hours left" in found["quota"].says
    assert kaggle_here.token not in repr(found)
    assert found["exit"].says == "0"


def test_refused_credentials_are_the_problem_and_the_exit_code(
    project: Path, tmp_path: Path, kaggle_here: ServerInfo
) -> None:
    found = look(tmp_path, {"KAGGLE_API_TOKEN": TOKEN}, endpoint=kaggle_here.url)
    assert found["account"].state == "problem"
    assert "create a new token" in found["account"].todo
    assert found["exit"].says == "4"


def test_a_malformed_credential_file_is_a_problem(project: Path, tmp_path: Path) -> None:
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text("{")
    found = look(tmp_path)
    assert found["credentials"].state == "problem"
    assert found["exit"].says == "4"


def test_a_credential_others_can_read_is_a_caution(project: Path, tmp_path: Path) -> None:
    token = tmp_path / ".kaggle/access_token"
    token.parent.mkdir()
    token.write_text(TOKEN)
    token.chmod(0o644)
    found = look(tmp_path)
    assert found["credentials"].state == "caution"
    assert f"chmod 600 {token}" in found["credentials"].todo


def test_when_a_login_ends_is_told(project: Path, tmp_path: Path) -> None:
    login = tmp_path / ".kaggle/credentials.json"
    login.parent.mkdir()
    login.write_text(
        json.dumps({"refresh_token": TOKEN, "username": "me", "access_token_expiration": "2026-12-01T10:00:00+00:00"})
    )
    login.chmod(0o600)
    assert "ends 2026-12-01 10:00 UTC" in look(tmp_path)["credentials"].says


def test_a_token_that_ends_soon_is_a_caution() -> None:
    assert account._account("me", None).state == "ok"
    assert account._account("me", datetime.now(UTC) + timedelta(days=30)).state == "ok"
    soon = account._account("me", datetime.now(UTC) + timedelta(days=3))
    assert soon.state == "caution"
    assert "create a new token" in soon.todo


def test_this_program_holds_no_secret() -> None:
    root = Path(__file__).resolve().parents[2]
    config = build_config("section_7_6_rl_performance", project_root=root, environ={})
    assert secret_files.look(config, None).state == "ok"


def test_a_server_that_never_answers_is_a_caution_within_seconds(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account, "LONGEST_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = look(tmp_path, endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "no answer within" in found["endpoint"].says
    assert found["exit"].says == "0"
    for thread in threading.enumerate():
        if thread.name == "doctor":
            thread.join(10)


@pytest.mark.parametrize(("at", "name"), [("Transport", "endpoint"), ("KaggleClient", "account")])
def test_questions_that_end_without_an_answer_are_a_problem(
    at: str, name: str, project: Path, tmp_path: Path, kaggle_here: ServerInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(*_: object, **__: object) -> None:
        raise SystemExit

    monkeypatch.setattr(account, at, ends)
    found = look(tmp_path, {"KAGGLE_API_TOKEN": kaggle_here.token}, endpoint=kaggle_here.url)
    assert found[name].state == "problem"
    assert found["exit"].says == "1"


def test_a_wrong_network_setting_is_a_problem_with_the_code_of_configuration(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nope/ca.pem")
    found = look(tmp_path, endpoint="https://kaggle.invalid")
    assert found["endpoint"].state == "problem"
    assert "REQUESTS_CA_BUNDLE names /nope/ca.pem" in found["endpoint"].says
    assert found["exit"].says == "2"


@pytest.mark.parametrize(
    ("place", "name"),
    [(account, "clock"), (machine, "disk"), (machine, "python"), (secret_files, "look"), (account, "verification")],
)
def test_a_check_that_dies_is_a_problem_and_all_others_are_made(
    place: ModuleType, name: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise RuntimeError(f"a text with {TOKEN}")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_once, args=(server,), daemon=True).start()
        monkeypatch.setattr(place, name, dies)
        found = look(tmp_path, endpoint=f"http://127.0.0.1:{server.getsockname()[1]}")
    dead = [check for check in found.values() if "this check itself failed" in check.says]
    assert [check.state for check in dead] == ["problem"]
    assert found["exit"].says == "1"
    assert "setting timesteps" in found


@pytest.mark.parametrize(
    ("hours_off", "state", "words"),
    [(0, "ok", "agrees"), (-1 / 60, "caution", "behind"), (-2, "problem", "behind"), (2, "problem", "ahead of")],
)
def test_the_clock_is_held_against_kaggles(hours_off: float, state: str, words: str) -> None:
    here = NOW + timedelta(hours=hours_off)
    check = account.clock("Sun, 22 Nov 2026 12:00:00 GMT", here, here + timedelta(seconds=0.4))
    assert (check.state, words in check.says) == (state, True)


def test_the_quota_says_what_is_left_reserved_and_when_it_comes_back() -> None:
    check = account.quota(Quota(3600.0, 7200.0, 108000.0, NOW + timedelta(hours=36)), NOW)
    assert check.says.startswith(
        "27.0 of 30 GPU hours left, 2.0 reserved by running sessions; the week begins anew Tue"
    )
    assert "in 36 h" in check.says
    assert account.quota(Quota(108000.0, 0.0, 108000.0, None), NOW).state == "caution"
    assert "phone" in account.quota(Quota(0.0, 0.0, 0.0, None), NOW).todo


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


def test_a_secret_git_follows_is_a_problem_and_one_it_would_take_a_caution(project: Path, tmp_path: Path) -> None:
    git(project, "init", "-q")
    git(project, "add", ".")
    assert look(tmp_path)["secrets"].state == "ok"
    (project / "notes.txt").write_text(f"token: {TOKEN}")
    (project / "kaggle.json").write_text("{}")
    found = look(tmp_path)
    assert found["secrets"].state == "caution"
    assert "kaggle.json, notes.txt" in found["secrets"].says
    (project / ".gitignore").write_text("kaggle.json\nnotes.txt\n")
    assert look(tmp_path)["secrets"].state == "ok"
    git(project, "add", "--force", "notes.txt")
    found = look(tmp_path)
    assert found["secrets"].state == "problem"
    assert "revoke" in found["secrets"].todo
    assert found["exit"].says == "3"


@pytest.mark.parametrize(
    "line",
    [
        f'TOKEN = "{TOKEN}"',
        'os.environ["KAGGLE_KEY"] = "' + KEY + '"',
        "T = 'my-own-secret-value'",
    ],
)
def test_a_secret_in_code_that_goes_to_kaggle_is_a_problem_also_without_git(
    line: str, project: Path, tmp_path: Path
) -> None:
    environment = project / "sections/mine/environment.py"
    environment.write_text(f"{environment.read_text()}\n{line}\n")
    found = look(tmp_path, {"KAGGLE_API_TOKEN": "my-own-secret-value"})
    assert found["secrets"].state == "problem"
    assert "sections/mine/environment.py" in found["secrets"].says


def test_a_damaged_journal_and_an_impossible_state_folder_are_problems(project: Path, tmp_path: Path) -> None:
    (project / ".kaggle_manager").mkdir()
    (project / ".kaggle_manager/journal.sqlite").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    found = look(tmp_path)
    assert found["journal"].state == "problem"
    assert found["exit"].says == "1"
    (tmp_path / "file").touch()
    impossible = look(tmp_path, workdir=tmp_path / "file" / "below")["state folder"]
    assert (impossible.state, impossible.says) == ("problem", f"{tmp_path / 'file'} is not a folder.")


def test_a_disk_without_room_for_the_trees_copies_is_a_problem(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = project / "sections/mine/data/models"
    tree.mkdir(parents=True)
    (tree / "model.zip").write_bytes(b"0" * 100)
    free = 10**12
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free}))
    assert look(tmp_path)["disk"].state == "ok"
    free = 10**9
    assert look(tmp_path)["disk"].state == "caution"
    free = 150
    assert look(tmp_path)["disk"].state == "problem"


def test_settings_say_where_they_come_from(project: Path, tmp_path: Path) -> None:
    found = look(tmp_path, {"KM_TIMESTEPS": "1234"})
    assert found["setting timesteps"].says == "1234 (from environment variable KM_TIMESTEPS)"
    assert str(project) in found["project"].says


def test_every_variable_that_cannot_be_used_is_told_and_all_else_is_looked_at(project: Path, tmp_path: Path) -> None:
    wrong = {"KM_TIMESTEPS": "many", "KM_PLATFORM": "moon", "KM_KEEP_GB": "-1"}
    found = look(tmp_path, {**wrong, "KM_SESSION_LIMIT": "1h"})
    for variable in wrong:
        check = found[f"setting {variable.removeprefix('KM_').lower()}"]
        assert (check.state, f"(from {variable})" in check.says) == ("problem", True)
    assert found["setting session_limit"].says == "3600 s (from environment variable KM_SESSION_LIMIT)"
    assert states(found, "state folder", "journal", "disk") == ["ok"] * 3
    assert found["exit"].says == "2"


def test_with_several_sections_it_says_which_it_is_about_and_looks_at_everything(project: Path, tmp_path: Path) -> None:
    new_section("yours", project)
    checks = {check.name: check for check in examine("", environ={}, home=tmp_path, endpoint=NOWHERE)}
    assert checks["section"].state == "caution"
    assert "mine and yours" in checks["section"].says
    assert checks["section"].todo.endswith("km doctor yours")
    assert checks.keys() - {"section"} == look(tmp_path).keys() - {"exit"}


def test_the_command_shows_every_check_and_its_json_is_documented(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_API_TOKEN", "two words")
    monkeypatch.setattr(account, "LONGEST_S", 0.0)
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", "mine", "--json"])
    assert left.value.code == 4
    shown = json.loads(capsys.readouterr().out)
    assert (shown["schema"], shown["state"]) == (1, "problem")
    assert {"name", "state", "says", "todo"} == set(shown["checks"][0])
    with pytest.raises(SystemExit):
        cli.main(["doctor", "mine"])
    plain = capsys.readouterr().out
    assert "PROBLEM credentials: " in plain
    assert "ok      python: " in plain
    assert re.search(r"\n\d+ checks: \d+ ok, \d+ unknown, .* problems?\n$", plain)


def test_what_is_not_known_is_never_called_ok() -> None:
    checks = [Check("python", "ok", "3.12"), Check("clock", "unknown", "it is not said", "compare it yourself")]
    assert worst(checks) == "unknown"
    assert counted(checks) == "2 checks: 1 ok, 1 unknown, 0 cautions, 0 problems"
    assert worst([*checks, Check("disk", "problem", "full"), Check("account", "caution", "new")]) == "problem"


def test_data_that_is_not_on_this_machine_is_a_caution(project: Path, tmp_path: Path) -> None:
    assert "inputs" not in look(tmp_path)
    toml = project / "sections/mine/section.toml"
    toml.write_text(toml.read_text().replace("trains = true", 'trains = true\ninputs = ["bob/roads"]'))
    found = look(tmp_path)["inputs"]
    folder = project / ".kaggle_manager/local_kaggle/inputs/datasets/bob/roads"
    assert (found.state, str(folder) in found.todo) == ("caution", True)
    folder.mkdir(parents=True)
    (folder / "a.csv").touch()
    assert look(tmp_path)["inputs"].state == "ok"


def assumptions_on(tmp_path: Path, url: str, token: str) -> dict[str, Assumption]:
    found = {each.assumption: each for each in ask_kaggle({"KAGGLE_API_TOKEN": token}, tmp_path, url)}
    assert token not in repr(found)
    for each in found.values():
        assert each.evidence
        assert each.if_wrong
        assert "\n" not in each.evidence
    return found


def test_each_assumption_about_kaggle_is_looked_for_and_nothing_stays_behind(
    tmp_path: Path, kaggle_here: ServerInfo
) -> None:
    credentials = Credentials("token", None, kaggle_here.token, "a test")
    with KaggleClient(credentials, endpoint=kaggle_here.url) as client:
        code = "open('/kaggle/working/a.txt' if __import__('os').path.isdir('/kaggle/working') else 'a.txt', 'w')"
        slug = f"km-for-the-doctor-{os.getpid()}"
        version = client.start(SessionRequest("local", slug, f"{code}.write('1'); print('done')")).version
        (tmp_path / "left").write_text("by a doctor that was killed")
        client.publish_inputs(owner="local", slug="km-doctor-0123456789ab", files=[tmp_path / "left"], notes="")
        until(lambda: client.status(version).state.is_terminal)
        before = {each for each in client.belongings("local") if not each.slug.startswith("km-doctor-")}
        found = assumptions_on(tmp_path, kaggle_here.url, kaggle_here.token)
        client.delete("local", slug)
        assert {each for each in client.belongings("local") if each.slug.startswith("km-doctor-")} == set()
        assert {each.slug for each in client.belongings("local")} == {each.slug for each in before} - {slug}
    assert {each.assumption: each.found for each in found.values() if each.found != "seen"} == {}


def test_of_a_kaggle_that_does_not_answer_nothing_is_called_seen(tmp_path: Path) -> None:
    with ScriptedKaggle() as silent:
        for name in ("GetAcceleratorQuotaStatistics", "ListKernels", "GetKernel", "ListDatasets", "GetDatasetStatus"):
            silent.script(name, answer({"code": 400, "message": "not today"}, 400))
        found = assumptions_on(tmp_path, silent.url, SECRET)
    assert {each.found for each in found.values()} == {"seen", "unknown"}
    assert [each.assumption for each in found.values() if each.found == "seen"] == ["credentials name their account"]


def test_a_kaggle_that_is_otherwise_is_not_seen_to_be_as_assumed(tmp_path: Path) -> None:
    """States in a new word, versions that are not told apart, no image, a dataset that stays."""
    kernel = {"ref": "alice/km-task-ab12cd34", "lastRunTime": "2026-11-28T03:00:00Z"}
    with ScriptedKaggle() as other:
        other.script("ListKernels", answer({"kernels": [kernel, {"title": "[Private Notebook]"}]}))
        other.script("ListDatasets", answer({}))
        other.script("GetKernel", answer({"metadata": {"currentVersionNumber": 3}, "blob": {"source": ""}}))
        other.script("GetKernelSessionStatus", answer({"status": "COMPLETE"}))
        other.script("ListKernelSessionOutput", answer({"log": "[]"}))
        found = assumptions_on(tmp_path, other.url, SECRET)
        other.script("GetKernelSessionStatus", answer({"status": "HIBERNATING"}))
        words = assumptions_on(tmp_path, other.url, SECRET)["a session's state is a word that is known"]
    not_seen = {name for name, each in found.items() if each.found == "not seen"}
    assert not_seen >= {
        "a kernel in a list has a name",
        "a kernel that does not exist is said not to",
        "a question about a version is answered for it alone",
        "a version names the image it ran in",
        "a finished session's files and log are listed",
    }
    assert (words.found, "HIBERNATING" in words.evidence) == ("not seen", True)


def test_without_credentials_kaggle_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(AuthError, match="none were found"):
        list(ask_kaggle({}, tmp_path, NOWHERE))


def test_a_kaggle_that_is_not_reached_is_one_line_and_an_error_that_waiting_may_help(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="Kaggle cannot be reached") as refused:
        list(ask_kaggle({"KAGGLE_API_TOKEN": SECRET}, tmp_path, NOWHERE))
    assert (refused.value.exit_code, refused.value.retryable) == (6, True)


def test_the_command_shows_each_assumption_and_its_json_is_documented(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(account, "LONGEST_S", 0.1)
    with ScriptedKaggle() as silent:
        asked = partial(ask_kaggle, {"KAGGLE_API_TOKEN": SECRET}, tmp_path, silent.url)
        monkeypatch.setattr(f"{ask_kaggle.__module__}.ask_kaggle", asked)
        call(["doctor", "mine", "--kaggle"])
        said = capsys.readouterr().out
        call(["doctor", "mine", "--kaggle", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert "\nSEEN     credentials name their account: user 'alice'\n         if wrong: no run begins\n" in said
    assert said.count("if wrong: ") == len(document["assumptions"]) == len(ASSUMPTIONS)
    assert set(document["assumptions"][0]) == {"assumption", "found", "evidence", "if_wrong"}
