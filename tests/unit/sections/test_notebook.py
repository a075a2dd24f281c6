"""A notebook as a script: its code and nothing else, the same everywhere; what only a notebook can do is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kaggle_manager.sections.identity import identity_of
from kaggle_manager.sections.meaning import meaning_of
from kaggle_manager.sections.model import section_of
from kaggle_manager.sections.notebook import NoScript, as_python, without_outputs
from kaggle_manager.sections.script import ScriptScenario
from kaggle_manager.sessions.bundle import build_bundle
from kaggle_manager.sessions.preflight import known_failures
from kaggle_manager.trainer.script.command import command_of

TOML = """
name = "toy"
title = "A notebook"
trains = true
default_scenario = "toy"

[scenarios.toy]
script = "train.ipynb"
target = 4
models = "data/models"

[scenarios.toy.quick]
models = "data/models_quick"
"""


def notebook(*cells: str, outputs: Any = (), **metadata: Any) -> bytes:
    code = [
        {"cell_type": "code", "source": cell.splitlines(keepends=True), "outputs": list(outputs), "metadata": {}}
        for cell in cells
    ]
    text = {"cell_type": "markdown", "source": ["# %pip install it"], "metadata": {}}
    return json.dumps({"cells": [text, *code], "metadata": metadata, "nbformat": 4}).encode()


def test_the_code_is_run_in_order_and_what_only_shows_is_left_out() -> None:
    text = "if x:\n    %autoreload 2\n    y = '''\n%not a command\n'''"
    cells = ("%matplotlib inline\nx = 1", "", text, "display(x, y)")
    space: dict[str, Any] = {}
    text = as_python(notebook(*cells))
    exec(compile(text, "train", "exec"), space)
    assert space["x"] == 1
    assert space["y"] == "\n%not a command\n"
    assert "# %matplotlib inline" in text


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("import os\n!pip install tiny", "cell 1, line 2: `!pip install tiny` installs while it runs: pin it"),
        ("%pip install -q tiny", "cell 1, line 1: `%pip install -q tiny` installs while it runs"),
        ("%%bash\nls", "cell 1, line 1: `%%bash` is a command of notebooks"),
        ("x = 1\nx?", "cell 1, line 2: `x?` is a command of notebooks"),
        ("x = 1\nfiles = !ls 'it", "cell 1, line 2: `files = !ls 'it` is a command of notebooks"),
        ("x = %time f()", "cell 1, line 1: `x = %time f()` is a command of notebooks"),
        ("\n\n%%time\nx = 1", "cell 1, line 3: `%%time` is a command of notebooks"),
        ('x = [\n  1, 2]\n!echo "it\'s"', 'cell 1, line 3: `!echo "it\'s"` is a command of notebooks'),
        ('text = """\n%not one\n"""\nif text:\n    !ls', "cell 1, line 5: `!ls` is a command of notebooks"),
        ("x = 1\npip install tiny", "cell 1, line 2: `pip install tiny` installs while it runs"),
        ("x = 1\nawait x", "cell 1, line 2: `await x` is no Python that a script can have"),
        ("def f(:", "cell 1, line 1: `def f(:` is no Python that a script can have"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_cell_and_line(cell: str, said: str) -> None:
    with pytest.raises(NoScript) as refused:
        as_python(notebook(cell))
    assert said in str(refused.value)


@pytest.mark.parametrize(
    "cell",
    [
        'text = """\n!ls\n%time x\n%matplotlib inline\n%%bash\nx?\n"""',
        "ten, three = 10, 3\nrest = (ten\n%three)\nrest = ten \\\n%three",
        "told = {1: '= !ls'}\ntold['= !ls'] = \"x = %time\"  # = !ls, what?",
        "text = 'a form\x0cfeed, a \u2028 line'",
    ],
)
def test_a_line_that_begins_no_statement_is_no_command(cell: str) -> None:
    expected: dict[str, Any] = {}
    exec(cell, expected)
    space: dict[str, Any] = {}
    exec(as_python(notebook("%matplotlib inline\n" + cell)), space)
    del expected["__builtins__"]
    assert {name: space[name] for name in expected} == expected


def test_what_ipython_reads_otherwise_than_python_is_read_as_it_does() -> None:
    cells = ("  x: int = 1\n  %config A \\\n  .b = 2\n  y = 2", "from __future__ import annotations\nz: unknown = 3")
    space: dict[str, Any] = {}
    exec(compile(as_python(notebook(*cells)), "train", "exec", dont_inherit=True), space)
    assert (space["x"], space["y"], space["z"]) == (1, 2, 3), "an indented cell, a command of two lines, a late import"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"cells": [1]}', b"\xff"])
def test_what_is_no_notebook_is_said(content: bytes) -> None:
    with pytest.raises(NoScript, match="no notebook"):
        as_python(content)
    with pytest.raises(NoScript, match="a notebook of R"):
        as_python(notebook("x <- 1", kernelspec={"language": "R"}))


def test_what_it_shows_neither_travels_nor_counts(tmp_path: Path) -> None:
    folder = tmp_path / "sections/toy"
    folder.mkdir(parents=True)
    (folder / "section.toml").write_text(TOML)
    section = section_of(TOML, folder / "section.toml")
    (tmp_path / "part.py").write_text("")
    (tmp_path / "train.ipynb").write_bytes(notebook("import part", "x = 1"))
    before, bundle = identity_of(section, "toy", tmp_path), build_bundle(tmp_path, section)
    shown = notebook("import part", "x = 1", outputs=[{"data": "x" * 2_000_000}])
    (tmp_path / "train.ipynb").write_bytes(shown)
    assert identity_of(section, "toy", tmp_path) == before
    assert build_bundle(tmp_path, section).sha256 == bundle.sha256
    assert {"train.ipynb", "part.py"} <= {name for name, _ in bundle.files}
    assert meaning_of("a.ipynb", without_outputs(shown)) == meaning_of("a.ipynb", shown)
    scenario = section.scenario()
    assert isinstance(scenario, ScriptScenario)
    script = Path(command_of(scenario, folder, tmp_path)[-1])
    assert script.name == "train.ipynb.py"
    compile(script.read_text(), "train", "exec")
    (tmp_path / "train.ipynb").write_bytes(notebook("!pip install tiny"))
    assert "installs while it runs" in str(known_failures(tmp_path, section, ["toy"]))
