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
from PIL import Image

from coralord_lightning import CoralDataModule, Dataset, load
from coralord_lightning.builder.decode import Decoder
from coralord_lightning.builder.refine import Origin, Refiner
from coralord_lightning.config import load_config
from coralord_lightning.errors import BuildError, CoralError, DescriptorValueError, SourceFormatError
from coralord_lightning.spec.manifest import PartitionRecord
from coralord_lightning.spec.plan import BatchBounds
from coralord_lightning.spec.selection import Refinement, SelectedField
from coralord_lightning.workspace import Outcome, open_workspace
from projects import TERMS

KINDS = {"n": "sc:Integer", "age": "cr:Int32", "species": "sc:Text", "image": "sc:ImageObject", "pair": "cr:Float32"}


def picture(value: int, size: tuple[int, ...] = (3, 2)) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(np.full(size, value, np.uint8)).save(sink, "PNG")
    return sink.getvalue()


def rows(*numbers: int, **changes: Any) -> dict[str, Any]:
    columns = {
        "n": list(numbers),
        "age": [None if n % 4 == 3 else n for n in numbers],
        "species": [("cat", "dog", "bee")[n % 3] for n in numbers],
        "image": [picture(n) for n in numbers],
        "pair": [[n, n + 0.5] for n in numbers],
    }
    return columns | changes


class Project:
    """Two Parquet files and a descriptor whose fields and more are given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "data").mkdir(parents=True)
        self.write("a", rows(*range(6)))
        self.write("b", rows(*range(6, 10)))
        fields = [
            {
                "@type": "cr:Field",
                "@id": f"rows/{name}",
                "dataType": kind,
                "source": {"fileSet": {"@id": "files"}, "extract": {"column": name}},
            }
            | ({"isArray": True, "arrayShape": "2"} if name == "pair" else {})
            for name, kind in KINDS.items()
        ]
        terms = {term: f"cr:{term}" for term in (*TERMS, "isArray", "arrayShape")}
        croissant = {
            "@context": {
                "@vocab": "https://schema.org/",
                "sc": "https://schema.org/",
                "cr": "http://mlcommons.org/croissant/",
                "dct": "http://purl.org/dc/terms/",
                "conformsTo": "dct:conformsTo",
                "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
                **terms,
            },
            "@type": "sc:Dataset",
            "conformsTo": "http://mlcommons.org/croissant/1.1",
            "name": "animals",
            "distribution": [
                {"@type": "cr:FileSet", "@id": "files", "encodingFormat": "application/x-parquet",
                 "includes": "data/*.parquet"}
            ],
            "recordSet": [{"@type": "cr:RecordSet", "@id": "rows", "field": fields}],
        }  # fmt: skip
        (folder / "croissant.json").write_text(json.dumps(croissant))

    def write(self, name: str, columns: dict[str, Any]) -> None:
        kinds = {"age": pa.int32(), "image": pa.binary(), "pair": pa.list_(pa.float32())}
        table = pa.table({key: pa.array(values, kinds.get(key)) for key, values in columns.items()})
        pq.write_table(table, self.folder / "data" / f"{name}.parquet")

    def build(self, fields: str, more: str = "", **options: Any) -> Outcome:
        text = f"name: animals\ncroissant: croissant.json\nfields: {fields}\n{more}"
        (self.folder / "animals.yaml").write_text(text)
        workspace = open_workspace(load_config(home=self.folder / "home"))
        return workspace.ensure(self.folder / "animals.yaml", **options)

    def dataset(self, fields: str, more: str = "") -> Dataset:
        return Dataset(self.build(fields, more).version)

    def column(self, name: str, fields: str, more: str = "", split: str = "train") -> list[Any]:
        return self.dataset(fields, more).table(split)[name].to_pylist()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def failure(project: Project, fields: str, more: str = "") -> CoralError:
    with pytest.raises(CoralError) as caught:
        project.build(fields, more)
    return caught.value


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

    assert "row 0 of data/b.parquet has another shape" in error.message
    assert error.facts == {"got": "[4, 4]", "expected": "[3, 2] of the rows before"}
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


def test_classes_are_the_sorted_values_of_all_partitions_and_splits(project: Project) -> None:
    project.write("b", rows(*range(6, 10), species=["ant", "dog", "élan", "dog"]))
    data = project.dataset("{species: {encode: category}}", 'splits: {a: {where: "n < 7"}, b: {from: rest}}\n')

    assert data.classes == {"species": ("ant", "bee", "cat", "dog", "élan")}
    assert data.table("a")["species"].to_pylist() == [2, 3, 1, 2, 3, 1, 0]
    assert data.table("b")["species"].to_pylist() == [3, 4, 3]
    assert data.table("a")["species"].type == pa.int64()
    assert data.stats["b"]["species"].distinct == {3: 2, 4: 1}


def test_a_new_class_rebuilds_all_partitions_and_other_edits_their_own(project: Project) -> None:
    fields = "{n: {}, species: {encode: category}}"
    assert project.build(fields).partitions_built == 2
    project.write("b", rows(*range(60, 64), species=["dog", "dog", "bee", "cat"]))
    assert project.build(fields).partitions_built == 1
    project.write("b", rows(*range(60, 64), species=["dog", "dog", "ant", "cat"]))
    changed = project.build(fields)

    assert changed.partitions_built == 2
    assert changed.version.classes["species"] == ("ant", "bee", "cat", "dog")


def test_given_classes_keep_their_order_and_refuse_others(project: Project) -> None:
    fields = "{species: {encode: {category: [dog, cat, bee]}}}"
    assert project.column("species", fields) == [1, 0, 2] * 3 + [1]
    project.write("b", rows(*range(6, 10), species=["dog", "dogs", "bee", "cat"]))
    assert project.build(fields, 'where: "n <> 7"\n').partitions_built == 2
    error = failure(project, fields)

    assert isinstance(error, DescriptorValueError)
    assert error.subject == "fields.species.classes"
    assert error.facts["got"] == "'dogs'"
    assert error.facts["in"] == "row 1 of data/b.parquet"
    assert error.facts["nearest"] == "'dog'"
    where = error.remedy.partition("     #")[0]
    assert project.column("species", fields, where + "\n") == [1, 0, 2] * 2 + [0, 2, 1]


def test_too_many_values_are_no_classes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coralord_lightning.builder.refine_errors.MAX_CLASSES", 2)
    error = failure(project, "{species: {encode: category}}")

    assert error.message == "has too many values to number them as classes"
    assert error.facts["expected"] == "at most 2"


def test_classes_are_those_of_the_rows_within_the_limit(project: Project) -> None:
    data = project.dataset("{species: {encode: category}}", "limit: 2\n")

    assert data.classes == {"species": ("cat", "dog")}


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


def test_a_data_module_tells_classes_and_statistics(project: Project) -> None:
    more = 'splits: {val: {where: "n = 9"}, train: {from: rest}}\n'
    project.build("{n: {}, species: {encode: category}}", more)
    dm = CoralDataModule(project.folder / "animals.yaml", batch_size=4, home=project.folder / "home")
    dm.setup()

    assert dm.classes["species"] == ("bee", "cat", "dog")
    assert (dm.stats["n"].mean, dm.stats["n"].max, dm.stats["species"].distinct) == (4.0, 8, {0: 3, 1: 3, 2: 3})


def test_nulls_of_numbers_are_filled_or_masked(project: Project) -> None:
    ages = [None if n % 4 == 3 else n for n in range(10)]
    filled = project.dataset("{age: {nulls: fill, fill: -1}}")
    masked = project.dataset("{age: {nulls: mask}, n: {}}")

    assert filled.table("train")["age"].to_pylist() == [-1 if age is None else age for age in ages]
    assert masked.table("train").column_names == ["n", "age", "age_is_null"]
    assert masked.table("train")["age"].to_pylist() == [age or 0 for age in ages]
    assert masked.table("train")["age_is_null"].to_pylist() == [age is None for age in ages]
    (batch,) = masked.loader("train", batch_size=10)
    assert str(batch["age_is_null"].dtype) == "torch.bool"
    assert masked.stats["train"]["age_is_null"].distinct == {False: 8, True: 2}
    assert project.dataset("[age]").stats["train"]["age"].nulls == 2


def test_nulls_inside_lists_are_filled_and_no_mask_hides_them(project: Project) -> None:
    project.write("b", rows(*range(6, 10), pair=[None, [1, None], [2, 3], [4, 5]]))

    assert project.column("pair", "{pair: {nulls: fill, fill: 9}}")[6:] == [[9, 9], [1, 9], [2, 3], [4, 5]]
    error = failure(project, "{pair: {nulls: mask}}")
    assert error.message == "has a null inside its list in row 1 of data/b.parquet, and a mask knows whole rows only"
    project.write("b", rows(*range(6, 10), pair=[None, [1, 1], [2, 3], [4, 5]]))
    masked = project.dataset("{pair: {nulls: mask}}").table("train")
    assert masked["pair"].to_pylist()[6:8] == [[0, 0], [1, 1]]
    assert masked["pair_is_null"].to_pylist() == [n == 6 for n in range(10)]


def test_nulls_of_pictures_and_classes_are_settled_too(project: Project) -> None:
    project.write("b", rows(*range(6, 10), image=[None, *map(picture, (7, 8, 9))], species=["cat", None, "bee", "cat"]))
    fields = "{species: {encode: category, nulls: fill, fill: none}, image: {decode: image, nulls: mask}}"
    data = project.dataset(fields)

    assert data.classes["species"] == ("bee", "cat", "dog", "none")
    assert data.table("train")["species"].to_pylist()[6:] == [1, 3, 0, 1]
    assert data.table("train")["image"].to_pylist()[6:8] == [[[0, 0]] * 3, [[7, 7]] * 3]
    assert data.table("train")["image_is_null"].to_pylist() == [n == 6 for n in range(10)]
    masked = project.dataset("{species: {encode: category, nulls: mask}}")
    assert masked.classes["species"] == ("bee", "cat", "dog")
    assert masked.table("train")["species_is_null"].to_pylist() == [n == 7 for n in range(10)]


def test_nulls_that_are_an_error_stop_the_build(project: Project) -> None:
    error = failure(project, "{age: {nulls: error}}")

    assert isinstance(error, BuildError)
    assert error.message == "has a null in row 3 of data/a.parquet, and `nulls: error` was said"
    where = error.remedy.rpartition("# or ")[2]
    assert project.column("age", "{age: {nulls: error}}", where + "\n") == [0, 1, 2, 4, 5, 6, 8, 9]
    filled = error.remedy.partition("     #")[0]
    assert project.column("age", f"{{{filled}}}")[3] == 0


def test_the_versions_of_decoders_are_in_the_plan(project: Project) -> None:
    plan = project.build("{image: {decode: image}}").version.plan

    assert plan["decoders"]["pillow"]
    assert "decoders" not in project.build("{age: {nulls: mask}}").version.plan


def test_a_version_tells_what_it_was_built_from(project: Project) -> None:
    built = project.build("{n: {}, species: {encode: category}}")
    again = load(project.folder / "animals.yaml", home=project.folder / "home")
    hit = project.build("{n: {}, species: {encode: category}}")

    assert not hit.built
    assert again.classes == built.version.classes == {"species": ("bee", "cat", "dog")}
    assert again.stats == built.version.statistics
    assert (again.stats["train"]["n"].min, again.stats["train"]["n"].max) == (0, 9)
    assert again.version.manifest.splits["train"][0].tallies is None


def test_a_partition_of_an_older_release_leaves_its_split_uncounted(project: Project) -> None:
    more = 'splits: {a: {where: "n < 6"}, b: {from: rest}}\n'
    project.build("[n]", more)
    for record in (project.folder / "home" / "partitions").rglob("*.json"):
        body = json.loads(record.read_text())
        if body["splits"]["a"]["shards"]:
            body["splits"]["a"].pop("tallies")
            record.chmod(0o644)
            record.write_text(json.dumps(body))
    for manifest in (project.folder / "home" / "manifests").rglob("*.json"):
        manifest.unlink()
    built = project.build("[n]", more)

    assert (built.built, built.partitions_built) == (True, 0)
    assert built.version.statistics.keys() == {"b"}
    with pytest.raises(CoralError, match="nothing is known of split 'a'"):
        built.version.stats("a")


def test_statistics_do_not_depend_on_partitions(project: Project) -> None:
    apart = project.dataset("[n, age, pair]").stats["train"]
    (project.folder / "data" / "b.parquet").unlink()
    project.write("a", rows(*range(10)))
    together = project.dataset("[n, age, pair]").stats["train"]

    assert dict(apart) == dict(together)
    assert apart["n"].std == pytest.approx(np.std(range(10)), rel=1e-15)


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
