"""`clean` deletes what runs that are over have left on the platform, and nothing that anybody may still need."""

from __future__ import annotations

import functools
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from loopback_kaggle import end_sessions
from small_project import SECTION, Bench

from kaggle_manager.checkpoints.tree_lock import hold_tree
from kaggle_manager.cli.commands import call
from kaggle_manager.errors import Interrupted, NotFound, Unavailable
from kaggle_manager.local_kaggle.launcher import ServerInfo, ensure_running, stop
from kaggle_manager.orchestrator.clean import Cleaner, Leftover, clean
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.platform import SessionRequest
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions import connection, watch
from kaggle_manager.sessions.connection import Connection
from kaggle_manager.status.overview import overview

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kaggle_here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerInfo]:
    """One of its own: `clean` shows all that an account has, and other files' tests leave wheels."""
    root = tmp_path_factory.mktemp("kaggle")
    (root / "limits.json").write_text('{"ingestion_s": 0.0, "gpu_week_s": 1e9}')
    yield ensure_running(root, idle_exit_s=900)
    end_sessions(root)
    stop(root)


def cleaned(bench: Bench, *, delete: bool = False, now: float | None = None) -> list[Leftover]:
    with (
        closing(Journal(bench.workdir / "journal.sqlite")) as journal,
        bench.make_client(bench.connect_credentials(), endpoint=bench.server.url) as client,
    ):
        reached = Connection(client, bench.owner, bench.platform, "a test")
        return list(clean(reached, journal, time.time() if now is None else now, delete=delete))


def actions(found: list[Leftover]) -> dict[str, str]:
    return {f"{each.thing.kind} {each.thing.slug}": each.action for each in found}


def slugs(bench: Bench) -> list[str]:
    """Of the kernels of the runs of this project, the first run first."""
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        return [run.slug for run in journal.runs()]


def there(bench: Bench) -> set[str]:
    """What of the runs of this project its Kaggle has."""
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        found = {f"{each.kind} {each.slug}" for each in client.belongings(bench.owner)}
    names = [name for slug in slugs(bench) for name in (f"session {slug}", f"input {slug}-tree")]
    return found & set(names)


def test_a_finished_run_is_cleaned_once_and_can_still_be_trained_further(bench: Bench) -> None:
    bench.run(timesteps=4)
    (slug,) = slugs(bench)
    left = {f"session {slug}", f"input {slug}-tree"}
    found = cleaned(bench)
    assert actions(found) == dict.fromkeys(left, "delete")
    assert all("finished on" in each.why and each.thing.changed_at for each in found)
    assert there(bench) == left, "only listed"
    assert actions(cleaned(bench, delete=True)) == dict.fromkeys(left, "deleted")
    assert there(bench) == set()
    assert cleaned(bench, delete=True) == []
    assert bench.run(timesteps=6).step == 6
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        trees = {each.slug for each in client.belongings(bench.owner) if each.slug.startswith(f"{slug}-t")}
    assert trees == {f"{slug}-t2"}, "the name of a deleted dataset is not used again"
    assert actions(cleaned(bench)) == {f"session {slug}": "delete", f"input {slug}-t2": "delete"}
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        assert len(journal.events(journal.runs()[0].run_id, "cleaned")) == 2
    bench.plan(g4="hang")
    with pytest.raises(Interrupted):
        bench.run(timesteps=8, interrupt_at="accepted as")
    found = cleaned(bench, delete=True)
    assert actions(found) == {f"session {slug}": "keep", f"input {slug}-t2": "keep"}
    assert all("not over" in each.why for each in found)
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        assert {slug, f"{slug}-t2"} <= {each.slug for each in client.belongings(bench.owner)}


def test_of_a_run_given_up_for_a_fresh_start_everything_goes_and_of_the_new_one_nothing(bench: Bench) -> None:
    bench.run(timesteps=4)
    bench.run(timesteps=2, fresh=True)
    old, new = slugs(bench)
    assert actions(cleaned(bench))[f"session {old}"] == "delete"
    bench.tree.root.rename(bench.workdir / "aside")  # only the new one's model was there
    assert actions(cleaned(bench, delete=True)) == {
        **dict.fromkeys((f"session {old}", f"input {old}-tree"), "deleted"),
        f"session {new}": "keep",
    }


def test_the_only_copy_of_a_run_whose_tree_another_training_took_stays_until_a_copy_verifies_here(
    bench: Bench, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="relaunch")
    other = Bench(bench.project, tmp_path / "other", bench.server)
    other.run(timesteps=2)
    bench.tree.root.rename(tmp_path / "aside")
    shutil.copytree(other.tree.root, bench.tree.root)
    assert bench.run(timesteps=4, trust=True).step == 4
    assert "is given up" in bench.output
    for folder in ("downloads", "replaced"):
        shutil.rmtree(bench.workdir / folder, ignore_errors=True)
    lost = f"session {slugs(bench)[0]}"
    found = {f"{each.thing.kind} {each.thing.slug}": each for each in cleaned(bench, delete=True)}
    assert (found[lost].action, "no copy of step 2" in found[lost].why) == ("keep", True)
    copy = bench.workdir / "archive/copy"
    shutil.copytree(tmp_path / "aside", copy)
    model = next(copy.rglob(bench.tree.name("latest", "model", 2)))
    whole = model.read_bytes()
    model.write_bytes(b"x" * len(whole))
    assert actions(cleaned(bench))[lost] == "keep", "a damaged copy is none"
    model.write_bytes(whole)
    assert actions(cleaned(bench))[lost] == "delete"
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        (session,) = journal.sessions(journal.runs()[0].run_id)
        journal.update_session(session, outcome="given up")
    assert actions(cleaned(bench))[lost] == "keep", "what it saved was refused here, and lies nowhere else"


def test_what_another_machine_goes_on_with_stays(bench: Bench) -> None:
    bench.run(timesteps=4)
    here = bench.workdir
    bench.workdir = here.with_name("another_machine")
    with closing(Journal(here / "journal.sqlite")) as journal:
        bench.manager().adopt(SECTION, journal.runs()[0].run_id)
    assert bench.run(timesteps=6).step == 6
    there_too = actions(cleaned(bench))
    assert set(there_too.values()) == {"delete"}
    bench.workdir = here
    found = cleaned(bench, delete=True)
    assert actions(found) == dict.fromkeys(there_too, "keep")
    assert all("another machine may continue" in each.why for each in found)


def test_a_kernel_of_any_name_of_the_run_may_be_another_machines(bench: Bench) -> None:
    bench.run(timesteps=4)
    (slug,) = slugs(bench)
    assert set(actions(cleaned(bench)).values()) == {"delete"}
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        order = {"run_id": journal.runs()[0].run_id, "generation": 9}
    source = f'"""\nprint(1)\n\n        order=json.loads({json.dumps(order)!r}),\n"""'
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        client.start(SessionRequest("local", f"{slug}-7", source))
    found = cleaned(bench, delete=True)
    assert actions(found) == dict.fromkeys((f"session {slug}", f"input {slug}-tree", f"session {slug}-7"), "keep")
    assert all("another machine may continue" in each.why for each in found)


def test_a_machine_that_has_only_adopted_the_run_loses_nothing_by_a_clean_here(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "UNKNOWN_FOR_S", 0.2)
    bench.run(timesteps=4)
    (slug,) = slugs(bench)
    here = bench.workdir
    bench.workdir = here.with_name("another_machine")
    with closing(Journal(here / "journal.sqlite")) as journal:
        adopted = bench.manager().adopt(SECTION, journal.runs()[0].run_id)
    bench.workdir = here
    assert set(actions(cleaned(bench, delete=True)).values()) == {"deleted"}
    bench.workdir = here.with_name("another_machine")
    assert adopted.step == 2, "what the newest session continued"
    assert bench.run(timesteps=6).step == 6
    assert f"dataset local/{slug}-tree, which had the training tree, was deleted" in bench.output
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        trees = {each.slug for each in client.belongings(bench.owner) if each.slug.startswith(f"{slug}-t")}
    assert trees == {f"{slug}-t2"}, "the name of a deleted dataset is not used again"


def test_what_was_deleted_with_its_kernel_is_said_in_words_and_what_is_here_stays(bench: Bench) -> None:
    bench.run(timesteps=2)
    (slug,) = slugs(bench)
    before = {path: path.read_bytes() for path in (bench.workdir / "downloads").rglob("*") if path.is_file()}
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        client.delete("local", slug)
    with pytest.raises(NotFound, match="it was deleted there") as by_hand:
        bench.manager().download_outputs(SECTION)
    assert bench.run(timesteps=4).step == 4
    assert set(actions(cleaned(bench, delete=True)).values()) == {"deleted"}
    for generation in (1, 2):
        with pytest.raises(NotFound, match=f"`clean` deleted its kernel local/{slug}") as by_clean:
            bench.manager().download_outputs(SECTION, generation)
        for error in (by_hand.value, by_clean.value):
            assert str(bench.tree.root) in error.safe
            assert "km checkpoints ls" in error.next_step
    assert {path: path.read_bytes() for path in before} == before


@contextmanager
def refusing(bench: Bench, root: Path, times: int) -> Iterator[list[float]]:
    """A Kaggle that refuses so many first pushes; what its client waits before it asks again."""
    root.mkdir()
    (root / "limits.json").write_text(json.dumps({"ingestion_s": 0.0, "gpu_week_s": 1e9}))
    (root / "plan.json").write_text(json.dumps({"fault": [{"kind": "push_refused", "times": times}]}))
    bench.server = ensure_running(root, faults=root / "plan.json", idle_exit_s=60)
    waited: list[float] = []
    bench.make_client = functools.partial(KaggleClient, sleep=waited.append)  # type: ignore[assignment]
    try:
        yield waited
    finally:
        end_sessions(root)
        stop(root)


def test_an_empty_kernel_that_a_refused_push_left_goes_also_while_its_run_goes_on(bench: Bench, tmp_path: Path) -> None:
    with refusing(bench, tmp_path / "hostile", times=1) as waited:
        with pytest.raises(Interrupted):
            bench.run(timesteps=2, interrupt_at="accepted as")
        (slug,) = slugs(bench)
        first = slug.removesuffix("-2")
        waited.clear()
        found = cleaned(bench)
        assert waited == [], "Kaggle answers 500 about it each time: asked once"
        assert actions(found) == {f"session {first}": "delete", f"session {slug}": "keep"}
        assert "left it without a version" in found[0].why
        assert actions(cleaned(bench, delete=True)) == {f"session {first}": "deleted", f"session {slug}": "keep"}
        assert actions(cleaned(bench, delete=True)) == {f"session {slug}": "keep"}
        assert bench.run(timesteps=2).step == 2


def test_a_run_that_has_used_every_name_goes_on_once_its_empty_kernels_are_cleaned(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kaggle_manager.sessions.launch.NAMES", 2)
    with refusing(bench, tmp_path / "hostile", times=2):
        with pytest.raises(Interrupted):
            bench.run(timesteps=2, interrupt_at="every name")
        (slug,) = slugs(bench)
        names = [f"session {slug.removesuffix('-2')}", f"session {slug}"]
        with hold_tree(bench.tree.root):
            assert actions(cleaned(bench, delete=True)) == dict(zip(names, ("deleted", "keep"), strict=True))
        assert actions(cleaned(bench, delete=True)) == {names[1]: "deleted"}
        assert bench.run(timesteps=2).step == 2


KILLED = """
import os, signal, sys, time
from pathlib import Path
from kaggle_manager.orchestrator.clean import clean
from kaggle_manager.platforms.kaggle.client import KaggleClient
from kaggle_manager.platforms.kaggle.credentials import Credentials
from kaggle_manager.runs.journal import Journal
from kaggle_manager.sessions.connection import Connection

journal, url, token, when = sys.argv[1:]

class Client(KaggleClient):
    def delete(self, owner, slug):
        if when == "after":
            super().delete(owner, slug)
        os.kill(os.getpid(), signal.SIGKILL)

client = Client(Credentials("token", None, token, "a test"), endpoint=url)
list(clean(Connection(client, "local", "local", "a test"), Journal(Path(journal)), time.time(), delete=True))
"""


def test_whatever_is_in_the_way_nothing_needed_goes_and_the_same_command_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bench.run(timesteps=4)
    (slug,) = slugs(bench)
    kernel, tree = f"session {slug}", f"input {slug}-tree"
    # Another command is at work on the run.
    with hold_tree(bench.tree.root):
        found = cleaned(bench, delete=True)
    assert {(each.action, each.why) for each in found} == {("keep", "another command is at work on its run")}
    # The training tree, or its final model, is not here: the only copy.
    bench.tree.root.rename(tmp_path / "aside")
    assert {(each.action, "only copy" in each.why) for each in cleaned(bench, delete=True)} == {("keep", True)}
    (tmp_path / "aside").rename(bench.tree.root)
    (final,) = bench.tree.root.glob("*_final.manifest.json")
    final.rename(tmp_path / final.name)
    assert set(actions(cleaned(bench, delete=True)).values()) == {"keep"}
    (tmp_path / final.name).rename(final)
    assert there(bench) == {kernel, tree}
    # Killed before, and after, a deletion.
    command = [sys.executable, "-c", KILLED, str(bench.workdir / "journal.sqlite"), bench.server.url]
    done = subprocess.run([*command, bench.server.token, "before"], timeout=120, check=False)
    assert (done.returncode, there(bench)) == (-signal.SIGKILL, {kernel, tree})
    done = subprocess.run([*command, bench.server.token, "after"], timeout=120, check=False)
    assert (done.returncode, there(bench)) == (-signal.SIGKILL, {tree})

    class Client(KaggleClient):
        def delete_inputs(self, owner: str, slug: str) -> None:
            raise Unavailable("api.kaggle.com answered 503.")

    def reach(platform: str, folder: Path, **options: Any) -> Connection:
        client = bench.make_client(bench.connect_credentials(), endpoint=bench.server.url)
        return Connection(client, bench.owner, platform, "a test")

    monkeypatch.setattr(connection, "reach", reach)
    workdir = str(bench.workdir)
    bench.make_client = Client
    assert call(["clean", "--yes", "--json", "--workdir", workdir]) == 6
    (thing,) = json.loads(capsys.readouterr().out)["things"]
    assert (thing["action"], thing["name"], thing["why"]) == (
        "refused",
        f"local/{slug}-tree",
        "api.kaggle.com answered 503.",
    )
    bench.make_client = KaggleClient
    assert call(["clean", "--workdir", workdir]) == 0
    assert "1 thing can be deleted or emptied, which cannot be undone: km clean --yes" in capsys.readouterr().out
    assert call(["clean", "--yes", "--workdir", workdir, "--platform", "local"]) == 0
    assert f"deleted: input local/{slug}-tree" in capsys.readouterr().out
    assert call(["clean", "--workdir", workdir]) == 0
    assert "Nothing is there" in capsys.readouterr().out
    assert call(["clean", "--workdir", workdir, "--platform", "moon"]) == 2


def test_wheels_that_a_run_has_begun_to_install_from_since_they_were_found_stay(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_text("a wheel" * 1000)
    slug = f"km-wheels-{time.time_ns()}"
    order = {"wheels": {"dataset": f"local/{slug}", "files": {}}}
    bench.run(timesteps=2)
    with (
        KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client,
        closing(Journal(bench.workdir / "journal.sqlite")) as journal,
    ):
        client.publish_inputs(owner="local", slug=slug, files=[tmp_path / "a.whl"], notes="")
        cleaner = Cleaner(
            Connection(client, bench.owner, bench.platform, "a test"), journal, time.time() + 2 * 24 * 3600
        )
        [found] = [each for each in cleaner.find() if each.thing.slug == slug]
        assert found.action == "empty"
        source = f"print(1)\n\n        order=json.loads({json.dumps(order)!r}),\n"
        client.start(SessionRequest("local", f"km-elsewhere-{time.time_ns() % 10**8:08}", f'"""\n{source}"""'))
        [after] = cleaner.delete([found])
    assert (after.action, after.why) == ("keep", "a run that may continue installs from it")


def test_wheels_go_when_no_kernel_of_a_run_that_may_go_on_installs_from_them(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "a.whl").write_text("a wheel" * 1000)
    old, used = f"km-wheels-{time.time_ns()}", f"km-wheels-{time.time_ns() + 1}"
    order = {"wheels": {"dataset": f"local/{used}", "files": {}}}
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:
        for slug in (old, used):
            client.publish_inputs(owner="local", slug=slug, files=[tmp_path / "a.whl"], notes="")
        source = f"print(1)\n\n        order=json.loads({json.dumps(order)!r}),\n"
        client.start(SessionRequest("local", f"km-elsewhere-{time.time_ns() % 10**8:08}", f'"""\n{source}"""'))
    bench.run(timesteps=2)
    tomorrow = time.time() + 2 * 24 * 3600

    def wheels(found: list[Leftover]) -> dict[str, str]:
        return {each.thing.slug: each.action for each in found if each.thing.slug in (old, used)}

    assert wheels(cleaned(bench)) == dict.fromkeys((old, used), "keep")
    assert wheels(cleaned(bench, now=tomorrow)) == {old: "empty", used: "keep"}
    assert wheels(cleaned(bench, now=tomorrow, delete=True)) == {old: "emptied", used: "keep"}
    assert wheels(cleaned(bench, now=tomorrow)) == {used: "keep"}
    with KaggleClient(bench.connect_credentials(), endpoint=bench.server.url) as client:  # its name can be used again
        sizes = {each.slug: each.size for each in client.belongings(bench.owner)}
        assert sizes[old] < 100 < sizes[used]
        again = client.publish_inputs(owner="local", slug=old, files=[tmp_path / "a.whl"], notes="")
    assert again.version == 3


def test_where_nothing_was_ever_run_nothing_is_asked_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(["clean", "--yes", "--workdir", str(tmp_path)]) == 0
    assert "Nothing is there" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_section_was_deleted_is_given_up_and_what_it_left_goes(bench: Bench) -> None:
    bench.workdir = bench.project / ".kaggle_manager"
    with pytest.raises(Interrupted):
        bench.run(timesteps=4, interrupt_at="relaunch")
    assert set(actions(cleaned(bench)).values()) == {"keep"}
    shutil.rmtree(bench.project / "sections")
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        seen = overview(journal, None, time.time()).as_json()
        assert (seen["state"], seen["human_action_required"]) == ("error", True)
        assert str(bench.project / "sections/small") in seen["why"]
        assert "km clean --yes" in seen["next"]
    assert "deleted" in actions(cleaned(bench, delete=True)).values()
    with closing(Journal(bench.workdir / "journal.sqlite")) as journal:
        seen = overview(journal, None, time.time()).as_json()
    assert (seen["state"], seen["human_action_required"]) == ("abandoned", False)
