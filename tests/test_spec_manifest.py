"""The manifest prints and reads back whole, and notices any change to its text."""

from __future__ import annotations

import hashlib
import json

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.errors import ManifestCorruptError
from coralord_lightning.spec.manifest import Column, PartitionRecord, Shard, parse_manifest
from coralord_lightning.spec.statistics import FieldStatistics
from stored import COLUMNS, bad_manifest, manifest_of, part_of, record_of, sha

A = Shard(path="objects/aa/a.arrow", num_rows=3, size_bytes=10, sha256=sha("a"))
B = Shard(path="objects/bb/b.arrow", num_rows=4, size_bytes=20, sha256=sha("b"))


def example(**changes):
    return manifest_of(1, [A, B], **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"isolation": {"network": "none"}},
        {"extra": {"later": {"species": ["a", "b"]}}},
        {"classes": {"species": ("a", "b")}},
        {"statistics": {"train": {"x": FieldStatistics(kind="int", count=2, min=-1, max=2**64 - 1, distinct={3: 2})}}},
        {"statistics": {"train": {"x": FieldStatistics(kind="float", count=2, min=1e16, mean=-0.1, std=2.0, nan=1)}}},
        {"columns": (Column(name="image", type="uint8", shape=(3, 28)),), "unassigned_rows": 5},
    ],
)
def test_a_manifest_reads_back(changes):
    manifest = example(**changes)
    assert parse_manifest(json.loads(json.dumps(manifest.to_json())), origin="m") == manifest


def test_rows_bytes_and_shards_are_counted():
    manifest = example(splits={"train": (part_of(A), part_of(B)), "test": (part_of(A),), "val": ()})
    assert (manifest.num_rows, manifest.rows_of("train"), manifest.rows_of("val")) == (10, 7, 0)
    assert manifest.size_bytes == 30, "a shard of two splits is on the disk once"
    assert list(manifest.shards("train")) == [A, B]
    assert list(manifest.shards()) == [A, B, A]


def test_the_name_of_a_dataset_is_not_in_it():
    assert "name" not in example().to_json()


def test_key_order_does_not_count():
    body = example().to_json()
    assert parse_manifest(dict(reversed(body.items())), origin="m") == example()


@given(st.data())
def test_every_changed_character_is_noticed(data):
    text = json.dumps(example().to_json())
    place = data.draw(st.integers(0, len(text) - 1))
    changed = text[:place] + data.draw(st.characters(codec="ascii")) + text[place + 1 :]
    try:
        body = json.loads(changed)
    except ValueError:
        return
    if body == json.loads(text):
        return
    with pytest.raises(ManifestCorruptError):
        parse_manifest(body, origin="m")


@pytest.mark.parametrize("body", [None, [], {}, "text", 1, {"checksum": "x"}, json.loads(bad_manifest(1))], ids=repr)
def test_what_is_no_manifest_is_refused_with_a_remedy(body):
    with pytest.raises(ManifestCorruptError) as caught:
        parse_manifest(body, origin="some/m.json")
    assert caught.value.subject == "some/m.json"
    assert "rm 'some/m.json'" in caught.value.remedy


def test_a_newer_format_is_said_to_be_newer():
    newer = example(extra={"format": 2})
    with pytest.raises(ManifestCorruptError) as caught:
        parse_manifest(newer.to_json(), origin="m")
    assert "newer" in caught.value.facts["got"]


@pytest.mark.parametrize("record", [record_of(1, A, B), record_of(2, columns=None, splits={}, unassigned_rows=9)])
def test_a_partition_record_reads_back(record):
    assert PartitionRecord.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert record.columns in (COLUMNS, None)


def signed(body):
    """The same with a checksum that fits, as another program would write it."""
    rest = {key: value for key, value in body.items() if key != "checksum"}
    return rest | {"checksum": hashlib.sha256(rfc8785.dumps(rest)).hexdigest()}


@pytest.mark.parametrize(
    "changes", [{"num_rows": 11}, {"plan": [1]}, {"splits": {"train": [{"shards": [1], "blocks": []}]}}, {"columns": 3}]
)
def test_values_that_contradict_each_other_are_refused_whatever_the_checksum(changes):
    assert parse_manifest(signed(example().to_json()), origin="m") == example()
    with pytest.raises(ManifestCorruptError):
        parse_manifest(signed(example().to_json() | changes), origin="m")


def test_nesting_without_end_is_refused():
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    with pytest.raises(ManifestCorruptError):
        parse_manifest(example().to_json() | {"plan": deep}, origin="m")
