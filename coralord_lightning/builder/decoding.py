"""Decodes pictures and sound in a limited process of its own; never knows whose they are, and writes to no file.

`python -m coralord_lightning.builder.decoding FD` reads requests from standard input and answers each on standard
output: a length, a JSON header, the bytes it speaks of. FD is eight bytes of memory shared with its parent, where it
notes which value it is at: it may die of hostile input, and its parent then knows of which.

Pictures come out as they are stored: EXIF orientation turns none, no colour profile is applied, an alpha channel that
is not asked for is dropped, animations give their first frame. Sound is neither mixed nor resampled.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import struct
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import (  # noqa: F401  # under our limits nothing is imported any more
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from coralord_lightning.builder.limits import allow_cpu, limit_process

__all__ = ["FORMATS", "MAX_PIXELS", "MAX_SAMPLES", "Refused", "Wanted", "decode_picture", "decode_sound", "main"]

Values = npt.NDArray[Any]

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485
"""Pixels of one picture; Pillow's own bound, and for us an error from the first pixel on."""
MAX_SAMPLES = 2**27
ANSWER_BYTES = 32 * 1024 * 1024
"""An answer stops behind the value that makes it as large; the parent asks for the rest again."""

_DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_GREY = frozenset({"1", "L"})
_LIMITS = {"address_space": 4 << 30, "file_bytes": 0, "open_files": 64}
_CPU_S = 120
_CPU_S_PER_GIB = 600
_EXACT_FLOAT = 2**24


class Refused(Exception):  # noqa: N818  # an answer, not a failure of this program
    """A value is not what was asked for: a kind, and facts for the message."""

    def __init__(self, kind: str, **facts: Any) -> None:
        super().__init__(kind)
        self.answer: dict[str, Any] = {"ok": False, "kind": kind, **facts}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the values of one request are to become.

    Args:
        shape: -1 where it may differ; None: that of the first value.
        natural: a picture keeps the channels that it has; otherwise it gets those of `shape`.
        dtype: of pictures.
        layout: of pictures with channels.
        sample_rate: None: that of the first value.
    """

    kind: Literal["image", "audio"]
    shape: tuple[int, ...] | None = None
    natural: bool = False
    dtype: str = "uint8"
    layout: Literal["HWC", "CHW"] = "HWC"
    sample_rate: int | None = None


def decode_picture(data: bytes, wanted: Wanted) -> Values:
    """One picture as an array of the wanted channels, dtype and layout; its size is its own.

    Raises:
        Refused: it has more pixels than we take, or values that the dtype cannot hold.
        Exception: whatever Pillow makes of broken bytes.
    """
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise Refused("too_large", got=f"{width:,} x {height:,} pixels", expected=f"at most {MAX_PIXELS:,}")
        _require_plain_depth(image)
        image.load()
        channels = _natural(image) if wanted.natural or wanted.shape is None else _channels(wanted)
        array = _cast(_array(image, channels), wanted.dtype)
    if not wanted.natural and wanted.shape is not None and len(wanted.shape) == 3 and array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and wanted.layout == "CHW":
        array = array.transpose(2, 0, 1)
    return np.ascontiguousarray(array)


def _require_plain_depth(image: Image.Image) -> None:
    """Refuse colours of 16 bits: Pillow would drop half of them without a word."""
    raw = " ".join(str(part) for tile in getattr(image, "tile", ()) for part in tile)
    if image.mode not in _DEEP and ";16" in raw:
        raise Refused("depth", got="16 bits a channel, in several channels", expected="8 bits a channel")


def _natural(image: Image.Image) -> int:
    """How many channels a picture has by itself; 0 for grey ones, which need none."""
    if image.mode in _GREY or image.mode in _DEEP:
        return 0
    has_alpha = image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info
    return 4 if has_alpha else 3


def _channels(wanted: Wanted) -> int:
    if wanted.shape is None or len(wanted.shape) == 2:
        return 0
    count = wanted.shape[2 if wanted.layout == "HWC" else 0]
    return 0 if count == 1 else count


def _array(image: Image.Image, channels: int) -> Values:
    if image.mode in _DEEP:
        if channels:
            raise Refused("grey", got=f"a grey picture of mode {image.mode}", expected=f"{channels} channels")
        values = np.asarray(image)
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    mode = {0: "L", 3: "RGB", 4: "RGBA"}[channels]
    return np.asarray(image if image.mode == mode else image.convert(mode))


def _cast(values: Values, dtype: str) -> Values:
    """The same values in another dtype; an error where one would change."""
    kind = np.dtype(dtype)
    if np.can_cast(values.dtype, kind, "safe"):
        return values.astype(kind, copy=False)
    if values.dtype == np.int32 and values.size:
        low, high = int(values.min()), int(values.max())
        bounds = (-_EXACT_FLOAT, _EXACT_FLOAT) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
        if bounds[0] <= low and high <= bounds[1]:
            return values.astype(kind)
    raise Refused("dtype", got=str(values.dtype), expected=dtype)


def decode_sound(data: bytes, wanted: Wanted) -> tuple[Values, int]:
    """One sound as float32[samples] or [channels, samples], and its sample rate in Hz.

    Raises:
        Refused: it has more samples than we take, or other channels or another rate than is wanted.
        Exception: whatever libsndfile makes of broken bytes.
    """
    import soundfile

    with soundfile.SoundFile(io.BytesIO(data)) as file:
        rate, channels, frames = int(file.samplerate), int(file.channels), int(file.frames)
        if frames * channels > MAX_SAMPLES:
            raise Refused("too_large", got=f"{frames * channels:,} samples", expected=f"at most {MAX_SAMPLES:,}")
        if wanted.sample_rate not in (None, rate):
            raise Refused("sample_rate", got=rate, expected=wanted.sample_rate)
        own = 1 if wanted.shape is None or len(wanted.shape) == 1 else wanted.shape[0]
        if channels != own:
            raise Refused("channels", got=channels, expected=own)
        values = file.read(dtype="float32", always_2d=True)
    if len(values) != frames:
        raise Refused("broken", message=f"it ends after {len(values)} of {frames} samples")
    single = wanted.shape is None or len(wanted.shape) == 1
    return np.ascontiguousarray(values[:, 0] if single else values.T), rate


@dataclass(slots=True)
class _Server:
    """Answers requests until standard input ends."""

    requests: IO[bytes]
    answers: IO[bytes]
    place: mmap.mmap

    def serve(self) -> None:
        while head := self.requests.read(8):
            request = json.loads(self.requests.read(struct.unpack("<Q", head)[0]))
            data = memoryview(self.requests.read(sum(request["sizes"])))
            allow_cpu(_CPU_S + _CPU_S_PER_GIB * len(data) // (1 << 30))
            header, arrays = self._answer(Wanted(**_tupled(request["wanted"])), _cut(data, request["sizes"]))
            text = json.dumps(header).encode()
            self.answers.write(struct.pack("<Q", len(text)) + text)
            for array in arrays:
                self.answers.write(array.reshape(-1).view(np.uint8).data)
            self.answers.flush()

    def _answer(self, wanted: Wanted, values: Iterator[memoryview]) -> tuple[dict[str, Any], list[Values]]:
        arrays: list[Values] = []
        size_bytes, shape, rate = 0, wanted.shape, wanted.sample_rate
        for row, data in enumerate(values):
            self.place[:] = struct.pack("<q", row)
            try:
                array, rate = _decoded(bytes(data), wanted, rate)
                shape = array.shape if shape is None else shape
                if len(shape) != array.ndim or any(a not in (-1, b) for a, b in zip(shape, array.shape, strict=True)):
                    raise Refused("shape", got=list(array.shape), expected=list(shape))
            except Refused as refused:
                return refused.answer | {"row": row}, []
            except UnidentifiedImageError:
                message = f"it is none of {', '.join(FORMATS)}, or its head is damaged"
                return {"ok": False, "kind": "broken", "message": message, "row": row}, []
            except MemoryError:
                return {"ok": False, "kind": "memory", "row": row}, []
            except Exception as error:  # noqa: BLE001  # a decoder raises anything on broken bytes
                return {"ok": False, "kind": "broken", "message": _one_line(error), "row": row}, []
            arrays.append(array)
            size_bytes += array.nbytes
            if size_bytes >= ANSWER_BYTES:
                break
        return _header(arrays, shape, rate, size_bytes), arrays


def _decoded(data: bytes, wanted: Wanted, rate: int | None) -> tuple[Values, int | None]:
    if wanted.kind == "image":
        return decode_picture(data, wanted), None
    array, found = decode_sound(data, wanted)
    if rate not in (None, found):
        raise Refused("sample_rate", got=found, expected=rate)
    return array, found


def _header(arrays: list[Values], shape: tuple[int, ...] | None, rate: int | None, size_bytes: int) -> dict[str, Any]:
    ragged = shape is not None and -1 in shape
    return {
        "ok": True,
        "shape": shape,
        "sample_rate": rate,
        "done": len(arrays),
        "size_bytes": size_bytes,
        "dims": [array.shape for array in arrays] if ragged else None,
    }


def _cut(data: memoryview, sizes: list[int]) -> Iterator[memoryview]:
    start = 0
    for size in sizes:
        yield data[start : start + size]
        start += size


def _tupled(wanted: dict[str, Any]) -> dict[str, Any]:
    return wanted | {"shape": None if wanted["shape"] is None else tuple(wanted["shape"])}


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no more is said'}"[:300]


def main() -> None:
    """Serve requests until standard input ends."""
    place = mmap.mmap(int(sys.argv[1]), 8)
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    if "audio" in sys.argv[2:]:
        import soundfile  # noqa: F401  # under our limits nothing is imported any more
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    limit_process(**_LIMITS)
    _Server(sys.stdin.buffer, answers, place).serve()


if __name__ == "__main__":
    main()
