"""No command opens the pickles of a tree that was made elsewhere, however well it is sealed, before --trust is given.

The tree is a real one, made by the trainer in a state folder of its own; then each of its pickles is replaced by one
that runs code, and every manifest is sealed again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hostile_tree import make_hostile
from small_project import SECTION, Bench
from trainer_runs import SECTION_TOML
from typer.testing import CliRunner

from kaggle_manager.checkpoints import CheckpointStore, TrainingTree, pack_tree
from kaggle_manager.checkpoints.vouched import FILE_NAME, Vouched
from kaggle_manager.cli.commands import app
from kaggle_manager.errors import UnsafePickle, UntrustedTree, VerificationError
from kaggle_manager.runs.journal import Journal
from kaggle_manager.trainer import main as session_main
from kaggle_manager.trainer.sb3 import sb3_exchange, train_dqn
from kaggle_manager.trainer.sb3.model_file import read_policy

pytestmark = pytest.mark.slow

SCENARIO = "cart"
SHORT = ["--section", SCENARIO, "--timesteps", "60", "--save-every", "20"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of somebody else: a project, and below `work` a training of it, made by the trainer."""
    folder = tmp_path_factory.mktemp("elsewhere")
    section = folder / "project/sections/cart"
    section.mkdir(parents=True)
    content = SECTION_TOML.format(
        environment="gymnasium:make",
        kwargs='id = "CartPole-v1"',
        hyperparameters="learning_starts = 10\nbuffer_size = 100\nbatch_size = 8",
    )
    (section / "section.toml").write_text(content.replace('accelerator = "NvidiaTeslaT4"\n', ""))
    (folder / "project/environment.py").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder / "project")
        assert train_dqn.main([*SHORT, "--workdir", str(folder / "work")]) == 0
        assert train_dqn.main([*SHORT, "--timesteps", "100", "--workdir", str(folder / "work")]) == 0, "its own goes on"
    return folder


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "code of the tree ran"


@pytest.fixture(params=[False, True], ids=["in the environment", "in the whole state"])
def hostile(
    request: pytest.FixtureRequest, elsewhere: Path, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A copy of that tree that runs code, below a working folder of this user; this process is in the project."""
    monkeypatch.chdir(elsewhere / "project")
    for name in [name for name in os.environ if name.startswith("KM_")]:
        monkeypatch.delenv(name)
    tree = tmp_path / "work" / tree_below(elsewhere / "work").relative_to(elsewhere / "work")
    shutil.copytree(tree_below(elsewhere / "work"), tree)
    make_hostile(tree, marker, whole_state=request.param)
    yield tree
    assert not marker.exists()


def tree_below(work: Path) -> Path:
    return work / "sections/cart/data/models"


def command(*line: str, work: Path, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*line, "--workdir", str(work)])
    assert done.exit_code == code, f"{line}: {done.exit_code}\n{done.output}\n{done.exception}"
    return done.output


def test_as_data_it_is_listed_verified_compared_exported_and_backed_up(hostile: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    assert "100" in command("checkpoints", "ls", SCENARIO, work=work)
    assert "every byte as its manifest says" in command("checkpoints", "verify", SCENARIO, work=work)
    command("checkpoints", "show", SCENARIO, "latest", work=work)
    command("checkpoints", "diff", SCENARIO, "latest", "best", work=work)
    command("checkpoints", "backup", SCENARIO, work=work)
    command("export", SCENARIO, (tmp_path / "bucket").as_uri(), work=work)
    command("status", work=work)


def test_a_restored_tree_is_data_until_the_user_says_otherwise(hostile: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    said = command("restore", SCENARIO, "--from", str(hostile), work=here)
    assert "this tree is not trusted here" in said.replace("\n", " ")
    command("export", SCENARIO, (tmp_path / "bucket").as_uri(), work=tmp_path / "work")
    said = command("restore", SCENARIO, "--from", (tmp_path / "bucket").as_uri(), work=tmp_path / "third")
    assert "--trust" in said
    for work in (here, tmp_path / "third"):
        assert train_dqn.main([*SHORT, "--timesteps", "120", "--workdir", str(work)]) == UntrustedTree.exit_code


def test_training_on_refuses_it(hostile: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = sorted((path, path.stat().st_size) for path in hostile.rglob("*"))
    line = [*SHORT, "--timesteps", "120", "--workdir", str(tmp_path / "work")]
    assert train_dqn.main(line) == UntrustedTree.exit_code
    said = capfd.readouterr().err
    assert "The checkpoint of step 100 in" in said
    typed = shlex.join(["python", "-m", "kaggle_manager.trainer.sb3.train_dqn", *line, "--trust"])
    assert said.rstrip().endswith(f"if you trust who made it: {typed}")
    assert sorted((path, path.stat().st_size) for path in hostile.rglob("*")) == before


def test_an_export_for_stock_sb3_refuses_it(hostile: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, work = str(tmp_path / "out"), tmp_path / "work"
    command("checkpoints", "export-sb3", SCENARIO, "latest", out, work=work, code=UntrustedTree.exit_code)
    line = ["export", out, "--tree", str(hostile), "--scenario", SCENARIO, "--state", str(work)]
    assert sb3_exchange.main(line) == UntrustedTree.exit_code
    typed = shlex.join(["python", "-m", "kaggle_manager.trainer.sb3.sb3_exchange", *line, "--trust"])
    assert capfd.readouterr().err.rstrip().endswith(f"if you trust who made it: {typed}")
    assert not (tmp_path / "out").exists()


def test_a_session_obeys_its_order(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainer_runs import launch_order

    head = CheckpointStore(TrainingTree(hostile, SCENARIO)).find_latest_checkpoint()
    assert head is not None
    pack_tree(TrainingTree(hostile, SCENARIO), tmp_path / "input/km-tree")
    monkeypatch.setenv("KM_INPUT_DIR", str(tmp_path / "input"))
    monkeypatch.setattr(session_main, "CODE", tmp_path / "code")
    parent = {"manifest_sha256": head.manifest.sha256, "min_step": 100, "dataset": "me/km-tree"}
    order = launch_order(tmp_path / "code", generation=3, run_id=head.manifest.lineage.run_id, target=120)
    others = {**parent, "manifest_sha256": "c" * 64, "vouched_by": "me"}
    for number, (named, reason) in enumerate([(parent, "does not say why"), (others, "manifest: asked cccc")]):
        working = tmp_path / f"working{number}"
        monkeypatch.setenv("KM_WORKING_DIR", str(working))
        assert session_main.run({**order, "parent": named}) == VerificationError.exit_code
        assert reason in (working / "session_result.json").read_text()


def test_a_report_reads_tensors_alone(hostile: Path) -> None:
    import gymnasium as gym

    env = gym.make("CartPole-v1")
    model = TrainingTree(hostile, SCENARIO).final.with_suffix(".zip").read_bytes()
    with pytest.raises(UnsafePickle, match=r"optimizer\.pth"):
        read_policy(
            model, "DQN", "MlpPolicy", {"policy_kwargs": {"net_arch": [8]}}, env.observation_space, env.action_space
        )


def test_a_push_continues_only_what_somebody_vouches_for_and_the_journal_says_who(bench: Bench, tmp_path: Path) -> None:
    bench.run(timesteps=2)
    other = Bench(bench.project, tmp_path / "another machine", bench.server)
    shutil.copytree(bench.tree.root, other.tree.root)
    for go_on in (lambda: other.run(timesteps=4), lambda: other.manager().tick(SECTION, timesteps=4)):
        with pytest.raises(UntrustedTree, match="The next session would open the pickles") as refused:
            go_on()
        assert refused.value.next_step.endswith("--trust")
    assert "goes in as dataset" not in other.output
    assert (other.run(timesteps=4, trust=True).state, other.steps()[0]) == ("finished", 4)
    with closing(Journal(other.workdir / "journal.sqlite")) as journal:
        [session] = journal.sessions(journal.runs()[-1].run_id)
    head = CheckpointStore(bench.tree).valid_checkpoints()[0].manifest
    assert (session.parent_sha256, session.facts["vouched_by"]) == (head.sha256, "trusted by the user")
    assert other.run(timesteps=6).state == "finished", "what its session brought is its own"


def test_a_copy_of_an_own_tree_needs_no_trust_wherever_it_lies(bench: Bench, tmp_path: Path) -> None:
    bench.run(timesteps=2)
    shutil.copytree(bench.tree.root, tmp_path / "copy")
    bench.run(timesteps=4)
    bench.manager().restore_copy(SECTION, tmp_path / "copy")
    assert bench.run(timesteps=4).state == "finished"


def test_with_trust_it_is_opened_and_known_from_then_on(
    elsewhere: Path, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above would see, if code of the tree ran."""
    monkeypatch.chdir(elsewhere / "project")
    work = tmp_path / "work"
    shutil.copytree(tree_below(elsewhere / "work"), tree_below(work))
    make_hostile(tree_below(work), marker)
    head = CheckpointStore(TrainingTree(tree_below(work), SCENARIO)).find_latest_checkpoint()
    assert head is not None
    out = str(tmp_path / "out")
    command("checkpoints", "export-sb3", SCENARIO, "latest", out, "--trust", work=work)
    assert marker.exists()
    assert Vouched(work).who(head.manifest) == "trusted by the user"
    command("checkpoints", "export-sb3", SCENARIO, "latest", out, work=work)


def test_a_training_that_is_killed_at_any_moment_knows_its_own_tree(elsewhere: Path, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "kaggle_manager.trainer.sb3.train_dqn", *SHORT, "--workdir", str(tmp_path)]
    listed = tmp_path / FILE_NAME
    with subprocess.Popen(
        [*line, "--timesteps", "100000"], cwd=elsewhere / "project", stdout=subprocess.DEVNULL
    ) as trainer:
        while not any(tree_below(tmp_path).rglob("*.manifest.json")) and trainer.poll() is None:
            time.sleep(0.005)  # else the look takes a core from what is looked at
        trainer.kill()
    assert listed.is_file()
    head = CheckpointStore(TrainingTree(tree_below(tmp_path), SCENARIO)).find_latest_checkpoint()
    assert head is not None
    assert Vouched(tmp_path).who(head.manifest)
