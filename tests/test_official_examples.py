"""Every official example: each record, in order, read twice and after a filtered read; the invalid ones refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coralord_lightning import load
from coralord_lightning.config import Config
from coralord_lightning.errors import CoralError, CroissantSyntaxError, SourceError, SourceMissingError
from coralord_lightning.spec.compiler import compile_selection
from coralord_lightning.spec.croissant import parse_croissant
from coralord_lightning.spec.descriptor import descriptor_from_mapping
from coralord_lightning.workspace import open_workspace
from official import FILTERS, WITH_DATA, Example, differences, examples, expected, folder, printed

NO_OUTPUT = frozenset({"minimal_recommended.json", "wiki-text", "minimal.json"})


def descriptor(example: Example, **keys: Any) -> dict[str, Any]:
    return {"name": "official", "croissant": Path(example.file).name, "record_set": example.record_set, **keys}


def read(example: Example, home: Path, **keys: Any) -> list[dict[str, Any]]:
    """Our records, as the official reader prints records."""
    path = folder() / example.file
    dataset = parse_croissant(json.loads(path.read_text(encoding="utf-8")), origin=str(path))
    record_set = next(item for item in dataset.record_sets if item.id == example.record_set)
    data = load(descriptor(example, **keys), base_dir=path.parent, home=home)
    return printed(
        data.table("train"),
        {field.name: field.id for field in record_set.fields},
        [field.name for field in record_set.fields if field.media == "image"],
    )


@pytest.mark.parametrize("example", WITH_DATA, ids=str)
def test_every_record_is_as_expected_twice_in_a_row_and_after_a_filtered_read(example: Example, tmp_path: Path) -> None:
    where = FILTERS.get(example.file)
    theirs = expected(example)
    name = next(iter(theirs[0])).rpartition("/")[2]

    assert differences(read(example, tmp_path, where=where), theirs) == []
    assert differences(read(example, tmp_path, where=where), theirs) == []
    one = read(example, tmp_path, where=f"({where or 'TRUE'}) AND {name} IS NOT NULL", limit=1)
    assert differences(one, theirs[:1]) == []
    assert differences(read(example, tmp_path, where=where), theirs) == []
    assert differences(read(example, tmp_path / "another home", where=where), theirs) == []


def test_a_split_of_the_official_example_is_that_splits_records(tmp_path: Path) -> None:
    example = next(item for item in WITH_DATA if "simple-split" in item.file)

    data = load(
        descriptor(example, splits={"test": {"where": "split = 'test'"}, "train": {"where": "split = 'train'"}}),
        base_dir=(folder() / example.file).parent,
        home=tmp_path,
    )

    assert data.table("train")["data"].to_pylist() == [0, 1, 2]
    assert data.table("test")["split"].to_pylist() == ["test", "test"]


def test_every_output_that_there_is_has_been_compared() -> None:
    compared = {example.output for example in WITH_DATA}
    for path, body in examples():
        root = path.parent
        if not (root / "data").is_dir() or path.name in NO_OUTPUT or root.name in NO_OUTPUT:
            continue
        for record_set in body.get("recordSet", []):
            output = root / "output" / f"{record_set['@id']}.jsonl"
            if output.exists() and path.name != "live_dataset.json":
                assert str(output.relative_to(folder())) in compared


@pytest.mark.parametrize("change", ["broken", "missing", "more", "swapped", "typed"])
def test_the_comparison_notices_one_record(change: str) -> None:
    theirs = expected(next(item for item in WITH_DATA if item.record_set == "passengers"))
    ours = [dict(record) for record in theirs]
    assert differences(ours, theirs) == []

    if change == "broken":
        ours[700]["passengers/name"] += "."
    elif change == "missing":
        del ours[-1]
    elif change == "more":
        ours.append(ours[-1])
    elif change == "swapped":
        ours[3], ours[4] = ours[4], ours[3]
    else:
        ours[5]["passengers/survived"] = float(ours[5]["passengers/survived"])

    assert differences(ours, theirs)


def test_every_record_set_of_every_example_is_planned_as_far_as_it_is_croissant() -> None:
    count = 0
    for path, body in examples():
        dataset = parse_croissant(body, origin=str(path))
        assert len(dataset.files) == len(body.get("distribution", []))
        assert len(dataset.record_sets) == len(body.get("recordSet", []))
        for record_set in dataset.record_sets:
            asked = descriptor_from_mapping(
                {"name": "a", "croissant": "c", "record_set": record_set.id}, origin="d", base_dir=path.parent
            )
            selection = compile_selection(asked, dataset)
            assert [item.name for item in selection.fields] == [item.name for item in record_set.fields]
            count += 1
    assert count > 40


def test_files_that_cannot_be_reached_are_reported_when_they_are_fetched_and_not_before(tmp_path: Path) -> None:
    seen = 0
    for path, body in examples():
        if (path.parent / "data").is_dir() and path.name != "live_dataset.json" and path.parent.name != "wiki-text":
            continue
        for record_set in body.get("recordSet", []):
            if "data" in record_set:
                continue
            asked = {"name": "a", "croissant": path.name, "record_set": record_set["@id"]}
            compile_selection(
                descriptor_from_mapping(asked, origin="d", base_dir=path.parent),
                parse_croissant(body, origin=str(path)),
            )
            if path.parent.name == "wiki-text" and record_set["@id"] == "split_enums":
                continue  # its file is there
            with pytest.raises(SourceError) as caught:
                open_workspace(Config(home=tmp_path), offline=True).plan(asked, base_dir=path.parent)
            assert caught.value.remedy
            seen += 1
    assert seen >= 15


def test_a_live_dataset_without_its_file_names_it(tmp_path: Path) -> None:
    with pytest.raises(SourceMissingError, match=r"enum_directions\.csv"):
        open_workspace(Config(home=tmp_path)).plan(
            {"name": "a", "croissant": "live_dataset.json"}, base_dir=folder() / "1.0" / "recipes"
        )


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_every_invalid_example_is_refused_by_the_way_that_builds_naming_the_node(version: str, tmp_path: Path) -> None:
    paths = sorted((folder() / "invalid" / version).glob("*/metadata.json"))
    assert paths
    for path in paths:
        with pytest.raises(CroissantSyntaxError) as caught:
            open_workspace(Config(home=tmp_path), offline=True).plan(
                {"name": "a", "croissant": "metadata.json"}, base_dir=path.parent
            )
        node = {"recordset_wrong_join": "my-record-set"}.get(path.parent.name)
        said = caught.value.subject
        assert node in said if node else ("a-csv-table" in said or "first-field" in said), (path, said)
        assert isinstance(caught.value, CoralError)
