"""Every code block of the README runs, in order, beside the digits; what it says is printed is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from command_line import Digits
from coralord_lightning.spec.descriptor import parse_descriptor

README = Path(__file__).resolve().parent.parent / "README.md"
CHANGING = (
    (r"(fingerprint +)[0-9a-f]{64}", r"\1FINGERPRINT"),
    (r"(fresh|stale|missing)  [0-9a-f]{12}", r"\1  FINGERPRINT"),
    (r"built in [0-9.]+ m?s", "built in TIME"),
)


@dataclass(frozen=True, kw_only=True)
class Block:
    language: str
    text: str


def _blocks() -> list[Block]:
    found = re.findall(r"^```(\w+)\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [Block(language=language, text=text) for language, text in found]


def _comparable(text: str) -> str:
    for pattern, word in CHANGING:
        text = re.sub(pattern, word, text)
    return re.sub(r" +$", "", text, flags=re.MULTILINE).strip()


def test_every_block_is_of_a_kind_that_is_checked():
    assert {block.language for block in _blocks()} == {"python", "sh", "text", "yaml"}


@pytest.mark.slow
def test_every_block_runs_and_prints_what_the_readme_says(tmp_path):
    digits = Digits.copy_to(tmp_path / "digits")
    environment = os.environ | {
        "CORAL_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
    }
    printed = ""
    for block in _blocks():
        if block.language == "yaml":
            parse_descriptor(block.text, origin="README.md", base_dir=digits.folder)
            digits.descriptor.write_text(block.text)
        elif block.language == "text":
            assert _comparable(block.text) == _comparable(printed)
        else:
            command = [sys.executable, "-c"] if block.language == "python" else ["sh", "-e", "-c"]
            done = subprocess.run(
                [*command, block.text], cwd=digits.folder, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            printed = done.stdout
