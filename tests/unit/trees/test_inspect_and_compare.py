"""Looking changes nothing; every damaged file is named; what differs between two trainings is said in words."""

from __future__ import annotations

import io
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from documents import ROOT
from small_trees import IDENTITY, SCENARIO, SECTION, config_in, content, curve, flip, plant
from typer.testing import CliRunner

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.cli.commands import app
from kaggle_manager.config import RunConfig, build_config
from kaggle_manager.errors import CheckpointCorrupt, CheckpointNotFound, NotFound
from kaggle_manager.sections import project
from kaggle_manager.sections.model import Section, load_section
from kaggle_manager.trees.compare import TreeDifference, compare_trees, find_side
from kaggle_manager.trees.compatibility import current_identity
from kaggle_manager.trees.evaluations import read_evaluations
from kaggle_manager.trees.here import trees_here
from kaggle_manager.trees.inspect import find_checkpoint, look_at, verify_tree


def said(found: list[TreeDifference]) -> dict[str, str]:
    return {difference.name: difference.words for difference in found}


def test_three_levels_are_shown_newest_first_and_nothing_is_changed(tmp_path: Path) -> None:
    tree = plant(tmp_path / "models")
    before = content(tree.root)
    views = look_at(tree)
    assert [(v.level, v.manifest.step if v.manifest else None, v.hash_state) for v in views] == [
        ("latest", 2, "verified"),
        ("latest", 1, "verified"),
        ("best", 1, "verified"),
        ("final", 2, "verified"),
    ]
    assert {v.hash_state for v in look_at(tree, verify=False)} == {"not read"}
    assert verify_tree(tree).problems == ()
    assert content(tree.root) == before
    assert look_at(TrainingTree(tmp_path / "nothing", SCENARIO)) == []


def test_every_byte_is_read_and_every_damaged_file_is_named(tmp_path: Path) -> None:
    tree = plant(tmp_path / "models")
    for path in sorted(path for path in tree.root.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for position in (0, len(whole) // 2):
            flip(path, position)
            problems = verify_tree(tree).problems
            flip(path, position)
            if path.suffix != ".npz" or position:  # a zip may begin with anything
                assert any(path.name in problem for problem in problems), path
        path.unlink()
        if not path.name.endswith((".manifest.json", ".npz")):  # what nobody names is not missed
            assert any(path.name in problem for problem in verify_tree(tree).problems), path
        path.write_bytes(whole)
    flip(tree.checkpoints / tree.name("latest", "model", 1))
    flip(tree.checkpoints / tree.name("latest", "state", 1))
    found = " ".join(verify_tree(tree).problems)
    assert tree.name("latest", "model", 1) in found
    assert tree.name("latest", "state", 1) in found


def test_a_damaged_segment_is_named_with_its_rows(tmp_path: Path) -> None:
    tree = plant(tmp_path / "models")
    flip(tree.replay / "segment_2.bin")
    (problem,) = verify_tree(tree).problems
    assert "segment_2.bin (rows 1 to 3)" in problem
    assert [view.hash_state for view in look_at(tree)][:2] == ["damaged", "verified"]


def test_a_checkpoint_is_called_by_its_level_or_its_step(tmp_path: Path) -> None:
    tree = plant(tmp_path / "models")
    assert [find_checkpoint(tree, which).name for which in ("latest", "2", "1", "best", "final")] == [
        tree.manifest_name("latest", 2),
        tree.manifest_name("latest", 2),
        tree.manifest_name("latest", 1),
        tree.manifest_name("best"),
        tree.manifest_name("final"),
    ]
    with pytest.raises(CheckpointNotFound, match=r"it holds latest \(2\)"):
        find_checkpoint(tree, "7")


def test_the_curve_is_read_as_numpy_wrote_it(tmp_path: Path) -> None:
    steps, returns = np.array([100, 200]), np.array([[1.0, 2.0], [3.5, 4.0]])
    stream = io.BytesIO()
    np.savez_compressed(stream, timesteps=steps, results=returns, ep_lengths=returns.astype(int))
    path = tmp_path / "evaluations.npz"
    path.write_bytes(stream.getvalue())
    assert [(point.step, point.mean, point.episodes) for point in read_evaluations(path)] == [
        (100, 1.5, 2),
        (200, 3.75, 2),
    ]
    assert read_evaluations(tmp_path / "none.npz") == []
    np.savez(stream := io.BytesIO(), timesteps=steps, results=np.array([{}, {}], dtype=object))
    for rubbish in (b"", b"PK\x03\x04", stream.getvalue(), path.read_bytes()[:-30]):
        path.write_bytes(rubbish)
        with pytest.raises(CheckpointCorrupt):
            read_evaluations(path)


def test_what_differs_is_said_in_words_by_topic(tmp_path: Path) -> None:
    changed = {
        **IDENTITY,
        "hyperparameters": {"learning_rate": 0.01, "policy_kwargs": {"net_arch": [64, 64]}, "tau": 1.0},
        "reward_fingerprint": "x" * 64,
        "versions": {"torch": "2.14.0"},
    }
    a = plant(tmp_path / "a")
    b = plant(tmp_path / "b", (2, 3), run_id="other", score=-4.0, identity=changed)
    found = compare_trees(a, b, labels=("the old", "the new"))
    words = said(found)
    assert [difference.topic for difference in found] == [
        *["configuration"] * 2,
        "environment",
        "versions",
        *["results"] * 3,
        "lineage",
    ]
    assert words["hyperparameters.learning_rate"] == (
        "hyperparameters.learning_rate is 0.001 in the old and 0.01 in the new"
    )
    assert words["hyperparameters.tau"].startswith("hyperparameters.tau is not stated in the old")
    assert words["reward_fingerprint"] == "the sources of the reward are not the same"
    assert words["versions.torch"] == "versions.torch is 2.13.0 in the old and 2.14.0 in the new"
    assert words["step"] == "the new is 1 step further (2 and 3)"
    assert "-5 in the old and -4 in the new (the new better by 1)" in words["best_score"]
    assert "part at step 2" in words["curve"]
    assert words["run_id"] == "they are of two runs: run and other"


def test_a_tree_does_not_differ_from_itself_and_other_bits_at_one_step_are_told(tmp_path: Path) -> None:
    a, b = plant(tmp_path / "a"), plant(tmp_path / "b")
    assert compare_trees(a, a) == compare_trees(a, b) == []
    (b.history / "evaluations.npz").write_bytes(curve([(1, [-4.0, -5.0])]))
    assert said(compare_trees(a, b)) == {
        "curve": "the evaluation curves agree up to step 1 and one continues (2 and 1 evaluations)"
    }


def test_a_side_is_a_checkpoint_a_folder_or_a_run(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    plant(config.tree)
    other = plant(tmp_path / "elsewhere", (4, 5))
    assert (find_side("best", config).manifest.kind, find_side("1", config).manifest.step) == ("best", 1)
    assert find_side(str(other.root), config).manifest.step == 5
    with pytest.raises(NotFound, match="no checkpoint, no folder and no run"):
        find_side("cafe", config)


def test_the_commands_say_it_as_text_and_as_json_and_damage_exits_3(tmp_path: Path) -> None:
    tree = plant(config_in(tmp_path).tree)
    run = CliRunner().invoke

    def ask(*words: str) -> tuple[int, str]:
        done = run(app, ["checkpoints", words[0], SECTION, *words[1:], "--workdir", str(tmp_path)])
        return done.exit_code, done.stdout

    assert ask("verify")[0] == 0
    for command in (["ls"], ["show", "best"], ["verify"], ["diff", "latest", "best"]):
        code, text = ask(*command, "--json")
        assert (code, json.loads(text)["schema"]) == (0, 1)
        assert ask(*command)[0] == 0
    plant(tmp_path / "replaced" / "run" / "before_generation_2")
    assert json.loads(ask("ls", "--json")[1])["copies"][0]["hashes"] == "verified"
    assert json.loads(ask("ls", "--json", "--no-verify")[1])["copies"][0]["hashes"] == "not read"
    flip(tmp_path / "replaced" / "run" / "before_generation_2" / "best_model" / "best_model.zip")
    assert json.loads(ask("ls", "--json")[1])["copies"][0]["hashes"] == "damaged"
    flip(tree.checkpoints / tree.name("latest", "model", 2))
    assert "damaged" in ask("ls")[1]
    code, text = ask("verify", "--json")
    assert (code, json.loads(text)["error"]) == (3, "CheckpointCorrupt")
    assert tree.name("latest", "model", 2) in json.loads(text)["why"]
    assert ask("show", "77")[0] == 9
    assert ask("show", "newest")[0] == 2


def test_the_section_whose_checkpoints_are_listed_may_be_left_out_where_it_is_the_only_one(tmp_path: Path) -> None:
    plant(config_in(tmp_path).tree)
    where = ["--workdir", str(tmp_path), "--json"]
    listed = [CliRunner().invoke(app, ["checkpoints", "ls", *words, *where]).stdout for words in ([SECTION], [])]
    assert listed[0] == listed[1]
    assert json.loads(listed[0])["checkpoints"]
    assert CliRunner().invoke(app, ["checkpoints", "ls", "of_nobody", *where]).exit_code == 2


@pytest.mark.parametrize("line", ["checkpoints ls", "checkpoints show", "checkpoints verify", "checkpoints backup"])
def test_a_training_that_only_a_quick_run_was_made_of_is_found_by_what_is_said(line: str, tmp_path: Path) -> None:
    run, arguments = CliRunner().invoke, [*line.split(), "--workdir", str(tmp_path)]
    assert "--quick" not in run(app, arguments).output
    plant(config_in(tmp_path, quick=True).tree)
    assert "only a quick run is here: add --quick" in run(app, arguments).output
    assert run(app, [*arguments, "--quick"]).exit_code == 0
    plant(config_in(tmp_path).tree)
    assert "add --quick" not in run(app, arguments).output


def test_seeds_and_quick_runs_of_seeds_are_found_by_what_is_said_and_named_when_no_journal_knows_them(
    tmp_path: Path,
) -> None:
    def config(**which: Any) -> RunConfig:
        return build_config(SECTION, workdir=tmp_path, environ={}, **which)

    for which in ({"seed": 3}, {"seed": 12, "quick": True}):
        plant(config(**which).tree)
    (config().tree.with_name("models_seed_notes")).mkdir()
    found = [each.which for each in trees_here(config().project_root, SECTION, tmp_path)]
    assert [(each.seed, each.quick) for each in found] == [(3, False), (12, True)]
    said = CliRunner().invoke(app, ["checkpoints", "show", "--workdir", str(tmp_path)]).output
    assert "the same command finds with --seed 3 or with --seed 12 --quick" in said
    seen = CliRunner().invoke(app, ["status", "--json", "--workdir", str(tmp_path)]).output
    assert json.loads(seen)["next"] == config(seed=3).command("run", "--trust")


def test_a_search_for_trees_reads_the_section_once_for_all_its_scenarios(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(path: Path) -> Section:
        read.append(path)
        return load_section(path)

    monkeypatch.setattr(project, "load_section", counted)
    assert list(trees_here(ROOT, SECTION, tmp_path)) == []
    assert len(read) == 1


def test_what_a_command_prints_to_be_typed_does_it_when_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command that is found in the output of one is typed in turn, for a tree that is none by default."""
    monkeypatch.chdir(ROOT)
    config = build_config(SECTION, workdir=tmp_path / "a work folder", seed=3, quick=True, environ={})
    plant(config.tree, identity=current_identity(config))
    typed: set[str] = set()
    waiting = [config.command("checkpoints ls"), config.command("checkpoints backup")]
    waiting += [config.command("export", tmp_path / "an export")]
    before = {file.name: file.read_bytes() for file in config.tree.rglob("*.zip")}
    while waiting:
        line = waiting.pop()
        typed.add(line)
        done = CliRunner().invoke(app, [*shlex.split(line)[1:], "--workdir", str(config.state)])
        assert done.exit_code == 0, f"{line}: {done.output}"
        found = re.findall(r"km [^\n]+", done.output)
        waiting += [each for each in found if each not in typed and "FOLDER" not in each and " run " not in each]
    assert sum("restore" in line for line in typed) == 2
    assert {file.name: file.read_bytes() for file in config.tree.rglob("*.zip")} == before
    assert not build_config(SECTION, workdir=config.state, environ={}).tree.exists()
