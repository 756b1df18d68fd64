"""The store as its callers see it: one home directory, and everything that can be kept in or asked of it."""

from __future__ import annotations

import contextlib
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coralord_lightning.spec.description import Description
from coralord_lightning.spec.manifest import Manifest, PartitionRecord
from coralord_lightning.store.disk import Disk, no_op
from coralord_lightning.store.locks import build_lock
from coralord_lightning.store.objects import Objects
from coralord_lightning.store.pins import Pin, Pins
from coralord_lightning.store.records import Records
from coralord_lightning.store.scratch import clean_leftovers

if TYPE_CHECKING:
    from coralord_lightning.store.catalog import Catalog
    from coralord_lightning.store.query import QueryResult

__all__ = ["Store", "open_store"]

_VALUE = "descriptor"
"""The origin of a descriptor that was no file, which no command can name."""


def open_store(
    home: Path, *, crash_point: Callable[[str], None] = no_op, clock: Callable[[], datetime] | None = None
) -> Store:
    """The store in a directory, which need not exist. Touches nothing.

    Args:
        crash_point: called with a name of `disk.CRASH_POINTS` after every effect on the disk; for tests.
        clock: gives the time in UTC.
    """
    return Store(Disk(Path(home), crash_point), clock or (lambda: datetime.now(UTC)))


class Store:
    """One home directory. See `open_store`."""

    def __init__(self, disk: Disk, clock: Callable[[], datetime]) -> None:
        self._disk = disk
        self._clock = clock
        self._objects = Objects(disk)
        self._records = Records(disk, self._objects)
        self._pins = Pins(disk, clock)

    @property
    def home(self) -> Path:
        """The home directory; paths in manifests are relative to it."""
        return self._disk.root

    def __repr__(self) -> str:
        return f"Store({str(self.home)!r})"

    # -- versions ------------------------------------------------------------------------------------------------

    def read_manifest(self, fingerprint: str, mode: Literal["stat", "read"] = "stat") -> Manifest | None:
        """The manifest of a version; None where there is none.

        Args:
            mode: "read" requires every byte to be as it was written, those that change no value among them.
        Raises:
            ManifestCorruptError: it is damaged.
        """
        return self._records.read_manifest(fingerprint, mode)

    def require_manifest(self, prefix: str, mode: Literal["stat", "read"] = "stat") -> Manifest:
        """The manifest of the one version whose fingerprint begins so; `mode` as in `read_manifest`.

        Raises:
            VersionNotFoundError: none does, or several do.
            ManifestCorruptError: it is damaged.
        """
        return self._records.require_manifest(prefix, mode)

    def publish_manifest(self, manifest: Manifest) -> None:
        """Make a version visible, once all its shards are kept. Again with the same content: fine.

        Raises:
            NotDeterministicError: the fingerprint has another content already; the new manifest is kept as evidence.
        """
        self._records.publish_manifest(manifest)

    def describe(self, fingerprint: str, description: Description) -> None:
        """Keep what is said of a version beside its manifest; newer replaces older."""
        self._records.describe(fingerprint, description)

    def read_description(self, fingerprint: str) -> Description | None:
        """What is said of a version; None where nothing readable is, as of those that older releases built."""
        return self._records.read_description(fingerprint)

    def fingerprints(self) -> list[str]:
        """Every version that has a manifest, sorted."""
        return self._records.fingerprints()

    def find(self, prefix: str) -> str:
        """The one fingerprint that begins so.

        Raises:
            VersionNotFoundError: none does, or several do; names them.
        """
        return self._records.find(prefix)

    def check_shards(self, manifest: Manifest, mode: Literal["stat", "read"] = "stat") -> None:
        """Require every shard of a version: with its size, or ("read") with every byte.

        Raises:
            ShardMissingError: one is gone or damaged; the remedy builds it again.
        """
        self._objects.check(manifest.shards(), mode, lambda: self.how_to_rebuild(manifest.fingerprint))

    def set_damaged_aside(self, manifest: Manifest) -> None:
        """Put shards of another size than was written into quarantine, so that a build makes them anew.

        The manifest stays: what is built again must have its content digest.
        """
        self._objects.set_damaged_aside(manifest.shards())

    def how_to_rebuild(self, fingerprint: str, options: str = "") -> str:
        """The command that makes a version anew.

        Args:
            options: of that command, as they are typed.
        """
        pins = [pin for name in self.names() for pin in self._pins.of(name) if pin.fingerprint == fingerprint]
        command = f"coral build {options}".rstrip()
        for pin in reversed(pins):
            if pin.origin not in (None, _VALUE):
                return f"{command} {shlex.quote(pin.origin)}" + self._if_another_is_newer(pin)
        whose = f"the descriptor of '{pins[-1].name}'" if pins else "its descriptor"
        return f"run `{command}` on {whose} again"

    def _if_another_is_newer(self, pin: Pin) -> str:
        """What to say where the descriptor has moved on since."""
        then = f"   # with the descriptor as it was on {pin.created_at[:10]}"
        return "" if self.latest_pin(pin.name) == pin.fingerprint else then

    # -- building ------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def build_lock(self, fingerprint: str, timeout_s: float) -> Iterator[None]:
        """Hold the right to build one version; look again for its manifest once inside.

        Raises:
            LockConflictError: another process builds it for longer than `timeout_s`; names it.
        """
        with build_lock(self._disk, fingerprint, timeout_s, self._clock):
            yield

    @contextlib.contextmanager
    def temp_dir(self) -> Iterator[Path]:
        """A folder under the home's `tmp/`, gone afterwards; leftovers of dead processes go first.

        Raises:
            StoreFullError: whoever writes into it met a full disk.
            StoreError: it cannot be made.
        """
        clean_leftovers(self.home / "tmp")
        folder = self._disk.new_temp()
        with self._disk.explained(folder):
            self._disk.ensure_dir(folder)
        try:
            with self._disk.explained_if_full(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def admit_shard(self, temp: Path, sha256: str, size_bytes: int) -> str:
        """Take a finished file of a `temp_dir` over; its path relative to the home. The same bytes are kept once."""
        return self._objects.admit(temp, sha256, size_bytes)

    def lookup_partition(self, key: str) -> PartitionRecord | None:
        """A built partition, if every shard of it is there with its size."""
        return self._records.lookup_partition(key)

    def publish_partition(self, record: PartitionRecord) -> None:
        """Keep a built partition for reuse, once all its shards are kept."""
        self._records.publish_partition(record)

    # -- names and runs ------------------------------------------------------------------------------------------

    def pin(self, name: str, fingerprint: str, *, origin: str | None = None) -> int:
        """Bind a name to a version; the pin's number. No new pin where the latest says so already.

        Args:
            origin: the descriptor as the user named it, for remedies.
        """
        return self._pins.pin(name, fingerprint, origin)

    def latest_pin(self, name: str) -> str | None:
        """The fingerprint that a name stands for now."""
        latest = self._pins.latest(name)
        return None if latest is None else latest.fingerprint

    def pins(self, name: str) -> tuple[Pin, ...]:
        """All pins of a name, oldest first."""
        return self._pins.of(name)

    def names(self) -> list[str]:
        """Every name that has a pin, sorted."""
        return self._pins.names()

    def pin_files(self) -> list[Path]:
        """Where every pin of every name lies, sorted."""
        return sorted(self._pins.files())

    def write_run(self, run_id: str, body: Mapping[str, Any]) -> None:
        """Record a run; again under the same id replaces it."""
        self._records.write_run(run_id, body)

    def read_runs(self) -> dict[str, dict[str, Any]]:
        """Every readable run by its id."""
        return self._records.read_runs()

    # -- catalog -------------------------------------------------------------------------------------------------

    def sync_catalog(self) -> bool:
        """Bring the catalog up to date; False, with a warning, where that cannot be done now. It is only an index."""
        return self._catalog().sync()

    def query(self, sql: str) -> QueryResult:
        """Run one read-only statement on the catalog, brought up to date first.

        Raises:
            QueryError: the statement cannot be run.
        """
        from coralord_lightning.store.query import run_query

        return run_query(self._catalog(), sql)

    def _catalog(self) -> Catalog:
        from coralord_lightning.store.catalog import Catalog

        return Catalog(self._disk)
