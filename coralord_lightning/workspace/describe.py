"""Plain files to the Croissant that describes them: for `coral describe`, and in memory for a descriptor's `files:`.

Looks at each file once: what it held is kept by its hash, so that a second look costs a `stat`. Never writes beside the
data; who asked for a description writes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from coralord_lightning.builder.observe import SUFFIXES, format_of, observe
from coralord_lightning.errors import CroissantError, SourceFormatError, SourceMissingError, UsageError, nearest
from coralord_lightning.sources import FetchedText, Sources
from coralord_lightning.sources.hashes import replace_file
from coralord_lightning.spec.descriptor import SubsetDescriptor
from coralord_lightning.spec.infer import ObservedColumn, ObservedFile, infer
from coralord_lightning.spec.plan import LocalFile
from coralord_lightning.spec.selection import FileSet

__all__ = ["Described", "croissant_of", "describe", "describe_descriptor", "validate", "write"]

_VERSION = 1
"""Goes up when the same file would be seen otherwise."""
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """What `coral describe` found.

    Args:
        document: the Croissant file.
        files: what was looked at.
        skipped: files of the folder that are no data we read.
    """

    document: Mapping[str, Any]
    files: tuple[ObservedFile, ...]
    notes: tuple[str, ...]
    skipped: tuple[str, ...]

    @property
    def num_rows(self) -> int | None:
        """Rows in all files; None where one was not counted."""
        counts = [file.num_rows for file in self.files]
        return None if None in counts else sum(count for count in counts if count is not None)

    @property
    def text(self) -> str:
        """The Croissant file as it is written."""
        return json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"


def croissant_of(patterns: Sequence[str], base_dir: Path, *, sources: Sources, name: str = "files") -> FetchedText:
    """The Croissant text of a descriptor's `files:`, as if it stood beside the descriptor.

    Raises:
        SourceError: nothing matches, or a file cannot be read as its ending says.
    """
    found, unknown = _observed(patterns, base_dir, sources)
    if unknown:
        raise SourceFormatError(
            unknown[0],
            "has an ending that says no format we read",
            facts={"files": ", ".join(patterns), "endings": ", ".join(SUFFIXES)},
            remedy=f"files: '{_narrowed(patterns[0], found)}'",
        )
    inferred = infer(found, name=name, patterns=tuple(patterns), sets_only=True)
    text = json.dumps(inferred.document, ensure_ascii=False)
    return FetchedText(text=text, sha256=hashlib.sha256(text.encode()).hexdigest(), base=base_dir)


def describe(path: Path, *, beside: Path | None, sources: Sources) -> Described:
    """Describe a file, or the files of a folder; of a descriptor, what it says.

    Args:
        path: may have wildcards.
        beside: the folder that the description will lie in; None: the data's own.
    Raises:
        UsageError: the data does not lie beneath that folder.
        SourceError: there is no data, or a file cannot be read as its ending says.
    """
    if not path.exists() and not _WILD.search(str(path)):
        raise _nothing_there(path)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return describe_descriptor(path, target=None if beside is None else beside / path.name)
    folder, pattern = _folder_and_pattern(path)
    base = (beside or folder).absolute()
    inside = Path(os.path.relpath(os.path.realpath(folder), os.path.realpath(base)))
    if inside.parts[:1] == ("..",):
        raise UsageError(
            "coral describe",
            "a Croissant file names data beneath its own folder only",
            facts={"data": folder, "folder": base},
            remedy=f"coral describe {path} -o {folder / 'croissant.json'}",
        )
    prefix = "" if inside == Path() else f"{_escaped(inside.as_posix())}/"
    found, skipped = _observed([prefix + pattern], base, sources)
    if not found:
        raise _no_data(path, skipped)
    title = path.absolute().name if pattern == "**/*" else folder.absolute().name
    universe = [*(file.name for file in found), *skipped] if pattern == "**/*" else None
    inferred = infer(found, name=title or "data", universe=universe, patterns=(prefix + pattern,))
    return Described(document=inferred.document, files=tuple(found), notes=inferred.notes, skipped=tuple(skipped))


def write(found: Described, target: Path, *, force: bool) -> None:
    """Write a description; over another file only where that is said.

    Raises:
        UsageError: there is another file, or it cannot be written.
    """
    try:
        if target.exists() and not force and target.read_text(encoding="utf-8", errors="replace") != found.text:
            raise UsageError(
                str(target),
                "is there already, and says something else",
                remedy=f"coral describe … -o {target} --force   # or give another name",
            )
        target.write_text(found.text, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            str(target), "cannot be written", facts={"got": error.strerror}, remedy=f"mkdir -p {target.parent}"
        ) from error


def validate(document: Mapping[str, Any]) -> list[str]:
    """What mlcroissant warns of; it runs here, where it is installed.

    Raises:
        UsageError: it is not.
        CroissantError: it finds errors.
    """
    try:
        import mlcroissant  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise UsageError(
            "--validate", "needs mlcroissant, which is not installed", remedy="pip install mlcroissant"
        ) from error
    log = logging.getLogger("absl")  # where it prints what it also returns
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the libraries it uses, about each other
            dataset = mlcroissant.Dataset(jsonld=json.loads(json.dumps(document)))  # it edits what it is given
    except Exception as error:
        raise CroissantError(
            "mlcroissant",
            "finds the description invalid",
            facts={"got": str(error)},
            remedy="mend the description by hand, and report this: describe should write what is valid",
        ) from error
    finally:
        log.setLevel(level)
    return sorted(dataset.metadata.ctx.issues.warnings)


def _observed(patterns: Sequence[str], base: Path, sources: Sources) -> tuple[list[ObservedFile], list[str]]:
    """What the matching files hold, and the names of those whose ending says no format."""
    everything = FileSet(id="files", format="any", includes=tuple(patterns))
    found, unknown = [], []
    for source, place in sources.resolve(everything, base=base):
        kind = format_of(source.name)
        if kind is None or not isinstance(place, LocalFile):
            unknown.append(source.name)
            continue
        sha256 = str(source.identity["sha256"])
        file = _remembered(place.path, source.name, kind, sha256, sources.cache_dir)
        found.append(replace(file, name=source.name, sha256=sha256, size_bytes=source.size_bytes))
    return found, unknown


def _remembered(path: Path, name: str, kind: Any, sha256: str, cache_dir: Path) -> ObservedFile:
    """What a file holds: as it was noted when it was looked at, or by a look now."""
    note = cache_dir / "observed" / f"{sha256}-{kind}-{_VERSION}.json"
    if kind in ("image", "audio"):
        return ObservedFile(name=name, format=kind, num_rows=1)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return _from_json(json.loads(note.read_bytes()))
    file = observe(path, name, kind)
    with contextlib.suppress(OSError):  # noting it only saves a look
        replace_file(note, json.dumps(asdict(file)).encode())
    return file


def _from_json(value: Any) -> ObservedFile:
    columns = tuple(_column_from_json(item) for item in value["columns"])
    return ObservedFile(**{**value, "columns": columns})


def _column_from_json(value: Any) -> ObservedColumn:
    children = tuple(_column_from_json(item) for item in value["children"])
    return ObservedColumn(**{**value, "shape": tuple(value["shape"]), "children": children})


def _folder_and_pattern(path: Path) -> tuple[Path, str]:
    """Where to look, and for what."""
    if path.is_dir():
        return path, "**/*"
    if path.exists() or not _WILD.search(str(path)):
        return path.parent, _escaped(path.name)
    parts = path.parts
    wild = next(index for index, part in enumerate(parts) if _WILD.search(part))
    return Path(*parts[:wild]), "/".join(parts[wild:])


def _escaped(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def _narrowed(pattern: str, found: Sequence[ObservedFile]) -> str:
    """A pattern like the user's, of one ending that we read."""
    ending = found[0].suffix if found else "csv"
    return f"{pattern.rpartition('/')[0]}/*.{ending}".removeprefix("/")


def _nothing_there(path: Path) -> SourceMissingError:
    there = sorted(item.name for item in path.parent.iterdir()) if path.parent.is_dir() else []
    near = nearest(path.name, there)
    return SourceMissingError(
        str(path),
        "there is no such file or folder",
        facts={"there": ", ".join(there[:8])} if there else {},
        remedy=f"coral describe {path.parent / near}" if near else "coral describe FOLDER",
    )


def _no_data(path: Path, skipped: Sequence[str]) -> SourceMissingError:
    return SourceMissingError(
        str(path),
        "holds no data that can be described",
        facts={"there": ", ".join(skipped[:8]), "endings": ", ".join(SUFFIXES)},
        remedy="coral describe FOLDER   # of Parquet, CSV, JSON lines, or pictures by class",
    )


def describe_descriptor(path: Path, *, target: Path | None) -> Described:
    """A descriptor as Croissant JSON-LD, with the parent's description where that lies beside it.

    Raises:
        UsageError: it would be written to another folder, where its relative paths mean something else; or it holds
            an address with a secret.
        DescriptorError: it is none, or cannot be read.
    """
    from coralord_lightning.sources.address import without_secrets
    from coralord_lightning.spec.descriptor.jsonld import descriptor_document
    from coralord_lightning.workspace.planning import read_descriptor

    folder = path.absolute().parent
    if target is not None and target.absolute().parent != folder:
        raise UsageError(
            "coral describe",
            "a descriptor's paths start from its own folder",
            facts={"descriptor": path, "folder": target.absolute().parent},
            remedy=f"coral describe {path} -o {folder / target.name}",
        )
    asked = read_descriptor(path)
    _require_no_secret(asked)
    parent: Any = None
    if asked.croissant is not None and "/" not in asked.croissant:  # elsewhere its relative addresses mean another file
        with contextlib.suppress(OSError, ValueError, RecursionError):  # what builds will say what is wrong with it
            parent = without_secrets(json.loads((folder / asked.croissant).read_text(encoding="utf-8-sig")))
    document = descriptor_document(asked, parent if isinstance(parent, dict) else None)
    return Described(document=document, files=(), notes=(), skipped=())


def _require_no_secret(asked: SubsetDescriptor) -> None:
    """Refuse a key whose address holds a password or a token: what is written is to be given away."""
    from coralord_lightning.sources.address import without_secrets
    from coralord_lightning.spec.descriptor.jsonld import descriptor_keys

    for key, value in descriptor_keys(asked).items():
        clean = without_secrets(value)
        if clean == value:
            continue
        shown = clean if isinstance(clean, str) else "the address without it"
        raise UsageError(
            asked.key_line(key),
            f"holds an address with a secret under '{key}'; JSON-LD is written to be given away",
            facts={"without": shown},
            remedy=f'{key}: {shown}     # the secret stands in coral.toml, under [credentials."https://HOST"]',
        )
