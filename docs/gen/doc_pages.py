"""Pages of the documentation that the code itself says: descriptor, commands, errors, decisions. Writes no file."""

from __future__ import annotations

import argparse
import html
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coralord_lightning import errors
from coralord_lightning.cli.examples import EXAMPLES, GROUPS
from coralord_lightning.cli.parser import COMMANDS, Argument, Command
from coralord_lightning.spec.descriptor.problems import EXPECTED
from coralord_lightning.spec.descriptor.schema import TEXTS, descriptor_schema

HERE = Path(__file__).resolve().parent
DECISIONS = HERE.parent / "decisions"
_LISTS = ("fields", "splits")

_DESCRIPTOR_HEAD = """\
# The descriptor, key by key

Made from the JSON Schema of the descriptor. An editor with a YAML language server completes the keys and marks mistakes
if the first line of a descriptor names that schema:

```yaml title="digits.yaml"
# yaml-language-server: $schema=descriptor.schema.json
name: digits
croissant: croissant.json
```

`coral schema > descriptor.schema.json` writes it, without a request; this site has it at
[schema/descriptor.json](../schema/descriptor.json). What a schema cannot know (whether a field exists, whether a
predicate can be read, `.nan`) is said by `coral plan`.

A descriptor is YAML 1.2: `no` and `on` are texts, a key said twice is an error, and so are tags. Sizes are `512m` and
`4GiB` (powers of 1024) or `50GB` (powers of 1000); durations `90s`, `10m`, `1.5h`. Relative paths start from the folder
of the descriptor.
"""
_CLI_HEAD = """\
# The command line

Made from the words that `coral` itself parses. Data go to standard output, messages and progress to standard error.

| exit code | meaning |
|---|---|
| 0 | ok |
| 1 | error |
| 2 | usage |
| 3 | stale (with `--exit-code`), or other than `coral.lock` (with `--locked`) |
| 4 | integrity: something is not what it was recorded to be |
| 5 | lock conflict |
| 6 | upstream unreachable, or offline |
| 130 | interrupted |
"""
_ERRORS_HEAD = """\
# Errors

Every error has a code that stays the same, says what it is about, what was got and expected, and ends in `try:` with
something that works when pasted. In Python each is a subclass of `CoralError` in `coralord_lightning.errors`, with
`subject`, `message`, `facts`, `remedy` and `to_json()`; with `--json` the command line prints it as an object.
"""
_DECISIONS_HEAD = """\
# Decisions

Why things are as they are, where one would otherwise undo them: one page each.
"""


def every_page() -> Mapping[str, str]:
    """Address within the site -> Markdown, or JSON."""
    return {
        "reference/descriptor.md": descriptor_page(),
        "reference/cli.md": cli_page(),
        "reference/errors.md": errors_page(),
        "decisions/index.md": decisions_page(),
        "schema/descriptor.json": json.dumps(descriptor_schema(), indent=2, ensure_ascii=False) + "\n",
    }


def descriptor_page() -> str:
    """Every key of a descriptor."""
    schema = descriptor_schema()
    lines = [_DESCRIPTOR_HEAD]
    for key, value in schema["properties"].items():
        lines += _key_lines(key, value, level=2, required=key in schema["required"])
        for inner, part, required in _inner(key, value):
            lines += _key_lines(inner, part, level=3, required=required)
    return "\n".join(lines)


def _inner(key: str, value: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    for choice in value.get("anyOf", ()):
        part = choice.get("additionalProperties", choice) if key in _LISTS else choice
        for item in [part, *part.get("anyOf", ())] if isinstance(part, dict) else ():
            for name, inner in item.get("properties", {}).items():
                yield f"{key}.*.{name}" if key in _LISTS else f"{key}.{name}", inner, name in item.get("required", ())


def _key_lines(key: str, schema: Mapping[str, Any], *, level: int, required: bool) -> list[str]:
    expected, example = EXPECTED[key]
    shown = key.replace(".*.", ".NAME.")
    default = schema.get("default")
    facts = "required" if required else f"default `{json.dumps(default)}`" if default is not None else "optional"
    head = f"{'#' * level} `{shown}` {{ #{key.replace('.*', '')} }}"
    return [head, "", f"{TEXTS[key]} Takes {expected}; {facts}.", "", "```yaml", example, "```", ""]


def cli_page() -> str:
    """Every command, by name of what it does."""
    shared = Command(name="", summary="", resolves=True)
    own = {argument.names for argument in Command(name="", summary="").all_arguments()}
    looking = [argument for argument in shared.all_arguments() if argument.names not in own]
    lines = [_CLI_HEAD]
    for group, names in GROUPS.items():
        lines += ["", f"**{_sentence(group).rstrip('.')}**", "", "| command | what it does |", "|---|---|"]
        lines += [f"| [`coral {name}`](#{name}) | {COMMANDS[name].summary} |" for name in names]
    lines += ["", "## Options of every command { #common }", ""]
    lines += [_argument_line(argument) for argument in shared.all_arguments() if argument.names in own]
    lines += ["", "## Options of commands that look at sources { #sources }", ""]
    lines += [_argument_line(argument) for argument in looking]
    for command in COMMANDS.values():
        lines += ["", *_command_lines(command)]
    return "\n".join(lines) + "\n"


def _command_lines(command: Command) -> list[str]:
    usage = " ".join(["coral", command.name, *map(_usage, command.arguments)])
    also = "[every command](#common)" + (", and of those that [look at sources](#sources)" if command.resolves else "")
    lines = [f"## coral {command.name} {{ #{command.name} }}", "", f"{_sentence(command.summary)}", ""]
    lines += ["```console", f"$ {usage}", "```", "", *map(_argument_line, command.arguments), ""]
    lines += _example_lines(command)
    return [*lines, f"Takes the options of {also}."]


def _example_lines(command: Command) -> list[str]:
    shown = [text for line, meaning in EXAMPLES[command.name] for text in (f"# {meaning}", f"$ {line}")]
    return ["```console", *shown, "```", ""]


def _usage(argument: Argument) -> str:
    settings = argument.settings
    name = argument.names[-1]
    if not name.startswith("-"):
        shown = settings.get("metavar") or name.upper()
        return {"+": f"{shown}…", "*": f"[{shown}…]", "?": f"[{shown}]"}.get(str(settings.get("nargs", "")), shown)
    value = "" if settings.get("action") else f" {_value(argument)}"
    return f"{name}{value}" if settings.get("required") else f"[{name}{value}]"


def _value(argument: Argument) -> str:
    settings = argument.settings
    return settings.get("metavar") or "|".join(settings.get("choices", ())) or argument.names[-1].strip("-").upper()


def _argument_line(argument: Argument) -> str:
    value = "" if argument.settings.get("action") else f" {_value(argument)}"
    names = argument.names if argument.names[0].startswith("-") else (str(argument.settings.get("metavar")),)
    shown = ", ".join(names) + (value if argument.names[0].startswith("-") else "")
    text = str(argument.settings.get("help", "")) % _HelpWords(argument.settings)
    default = argument.settings.get("default")
    told = default in (None, argparse.SUPPRESS) or "default" in text
    return f"- `{shown}`: {html.escape(text, quote=False)}" + ("" if told else f"; default `{default}`")


class _HelpWords(dict[str, Any]):
    """What argparse fills into a help text."""

    def __missing__(self, key: str) -> str:
        return f"%({key})s"


def errors_page() -> str:
    """Every error, with what brings it about and what to do."""
    told = error_help()
    lines = [_ERRORS_HEAD, "| code | error | exit |", "|---|---|--:|"]
    classes = every_error()
    lines += [f"| [{cls.code}](#{cls.code}) | `{cls.__name__}` | {cls.exit_code} |" for cls in classes]
    for cls in classes:
        help_ = told[cls.code]
        lines += ["", f"## {cls.code} `{cls.__name__}` {{ #{cls.code} }}", "", (cls.__doc__ or "").splitlines()[0], ""]
        lines += [f"**Cause.** {help_['cause']}", "", f"**Remedy.** {help_['remedy']}"]
    return "\n".join(lines) + "\n"


def error_help() -> dict[str, dict[str, str]]:
    """Code -> cause and remedy, from `errors.toml`."""
    return tomllib.loads((HERE / "errors.toml").read_text(encoding="utf-8"))


def every_error() -> list[type[errors.CoralError]]:
    """Every class of the error tree, by code."""
    found = [getattr(errors, name) for name in errors.__all__]
    classes = [cls for cls in found if isinstance(cls, type) and issubclass(cls, errors.CoralError)]
    return sorted(classes, key=lambda cls: cls.code)


def decisions_page() -> str:
    """The decisions by number, each with what was decided."""
    lines = [_DECISIONS_HEAD]
    for path in sorted(DECISIONS.glob("[0-9]*.md")):
        text = path.read_text(encoding="utf-8")
        number, _, title = text.splitlines()[0].removeprefix("# ").partition(" ")
        found = re.search(r"\*\*Decision\.?\*\*\.?\s*(.+?\.)(\s|$)", text, flags=re.DOTALL)
        decided = f": {' '.join(found[1].split())}" if found else ""
        lines.append(f"- [{number} {title}]({path.name}){decided}")
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
