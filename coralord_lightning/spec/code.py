"""The identity of a pipeline's source: comments cut out, local imports followed. Pure: texts come from a callback.

Comments are located by `tokenize` and cut out of the text, because token streams and syntax trees differ between
Python versions while the text does not.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import sys
import tokenize
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from coralord_lightning.errors import PipelineNotFoundError, nearest

__all__ = ["Closure", "code_digest", "import_closure", "require_function", "without_comments"]

ReadText = Callable[[str], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closure:
    """A pipeline's own code.

    Args:
        code: relative path -> source text, of the entry file and every local module it imports, directly or not.
        imports: top-level names of what is neither local nor in the standard library.
    """

    code: Mapping[str, str]
    imports: frozenset[str]


def code_digest(source: str) -> str:
    """SHA-256 of a source text without what cannot change its meaning."""
    return hashlib.sha256(without_comments(source).encode()).hexdigest()


@functools.lru_cache(maxsize=128)  # asked for several times on one look-up
def without_comments(source: str) -> str:
    """Cut comments, blank lines and trailing blanks outside strings; docstrings stay.

    Raises:
        SyntaxError, tokenize.TokenError: the text is no Python.
    """
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    inside: set[int] = set()  # 1-based numbers of lines whose end lies within a string
    string_starts: list[int] = []
    for token in tokenize.generate_tokens(io.StringIO("\n".join(lines)).readline):
        kind = tokenize.tok_name[token.type]
        (row, column), (end_row, _) = token.start, token.end
        if kind.endswith("STRING_START"):
            string_starts.append(row)
        elif kind.endswith("STRING_END"):
            inside.update(range(string_starts.pop(), end_row))
        elif kind == "STRING":
            inside.update(range(row, end_row))
        elif kind == "COMMENT" and not string_starts and not (row > 1 and lines[row - 2].endswith("\\")):
            lines[row - 1] = lines[row - 1][:column]
    kept: list[str] = []
    for number, line in enumerate(lines, start=1):
        plain = line if number in inside else line.rstrip()
        # after a backslash, a blank line or comment ends the statement: without it, the next line would go on with it
        if plain or number in inside or (kept and kept[-1].endswith("\\")):
            kept.append(plain or line)
    return "\n".join(kept)


def import_closure(entry: str, read: ReadText) -> Closure:
    """Follow the imports of a pipeline through the modules beside it.

    Args:
        entry: path of the pipeline's file, relative to the descriptor's folder, with `/`.
        read: gives the text of a relative path, or None where there is no such file.
    Raises:
        PipelineNotFoundError: the entry file is missing, or a file is no Python; names file and line.
    """
    roots = tuple(dict.fromkeys([str(PurePosixPath(entry).parent), "."]))
    code: dict[str, str] = {}
    imports: set[str] = set()
    waiting = [entry]
    while waiting:
        path = waiting.pop()
        if path in code:
            continue
        text = read(path)
        if text is None:
            raise PipelineNotFoundError(
                "pipeline.entrypoint",
                f"there is no file '{path}' beside the descriptor",
                remedy=f"create {path}, or correct pipeline.entrypoint (file.py:function)",
            )
        code[path] = text
        for candidates, top in _imports(path, text, roots):
            local = [found for found in candidates if read(found) is not None]
            waiting += local
            if not local and top is not None and top not in sys.stdlib_module_names:
                imports.add(top)
    return Closure(code=dict(sorted(code.items())), imports=frozenset(imports))


def require_function(text: str, *, file: str, function: str) -> None:
    """Make sure a module binds a name at its top level.

    Raises:
        PipelineNotFoundError: it does not; suggests the nearest that it binds.
    """
    bound = set(_bound_names(_parse(file, text).body))
    if function in bound or "*" in bound:
        return
    near = nearest(function, bound)
    raise PipelineNotFoundError(
        "pipeline.entrypoint",
        f"'{file}' has no function '{function}'",
        facts={"functions": ", ".join(sorted(bound)) or "none"},
        remedy=f"entrypoint: {file}:{near}" if near else f"define `def {function}(batch)` in {file}",
    )


@functools.lru_cache(maxsize=128)
def _parse(path: str, text: str) -> ast.Module:
    try:
        without_comments(text)
        _require_utf8(path, text)
        return ast.parse(text, filename=path)
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError) as error:
        line = getattr(error, "lineno", None)
        at = f"{path}:{line}" if line else path
        raise PipelineNotFoundError(
            at,
            f"is no valid Python: {getattr(error, 'msg', None) or error}",
            facts={"got": (getattr(error, "text", None) or "").strip()} if line else {},
            remedy=f"mend {at}",
        ) from error


def _require_utf8(path: str, text: str) -> None:
    """Refuse a declared encoding: the sandbox gets the text in UTF-8, and a comment must not change what it means."""
    declared, _ = tokenize.detect_encoding(io.BytesIO(text.encode()).readline)
    if declared not in ("utf-8", "utf-8-sig"):
        raise PipelineNotFoundError(
            path,
            "declares another encoding than UTF-8",
            facts={"got": declared, "expected": "utf-8"},
            remedy=f"save {path} as UTF-8 and take its `coding:` comment out",
        )


def _imports(path: str, text: str, roots: tuple[str, ...]) -> Iterator[tuple[list[str], str | None]]:
    """Yield, for each import, the local files it may mean and the top-level name it has otherwise."""
    package = PurePosixPath(path).parent
    for node in ast.walk(_parse(path, text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield _files(roots, alias.name.split(".")), alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            parts = (node.module or "").split(".") if node.module else []
            if node.level:
                base = (package, *package.parents)[min(node.level - 1, len(package.parents))]
                where: tuple[str, ...] = (str(base),)
                packages = [item for item in (base, *base.parents) if item != PurePosixPath()]
                yield [str(item / "__init__.py") for item in packages], None  # an import runs the packages it is in
                top = None
            else:
                where, top = roots, parts[0]
            found = _files(where, parts)
            for alias in node.names:
                found += _files(where, [*parts, alias.name])
            yield found, top


def _files(roots: tuple[str, ...], parts: list[str]) -> list[str]:
    """The files that importing `a.b` reads: `a/__init__.py`, then `a/b.py` or `a/b/__init__.py`."""
    found = []
    for root in roots:
        for depth in range(1, len(parts) + 1):
            stem = PurePosixPath(root, *parts[:depth])
            found += [str(stem.with_name(stem.name + ".py")), str(stem / "__init__.py")]
    return found


def _bound_names(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name))
        else:
            for inner in ("body", "orelse", "finalbody"):
                yield from _bound_names(getattr(node, inner, []))
            for handler in getattr(node, "handlers", []):
                yield from _bound_names(handler.body)
