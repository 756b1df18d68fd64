"""What is sent to an engine that builds a Dockerfile: which files, their digest, their tar. Talks to no engine."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import rfc8785

from coralord_lightning.builder.runners.ignore import Ignore, parse_ignore
from coralord_lightning.errors import DescriptorValueError, ForbiddenSourceError, SourceIntegrityError
from coralord_lightning.spec.recipe import Recipe, SentFile

__all__ = ["MAX_BYTES", "SENT_DOCKERFILE", "Hasher", "context_digest", "read_recipe", "write_context"]

Hasher = Callable[[Path], str]
"""SHA-256 of a regular file, in hex; may remember it."""

MAX_BYTES = 1 << 30
"""What a context may hold: one that is larger has data in it that no image needs."""

SENT_DOCKERFILE = ".coralord.Dockerfile"
"""The name of the pinned Dockerfile in the tar; hidden from COPY, beside the one that the context may hold."""

_IGNORE = ".dockerignore"
_LOCK = "coral.lock"
_GIT = ".git"
"""At the root: differs from clone to clone of one commit. BuildKit leaves it out of contexts from git, too."""
_MTIME = 315532800
"""1980: a zip file, and so a wheel that is built in the image, knows no earlier time."""
_TOLD = 5


def read_recipe(
    dockerfile: Path,
    context: Path,
    *,
    shown: str,
    hasher: Hasher,
    never: Sequence[Path] = (),
    max_bytes: int = MAX_BYTES,
) -> Recipe:
    """Find and hash all that a build would be sent.

    Args:
        dockerfile: a regular file.
        context: a folder.
        shown: the Dockerfile's path as the user knows it.
        never: folders that are left out whatever the rules say: a store that lies in the context.

    Raises:
        ForbiddenSourceError: something in it cannot be sent, or it is too large.
        DescriptorValueError: the Dockerfile is no text, or its `.dockerignore` cannot be read.
    """
    text = _read_text(dockerfile, shown)
    shut = frozenset(map(os.path.realpath, never))
    found = sorted(_walk(context, _read_ignore(dockerfile, context), shut))
    _require_small(found, context, max_bytes)
    files = tuple(_sent_file(path, Path(entry), mode, hasher) for path, entry, mode, _ in found)
    return Recipe(dockerfile=shown, text=text, files=files)


def context_digest(recipe: Recipe) -> str:
    """Digest of what is sent: paths, executable bits, links and bytes, and the Dockerfile that is used."""
    sent: dict[str, Any] = {file.path: _identity(file) for file in recipe.files}
    used = hashlib.sha256(recipe.text.encode()).hexdigest()
    if sent.get("Dockerfile") != used:
        sent["/"] = used  # no path in a context is called so
    return hashlib.sha256(rfc8785.dumps(sent)).hexdigest()


def write_context(stream: IO[bytes], recipe: Recipe, dockerfile: str) -> None:
    """Write the tar for an engine: the files that were hashed, and nothing of owner, time and order.

    Args:
        dockerfile: the text that is built from, under the name `SENT_DOCKERFILE`.

    Raises:
        SourceIntegrityError: a file is not what was hashed.
    """
    hidden = f"{_IGNORE}\n{SENT_DOCKERFILE}\n".encode()  # an engine takes both away before COPY sees them
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in recipe.files:
            if file.link is not None:
                _add_link(tar, file)
                continue
            with _open_again(file) as source:
                if file.path == _IGNORE:  # part of what COPY sees: stays, with one more line
                    hidden = _Checked(source, file).read_all() + f"\n{SENT_DOCKERFILE}\n".encode()
                    continue
                checked = _Checked(source, file)
                tar.addfile(_entry(file.path, checked.size, executable=file.executable), checked)
                checked.require_same()
        for name, content in ((SENT_DOCKERFILE, dockerfile.encode()), (_IGNORE, hidden)):
            tar.addfile(_entry(name, len(content)), BytesIO(content))


def _walk(context: Path, ignore: Ignore, never: frozenset[str]) -> Iterator[tuple[str, str, int, int]]:
    """Path in the context, path here, mode and size of each file and link that is sent."""
    left = [("", os.path.realpath(context))]  # no link in it is followed, so that all paths beneath are real
    while left:
        prefix, folder = left.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise _cannot_send(prefix or ".", f"cannot be listed: {error.strerror}") from error
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if path == _GIT:
                continue
            out = ignore.leaves_out(path)
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in never and not (out and not ignore.may_keep_beneath(path)):
                    left.append((f"{path}/", entry.path))
            elif not out and entry.name != _LOCK and not entry.name.startswith(f".{_LOCK}-"):
                yield path, entry.path, *_mode_and_size(entry, path)


def _mode_and_size(entry: os.DirEntry[str], path: str) -> tuple[int, int]:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError as error:
        raise _cannot_send(path, f"cannot be read: {error.strerror}") from error
    return found.st_mode, found.st_size


def _require_small(found: Sequence[tuple[str, str, int, int]], context: Path, max_bytes: int) -> None:
    total = sum(size for *_, size in found)
    if total <= max_bytes:
        return
    largest = sorted(found, key=lambda item: -item[3])[:_TOLD]
    raise ForbiddenSourceError(
        "build context",
        "is larger than what is sent to an engine",
        facts={
            "folder": context,
            "got": f"{total:,} bytes in {len(found):,} files",
            "allowed": f"{max_bytes:,} bytes",
            "largest": "\n".join(f"{size:,} bytes  {path}" for path, _, _, size in largest),
        },
        remedy=f"echo {largest[0][0]} >> {context / _IGNORE}   # and whatever else the image does not need",
    )


def _sent_file(path: str, source: Path, mode: int, hasher: Hasher) -> SentFile:
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise _cannot_send(ascii(path), "has a name that is not UTF-8") from error
    try:
        if stat.S_ISLNK(mode):
            return SentFile(path=path, source=source, link=_require_inside(path, source.readlink().as_posix()))
        if stat.S_ISREG(mode):
            return SentFile(path=path, source=source, sha256=hasher(source), executable=bool(mode & 0o100))
    except OSError as error:
        raise _cannot_send(path, f"cannot be read: {error.strerror}") from error
    raise _cannot_send(path, "is neither a file nor a folder nor a link", got=stat.filemode(mode))


def _require_inside(path: str, link: str) -> str:
    """A link's target, which stays in the context wherever it is unpacked."""
    depth = path.count("/")
    for part in link.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if link.startswith("/") or depth < 0:
            raise _cannot_send(path, "is a link that leaves the context", got=link)
    return link


def _cannot_send(path: str, why: str, **facts: str) -> ForbiddenSourceError:
    return ForbiddenSourceError(
        f"build context: {path}",
        why,
        facts=facts,
        remedy=f"echo {path} >> {_IGNORE}   # in the context's folder; or put a plain file there",
    )


def _read_text(dockerfile: Path, shown: str) -> str:
    try:
        return dockerfile.read_bytes().decode("utf-8")
    except OSError as error:
        raise DescriptorValueError(
            shown, "cannot be read", facts={"got": error.strerror or error}, remedy=f"chmod u+r {dockerfile}"
        ) from error
    except UnicodeDecodeError as error:
        raise DescriptorValueError(
            shown, "is not UTF-8 text", facts={"got": error}, remedy="environment: {dockerfile: Dockerfile}"
        ) from error


def _read_ignore(dockerfile: Path, context: Path) -> Ignore:
    """The Dockerfile's own `NAME.dockerignore`, else the context's."""
    for path in (dockerfile.with_name(f"{dockerfile.name}{_IGNORE}"), context / _IGNORE):
        if not path.is_file():
            continue
        try:
            return parse_ignore(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DescriptorValueError(
                str(path), "cannot be read", facts={"got": error}, remedy=f"mend that line of {path.name}"
            ) from error
    return Ignore()


def _identity(file: SentFile) -> Any:
    if file.link is not None:
        return {"link": file.link}
    return {"executable": file.sha256} if file.executable else file.sha256


def _entry(path: str, size: int, *, executable: bool = False) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode, entry.mtime = size, 0o755 if executable else 0o644, _MTIME
    return entry


def _add_link(tar: tarfile.TarFile, file: SentFile) -> None:
    try:
        now: str | None = file.source.readlink().as_posix()
    except OSError:
        now = None
    if now != file.link or file.link is None:
        raise _changed(file)
    entry = tarfile.TarInfo(file.path)
    entry.type, entry.linkname, entry.mode, entry.mtime = tarfile.SYMTYPE, file.link, 0o777, _MTIME
    tar.addfile(entry)


def _open_again(file: SentFile) -> IO[bytes]:
    try:
        descriptor = os.open(file.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _changed(file) from error
    return os.fdopen(descriptor, "rb")


class _Checked:
    """An open file whose bytes are hashed on their way, and compared with what was hashed before."""

    def __init__(self, source: IO[bytes], file: SentFile) -> None:
        found = os.fstat(source.fileno())
        if bool(found.st_mode & 0o100) != file.executable:
            raise _changed(file)
        self.size = found.st_size
        self._source, self._file = source, file
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        if size >= 0 and len(data) < size:  # it has become shorter, which a tar file cannot tell
            raise _changed(self._file)
        return data

    def read_all(self) -> bytes:
        data = self.read()
        self.require_same()
        return data

    def require_same(self) -> None:
        if self._digest.hexdigest() != self._file.sha256:
            raise _changed(self._file)


def _changed(file: SentFile) -> SourceIntegrityError:
    return SourceIntegrityError(
        f"build context: {file.path}",
        "was changed after it was hashed",
        facts={"file": file.source},
        remedy="run the same command again",
    )
