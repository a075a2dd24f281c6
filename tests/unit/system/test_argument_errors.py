"""An option that does not exist is reported with what is safe and the next command, as by every command."""

from __future__ import annotations

import pytest

from kaggle_manager.errors import ConfigError
from kaggle_manager.system.arguments import ArgumentParser


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (["--no"], "Unrecognized arguments: --no."),
        (["--kills", "x"], "Argument --kills: invalid int value: 'x'."),
        (["--kill", "3"], "Unrecognized arguments: --kill 3."),
    ],
)
def test_an_invalid_option_is_reported_without_the_usage(
    given: list[str], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = ArgumentParser(prog="python -m it")
    parser.add_argument("--kills", type=int)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(given)
    assert ended.value.code == ConfigError.exit_code
    said = capsys.readouterr().err
    assert said == f"error: {wrong}\nSafe: nothing was started\nNext: python -m it --help\n"
