"""Code blocks of documentation pages: found with their lines, run in order in a folder of the page; knows no page.

What a block is, is told by its language and by HTML comments, which readers never see:

    ```yaml title="digits.yaml"     written to that file, and read as a descriptor where it is one; likewise `python`,
                                    `json`, `toml`, `text`, `dockerfile` with a title
    ```python                       run; the Python blocks of one page are one session
    ```sh                           run by `sh -e` in the page's folder
    ```text                         what the block before printed; `…` stands for anything, a line `…` for any lines;
                                    fingerprints, times and dates may differ
    ```yaml                         without a title: a descriptor, or keys of one, or any YAML; it must be readable
    ```console, ```                 shown, never run
    <!-- page: examples/digits -->  the page's folder begins as a copy of that one; else it is empty
    <!-- page: skip, REASON -->     nothing on this page runs
    <!-- block: skip, REASON -->    the next block does not run, nor is the output after it compared
    <!-- block: exit 3 -->          the next block ends with that exit code; Python: with an exception
    <!-- run: sh
    … -->                           runs and is not shown; likewise `python`
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from coralord_lightning.spec.descriptor import parse_descriptor

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = frozenset({"", "python", "sh", "text", "yaml", "json", "toml", "dockerfile", "console", "mermaid"})
TIMEOUT_S = 240

_PART = re.compile(
    r"^(?P<indent> *)(?P<fence>```+) *(?P<language>[\w-]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=indent)(?P=fence) *$"
    r"|^<!-- *(?P<word>page|block|run): *(?P<said>.*?) *-->",
    flags=re.MULTILINE | re.DOTALL,
)
_MASKS = (
    (re.compile(r"\b[0-9a-f]{64}\b"), "DIGEST"),
    (re.compile(r"\b[0-9a-f]{12}\b"), "FINGERPRINT"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "COMMIT"),
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?(\+00:00|Z)?)?"), "DATE"),
    (re.compile(r"\b[0-9]+(\.[0-9]+)? (m?s|min)\b"), "TIME"),
)
_SESSION = """
import contextlib, io, json, os, sys, traceback
replies = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
sys.path.insert(0, "")
names = {"__name__": "__main__"}
for line in sys.stdin:
    asked, out, error = json.loads(line), io.StringIO(), None
    try:
        with contextlib.redirect_stdout(out):
            exec(compile("\\n" * asked["line"] + asked["text"], asked["page"], "exec", dont_inherit=True), names)
    except BaseException as caught:
        error = traceback.format_exc()
        out.write(f"{type(caught).__name__}: {caught}")
    print(json.dumps([out.getvalue(), error]), file=replies, flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block, or hidden step.

    Args:
        line: of its fence, from 1.
        skip: why it does not run.
        exit_code: what it ends with.
    """

    page: str
    line: int
    language: str
    text: str
    title: str | None = None
    skip: str | None = None
    exit_code: int = 0

    @property
    def at(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, kw_only=True)
class Page:
    """The blocks of one page, and the folder that they begin in."""

    name: str
    blocks: tuple[Block, ...]
    folder: str | None = None
    skip: str | None = None


def read_page(name: str, text: str) -> Page:
    """The blocks of a page; a comment that nobody understands is an AssertionError that names its line."""
    blocks: list[Block] = []
    about: dict[str, Any] = {}
    coming: dict[str, Any] = {}
    for part in _PART.finditer(text):
        line = text.count("\n", 0, part.start()) + 1
        if part["word"] == "page":
            skip = _reason(part["said"])
            about |= {"skip": skip} if skip else {"folder": part["said"]}
        elif part["word"] == "block":
            skip, code = _reason(part["said"]), re.fullmatch(r"exit ([0-9]+)", part["said"])
            assert skip or code, f"{name}:{line}: nobody knows what '{part['said']}' means"
            coming = {"skip": skip} if skip else {"exit_code": int(code[1])}
        elif part["word"] == "run":
            language, _, code_text = part["said"].partition("\n")
            blocks.append(Block(page=name, line=line, language=language.strip(), text=code_text))
        else:
            title = re.search(r'title="([^"]+)"', part["rest"])
            said = {"title": title[1] if title else None, **coming}
            shown = textwrap.dedent(part["text"])
            blocks.append(Block(page=name, line=line, language=part["language"], text=shown, **said))
            coming = {}
    return Page(name=name, blocks=tuple(blocks), **about)


def _reason(said: str) -> str | None:
    found = re.fullmatch(r"skip, (\S.*)", said, flags=re.DOTALL)
    return found[1] if found else None


@dataclass(kw_only=True)
class PageRun:
    """One page being run in a folder."""

    page: Page
    folder: Path
    environment: dict[str, str]
    printed: tuple[str, ...] | None = None
    session: subprocess.Popen[str] | None = field(default=None, repr=False)

    def run(self) -> None:
        """Run every block; the first that does not do as the page says is an AssertionError with its place."""
        try:
            for block in self.page.blocks:
                self._block(block)
        finally:
            if self.session is not None:
                self.session.stdin.close()
                self.session.wait(timeout=60)
                self.session.stdout.close()

    def _block(self, block: Block) -> None:
        assert block.language in LANGUAGES, f"{block.at}: a block of '{block.language}' is not checked"
        if block.skip:
            self.printed = None
        elif block.title is not None:
            _require_readable(block, self.folder)
            path = self.folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self._python(block)
        elif block.language == "sh":
            self._shell(block)
        elif block.language == "text":
            self._compare(block)
        else:
            _require_readable(block, self.folder)

    def _shell(self, block: Block) -> None:
        done = subprocess.run(
            ["sh", "-e", "-c", block.text], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == block.exit_code, f"{block.at}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        self.printed = (done.stdout, done.stdout + done.stderr)

    def _python(self, block: Block) -> None:
        if self.session is None:
            command = [sys.executable, "-c", _SESSION]
            self.session = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        asked = {"line": block.line, "text": block.text, "page": block.page}
        self.session.stdin.write(json.dumps(asked) + "\n")
        self.session.stdin.flush()
        reply = self.session.stdout.readline()
        assert reply, f"{block.at}: the Python session ended"
        out, error = json.loads(reply)
        assert (error is not None) == bool(block.exit_code), f"{block.at}: {error or 'no exception'}\n{out}"
        self.printed = (out,)

    def _compare(self, block: Block) -> None:
        if self.printed is None:
            return
        pattern = re.compile(_pattern(block.text))
        printed = [_comparable(text) for text in self.printed]
        fits = any(pattern.fullmatch(text + "\n") for text in printed)
        assert fits, f"{block.at}: is not what was printed:\n{printed[-1]}\n--- but\n{_comparable(block.text)}"


def run_page(page: Page, folder: Path, home: Path) -> None:
    """Run the page's blocks in `folder`, which is made, with a store of its own in `home`."""
    if page.folder is None:
        folder.mkdir(parents=True)
    else:
        ignored = shutil.ignore_patterns("__pycache__", "coral.lock", "wheels", "logs", "outputs", "multirun")
        shutil.copytree(ROOT / page.folder, folder, ignore=ignored)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CORAL_", "HF_", "WANDB_"))}
    environment = kept | {
        "HOME": str(home / "user"),
        "CORAL_HOME": str(home / "store"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONWARNINGS": "ignore",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "NO_COLOR": "1",
        "COLUMNS": "120",
    }
    (home / "user").mkdir(parents=True)
    PageRun(page=page, folder=folder, environment=environment).run()


def _require_readable(block: Block, folder: Path) -> None:
    if block.language == "json":
        json.loads(block.text)
    elif block.language == "toml":
        tomllib.loads(block.text)
    elif block.language == "yaml":
        values = YAML(typ="safe", pure=True).load(block.text)
        known = values.keys() if isinstance(values, dict) else set()
        if "name" in known and known & {"croissant", "files"} and "defaults" not in known:  # which are Hydra's
            parse_descriptor(block.text, origin=block.at, base_dir=folder)


def _comparable(text: str) -> str:
    for pattern, word in _MASKS:
        text = pattern.sub(word, text)
    return re.sub(r" +$", "", text, flags=re.MULTILINE).strip()


def _pattern(text: str) -> str:
    lines = []
    for line in _comparable(text).splitlines():
        anything = line.strip() == "…"
        lines.append(r"(?:[^\n]*\n)*" if anything else r"[^\n]*".join(map(re.escape, line.split("…"))) + r"\n")
    return "".join(lines)
