"""A curve is a convenience: damaged or huge, it is a sentence in every command and on every page, within bounds."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_trees import SCENARIO, SECTION, plant
from typer.testing import CliRunner

from kaggle_manager.checkpoints import TrainingTree
from kaggle_manager.cli.commands import app
from kaggle_manager.dashboard.axes import Scale
from kaggle_manager.dashboard.curves import MOST_METRICS, Curve, read_curve
from kaggle_manager.errors import CheckpointCorrupt
from kaggle_manager.trees.compare import compare_trees
from kaggle_manager.trees.evaluations import MAX_BYTES, read_evaluations
from kaggle_manager.trees.inspect import verify_tree

STEPS, RETURNS = np.array([1, 2], np.int64), np.array([[1.0, 2.0], [3.0, 4.0]])


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def packed(method: int, *, steps: bytes, results: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("timesteps.npy", steps)
        archive.writestr("results.npy", results)
    return file.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode("latin1")
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def damaged_in_its_compressed_data() -> bytes:
    data = bytearray(packed(zipfile.ZIP_DEFLATED, steps=npy("x" * 500), results=npy("y" * 500)))
    data[60] ^= 0xFF
    return bytes(data)


def patched(find: bytes, at: int, value: int) -> bytes:
    """With one byte of the central directory changed."""
    data = bytearray(npz(timesteps=STEPS, results=RETURNS))
    data[data.index(find) + at] = value
    return bytes(data)


def deep() -> bytes:
    return npy("(" * 9_000)


def bomb() -> bytes:
    """A gigabyte of zeros in a megabyte."""
    return packed(zipfile.ZIP_DEFLATED, steps=b"", results=b"\0" * (MAX_BYTES * 16))


DAMAGED: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"not an archive",
    "cut": lambda: npz(timesteps=STEPS, results=RETURNS)[:-30],
    "no results": lambda: npz(timesteps=STEPS),
    "compressed data": damaged_in_its_compressed_data,
    "unknown compression": lambda: patched(b"PK\x01\x02", 10, 77),
    "encrypted": lambda: patched(b"PK\x01\x02", 8, 1),
    "short array": lambda: packed(zipfile.ZIP_STORED, steps=b"\x93NUMPY", results=b"\x93NUMPY"),
    "deep header": lambda: packed(zipfile.ZIP_STORED, steps=deep(), results=deep()),
    "no shape": lambda: packed(zipfile.ZIP_STORED, steps=npy("{}"), results=npy("7")),
    "terminal": lambda: packed(zipfile.ZIP_STORED, steps=npy("{'fortran_order': '\x1b[31m'}"), results=npy("7")),
    "steps that are none": lambda: npz(timesteps=np.array([np.nan, np.inf]), results=RETURNS),
    "negative steps": lambda: npz(timesteps=np.array([-1, 2], np.int64), results=RETURNS),
    "pickled": lambda: npz(timesteps=np.array([1, {}], object), results=RETURNS),
    "bomb": bomb,
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_curve_is_one_sentence_everywhere(kind: str, tmp_path: Path) -> None:
    tree = plant(tmp_path / "models")
    path = tree.history / "evaluations.npz"
    path.write_bytes(DAMAGED[kind]())
    with pytest.raises(CheckpointCorrupt, match=r"evaluations\.npz cannot be understood: .") as caught:
        read_evaluations(path)
    assert "\x1b" not in caught.value.message
    curve = read_curve(tree.history)
    assert [problem for problem in curve.problems if "evaluations.npz" in problem]
    assert curve.evaluations == ()
    assert any("evaluations.npz" in problem for problem in verify_tree(tree).problems)
    whole = plant(tmp_path / "others")
    (found,) = [each for each in compare_trees(tree, whole) if each.name == "curve"]
    assert "the evaluation curve of a is left out" in found.words


@pytest.mark.parametrize("words", [("verify",), ("ls",), ("diff", "latest", "best"), ("show",)])
def test_a_command_that_meets_one_ends_in_words(words: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "validation_ch7" / SECTION / "data/models"
    plant(folder).history.joinpath("evaluations.npz").write_bytes(damaged_in_its_compressed_data())
    command = ["checkpoints", words[0], SECTION, *words[1:], "--scenario", SCENARIO, "--workdir", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == (3 if words[0] == "verify" else 0), done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    as_json = CliRunner().invoke(app, [*command, "--json"])
    json.loads(as_json.stdout)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_one_flipped_bit_is_the_curve_or_a_sentence(tmp_path: Path, position: int, bit: int) -> None:
    data = bytearray(npz(timesteps=STEPS, results=RETURNS))
    data[position % len(data)] ^= 1 << bit
    (tmp_path / "evaluations.npz").write_bytes(data)
    curve = read_curve(tmp_path)
    assert len(curve.evaluations) == 2 or curve.problems


def test_a_compressed_gigabyte_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.npz"
    path.write_bytes(bomb())
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointCorrupt, match="more than"):
            read_evaluations(path)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < 2


def test_infinities_and_numbers_beyond_all_bounds_are_left_out_of_what_is_drawn(tmp_path: Path) -> None:
    returns = np.array([[np.inf, -np.inf], [1e308, 1e308], [np.nan, 1.0], [1.0, 2.0]])
    (tmp_path / "evaluations.npz").write_bytes(npz(timesteps=np.arange(4), results=returns))
    long = "1" + "0" * 4_000
    rows = f"1.0,10,0,10\n1e308,10,0,20\n1,5,0,-25\n2.0,9,0,{long}\nnan,1,0,30\n"
    (tmp_path / "monitor.csv").write_text(f"#{{}}\nr,l,t,step\n{rows}")
    curve = read_curve(tmp_path)
    assert [(point.step, point.mean) for point in curve.evaluations] == [(3, 1.5)]
    assert curve.returns == ((10, 1.0),)
    assert curve.episodes == 1
    assert any("left out" in problem for problem in curve.problems)
    assert Scale.around([1.7e308, -1.7e308, float("nan")]).ticks()


MONITORS: dict[str, Callable[[Path], object]] = {
    "no text": lambda path: path.write_bytes(bytes(range(256)) * 100),
    "one line": lambda path: path.write_bytes(b"x," * 2_000_000),
    "a folder": lambda path: path.mkdir(),
    "huge": lambda path: (path.touch(), os.truncate(path, 10_000_000_000)),
}


@pytest.mark.parametrize("kind", MONITORS)
def test_a_damaged_or_huge_monitor_file_is_a_sentence_or_nothing(kind: str, tmp_path: Path) -> None:
    MONITORS[kind](tmp_path / "monitor.csv")
    tracemalloc.start()
    try:
        curve = read_curve(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert curve == Curve() or len(curve.problems) == 1


def test_a_tree_with_huge_files_is_read_in_blocks(tmp_path: Path) -> None:
    tree = plant(tmp_path / "models")
    events = tree.history / "tensorboard" / "events.out.tfevents.x"
    for path in (events, tree.checkpoints / tree.manifest_name("latest", 9)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.truncate(path, 200_000_000)
    tracemalloc.start()
    try:
        verify_tree(TrainingTree(tree.root, SCENARIO))
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


def test_the_metrics_of_a_script_are_curves_and_odd_lines_are_left_out(tmp_path: Path) -> None:
    good = [{"step": step, "name": "loss", "value": 1 / step} for step in (1, 2)]
    odd = ["no JSON", "[]", '{"step": -1, "name": "loss", "value": 1}', '{"step": 3, "name": "loss", "value": NaN}']
    odd += [f'{{"step": 1, "name": "{number}", "value": 0}}' for number in range(20)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*map(json.dumps, good), *odd]))
    curve = read_curve(tmp_path)
    assert dict(curve.metrics)["loss"] == ((1, 1.0), (2, 0.5))
    assert len(curve.metrics) == MOST_METRICS
