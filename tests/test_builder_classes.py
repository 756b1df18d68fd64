"""Classes, nulls and statistics from the descriptor to the batch: exact, and the same however data is cut."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from animals import Project, failure, picture, rows

from coralord_lightning import CoralDataModule, load
from coralord_lightning.errors import BuildError, CoralError, DescriptorValueError


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


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


def test_a_fill_that_the_width_of_the_file_cannot_hold_is_refused(project: Project) -> None:
    for name in ("a", "b"):
        project.write(name, rows(1, 2, n=pa.array([1, None], pa.uint64())))

    error = failure(project, "{n: {nulls: fill, fill: -1}}")

    assert isinstance(error, DescriptorValueError)
    assert error.subject == "fields.n.fill"
    assert "uint64" in str(error.facts["expected"])
    assert project.column("n", "{n: {nulls: fill, fill: 7}}") == [1, 7, 1, 7]


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
            body.pop("checksum")  # which those records had not
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
