"""Which files a version is made of, how they are cut into partitions, what of the dataset its manifest says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coralord_lightning.config import Config
from coralord_lightning.errors import EmptySelectionError, SourceFormatError
from coralord_lightning.spec.infer import CONTEXT
from coralord_lightning.workspace import Outcome, Workspace, open_workspace
from coralord_lightning.workspace.files import partitions_of


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(Config(home=tmp_path / "home"))


def dataset(folder: Path, files: list[dict[str, Any]], fields: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A Croissant file over these, written; returns a descriptor of all of it."""
    record_set = {"@type": "cr:RecordSet", "@id": "rows", "field": [{"@type": "cr:Field", **item} for item in fields]}
    body = {"@context": dict(CONTEXT), "@type": "sc:Dataset", "distribution": files, "recordSet": [record_set], **more}
    (folder / "croissant.json").write_text(json.dumps(body))
    return {"name": "a", "croissant": "croissant.json"}


def file_set(includes: str, format_: str = "text/plain") -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": "files", "encodingFormat": format_, "includes": includes}


def of_files(name: str, kind: str, **extract: str) -> dict[str, Any]:
    return {"@id": f"rows/{name}", "dataType": kind, "source": {"fileSet": {"@id": "files"}, "extract": extract}}


def built(workspace: Workspace, descriptor: dict[str, Any], folder: Path, **changes: Any) -> Outcome:
    return workspace.ensure(descriptor | changes, base_dir=folder)


def test_integers_that_differ_in_width_between_files_are_refused_with_the_width_to_say(
    tmp_path: Path, workspace: Workspace
) -> None:
    for name, kind in (("a", pa.int32()), ("b", pa.int64())):
        pq.write_table(pa.table({"n": pa.array([1, 2], kind)}), tmp_path / f"{name}.parquet")
    files = [file_set("*.parquet", "application/x-parquet")]

    descriptor = dataset(tmp_path, files, [of_files("n", "sc:Integer", column="n")])
    with pytest.raises(SourceFormatError, match="cr:Int64"):
        built(workspace, descriptor, tmp_path)

    descriptor = dataset(tmp_path, files, [of_files("n", "cr:Int64", column="n")])
    assert built(workspace, descriptor, tmp_path).version.num_rows == 4


def test_files_of_one_row_each_share_partitions_and_one_more_file_rebuilds_one(
    tmp_path: Path, workspace: Workspace
) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(2000):
        (tmp_path / "texts" / f"{number:04}.txt").write_text(f"text {number}")
    fields = [of_files("text", "sc:Text", fileProperty="content"), of_files("name", "sc:Text", fileProperty="filename")]
    descriptor = dataset(tmp_path, [file_set("texts/*.txt")], fields)

    first = built(workspace, descriptor, tmp_path)
    (tmp_path / "texts" / "1000b.txt").write_text("one more")
    again = built(workspace, descriptor, tmp_path)

    assert first.version.num_rows == 2000
    assert 2 <= first.partitions_built <= 30
    assert again.version.num_rows == 2001
    assert again.partitions_built <= 2
    assert again.partitions_reused >= first.partitions_built - 1


def test_partitions_of_small_files_are_all_of_them_once_in_order(tmp_path: Path, workspace: Workspace) -> None:
    for number in range(600):
        (tmp_path / f"{number}.txt").write_text("x")
    plan = workspace.plan(
        dataset(tmp_path, [file_set("*.txt")], [of_files("text", "sc:Text", fileProperty="content")]), base_dir=tmp_path
    ).plan

    assert [index for part in plan.partitions for index in part.sources] == list(range(600))
    assert partitions_of(plan.selection, plan.sources, None) == plan.partitions


def test_a_name_that_is_data_is_in_the_fingerprint_and_one_that_is_not_is_not(
    tmp_path: Path, workspace: Workspace
) -> None:
    (tmp_path / "a.csv").write_text("n\n1\n")
    file = {"@type": "cr:FileObject", "@id": "table", "contentUrl": "a.csv", "encodingFormat": "text/csv"}

    def fingerprint(url: str, *, named: bool) -> str:
        source = {"fileObject": {"@id": "table"}}
        fields = [{"@id": "rows/n", "dataType": "sc:Integer", "source": source | {"extract": {"column": "n"}}}]
        if named:
            extract = {"extract": {"fileProperty": "filename"}}
            fields.append({"@id": "rows/name", "dataType": "sc:Text", "source": source | extract})
        descriptor = dataset(tmp_path, [file | {"contentUrl": url}], fields)
        return workspace.plan(descriptor, base_dir=tmp_path).fingerprint

    (tmp_path / "b.csv").write_text("n\n1\n")
    assert fingerprint("a.csv", named=False) == fingerprint("b.csv", named=False)
    assert fingerprint("a.csv", named=True) != fingerprint("b.csv", named=True)


def test_no_file_that_a_split_could_take_is_said_before_anything_is_read(tmp_path: Path, workspace: Workspace) -> None:
    (tmp_path / "train.txt").write_text("x")
    fields = [of_files("text", "sc:Text", fileProperty="content"), of_files("name", "sc:Text", fileProperty="filename")]

    with pytest.raises(EmptySelectionError, match="by their names"):
        built(workspace, dataset(tmp_path, [file_set("*.txt")], fields), tmp_path, where="name = 'test.txt'")


def test_what_a_dataset_says_of_itself_is_kept_beside_the_manifest_and_not_in_the_fingerprint(
    tmp_path: Path, workspace: Workspace
) -> None:
    (tmp_path / "a.txt").write_text("x")
    more = {
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "citeAs": "Somebody 2026",
        "rai:dataBiases": ["some"],
        "prov:wasDerivedFrom": {"@id": "https://example.org/parent"},
        "usageInfo": {"@id": "http://purl.obolibrary.org/obo/DUO_0000042"},
        "version": 2**60,
    }
    fields = [of_files("text", "sc:Text", fileProperty="content")]
    plain = built(workspace, dataset(tmp_path, [file_set("*.txt")], fields), tmp_path)

    described = workspace.plan(dataset(tmp_path, [file_set("*.txt")], fields, **more), base_dir=tmp_path)
    assert described.fingerprint == plain.version.fingerprint

    (tmp_path / "a.txt").write_text("y")
    version = built(workspace, dataset(tmp_path, [file_set("*.txt")], fields, **more), tmp_path).version
    description = workspace.store.read_description(version.fingerprint)
    assert description is not None
    said = description.metadata
    assert said["sc:license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert said["cr:citeAs"] == "Somebody 2026"
    assert said["rai:dataBiases"] == ["some"]
    assert said["prov:wasDerivedFrom"] == {"@id": "https://example.org/parent"}
    assert said["sc:usageInfo"] == {"@id": "http://purl.obolibrary.org/obo/DUO_0000042"}
