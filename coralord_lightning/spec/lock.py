"""`coral.lock` as values: what a committed lock pins, by descriptor name. Pure: parse and print, no disk.

A lock pins what lies outside the work tree: remote sources, a remote Croissant file, the image. It prints sorted, one
fact a line, so that a diff shows what moved.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from coralord_lightning.errors import ConfigError, nearest
from coralord_lightning.spec.image_tag import ImageTag

__all__ = ["Lock", "LockEntry", "LockedCroissant", "LockedSource", "parse_lock", "print_lock", "with_entry"]

Json = Any

_VERSION = 1
_HEADER = "# Written by `coral build` and `coral update`; commit it beside the descriptor.\n"
_TAG_KEYS = frozenset({"name", "index", "platforms", "local"})
"""Keys of `image` that are no part of its identity."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_IMAGE_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_PLATFORM = re.compile(r"[\w.-]+(?:/[\w.-]+){1,2}", re.ASCII)
_OF_IMAGE = {
    "base": (_IMAGE_DIGEST, "a digest: sha256: and 64 lowercase hexadecimal digits"),
    "context": (_SHA256, "64 lowercase hexadecimal digits"),
    "image": (_IMAGE_DIGEST, "a digest: sha256: and 64 lowercase hexadecimal digits"),
    "index": (_IMAGE_DIGEST, "a digest: sha256: and 64 lowercase hexadecimal digits"),
    "platform": (_PLATFORM, "a platform, like linux/amd64"),
}
"""Texts of `image` that go into names of images or into a Dockerfile; the others are compared and no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedCroissant:
    """The remote Croissant file that was read."""

    url: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedSource:
    """A remote data file: `etag` of one that is read by ranges, `sha256` of one that is read whole."""

    url: str
    size_bytes: int
    etag: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LockEntry:
    """What one descriptor is locked to.

    Args:
        content_digest: None until it is built.
        image: identity of the container image and its platform, as in the plan; None without a container.
        tag: what the descriptor calls that image, where it does so by tag.
        croissant: None where the Croissant file lies in the work tree.
        sources: the remote ones, sorted by URL when printed.
    """

    name: str
    fingerprint: str
    content_digest: str | None = None
    image: Mapping[str, Json] | None = None
    tag: ImageTag | None = None
    croissant: LockedCroissant | None = None
    sources: tuple[LockedSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The whole file: descriptor name -> entry."""

    entries: Mapping[str, LockEntry] = field(default_factory=dict)


def with_entry(lock: Lock, entry: LockEntry) -> Lock:
    """The lock with this entry added, or put in place of the one of its name."""
    return Lock(entries={**lock.entries, entry.name: entry})


def print_lock(lock: Lock) -> str:
    """The lock as TOML, always in the same order."""
    import tomli_w

    datasets = {name: _entry_table(entry) for name, entry in sorted(lock.entries.items())}
    return _HEADER + tomli_w.dumps({"version": _VERSION, "datasets": datasets})


def parse_lock(text: str, origin: str) -> Lock:
    """The lock in TOML text.

    Args:
        origin: the file's path, for messages.
    Raises:
        ConfigError: it is no TOML or no lock; names file and line.
    """
    try:
        body = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+)", str(error))
        line = int(found.group(1)) if found else text.count("\n") + 1
        raise _problem(origin, line, f"is not TOML: {error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or nesting without end
        raise _problem(origin, 1, f"is no lock: {str(error).partition(';')[0]}") from error
    reader = _Reader(text=text, origin=origin)
    version = reader.value(body, "version", int, ())
    if version != _VERSION:
        raise ConfigError(
            f"{origin}:{reader.line('version')}",
            f"has format {version}, this release reads {_VERSION}",
            remedy="pip install --upgrade coralord-lightning",
        )
    reader.only(body, ("version", "datasets"), ())
    datasets = reader.value(body, "datasets", dict, ()) if "datasets" in body else {}
    return Lock(entries={name: _parse_entry(reader, name, value) for name, value in sorted(datasets.items())})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Typed access to decoded TOML; complains with file and line."""

    text: str
    origin: str

    def value(self, table: Mapping[str, Any], key: str, kind: type, path: tuple[str, ...]) -> Any:
        value = table.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = {str: "a text", int: "an integer", dict: "a table", list: "an array of tables"}[kind]
            shown = "nothing" if value is None else repr(value)
            message = f"'{'.'.join((*path, key))}' must be {wanted}"
            raise _problem(self.origin, self.line(*path, key), message, got=shown)
        return value

    def digest(self, table: Mapping[str, Any], key: str, path: tuple[str, ...]) -> str:
        value: str = self.value(table, key, str, path)
        if not _SHA256.fullmatch(value):
            message = f"'{'.'.join((*path, key))}' must be 64 lowercase hexadecimal digits"
            raise _problem(self.origin, self.line(*path, key), message, got=repr(value))
        return value

    def matching(self, table: Mapping[str, Any], key: str, path: tuple[str, ...], *, like: str | None = "") -> str:
        """A text of the form of its key, or of another; None: of any."""
        value: str = self.value(table, key, str, path)
        if like is not None:
            form, wanted = _OF_IMAGE[like or key]
            if not form.fullmatch(value):
                message = f"'{'.'.join((*path, key))}' must be {wanted}"
                raise _problem(self.origin, self.line(*path, key), message, got=repr(value))
        return value

    def only(self, table: Mapping[str, Any], keys: tuple[str, ...], path: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                near = nearest(key, keys)
                hint = f"; did you mean '{near}'?" if near else ""
                message = f"unknown key '{'.'.join((*path, key))}'{hint}"
                raise _problem(self.origin, self.line(*path, key), message)

    def line(self, *path: str) -> int:
        """The line that most likely holds the key; its table's where the key is missing."""
        lines = self.text.splitlines()
        place = 0
        for part in path:
            named = re.compile(rf"(?:^|[\s.{{\[,]){_spelled(part)}\s*(?:=|\]|\.)")
            place = next((number for number in range(place, len(lines)) if named.search(lines[number])), place)
        return place + 1


def _spelled(key: str) -> str:
    return rf"[\"']?{re.escape(key)}[\"']?"


def _parse_entry(reader: _Reader, name: str, value: Any) -> LockEntry:
    path = ("datasets", name)
    if not isinstance(value, dict):
        raise _problem(reader.origin, reader.line(*path), f"'datasets.{name}' must be a table", got=repr(value))
    reader.only(value, ("fingerprint", "content_digest", "image", "croissant", "sources"), path)

    def part(key: str, kind: type, parse: Callable[[Any], Any]) -> Any:
        return parse(reader.value(value, key, kind, path)) if key in value else None

    return LockEntry(
        name=name,
        fingerprint=reader.digest(value, "fingerprint", path),
        content_digest=reader.digest(value, "content_digest", path) if "content_digest" in value else None,
        image=part("image", dict, lambda table: _parse_identity(reader, table, (*path, "image"))),
        tag=part("image", dict, lambda table: _parse_tag(reader, table, (*path, "image"))),
        croissant=part("croissant", dict, lambda table: _parse_croissant(reader, table, (*path, "croissant"))),
        sources=part("sources", list, lambda rows: _parse_sources(reader, rows, (*path, "sources"))) or (),
    )


def _parse_identity(reader: _Reader, table: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Json]:
    """What pins the image: `image`, or what it is built from, and the platform."""
    reader.only(table, (*_OF_IMAGE, *sorted(_TAG_KEYS), "bases", "build_args", "target"), path)
    for key in (
        "platform",
        "image" if "context" not in table else "context",
        *(key for key in _OF_IMAGE if key in table),
    ):
        reader.matching(table, key, path)
    if "target" in table:
        reader.value(table, "target", str, path)
    for key in ("bases", "build_args"):
        for name in reader.value(table, key, dict, path) if key in table else {}:
            reader.matching(table[key], name, (*path, key), like="base" if key == "bases" else None)
    return {key: value for key, value in table.items() if key not in _TAG_KEYS}


def _parse_tag(reader: _Reader, table: Mapping[str, Any], path: tuple[str, ...]) -> ImageTag | None:
    """What stands beside an image's identity: the name it was asked for by, and what that stood for."""
    if "name" not in table:
        return None
    platforms = reader.value(table, "platforms", dict, path) if "platforms" in table else {}
    return ImageTag(
        name=reader.value(table, "name", str, path),
        index=reader.matching(table, "index", path) if "index" in table else None,
        platforms={name: reader.matching(platforms, name, (*path, "platforms"), like="image") for name in platforms},
        local=_parse_local(reader, table, path),
    )


def _parse_local(reader: _Reader, table: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    if table.get("local", True) is not True:  # it is written where it is so, or not at all
        message = f"'{'.'.join((*path, 'local'))}' must be true, or not be there"
        raise _problem(reader.origin, reader.line(*path, "local"), message, got=repr(table["local"]))
    return "local" in table


def _parse_croissant(reader: _Reader, table: Mapping[str, Any], path: tuple[str, ...]) -> LockedCroissant:
    reader.only(table, ("url", "sha256"), path)
    return LockedCroissant(url=reader.value(table, "url", str, path), sha256=reader.digest(table, "sha256", path))


def _parse_sources(reader: _Reader, rows: list[Any], path: tuple[str, ...]) -> tuple[LockedSource, ...]:
    sources = []
    for row in rows:
        if not isinstance(row, dict):
            raise _problem(reader.origin, reader.line(*path), f"'{'.'.join(path)}' must hold tables", got=repr(row))
        reader.only(row, ("url", "size", "etag", "sha256"), path)
        sources.append(
            LockedSource(
                url=reader.value(row, "url", str, path),
                size_bytes=reader.value(row, "size", int, path),
                etag=reader.value(row, "etag", str, path) if "etag" in row else None,
                sha256=reader.digest(row, "sha256", path) if "sha256" in row else None,
            )
        )
    return tuple(sources)


def _entry_table(entry: LockEntry) -> dict[str, Json]:
    table: dict[str, Json] = {"fingerprint": entry.fingerprint}
    if entry.content_digest is not None:
        table["content_digest"] = entry.content_digest
    if entry.croissant is not None:
        table["croissant"] = {"url": entry.croissant.url, "sha256": entry.croissant.sha256}
    if entry.image is not None:
        table["image"] = _sorted({**entry.image, **_tag_table(entry.tag)})
    if entry.sources:
        table["sources"] = [_source_table(source) for source in sorted(entry.sources, key=lambda source: source.url)]
    return table


def _tag_table(tag: ImageTag | None) -> dict[str, Json]:
    if tag is None:
        return {}
    said = {"name": tag.name, "index": tag.index, "platforms": dict(tag.platforms), "local": tag.local}
    return {key: value for key, value in said.items() if value}


def _source_table(source: LockedSource) -> dict[str, Json]:
    pins = {"etag": source.etag, "sha256": source.sha256}
    return {"url": source.url, "size": source.size_bytes} | {key: pin for key, pin in pins.items() if pin is not None}


def _sorted(value: Json) -> Json:
    if isinstance(value, Mapping):
        return {key: _sorted(item) for key, item in sorted(value.items())}
    return value


def _problem(origin: str, line: int, message: str, *, got: str | None = None) -> ConfigError:
    return ConfigError(
        f"{origin}:{line}",
        message,
        facts={"line": line} | ({} if got is None else {"got": got}),
        remedy=f"git checkout -- {origin}   # or remove the file: `coral build` writes a new one",
    )
