"""Colours: on a terminal that wants them, in labels and states, and nowhere else."""

from __future__ import annotations

import io

import pytest

from command_line import Digits
from coralord_lightning.cli.run import run


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "environment", "colored"),
    [
        (True, {"TERM": "xterm"}, True),
        (True, {"TERM": "dumb"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": "1"}, False),
        (True, {"TERM": "xterm", "NO_COLOR": ""}, True),
        (False, {"TERM": "xterm"}, False),
        (False, {"TERM": "dumb", "FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "0"}, False),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_errors_and_states_are_coloured_where_that_is_wanted(tmp_path, monkeypatch, terminal, environment, colored):
    for name in ("TERM", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    digits = Digits.copy_to(tmp_path / "digits")
    stream = _Terminal if terminal else io.StringIO
    out, err = stream(), stream()
    assert run(["status", str(digits.descriptor), "--home", str(tmp_path / "home")], out=out, err=err) == 0
    assert ("\x1b[31mmissing\x1b[0m" in out.getvalue()) is colored
    assert run(["show", "ff", "--home", str(tmp_path / "home")], out=out, err=err) == 1
    assert ("\x1b[1;31mCORAL-E0605" in err.getvalue()) is colored
    assert ("\x1b" in out.getvalue() + err.getvalue()) is colored


def test_json_is_never_coloured(tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out, err = _Terminal(), _Terminal()
    run(["doctor", "--json", "--home", str(tmp_path)], out=out, err=err)
    assert "\x1b" not in out.getvalue()
