"""Pictures and sound to tensors, through a limited process; never decodes a byte itself.

Values go over pipes, in the order of the rows and many at a time; arrays come back and become Arrow columns of nested
lists, fixed or ragged as their shape says.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coralord_lightning.builder.buffers import bitmap, validity
from coralord_lightning.builder.decoding import Wanted
from coralord_lightning.errors import UsageError
from coralord_lightning.spec.selection import Refinement, SelectedField

__all__ = ["Decoded", "Decoder", "Undecodable", "decoder_versions", "nested"]

_WAIT_S = 300.0
_WAIT_S_PER_GIB = 1200.0
_MAX_ANSWER = 2**31
_OUT_OF_RESOURCES = (signal.SIGKILL, signal.SIGXCPU, signal.SIGXFSZ)
_PILLOW_PARTS = ("jpg", "libjpeg_turbo", "zlib", "libtiff", "webp")


class Undecodable(Exception):  # noqa: N818  # `refine` makes it an error for users, who need to know of which file
    """A value could not be decoded.

    Args:
        row: its place among those that were handed over.
        answer: what the process said: a kind, and facts.
    """

    def __init__(self, row: int, answer: dict[str, Any]) -> None:
        super().__init__(row, answer)
        self.row = row
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """Decoded values of the first rows, and what they turned out to be.

    Args:
        column: one value a row; shorter than what was asked for where answers would become too large.
        shape: as asked for, or of the values; None where there was no value and it is not known.
        sample_rate: of sound, in Hz.
    """

    column: Any
    shape: tuple[int, ...] | None
    sample_rate: int | None = None


def decoder_versions(fields: Sequence[SelectedField]) -> dict[str, str]:
    """Library -> version of everything that decodes one of these fields; nothing where none is decoded.

    Raises:
        UsageError: soundfile is needed and not installed.
    """
    kinds = {item.refine.decode for item in fields if item.refine is not None}
    versions: dict[str, str] = {}
    if "image" in kinds:
        import PIL
        from PIL import features

        versions["pillow"] = PIL.__version__
        parts = {part: features.version(part) for part in _PILLOW_PARTS}
        versions |= {f"pillow/{part}": version for part, version in parts.items() if version}
    if "audio" in kinds:
        soundfile = _require_soundfile()
        versions |= {"soundfile": soundfile.__version__, "libsndfile": soundfile.__libsndfile_version__}
    return versions


def _require_soundfile() -> Any:
    try:
        import soundfile
    except (ModuleNotFoundError, OSError) as error:  # OSError: libsndfile itself is not there
        raise UsageError(
            "decode: audio",
            "needs soundfile",
            facts={"got": error},
            remedy="pip install 'coralord-lightning[audio]'",
        ) from error
    return soundfile


class Decoder:
    """One limited process for many values; started when first needed, and again after it died.

    Args:
        wait_s: how long a small request may take.
    """

    def __init__(self, *, wait_s: float = _WAIT_S) -> None:
        self._wait_s = wait_s
        self._worker: subprocess.Popen[bytes] | None = None
        self._place: mmap.mmap | None = None
        self._kinds: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def decode(
        self, values: Any, refine: Refinement, *, shape: tuple[int, ...] | None = None, sample_rate: int | None = None
    ) -> Decoded:
        """Decode a column of binary values; a null stays one.

        Args:
            shape: what earlier values without a shape in `refine` turned out to be; likewise `sample_rate`.

        Raises:
            Undecodable: a value is broken, too large, or not what was asked for.
        """
        kind = refine.decode or "image"
        wanted = Wanted(
            kind=kind,
            shape=refine.shape or shape,
            natural=kind == "image" and refine.shape is None,
            dtype=refine.dtype or "float32",
            layout=refine.layout or "HWC",
            sample_rate=refine.sample_rate or sample_rate,
        )
        valid = validity(values)
        header, data = self._ask(wanted, values.drop_null(), np.flatnonzero(valid))
        found = None if header["shape"] is None else tuple(header["shape"])
        rows = _rows_done(valid, header["done"])
        if found is None:
            return Decoded(column=pa.nulls(rows), shape=None)
        dims = np.array(header["dims"] or [], np.int64).reshape(-1, len(found)) if -1 in found else None
        column = nested(np.frombuffer(data, _dtype(wanted)), found, dims, valid[:rows])
        return Decoded(column=column, shape=found, sample_rate=header["sample_rate"])

    def _ask(self, wanted: Wanted, values: Any, rows: npt.NDArray[np.int64]) -> tuple[dict[str, Any], Any]:
        """Send values without nulls, and take the answer."""
        if not len(values):
            return {"shape": wanted.shape, "sample_rate": wanted.sample_rate, "done": 0, "dims": None}, b""
        offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
        data = memoryview(values.buffers()[2] or b"")[int(offsets[0]) : int(offsets[-1])]
        request = json.dumps({"wanted": asdict(wanted), "sizes": np.diff(offsets).tolist()}).encode()
        worker = self._worker if self._worker is not None and wanted.kind in self._kinds else self._start(wanted.kind)
        deadline = time.monotonic() + self._wait_s + _WAIT_S_PER_GIB * len(data) / (1 << 30)
        try:
            for part in (struct.pack("<Q", len(request)), request, data):
                _send(_pipe(worker.stdin), part)
            size = struct.unpack("<Q", self._take(8, deadline))[0]
            header: dict[str, Any] = json.loads(bytes(self._take(size, deadline)))
            if not header["ok"]:
                raise Undecodable(int(rows[header["row"]]), header)
            found = self._take(header["size_bytes"], deadline)
            _require_whole(header, len(found) // _width(wanted), len(values))
            return header, found
        except TimeoutError:
            row, answer = self._noted(), {"kind": "memory", "message": "it took too long"}
            self._end()
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            IndexError,
            TypeError,
        ):  # it died, or does not speak for itself
            row, answer = self._post_mortem()
        except BaseException as error:
            if not isinstance(error, Undecodable):  # half an answer is still to come: nobody could read the next one
                self._end()
            raise
        raise Undecodable(int(rows[min(row, len(rows) - 1)]), answer)

    def _take(self, size: int, deadline: float) -> bytearray:
        """So many bytes of the answer."""
        if size > _MAX_ANSWER:
            raise EOFError
        stdout = _pipe(_require(self._worker).stdout)
        buffer = bytearray(size)
        view = memoryview(buffer)
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while view:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError
                count = os.readv(stdout.fileno(), [view])
                if not count:
                    raise EOFError
                view = view[count:]
        return buffer

    def _start(self, kind: str) -> subprocess.Popen[bytes]:
        self._end()
        if kind == "audio":
            _require_soundfile()
        # our own code, so it may see where we import from; nothing else of our environment
        environment = {"PYTHONPATH": os.pathsep.join(item for item in sys.path if item), "LC_ALL": "C.UTF-8"}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        with tempfile.TemporaryFile() as note:
            note.truncate(8)
            self._place = mmap.mmap(note.fileno(), 8)
            self._kinds.add(kind)
            self._worker = subprocess.Popen(
                [sys.executable, "-m", "coralord_lightning.builder.decoding", str(note.fileno()), *sorted(self._kinds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                pass_fds=[note.fileno()],
                bufsize=0,
                start_new_session=True,
            )
        return self._worker

    def _noted(self) -> int:
        """Which value the process was at."""
        return int(struct.unpack("<q", self._place[:])[0]) if self._place is not None else 0

    def _post_mortem(self) -> tuple[int, dict[str, Any]]:
        """Why the process gave no answer; the next request gets a new one."""
        row, worker = self._noted(), _require(self._worker)
        try:
            code: int | None = worker.wait(timeout=10)
        except subprocess.TimeoutExpired:
            code = None
        self._end()
        ended = "closed its pipes" if code is None else f"ended with exit code {code}"
        if code is not None and code < 0:
            ended = f"was ended by {signal.Signals(-code).name}"
        out_of = code is not None and -code in _OUT_OF_RESOURCES
        return row, {"kind": "memory" if out_of else "crash", "message": f"the process that decodes it {ended}"}

    def _end(self) -> None:
        worker, self._worker = self._worker, None
        if self._place is not None:
            self._place.close()
            self._place = None
        if worker is None:
            return
        worker.kill()
        worker.wait()
        for pipe in (worker.stdin, worker.stdout):
            _pipe(pipe).close()


def nested(
    values: npt.NDArray[Any],
    shape: tuple[int, ...],
    dims: npt.NDArray[np.int64] | None,
    valid: npt.NDArray[np.bool_],
) -> Any:
    """Flat numbers as a column of nested lists, one a row.

    Args:
        values: of the valid rows, one after the other.
        shape: -1 where a dimension is ragged.
        dims: int64[valid rows, len(shape)], what the ragged dimensions are; None where none is.
        valid: bool[rows]; the others are null, and zeros lie beneath them where the shape is fixed.
    """
    nulls = None if valid.all() else valid
    if dims is None and nulls is not None:
        room = np.zeros((len(valid), math.prod(shape)), values.dtype)
        room[valid] = values.reshape(-1, math.prod(shape))
        values = room.reshape(-1)
    kind: Any = pa.from_numpy_dtype(values.dtype)
    column = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values)])
    all_dims = np.tile(np.maximum(np.array(shape, np.int64), 0), (len(valid), 1))
    if dims is not None:
        all_dims[valid] = dims
    for level in reversed(range(len(shape))):
        counts = all_dims[:, :level].prod(axis=1)
        bits = [bitmap(nulls) if level == 0 and nulls is not None else None]
        if shape[level] != -1:
            count = len(column) // shape[level]
            column = pa.Array.from_buffers(pa.list_(column.type, shape[level]), count, bits, children=[column])
            continue
        lengths = np.repeat(all_dims[:, level], counts)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)]).astype(np.int32)
        buffers = [*bits, pa.py_buffer(offsets)]
        column = pa.Array.from_buffers(pa.list_(column.type), len(lengths), buffers, children=[column])
    return column


def _dtype(wanted: Wanted) -> np.dtype[Any]:
    return np.dtype(wanted.dtype if wanted.kind == "image" else "float32")


def _width(wanted: Wanted) -> int:
    return _dtype(wanted).itemsize


def _require_whole(header: Mapping[str, Any], numbers: int, asked: int) -> None:
    """Refuse an answer whose numbers are not as many as it says: it comes from a process that hostile bytes went to.

    Raises:
        ValueError: it does not add up.
    """
    shape, done, dims = header["shape"], header["done"], header["dims"]
    each = dims if -1 in shape else [shape] * done
    fits = all(len(sizes) == len(shape) and min(sizes) >= 0 for sizes in each)
    if not 0 < done <= asked or len(each) != done or not fits or sum(map(math.prod, each)) != numbers:
        raise ValueError(header)


def _rows_done(valid: npt.NDArray[np.bool_], done: int) -> int:
    """How many leading rows hold so many values; nulls behind the last one belong to them."""
    if done == int(valid.sum()):
        return len(valid)
    return int(np.flatnonzero(valid)[done])


def _send(pipe: IO[bytes], data: Any) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise AssertionError("the worker was started with pipes")
    return pipe


def _require(worker: subprocess.Popen[bytes] | None) -> subprocess.Popen[bytes]:
    if worker is None:
        raise AssertionError("there is a worker while an answer is due")
    return worker
