"""Runs git: no hooks, no user's configuration, http(s) only, bounded. Never runs a repository's code."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

import httpcore

from coralord_lightning.config import Config
from coralord_lightning.errors import (
    CoralError,
    FetchLimitError,
    ForbiddenSourceError,
    OfflineError,
    SourceError,
    SourceMissingError,
    UpstreamError,
)
from coralord_lightning.sources.address import redact
from coralord_lightning.sources.transport import Policy, goes_directly

__all__ = ["Git", "GitLimits"]

_OLDEST = (2, 37)
"""The first with http.curloptResolve, by which git connects to the very address that was checked."""
_SETTINGS = {
    "core.askPass": "",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "credential.helper": "",
    "fetch.recurseSubmodules": "false",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "http.followRedirects": "false",
    "http.lowSpeedLimit": "1000",
    "http.lowSpeedTime": "60",
    "http.proxy": "",
    "maintenance.auto": "false",
    "protocol.allow": "never",
    "protocol.http.allow": "always",
    "protocol.https.allow": "always",
    "submodule.recurse": "false",
}
_PIECE = 1024 * 1024
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class GitLimits:
    """How much of a repository may be fetched by one command, and how long one may take.

    Args:
        max_fetch: what the user allows; `size_bytes` is what we do.
    """

    max_fetch: int | None = None
    size_bytes: int = 64 * 1024**3
    seconds: float = 3600.0
    output_bytes: int = 1024**3


class Git:
    """Git in one bare repository of ours.

    Args:
        url: where it comes from, without user and password.
        authorization: value of the header that signs in there; git sends it nowhere else.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        subject: str,
        config: Config,
        offline: bool,
        authorization: str | None,
        limits: GitLimits,
    ) -> None:
        self._folder = folder
        self._url = url
        self._subject = subject
        self._config = config
        self._offline = offline
        self._authorization = authorization
        self._limits = limits

    def run(self, *words: str, network: bool = False) -> bytes:
        """What a command prints.

        Raises:
            SourceError: it failed, was ruled out, or took too much.
        """
        out = bytearray()
        with self.stream(*words, network=network) as chunks:
            for chunk in chunks:
                out += chunk
                if len(out) > self._limits.output_bytes:
                    raise self._too_much(f"a list of more than {self._limits.output_bytes} bytes")
        return bytes(out)

    @contextmanager
    def stream(self, *words: str, network: bool = False) -> Iterator[Iterator[bytes]]:
        """The same, in pieces, while it runs."""
        environ = self._environ(network=network)
        program = _program(self._subject)
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                [program, "--git-dir", str(self._folder), *words],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=environ,
                cwd=self._folder.parent, start_new_session=True,
            )  # fmt: skip
            watch = _Watch(process, self._folder, self._limits)
            try:
                yield self._pieces(process)
            except BaseException:
                watch.kill()
                raise
            finally:
                assert process.stdout is not None  # noqa: S101 - it was asked for
                process.stdout.close()
                watch.join()
            if watch.excess is not None:
                raise self._too_much(watch.excess)
            if process.returncode != 0:
                raise self._failure(_text(complaints))

    @property
    def size_bytes(self) -> int:
        """What is kept of the repository."""
        return _packed_bytes(self._folder)

    def _pieces(self, process: subprocess.Popen[bytes]) -> Iterator[bytes]:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        while piece := process.stdout.read(_PIECE):
            yield piece

    def _environ(self, *, network: bool) -> dict[str, str]:
        """All that git gets to know. Where there is to be no network, no protocol is allowed."""
        settings = dict(_SETTINGS)
        if network and not self._offline:
            settings |= self._connection()
        home = str(self._folder.parent / "home")  # there is none: no .netrc, no .gitconfig
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": home,
            "XDG_CONFIG_HOME": home,
            "LC_ALL": "C",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": "http:https" if network and not self._offline else "none",
            "GIT_PROTOCOL_FROM_USER": "0",
            "GIT_LFS_SKIP_SMUDGE": "1",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_CONFIG_COUNT": str(len(settings)),
        }
        for number, (key, value) in enumerate(settings.items()):
            environ |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
        return environ

    def _connection(self) -> Mapping[str, str]:
        """Settings for a connection to the host's address as it was checked just now, and to no other."""
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
        policy, proxy = Policy(self._config), self._config.proxies.get(parts.scheme.lower())
        out: dict[str, str] = {}
        try:
            if proxy is not None and not goes_directly(host, port, self._config.no_proxy):
                policy.check(host, port)
                out["http.proxy"] = proxy.reveal()
            else:
                address = policy.addresses(host, port)[0]
                out["http.curloptResolve"] = f"{host}:{port}:{f'[{address}]' if ':' in address else address}"
        except (httpcore.ConnectError, IndexError) as error:
            raise self._failure(f"cannot resolve {host}: {error}") from error
        if self._config.ca_bundle is not None:
            out["http.sslCAInfo"] = str(self._config.ca_bundle)
        if self._authorization is not None:
            out[f"http.{parts.scheme}://{parts.netloc}/.extraHeader"] = f"Authorization: {self._authorization}"
        return out

    def _failure(self, said: str) -> CoralError:
        """The error for what git complained about."""
        facts: dict[str, object] = {"url": redact(self._url), "got": said or "no word"}
        if self._offline:
            return OfflineError(
                self._subject,
                "is needed from the network, which is ruled out",
                facts={"url": redact(self._url)},
                remedy="run the same command without --offline",
            )
        if re.search(r"not found|error: 404|couldn't find remote ref|did not match", said, re.IGNORECASE):
            return SourceMissingError(
                self._subject, "is not at that address", facts=facts, remedy="correct the address, or ask its publisher"
            )
        if re.search(r"could not read username|authentication failed|error: 40[13]", said, re.IGNORECASE):
            return UpstreamError(
                self._subject,
                "may not be read by you",
                facts=facts,
                remedy=f"clone it yourself, and name the folder: mapping: {{{self._subject}: folder}}",
            )
        return UpstreamError(
            self._subject,
            "could not be fetched",
            facts=facts,
            remedy=f"check the address: GIT_TERMINAL_PROMPT=0 git ls-remote {redact(self._url)}",
        )

    def _too_much(self, got: str) -> ForbiddenSourceError | FetchLimitError:
        if got == f"more than {self._limits.max_fetch} bytes":
            return FetchLimitError(
                self._subject,
                "would be fetched beyond the limit",
                facts={"url": redact(self._url), "limit": f"{self._limits.max_fetch} bytes"},
                remedy="give a higher --max-fetch, or max_fetch: in the descriptor",
            )
        return ForbiddenSourceError(
            self._subject,
            "takes more than a repository may",
            facts={"url": redact(self._url), "got": got},
            remedy=f"clone it yourself, and name the folder: mapping: {{{self._subject}: folder}}",
        )


class _Watch:
    """Ends a process and all its children when it takes too long or too much."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, limits: GitLimits) -> None:
        self.excess: str | None = None
        self._process = process
        self._folder = folder
        self._limits = limits
        self._until = time.monotonic() + limits.seconds
        self._most = min(limits.size_bytes, limits.max_fetch or limits.size_bytes)
        self._before = _packed_bytes(folder)
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def join(self) -> None:
        self._thread.join()

    def _loop(self) -> None:
        ended = False
        while not ended and self.excess is None:
            ended = self._ended()
            if _packed_bytes(self._folder) - self._before > self._most:
                self.excess = f"more than {self._most} bytes"
            elif not ended and time.monotonic() > self._until:
                self.excess = f"more than {self._limits.seconds:g} s"
        if not ended:
            self.kill()
            self._process.wait()

    def _ended(self) -> bool:
        try:
            self._process.wait(timeout=_POLL_S)
        except subprocess.TimeoutExpired:
            return False
        return True


def _packed_bytes(folder: Path) -> int:
    total = 0
    with suppress(OSError), os.scandir(folder / "objects" / "pack") as found:
        for entry in found:
            with suppress(OSError):
                total += entry.stat().st_size
    return total


def _program(subject: str) -> str:
    """The system's git, if it is new enough to be told which address to connect to."""
    found = shutil.which("git")
    said = subprocess.run([found, "version"], capture_output=True, text=True, check=False).stdout if found else ""
    version = re.search(r"(\d+)\.(\d+)", said)
    if found is None or version is None or (int(version[1]), int(version[2])) < _OLDEST:
        raise SourceError(
            subject,
            "lies in a git repository, which takes git to read",
            facts={"got": said.strip() or "no git", "expected": "git 2.37 or later"},
            remedy=f"install git, or clone it elsewhere and name the folder: mapping: {{{subject}: folder}}",
        )
    return found


def _text(complaints: IO[bytes]) -> str:
    """The end of what git complained about, as plain text without addresses' secrets."""
    complaints.seek(0)
    said = complaints.read(64 * 1024).decode("utf-8", "replace")
    said = re.sub(r"[^\x20-\x7e\n]", "", said).strip()
    said = re.sub(r"//[^/@\s]+@", "//", said)
    return "\n".join(said.splitlines()[-4:])[-600:]
