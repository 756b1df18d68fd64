"""The words of the command line: which commands and options there are; it parses and never acts.

Standard library only, so that `coral --help` costs nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from coralord_lightning import __version__
from coralord_lightning.cli.usage import HelpFormatter, examples_text, overview_text, sentence
from coralord_lightning.errors import UsageError, nearest

__all__ = ["COMMANDS", "Argument", "Command", "make_parser", "parse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One positional or option: its spellings, and what argparse is told about it."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command.

    Args:
        resolves: whether it looks at sources, and so takes `--offline` and `--locked`.
    """

    name: str
    summary: str
    arguments: tuple[Argument, ...] = ()
    resolves: bool = False

    def all_arguments(self) -> tuple[Argument, ...]:
        """Its own arguments and those that it shares."""
        return (*self.arguments, *(_RESOLVING if self.resolves else ()), *_COMMON)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(self.prog, message, remedy=f"{self.prog} --help")


def _argument(*names: str, **settings: Any) -> Argument:
    return Argument(names=names, settings=settings)


def _flag(*names: str, text: str) -> Argument:
    return _argument(*names, action="store_true", default=argparse.SUPPRESS, help=text)


_COMMON = (
    _argument("--home", metavar="DIR", default=argparse.SUPPRESS, help="the store; else CORAL_HOME, coral.toml"),
    _flag("--json", text="print JSON"),
    _flag("-q", "--quiet", text="no progress and no messages; errors stay"),
    _flag("--debug", text="with an error, print its traceback"),
)
_RUNNER = _argument(
    "--runner", metavar="ENGINE", default=argparse.SUPPRESS, help="docker or podman; else CORAL_RUNNER, coral.toml"
)
_RESOLVING = (
    _flag("--offline", text="make no request; what is not here already is an error"),
    _flag("--locked", text="anything that differs from coral.lock is an error (exit 3)"),
    _flag("--allow-private", text="let sources lie at private, loopback and link-local addresses"),
    _RUNNER,
    _argument(
        "--environment",
        metavar="local",
        default=argparse.SUPPRESS,
        help="run the pipeline in this interpreter, whatever the descriptor says; for a try",
    ),
    _argument("--max-fetch", metavar="SIZE", default=argparse.SUPPRESS, help="fetch no more than this, e.g. 50GB"),
)
_DESCRIPTOR = _argument("descriptor", metavar="DESCRIPTOR", help="a descriptor, e.g. digits.yaml")
_EXIT_CODE = _flag("--exit-code", text="exit 3 where something is not fresh")

COMMANDS: Mapping[str, Command] = {
    command.name: command
    for command in (
        Command(
            name="describe",
            summary="write the Croissant file of plain data files",
            arguments=(
                _argument("path", metavar="PATH", help="a folder, a file, or a glob in quotes"),
                _argument("-o", "--output", metavar="FILE", help="where to write it; else to standard output"),
                _flag("--force", text="write over FILE"),
                _flag("--validate", text="let mlcroissant check it"),
            ),
        ),
        Command(
            name="plan", summary="what a build would take; builds nothing", arguments=(_DESCRIPTOR,), resolves=True
        ),
        Command(
            name="build",
            summary="make the version true, unless it is already",
            arguments=(
                _DESCRIPTOR,
                _argument(
                    "--verify",
                    choices=("stat", "read"),
                    default="stat",
                    help="how a version that is there is checked: sizes, or every byte",
                ),
                _flag("--check", text="build twice, under other circumstances, and require the same content"),
                _argument("--jobs", metavar="N", help="build so many partitions at the same time; default: one a core"),
            ),
            resolves=True,
        ),
        Command(
            name="status",
            summary="fresh, stale or missing, and why",
            arguments=(
                _argument("descriptors", metavar="DESCRIPTOR", nargs="+", help="descriptors, e.g. digits.yaml"),
                _flag("--explain", text="name every input that changed, before and after"),
                _EXIT_CODE,
            ),
            resolves=True,
        ),
        Command(
            name="update",
            summary="move coral.lock to what is there now; builds nothing",
            arguments=(_DESCRIPTOR, _flag("--dry-run", text="say what would move"), _EXIT_CODE, _RUNNER),
        ),
        Command(name="list", summary="the datasets in the store, newest version of each"),
        Command(
            name="log",
            summary="the versions of a dataset, newest first",
            arguments=(_argument("name", metavar="NAME", nargs="?", help="a dataset's name; else all"),),
        ),
        Command(
            name="show",
            summary="one version: columns, splits, inputs",
            arguments=(_argument("fingerprint", metavar="FINGERPRINT", help="a fingerprint, or its first digits"),),
        ),
        Command(
            name="verify",
            summary="whether versions are whole; exit 4 where a file is damaged",
            arguments=(
                _argument(
                    "fingerprints",
                    metavar="FINGERPRINT",
                    nargs="*",
                    help="fingerprints, or their first digits; else every version in the store",
                ),
                _flag("--deep", text="read every byte; else presence and sizes of shards, and manifests"),
            ),
        ),
        Command(
            name="samples",
            summary="which rows a step of a run saw, by its checkpoint",
            arguments=(
                _argument("checkpoint", metavar="CHECKPOINT", help="of a run with a CoralDataModule"),
                _argument("--step", metavar="N", required=True, help="counts batches over the whole run, from 0"),
                _argument("--count", metavar="K", default="1", help="so many steps, from that one on; default: 1"),
            ),
        ),
        Command(
            name="query",
            summary="SQL over the catalog: entries, shards, sources, pins, runs",
            arguments=(_argument("sql", metavar="SQL", help='e.g. "select name, num_rows from entries"'),),
        ),
        Command(
            name="export",
            summary="a version as a folder that others read: Hugging Face, Croissant",
            arguments=(
                _argument("kind", metavar="hf|croissant", choices=("hf", "croissant"), help="what reads it"),
                _argument("fingerprint", metavar="FINGERPRINT", help="a fingerprint, or its first digits"),
                _argument("folder", metavar="DIR", nargs="?", help="where to write it: new, or an earlier export"),
                _argument("--push", metavar="ORG/NAME", help="hf: commit it to a dataset repository of the hub"),
                _argument("--branch", metavar="NAME", default="main", help="of that repository; default: main"),
                _flag("--private", text="make the repository private, where it is not there yet"),
                _flag("--force", text="set aside what lies at DIR, as DIR.before"),
            ),
        ),
        Command(name="schema", summary="the JSON Schema of a descriptor, for editors"),
        Command(
            name="completion",
            summary="what a shell reads to complete commands, files and fingerprints",
            arguments=(
                _argument(
                    "shell", metavar="bash|zsh|fish", choices=("bash", "zsh", "fish"), help="whose words it is in"
                ),
            ),
        ),
        Command(name="doctor", summary="whether this machine has what builds need"),
    )
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line as a namespace whose `command` names an entry of `COMMANDS`.

    Raises:
        UsageError: with the nearest command or option where there is one.
        SystemExit: after `--help` and `--version`, which print.
    """
    _require_known_command(argv)
    values, unknown = make_parser().parse_known_args(argv, _defaults())
    command = COMMANDS[values.command]
    for argument in command.arguments:  # argparse leaves out what may be absent where an option stands before it
        (name,) = argument.names[:1]
        is_left_out = argument.settings.get("nargs") == "?" and getattr(values, name) is None
        if is_left_out and unknown and not unknown[0].startswith("-"):
            setattr(values, name, unknown.pop(0))
    if unknown:
        known = [name for argument in command.all_arguments() for name in argument.names if name.startswith("-")]
        raise _unknown(f"coral {command.name}", "argument", unknown[0], known)
    return values


def _require_known_command(argv: Sequence[str]) -> None:
    common = _Parser(add_help=False, allow_abbrev=False, prog="coral")
    for argument in _COMMON:
        common.add_argument(*argument.names, **argument.settings)
    _, rest = common.parse_known_args(argv)
    words = [word for word in rest if not word.startswith("-")]
    if words and words[0] not in COMMANDS:
        raise _unknown("coral", "command", words[0], list(COMMANDS))
    if not words and not {"-h", "--help", "--version"} & set(rest):
        raise UsageError("coral", "which command?", facts={"commands": ", ".join(COMMANDS)}, remedy="coral --help")


def _unknown(prog: str, kind: str, word: str, known: list[str]) -> UsageError:
    near = nearest(word, known)
    return UsageError(
        prog,
        f"unknown {kind} '{word}'",
        facts={f"{kind}s": ", ".join(sorted(known))},
        remedy=f"{prog} {near}" if near else f"{prog} --help",
    )


def _defaults() -> argparse.Namespace:
    flags: tuple[str, ...] = ("json", "quiet", "debug", "offline", "locked", "allow_private")
    flags += ("explain", "exit_code", "dry_run", "force", "validate", "check", "deep", "private")
    return argparse.Namespace(
        home=None, max_fetch=None, jobs=None, runner=None, environment=None, **dict.fromkeys(flags, False)
    )


def make_parser(completers: Mapping[str, Callable[..., Any]] | None = None) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        completers: first or last spelling of an argument -> what a shell may complete it to, as argcomplete calls it.
    """
    parser = _Parser(
        prog="coral", usage="coral COMMAND [option ...]", allow_abbrev=False, formatter_class=HelpFormatter,
        description=overview_text({name: command.summary for name, command in COMMANDS.items()}),
        epilog=examples_text(None),
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"coral {__version__}", help="print coral's version")
    _add(parser, (*_RESOLVING, *_COMMON), completers)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, help=argparse.SUPPRESS)
    for command in COMMANDS.values():
        sub = commands.add_parser(
            command.name, description=sentence(command.summary), epilog=examples_text(command.name),
            allow_abbrev=False, formatter_class=HelpFormatter, prog=f"coral {command.name}",
        )  # fmt: skip
        _add(sub, command.all_arguments(), completers)
    return parser


def _add(
    parser: argparse.ArgumentParser, arguments: Sequence[Argument], completers: Mapping[str, Callable[..., Any]] | None
) -> None:
    for argument in arguments:
        action: Any = parser.add_argument(*argument.names, **argument.settings)
        for name in (argument.names[0], argument.names[-1]):
            if name in (completers or {}):
                action.completer = (completers or {})[name]
