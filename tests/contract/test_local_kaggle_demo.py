"""`km local-kaggle demo` shows a kernel of the official client from push to output, and leaves nothing running."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kaggle_manager import cli

pytestmark = pytest.mark.slow


@pytest.mark.skipif(os.name != "posix", reason="other systems do not send localhost through a proxy")
def test_the_demo_shows_push_status_log_and_output_and_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "a-token-of-the-real-kaggle")  # is not used
    with pytest.raises(SystemExit) as left:
        cli.main(["local-kaggle", "demo", "--json"])
    shown = capsys.readouterr()
    assert left.value.code == 0, shown.err
    commands = {each["command"]: each["printed"] for each in json.loads(shown.out)["commands"]}
    assert "successfully pushed" in commands["kaggle kernels push -p my_kernel"]
    assert "COMPLETE" in commands["kaggle kernels status local/local-demo"]
    assert "squares.csv is written" in commands["kaggle kernels logs local/local-demo"]
    assert commands["cat output/squares.csv"].splitlines()[-1] == "4,16"
    assert "GPU" in commands["kaggle quota"]
    assert not list(tmp_path.glob("km_demo_*"))
