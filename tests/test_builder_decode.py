"""Decoding: pictures and sound to tensors in a limited process; hostile bytes cost that process at most."""

from __future__ import annotations

import io
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from coralord_lightning.builder import decoding
from coralord_lightning.builder.decode import Decoder, Undecodable, decoder_versions, nested
from coralord_lightning.errors import UsageError
from coralord_lightning.spec.selection import Refinement, SelectedField

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (5, 4), np.uint8)
COLOURS = RNG.integers(0, 256, (5, 4, 3), np.uint8)


def encoded(picture: Any, kind: str = "PNG", **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def sound(values: np.ndarray, rate: int = 16_000, kind: str = "WAV") -> bytes:
    soundfile = pytest.importorskip("soundfile")
    sink = io.BytesIO()
    soundfile.write(sink, values, rate, format=kind, subtype="FLOAT" if kind == "WAV" else None)
    return sink.getvalue()


def binary(*values: bytes | None) -> pa.Array:
    return pa.array(values, pa.binary())


def wanted(**options: Any) -> Refinement:
    return Refinement(**{"decode": "image", "dtype": "uint8", "layout": "HWC"} | options)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as opened:
        yield opened


def one(decoder: Decoder, data: bytes, **options: Any) -> np.ndarray:
    column = decoder.decode(binary(data), wanted(**options)).column
    return np.array(column.to_pylist()[0])


def refusal(decoder: Decoder, *values: bytes | None, **options: Any) -> tuple[int, str]:
    with pytest.raises(Undecodable) as caught:
        decoder.decode(binary(*values), wanted(**options))
    return caught.value.row, caught.value.answer["kind"]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_pictures_come_out_as_they_were_stored(decoder: Decoder, kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    column = decoder.decode(binary(encoded(COLOURS, kind, **options)), wanted(shape=(5, 4, 3))).column

    assert column.type == pa.list_(pa.list_(pa.list_(pa.uint8(), 3), 4), 5)
    assert np.array_equal(np.array(column.to_pylist()[0]), COLOURS)


def test_a_jpeg_is_what_pillow_makes_of_it(decoder: Decoder) -> None:
    data = encoded(np.kron(COLOURS, np.ones((8, 8, 1), np.uint8)), "JPEG")

    assert np.array_equal(one(decoder, data, shape=(40, 32, 3)), np.asarray(Image.open(io.BytesIO(data))))


def test_an_animation_gives_its_first_frame(decoder: Decoder) -> None:
    frames = [Image.fromarray(np.full((2, 2), value, np.uint8)) for value in (10, 200)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])

    assert one(decoder, data, shape=(2, 2)).tolist() == [[10, 10], [10, 10]]


def test_orientation_in_exif_turns_nothing(decoder: Decoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6

    assert np.array_equal(one(decoder, encoded(COLOURS, exif=exif), shape=(5, 4, 3)), COLOURS)


def test_layout_and_channels_are_as_asked_for(decoder: Decoder) -> None:
    data = encoded(COLOURS)

    assert np.array_equal(one(decoder, data, shape=(3, 5, 4), layout="CHW"), COLOURS.transpose(2, 0, 1))
    assert np.array_equal(one(decoder, data, shape=(5, 4)), np.asarray(Image.fromarray(COLOURS).convert("L")))
    assert one(decoder, data, shape=(5, 4, 4))[..., 3].min() == 255
    assert np.array_equal(one(decoder, encoded(GREY), shape=(5, 4, 3)), np.stack([GREY] * 3, axis=2))
    assert np.array_equal(one(decoder, encoded(GREY), shape=(5, 4, 1)), GREY[:, :, None])
    assert np.array_equal(one(decoder, encoded(GREY), shape=(1, 5, 4), layout="CHW"), GREY[None])


def test_palettes_and_single_bits_become_colours_and_greys(decoder: Decoder) -> None:
    palette = Image.fromarray(COLOURS).quantize(64)
    bits = Image.fromarray(GREY > 128)

    assert np.array_equal(one(decoder, encoded(palette), shape=(5, 4, 3)), np.asarray(palette.convert("RGB")))
    assert np.array_equal(one(decoder, encoded(palette)), np.asarray(palette.convert("RGB")))
    assert np.array_equal(one(decoder, encoded(bits)), np.asarray(bits.convert("L")))


def test_deep_greys_need_a_dtype_that_holds_them(decoder: Decoder) -> None:
    deep = RNG.integers(0, 65_536, (5, 4)).astype(np.uint16)
    floats = RNG.normal(size=(5, 4)).astype(np.float32)

    assert np.array_equal(one(decoder, encoded(deep), shape=(5, 4), dtype="uint16"), deep)
    assert np.array_equal(one(decoder, encoded(deep, "TIFF"), dtype="float32"), deep.astype(np.float32))
    assert np.array_equal(one(decoder, encoded(floats, "TIFF"), dtype="float32").astype(np.float32), floats)
    assert np.array_equal(one(decoder, encoded(GREY), dtype="float32"), GREY)
    assert refusal(decoder, encoded(deep), shape=(5, 4)) == (0, "dtype")
    assert refusal(decoder, encoded(deep), shape=(5, 4, 3), dtype="uint16") == (0, "grey")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_colours_of_sixteen_bits_are_refused_and_not_halved(decoder: Decoder) -> None:
    assert refusal(decoder, png(1, 1, 16, 2, bytes(7)), shape=(1, 1, 3)) == (0, "depth")
    assert refusal(decoder, png(1, 1, 16, 6, bytes(9))) == (0, "depth")


def test_a_picture_of_another_size_is_refused_and_not_resized(decoder: Decoder) -> None:
    small, large = encoded(GREY), encoded(np.zeros((6, 4), np.uint8))

    assert refusal(decoder, small, None, large, shape=(5, 4)) == (2, "shape")
    assert refusal(decoder, small, large) == (1, "shape")
    assert refusal(decoder, small, encoded(COLOURS)) == (1, "shape")


def test_a_shape_that_was_found_holds_for_later_values(decoder: Decoder) -> None:
    found = decoder.decode(binary(encoded(GREY)), wanted())

    assert found.shape == (5, 4)
    with pytest.raises(Undecodable):
        decoder.decode(binary(encoded(COLOURS)), wanted(), shape=found.shape)


def test_ragged_shapes_give_lists(decoder: Decoder) -> None:
    wide = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    column = decoder.decode(binary(encoded(COLOURS), None, encoded(wide)), wanted(shape=(-1, -1, 3))).column
    planes = decoder.decode(binary(encoded(COLOURS), None, encoded(wide)), wanted(shape=(3, -1, -1), layout="CHW"))

    column.validate(full=True)
    planes.column.validate(full=True)
    assert column.type == pa.list_(pa.list_(pa.list_(pa.uint8(), 3)))
    assert column.to_pylist() == [COLOURS.tolist(), None, wide.tolist()]
    assert planes.column.to_pylist() == [COLOURS.transpose(2, 0, 1).tolist(), None, wide.transpose(2, 0, 1).tolist()]


def test_nulls_stay_nulls_with_zeros_beneath(decoder: Decoder) -> None:
    column = decoder.decode(binary(None, encoded(GREY), None), wanted(shape=(5, 4))).column

    assert column.to_pylist() == [None, GREY.tolist(), None]
    assert decoder.decode(binary(None, None), wanted(shape=(5, 4))).column.to_pylist() == [None, None]
    assert decoder.decode(binary(None), wanted(shape=(-1, -1))).column.to_pylist() == [None]
    assert decoder.decode(binary(None), wanted()).shape is None


def test_what_is_large_comes_in_several_answers(decoder: Decoder) -> None:
    pictures = [np.full((2048, 2048, 3), value, np.uint8) for value in range(4)]
    values = binary(*[encoded(each, compress_level=1) for each in pictures])
    done, seen = 0, []
    while done < len(values):
        column = decoder.decode(values.slice(done), wanted(shape=(2048, 2048, 3))).column
        assert 0 < len(column) < 4
        for picture in column.flatten().flatten().flatten().to_numpy().reshape(len(column), -1):
            assert (picture == picture[0]).all()
            seen.append(picture[0])
        done += len(column)

    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        encoded(COLOURS)[:40],
        encoded(COLOURS)[:-40],
        encoded(COLOURS).replace(b"IDAT", b"IDOT"),
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n",
        b"P5 1 1 255 \0",
    ],
    ids=["empty", "text", "head only", "cut", "other chunks", "svg", "postscript", "pgm"],
)
def test_broken_and_foreign_bytes_are_named_by_row(decoder: Decoder, data: bytes) -> None:
    assert refusal(decoder, encoded(COLOURS), None, data, shape=(5, 4, 3)) == (2, "broken")
    assert np.array_equal(one(decoder, encoded(COLOURS), shape=(5, 4, 3)), COLOURS)


def test_a_bomb_is_refused_by_its_head(decoder: Decoder) -> None:
    row, kind = refusal(decoder, encoded(GREY), png(30_000, 30_000, 8, 0, b""), shape=(-1, -1))

    assert (row, kind) in ((1, "too_large"), (1, "broken"))


def test_a_death_costs_one_request_and_tells_the_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "from PIL import Image\n"
        "plain = Image.open\n"
        "def opened(fp, *rest, **more):\n"
        "    if fp.getvalue() == b'die':\n"
        f"        os.kill(os.getpid(), {int(signal.SIGSEGV)})\n"
        "    if fp.getvalue() == b'hog':\n"
        f"        os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
        "    return plain(fp, *rest, **more)\n"
        "Image.open = opened\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Decoder() as mortal:
        assert refusal(mortal, encoded(GREY), None, b"die", shape=(5, 4)) == (2, "crash")
        assert refusal(mortal, encoded(GREY), b"hog", shape=(5, 4)) == (1, "memory")
        assert np.array_equal(one(mortal, encoded(GREY), shape=(5, 4)), GREY)


@pytest.mark.parametrize(
    "answer",
    [
        '{"ok": true, "shape": [5, 4], "sample_rate": null, "done": 1, "size_bytes": 8, "dims": null}',
        '{"ok": true, "shape": [1, 4], "sample_rate": null, "done": 2, "size_bytes": 8, "dims": null}',
        '{"ok": true, "shape": [-1, -1], "sample_rate": null, "done": 1, "size_bytes": 8, "dims": [[99, 99]]}',
        '{"ok": true, "shape": [2, 4], "sample_rate": null, "done": 1, "size_bytes": 99999999999, "dims": null}',
        '{"ok": true}',
        '{"ok": false, "kind": "shape", "row": 77}',
        "no JSON",
    ],
)
def test_an_answer_that_does_not_add_up_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, struct\nfrom PIL import Image\n"
        "def opened(*rest, **more):\n"
        f"    text = {answer!r}.encode()\n"
        "    for number in range(3, 30):\n"
        "        try:\n"
        "            if os.readlink(f'/proc/self/fd/{number}').startswith('pipe:'):\n"
        "                os.write(number, struct.pack('<Q', len(text)) + text + bytes(8))\n"
        "        except OSError:\n"
        "            continue\n"
        "    os._exit(0)\n"
        "Image.open = opened\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Decoder() as taken_over:
        assert refusal(taken_over, encoded(GREY), shape=(-1, -1))[1] == "crash"


def test_what_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import time\nfrom PIL import Image\nplain = Image.open\n"
        "def opened(fp, *rest, **more):\n"
        "    if fp.getvalue() == b'wait':\n"
        "        time.sleep(3600)\n"
        "    return plain(fp, *rest, **more)\n"
        "Image.open = opened\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with Decoder(wait_s=5) as patient:
        assert refusal(patient, encoded(GREY), b"wait", shape=(5, 4)) == (1, "memory")
        assert np.array_equal(one(patient, encoded(GREY), shape=(5, 4)), GREY)


LIMITED = """
import os, resource, socket, sys
from coralord_lightning.builder import decoding
decoding.limit_process(**decoding._LIMITS)
assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == 0
try:
    with open(sys.argv[1], "wb") as file:
        file.write(b"x")
except OSError:
    print("no file")
if sys.platform == "linux":
    try:
        bytearray(6 << 30)
    except MemoryError:
        print("no memory")
else:
    print("no memory")
"""


def test_the_process_writes_no_file_and_takes_no_endless_memory(tmp_path: Path) -> None:
    target = tmp_path / "x"
    done = subprocess.run([sys.executable, "-c", LIMITED, str(target)], check=True, capture_output=True, text=True)

    assert done.stdout.split("\n")[:2] == ["no file", "no memory"]
    assert target.read_bytes() == b""


def test_no_process_is_left_behind(decoder: Decoder) -> None:
    with Decoder() as opened:
        one(opened, encoded(GREY), shape=(5, 4))
        worker = opened._worker  # nothing else tells its number
        assert worker is not None
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_sound_becomes_samples(decoder: Decoder) -> None:
    mono = RNG.uniform(-1, 1, 9).astype(np.float32)
    stereo = RNG.uniform(-1, 1, (7, 2)).astype(np.float32)
    ragged = decoder.decode(binary(sound(mono), None, sound(mono[:4])), Refinement(decode="audio", shape=(-1,)))
    fixed = decoder.decode(binary(sound(stereo)), Refinement(decode="audio", shape=(2, 7), sample_rate=16_000))
    flac = decoder.decode(binary(sound(mono, kind="FLAC")), Refinement(decode="audio", shape=(9,)))

    assert ragged.column.to_pylist() == [mono.tolist(), None, mono[:4].tolist()]
    assert (ragged.column.type, ragged.sample_rate) == (pa.list_(pa.float32()), 16_000)
    assert np.array_equal(np.array(fixed.column.to_pylist()[0], np.float32), stereo.T)
    assert fixed.column.type == pa.list_(pa.list_(pa.float32(), 7), 2)
    assert np.allclose(np.array(flac.column.to_pylist()[0]), mono, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"shape": (-1,), "sample_rate": 8_000}, "sample_rate"),
        ({"shape": (2, -1)}, "channels"),
        ({"shape": (8,)}, "shape"),
    ],
)
def test_other_sound_than_was_asked_for_is_refused(decoder: Decoder, options: dict[str, Any], kind: str) -> None:
    assert refusal(decoder, sound(np.zeros(9)), decode="audio", **options) == (0, kind)


def test_sounds_of_two_rates_are_refused(decoder: Decoder) -> None:
    values = sound(np.zeros(3)), sound(np.zeros(3), rate=8_000)

    assert refusal(decoder, *values, decode="audio", shape=(-1,)) == (1, "sample_rate")
    with pytest.raises(Undecodable):
        decoder.decode(binary(values[1]), Refinement(decode="audio", shape=(-1,)), sample_rate=16_000)


def test_broken_sound_is_named_by_row(decoder: Decoder) -> None:
    assert refusal(decoder, sound(np.zeros(3)), b"RIFF....WAVE", decode="audio", shape=(-1,)) == (1, "broken")


def test_the_libraries_that_decode_are_told_by_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(**options: Any) -> dict[str, str]:
        return decoder_versions([SelectedField(name="x", column="x", dtype="bytes", refine=Refinement(**options))])

    assert of(nulls="error") == {}
    assert decoder_versions([SelectedField(name="x", column="x", dtype="bytes")]) == {}
    assert of(decode="image")["pillow"]
    assert of(decode="image")["pillow/zlib"]
    assert of(decode="audio").keys() == {"soundfile", "libsndfile"}
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UsageError, match="needs soundfile") as caught:
        of(decode="audio")
    assert caught.value.remedy == "pip install 'coralord-lightning[audio]'"


def test_a_picture_at_the_limit_is_measured_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 19)
    with pytest.raises(decoding.Refused) as caught:
        decoding.decode_picture(encoded(GREY), decoding.Wanted(kind="image", shape=(5, 4)))
    assert caught.value.answer["kind"] == "too_large"


@pytest.mark.parametrize("shape", [(2,), (2, 3), (-1,), (-1, 2), (2, -1), (-1, -1), (-1, 2, -1)])
def test_numbers_nest_as_their_shape_says(shape: tuple[int, ...]) -> None:
    dims = [[size if size != -1 else row + at for at, size in enumerate(shape)] for row in (0, 1, 2)]
    arrays = [np.arange(np.prod(each), dtype=np.int32).reshape(each) + 100 * row for row, each in enumerate(dims)]
    flat = np.concatenate([array.reshape(-1) for array in arrays])
    valid = np.array([True, False, True, True])
    column = nested(flat, shape, np.array(dims) if -1 in shape else None, valid)

    column.validate(full=True)
    assert column.to_pylist() == [arrays[0].tolist(), None, arrays[1].tolist(), arrays[2].tolist()]
