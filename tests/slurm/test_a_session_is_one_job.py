"""What a session on Slurm is: one job at most, found again whoever forgot it, with an end that is told in words."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback_slurm import LoopbackSlurm

from kaggle_manager.errors import AmbiguousPush, CapacityReached, ConfigError, NotFound, Unavailable
from kaggle_manager.platforms.platform import ExpectedFile, SessionRef, SessionRequest, SessionState, SessionStatus
from kaggle_manager.platforms.slurm import client as slurm_client
from kaggle_manager.platforms.slurm.client import SlurmPlatform

pytestmark = pytest.mark.slow
WORDS = "sbatch: error: Batch job submission failed: "
PRELUDE = "import os, sys, time, pathlib\nout = pathlib.Path(os.environ['KM_WORKING_DIR'])\n"


def start(platform: SlurmPlatform, code: str, slug: str = "km-test", **options: object) -> SessionRef:
    return platform.start(SessionRequest(platform.whoami(), slug, PRELUDE + code, **options)).version  # type: ignore[arg-type]


def ended(platform: SlurmPlatform, ref: SessionRef, within_s: float = 60.0) -> SessionStatus:
    return until(lambda: platform.status(ref), lambda status: status.state.is_terminal, within_s)


def until(ask: Callable[[], SessionStatus], is_it: Callable[[SessionStatus], bool], within_s: float) -> SessionStatus:
    deadline = time.monotonic() + within_s
    while not is_it(status := ask()):
        assert time.monotonic() < deadline, status
        time.sleep(0.1)
    return status


def running(platform: SlurmPlatform, ref: SessionRef) -> None:
    until(lambda: platform.status(ref), lambda status: status.state is SessionState.RUNNING, 60.0)


def folder(platform: SlurmPlatform, ref: SessionRef) -> Path:
    return Path(platform.page(ref.owner, ref.slug).removesuffix(" on this machine"), ref.id)


def test_it_reads_its_inputs_and_leaves_outputs_and_a_log(platform: SlurmPlatform, tmp_path: Path) -> None:
    (tree := tmp_path / "tree.pack").write_bytes(b"\0packed")
    for _ in range(3):
        platform.publish_inputs(owner=platform.whoami(), slug="km-tree", files=[tree], notes="")
    assert platform.input_versions("", "km-tree") == (3, frozenset({2, 3})), "the newest, and the one before it"
    code = """
given = pathlib.Path(os.environ["KM_INPUT_DIR"], "km-tree", "tree.pack")
(out / "a b").mkdir(); (out / "a b/c'd.bin").write_bytes(given.read_bytes())
(out / "not\\nplain").write_text("x")
print("first\\r"); print("KAGGLE_API_TOKEN" in os.environ, flush=True); print("to stderr \\x1b[31m", file=sys.stderr)
"""
    os.environ["KAGGLE_API_TOKEN"] = "secret"
    try:
        ref = start(platform, code, inputs=(f"{platform.whoami()}/km-tree",))
    finally:
        del os.environ["KAGGLE_API_TOKEN"]
    assert ended(platform, ref).state is SessionState.COMPLETE
    listing = platform.outputs(ref)
    assert [file.name for file in listing.files] == ["a b/c'd.bin"]
    assert len(listing.not_plain) == 1
    assert [line.text for line in listing.log] == ["first", "False", "to stderr "]
    assert [line.text for line in platform.follow_log(ref, stop=lambda: False)] == ["first", "False", "to stderr "]
    platform.download(ref, [ExpectedFile("a b/c'd.bin", 7, None)], tmp_path / "here")
    assert (tmp_path / "here/a b/c'd.bin").read_bytes() == b"\0packed"
    platform.download_inputs("", "km-tree", ["tree.pack"], tmp_path / "back")
    assert (tmp_path / "back/tree.pack").read_bytes() == b"\0packed"


def test_data_that_lies_on_the_clusters_disk_is_read_where_it_lies(slurm: LoopbackSlurm, tmp_path: Path) -> None:
    (there := tmp_path / "it's data").mkdir()
    (there / "demand.csv").write_text("1,2")
    names = {"ann/demand": "datasets/ann/demand", "competition:rush": "competitions/rush"}
    names["model:ann/net/pyTorch/small"] = "models/ann/net/pyTorch/small/1"
    platform = SlurmPlatform({"inputs": dict.fromkeys(names, str(there))}, tmp_path)
    assert platform.input_versions("ann", "demand") == (1, frozenset())
    platform.check_competition("rush")
    assert platform.newest_model_version("ann", "net", "pyTorch", "small") == 1
    code = f"""
for name in {[*names.values()]}:
    print(pathlib.Path(os.environ["KM_INPUT_DIR"], name, "demand.csv").resolve())
"""
    sources = {"inputs": "ann/demand/3", "competitions": "rush", "models": "ann/net/pyTorch/small/1"}
    ref = start(platform, code, **{kind: (source,) for kind, source in sources.items()})
    assert ended(platform, ref).state is SessionState.COMPLETE
    assert [line.text for line in platform.outputs(ref).log] == [str(there / "demand.csv")] * 3
    platform.delete(ref.owner, ref.slug)
    assert (there / "demand.csv").exists(), "a session's folder has a link to it"


def test_data_of_which_nothing_says_where_it_lies_is_said_before_a_session_starts(
    slurm: LoopbackSlurm, tmp_path: Path
) -> None:
    platform = SlurmPlatform({"inputs": {"ann/demand": str(tmp_path / "gone")}}, tmp_path)
    with pytest.raises(NotFound, match="gone is no folder on this machine"):
        platform.input_versions("ann", "demand")
    with pytest.raises(ConfigError, match="Nothing says where competition:rush lies"):
        platform.check_competition("rush")
    with pytest.raises(ConfigError, match=r"inputs\.ann/demand"):
        SlurmPlatform({"inputs": {"ann/demand": "data"}}, tmp_path)
    with pytest.raises(Unavailable, match="no inputs other"):
        start(platform, "pass", inputs=("ann/other",))


def test_ends_are_told_apart(platform: SlurmPlatform, slurm: LoopbackSlurm) -> None:
    crashed = start(platform, "sys.exit(3)")
    shot = start(platform, "os.kill(os.getpid(), 9)")
    held = start(platform, "time.sleep(60)", slug="km-held")
    slurm.ask("scontrol", "uhold", *slurm.ask("squeue", "-h", "-o", "%i", "--name=km-held").split())
    said = ended(platform, crashed)
    assert (said.state, said.failure_message) == (SessionState.ERROR, "it ended with exit code 3")
    assert "signal 9" in ended(platform, shot).failure_message
    waiting = platform.status(held)
    if waiting.state is SessionState.QUEUED:  # else it had begun before it was held
        assert "scontrol release" in waiting.failure_message
    assert platform.cancel(held, "")
    assert ended(platform, held).state in (SessionState.CANCELLED, SessionState.ERROR)
    if waiting.state is SessionState.QUEUED:
        assert platform.status(held).ran_s == 0.0, "its wait is no time of its own"
    with pytest.raises(NotFound):
        platform.cancel(held, "")


def test_the_log_of_a_running_session_comes_as_it_is_printed(platform: SlurmPlatform) -> None:
    ref = start(platform, "print('one', flush=True)\nwhile not (out / 'go').exists(): time.sleep(0.05)\nprint('two')")
    lines = platform.follow_log(ref, stop=lambda: False)
    running(platform, ref)
    assert next(lines).text == "one"
    (folder(platform, ref) / "output/go").touch()
    assert [line.text for line in lines] == ["two"]


def test_a_controller_that_does_not_answer_is_no_end_and_starts_nothing(
    platform: SlurmPlatform, slurm: LoopbackSlurm
) -> None:
    ref = start(platform, "while not (out / 'go').exists(): time.sleep(0.05)")
    running(platform, ref)
    slurm.controller_down()
    try:
        with pytest.raises(Unavailable):
            platform.status(ref)
        with pytest.raises((Unavailable, AmbiguousPush)):
            start(platform, "pass")
        (folder(platform, ref) / "output/go").touch()
        deadline = time.monotonic() + 30
        while not (folder(platform, ref) / "ended").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert platform.status(ref).state is SessionState.COMPLETE, "it has said so itself"
    finally:
        slurm.controller_up()
    deadline = time.monotonic() + 60
    while True:
        try:
            found = platform.newest(ref.owner, ref.slug)
            break
        except Unavailable:
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert found is not None
    assert found[0] == ref


def test_a_job_whose_number_nobody_wrote_down_is_found_again(platform: SlurmPlatform) -> None:
    ref = start(platform, "time.sleep(60)")
    (folder(platform, ref) / "job_id").unlink()
    (folder(platform, ref) / "started").unlink(missing_ok=True)
    found = platform.newest(ref.owner, ref.slug)
    assert found is not None
    assert found[0] == ref
    assert "time.sleep(60)" in found[1]
    platform.delete(ref.owner, ref.slug)
    assert platform.newest(ref.owner, ref.slug) is None


def test_an_intent_without_a_job_is_withdrawn_and_a_job_that_comes_late_does_nothing(
    platform: SlurmPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(platform, "print('first')")
    ended(platform, first)
    monkeypatch.setattr(slurm_client, "sbatch", lambda *_, **__: ("true",))
    with pytest.raises(AmbiguousPush):
        start(platform, "(out / 'worked').touch()")
    lost = SessionRef(first.owner, first.slug, "2")
    with pytest.raises(Unavailable, match="about to be submitted"):
        platform.newest(first.owner, first.slug)
    monkeypatch.setattr(slurm_client, "SUBMITTED_WITHIN_S", -1.0)
    found = platform.newest(first.owner, first.slug)
    assert found is not None
    assert found[0] == first
    place = folder(platform, lost)
    done = platform.shell.run("sh", "-c", 'bash "$1/job.sh" "$1"; echo $?', "sh", str(place))
    assert done.out.strip() == "75"
    assert not (place / "output/worked").exists()


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", ConfigError),
        ("sbatch: error: QOSMaxSubmitJobPerUserLimit", CapacityReached),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", AmbiguousPush),
        (
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)",
            Unavailable,
        ),
    ],
)
def test_what_sbatch_says_is_understood(
    platform: SlurmPlatform, monkeypatch: pytest.MonkeyPatch, said: str, expected: type[Exception]
) -> None:
    monkeypatch.setattr(slurm_client, "sbatch", lambda *_, **__: ("sh", "-c", f"echo '{WORDS}{said}' >&2; exit 1"))
    with pytest.raises(expected):
        start(platform, "pass", slug="km-refused")


def test_a_partition_that_is_not_there_is_said_in_slurms_words(slurm: LoopbackSlurm, tmp_path: Path) -> None:
    platform = SlurmPlatform({"partition": "nowhere"}, tmp_path)
    with pytest.raises(ConfigError, match="nvalid partition"):
        start(platform, "pass")
