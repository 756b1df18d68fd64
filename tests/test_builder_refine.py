"""Refining: from selected rows to tensors, class numbers and settled nulls; partitions agree, and reuse stays exact."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from animals import Project, failure, picture, rows

from coralord_lightning.builder.decode import Decoder
from coralord_lightning.builder.refine import Origin, Refiner
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.manifest import PartitionRecord
from coralord_lightning.spec.plan import BatchBounds
from coralord_lightning.spec.selection import Refinement, SelectedField


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_pictures_are_tensors_in_batches(project: Project) -> None:
    data = project.dataset("{n: {}, image: {decode: image, shape: [3, 2]}}")
    (batch,) = data.loader("train", batch_size=10)

    assert tuple(batch["image"].shape) == (10, 3, 2)
    assert str(batch["image"].dtype) == "torch.uint8"
    assert batch["image"][:, 0, 0].tolist() == list(range(10))
    assert (data.stats["train"]["image"].count, data.stats["train"]["image"].mean) == (60, 4.5)
    assert data.stats["train"]["image"].distinct == dict.fromkeys(range(10), 6)


def test_the_bytes_of_a_struct_are_decoded(project: Project) -> None:
    for name, numbers in (("a", range(6)), ("b", range(6, 10))):
        columns = rows(*numbers) | {"image": [{"bytes": picture(n), "path": f"{n}.png"} for n in numbers]}
        kinds = {"age": pa.int32(), "pair": pa.list_(pa.float32())}
        table = pa.table({key: pa.array(values, kinds.get(key)) for key, values in columns.items()})
        pq.write_table(table, project.folder / "data" / f"{name}.parquet")
    path = project.folder / "croissant.json"
    croissant = json.loads(path.read_text())
    (image,) = [each for each in croissant["recordSet"][0]["field"] if each["@id"] == "rows/image"]
    image["source"]["transform"] = {"jsonPath": "bytes"}
    croissant["@context"] |= {"jsonPath": "cr:jsonPath", "transform": "cr:transform"}
    path.write_text(json.dumps(croissant))

    assert project.column("image", "{image: {decode: image}}") == [[[n, n]] * 3 for n in range(10)]


def test_a_pipeline_gets_tensors(project: Project) -> None:
    (project.folder / "pipeline.py").write_text(
        "def twice(batch):\n"
        "    import pyarrow as pa\n"
        "    first = pa.array([2 * row[0][0] for row in batch['image'].to_pylist()])\n"
        "    return pa.record_batch({'first': first})\n"
    )
    more = "pipeline: {entrypoint: pipeline.py:twice}\nenvironment: local\n"

    assert project.column("first", "{image: {decode: image}}", more) == [2 * n for n in range(10)]


def test_rows_are_refined_after_they_are_chosen(project: Project) -> None:
    project.write("b", rows(*range(6, 10), image=[b"broken", *map(picture, (7, 8, 9))]))
    fields = "{image: {decode: image}, species: {encode: category}}"
    more = 'where: "n > 6 AND species <> \'bee\'"\nsplits: {a: {where: "species = \'dog\'"}, b: {where: "n = 9"}}\n'
    data = project.dataset(fields, more)

    assert data.table("a")["image"].to_pylist() == [[[7, 7]] * 3]
    assert data.table("b")["image"].to_pylist() == [[[9, 9]] * 3]
    assert data.classes == {"species": ("cat", "dog")}


@pytest.mark.parametrize("broken", [b"broken", picture(1)[:30]])
def test_a_broken_picture_is_named_by_file_and_row(project: Project, broken: bytes) -> None:
    project.write("b", rows(*range(6, 10), image=[picture(6), None, broken, picture(9)]))
    error = failure(project, "{n: {}, image: {decode: image}}", 'where: "n <> 7"\n')

    assert isinstance(error, SourceFormatError)
    assert error.subject == "image"
    assert error.message == "the picture in row 2 of data/b.parquet cannot be decoded"
    left_out = project.column("n", "{n: {}, image: {decode: image}}", 'where: "n NOT IN (7, 8)"\n')
    assert left_out == [0, 1, 2, 3, 4, 5, 6, 9]


def test_pictures_of_two_sizes_need_a_ragged_shape(project: Project) -> None:
    project.write("b", rows(*range(6, 10), image=[picture(1, (4, 4))] * 4))
    error = failure(project, "{image: {decode: image}}")
    remedy = error.remedy.partition("     #")[0]

    first, other = ("a", "b") if "data/b.parquet" in error.message else ("b", "a")  # whichever worker was first
    shapes = {"a": "[3, 2]", "b": "[4, 4]"}
    assert f"row 0 of data/{other}.parquet has another shape" in error.message
    assert error.facts == {"got": shapes[other], "expected": f"{shapes[first]} of the rows before"}
    assert remedy == "image: {decode: image, shape: [-1, -1]}"
    assert [len(each) for each in project.column("image", f"{{{remedy}}}")] == [3] * 6 + [4] * 4


def test_sizes_that_differ_are_found_though_one_partition_is_reused(project: Project) -> None:
    fields = "{image: {decode: image}}"
    project.build(fields)
    project.write("b", rows(*range(6, 10), image=[picture(1, (4, 4))] * 4))
    error = failure(project, fields)
    project.write("a", rows(*range(6), image=[picture(1, (4, 4))] * 6))

    assert "another shape" in error.message
    assert project.build(fields).partitions_built == 2


def test_partitions_that_were_built_apart_have_to_agree() -> None:
    from coralord_lightning.builder.build import common_forms

    def record(key: str, **form: Any) -> PartitionRecord:
        made = PartitionRecord(key=key, columns=None, splits={}, forms={"image": form} if form else {})
        return PartitionRecord.from_json(json.loads(json.dumps(made.to_json())))

    assert common_forms([record("a", shape=[3, 2]), record("b")]) == {"image": {"shape": [3, 2]}}
    with pytest.raises(SourceFormatError, match="has not one shape in all files") as caught:
        common_forms([record("a", shape=[3, 2, 3]), record("b", shape=[4, 2, 3])])
    assert "shape: [-1, 2, 3]" in caught.value.remedy


def wave(rate: int, *samples: float) -> bytes:
    soundfile = pytest.importorskip("soundfile")
    sink = io.BytesIO()
    soundfile.write(sink, np.array(samples, np.float32), rate, format="WAV", subtype="FLOAT")
    return sink.getvalue()


def test_sound_is_samples_of_one_rate(project: Project) -> None:
    project.write("a", rows(*range(6), image=[wave(8_000, n / 10, 0.5) for n in range(6)]))
    project.write("b", rows(*range(6, 10), image=[wave(8_000, 0.25)] * 4))

    lists = project.dataset("{image: {decode: audio}}")
    assert lists.table("train")["image"].type == pa.list_(pa.float32())
    assert [len(each) for each in lists.table("train")["image"].to_pylist()] == [2] * 6 + [1] * 4
    assert lists.version.plan["decoders"]["libsndfile"]
    fixed = project.dataset("{image: {decode: audio, shape: [2], sample_rate: 8000}}", 'where: "n < 6"\n')
    (batch,) = fixed.loader("train", batch_size=6)
    assert tuple(batch["image"].shape) == (6, 2)
    project.write("b", rows(*range(6, 10), image=[wave(16_000, 0.25)] * 4))
    error = failure(project, "{image: {decode: audio}}")
    assert "row 0 of data/b.parquet has another sample rate" in error.message
    assert error.facts == {"got": "16000", "expected": "8000 of the rows before"}


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    with Decoder() as opened:
        yield opened


def test_batches_are_cut_by_rows_alone(decoder: Decoder) -> None:
    item = SelectedField(
        name="image", column="image", dtype="bytes", refine=Refinement(decode="image", dtype="uint8", layout="HWC")
    )
    column = pa.array([picture(n % 251, (100, 100)) for n in range(300)], pa.binary())
    origin = Origin(label="part", locate=lambda row: None)

    def cut(*lengths: int) -> list[int]:
        starts = np.cumsum([0, *lengths])
        batches = [
            pa.record_batch({"image": column.slice(int(start), length)})
            for start, length in zip(starts, lengths, strict=False)
        ]
        refiner = Refiner([item], decoder=decoder, bounds=BatchBounds(bytes=1_000_000), classes={}, forms={})
        reader = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
        done = refiner.refine(reader, origin).read_all()
        assert done["image"].combine_chunks().flatten().flatten().to_pylist()[:: 100 * 100] == [
            n % 251 for n in range(300)
        ]
        assert refiner.take_forms() == {"image": {"shape": [100, 100]}}
        assert refiner.take_forms() == {}
        return [len(chunk) for chunk in done["image"].chunks]

    assert cut(300) == cut(1, 99, 200) == cut(150, 150) == [100, 100, 100]
