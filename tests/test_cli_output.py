"""How the command line looks: units, tables, JSON, and progress with and without a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from datetime import datetime

import pytest

from command_line import Digits
from coralord_lightning.cli.output import Output, duration, pairs, size, table
from coralord_lightning.cli.progress import PlainProgress
from web import serve


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 KB"), (48_359, "48.4 KB"), (999_600, "1 MB"), (2_500_000_000_000, "2.5 TB")],
)
def test_sizes_are_said_in_steps_of_a_thousand(size_bytes, text):
    assert size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.012, "12 ms"), (3.42, "3.4 s"), (59.96, "1 min 0 s"), (125, "2 min 5 s"), (4320, "1 h 12 min")],
)  # fmt: skip
def test_durations_are_said_as_people_do(seconds, text):
    assert duration(seconds) == text


def test_a_table_aligns_words_left_and_numbers_right():
    assert table(["name", "rows"], [("a", 5), ("longer", 1797), ("none", None)]) == [
        "name    rows",
        "a          5",
        "longer  1797",
        "none",
    ]


def test_what_would_steer_a_terminal_is_shown_as_text():
    assert table(["name"], [("\x1b[31mred\nline",)])[1] == r"\x1b[31mred\nline"


def test_a_value_of_several_lines_stays_in_its_column():
    assert pairs({"a": "1\n2", "long": "3"}) == ["  a     1", "        2", "  long  3"]


def test_json_has_a_word_for_everything():
    out = io.StringIO()
    output = Output(out=out, err=out, json=True)
    output.records(["at", "bytes", "nothing"], [(datetime(2026, 1, 2, 3, 4, 5), b"\x00\xff", None)])  # noqa: DTZ001
    assert json.loads(out.getvalue()) == [{"at": "2026-01-02T03:04:05", "bytes": "00ff", "nothing": None}]


def test_quiet_silences_messages_and_never_errors():
    err = io.StringIO()
    output = Output(out=io.StringIO(), err=err, quiet=True)
    output.note("a message")
    output.error("an error")
    assert err.getvalue() == "an error\n"


def test_plain_progress_says_each_kind_of_phase_and_repeats_only_now_and_then():
    now, err = [0.0], io.StringIO()
    progress = PlainProgress(err, clock=lambda: now[0])
    for second in range(25):
        now[0] = float(second)
        progress.phase(f"building partition {second} of 25")
    progress.phase("publishing")
    progress.finish()
    assert err.getvalue().splitlines() == [
        "coral: building partition 0 of 25",
        "coral: building partition 10 of 25",
        "coral: building partition 20 of 25",
        "coral: publishing",
    ]


def test_the_time_that_is_left_is_told_from_partitions_alone_not_from_an_image_that_was_built_first():
    now, err = [0.0], io.StringIO()
    progress = PlainProgress(err, clock=lambda: now[0])
    progress.start(11)
    progress.phase("starting the pipeline's environment")
    now[0] = 600.0
    progress.phase("building partition 1 of 11")
    now[0] = 602.0
    progress.advance(rows=100, bytes=2_000)
    assert err.getvalue().splitlines()[-1] == "coral: 1 of 11 partitions, 100 rows, 2 KB, about 20 s left"


@pytest.mark.parametrize("no_color", [False, True])
def test_bars_and_colours_are_for_terminals(tmp_path, no_color):
    digits = Digits.copy_to(tmp_path / "digits")
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        [sys.executable, "-m", "coralord_lightning.cli", "build", str(digits.descriptor), "--home", tmp_path / "home"],
        env=os.environ | {"TERM": "xterm"} | ({"NO_COLOR": "1"} if no_color else {}),
        stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:  # Linux says so when the other side has closed
        pass
    finally:
        os.close(ours)
    out, _ = started.communicate(timeout=60)
    assert started.returncode == 0
    assert out.startswith(b"digits  built in ")
    assert b"\x1b" not in out
    assert b"building partition 1 of 1" in shown
    assert (b"\x1b[3" in shown) is not no_color


def test_a_terminal_sees_what_is_fetched_of_what_was_foretold(tmp_path):
    digits = Digits.copy_to(tmp_path / "digits")
    content = (digits.folder / "digits.parquet").read_bytes()
    with serve(digits_parquet=content) as site:
        digits.croissant(lambda it: it["distribution"][0].update(contentUrl=f"{site.url}/digits.parquet"))
        shown = _on_a_terminal("build", digits.descriptor, "--home", tmp_path / "home", "--allow-private")
    assert b"fetching" in shown
    assert f"of about {size(len(content))}".encode() in shown


def test_plain_progress_says_once_how_much_will_be_fetched():
    err = io.StringIO()
    progress = PlainProgress(err, clock=lambda: 0.0)
    for done in range(0, 5_000_000, 100_000):
        progress.fetching(done)
    progress.fetching(100, 5_000_000)
    assert err.getvalue() == "coral: fetching 5 MB (5000000 bytes)\n"


def _on_a_terminal(*words: object) -> bytes:
    """What a command shows on a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "coralord_lightning.cli", *map(str, words)]
    started = subprocess.Popen(command, env=os.environ | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65_536):
            shown += chunk
    except OSError:  # Linux says so when the other side has closed
        pass
    finally:
        os.close(ours)
    started.communicate(timeout=60)
    assert started.returncode == 0, shown
    return shown
