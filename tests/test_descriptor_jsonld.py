"""A descriptor as Croissant JSON-LD: the same descriptor, whichever way it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import DIGITS
from coralord_lightning.errors import DescriptorSyntaxError, DescriptorValueError
from coralord_lightning.spec.descriptor import descriptor_from_mapping, parse_descriptor
from coralord_lightning.spec.descriptor.jsonld import descriptor_document

HERE = Path()
ASKED = [
    {"name": "a/b", "files": ["x/*.csv"], "limit": 3, "order_by": ["a desc"], "max_fetch": "5GB"},
    {"name": "d", "croissant": "c.json", "fields": ["b", "a"], "where": "a < 'x\"y'", "split_key": "id"},
    {
        "name": "d",
        "croissant": "https://example.org/c.json",
        "record_set": "r",
        "fields": {"i": {"decode": "image", "shape": [2, -1], "nulls": "fill", "fill": 0.5},
                   "c": {"encode": {"category": ["x", "y"]}}, "t": None},
        "splits": {"a": {"from": "rest", "fraction": 0.5, "group_by": ["g"]}, "b": {"source": "test"}, "c": None},
        "pipeline": {"entrypoint": "p.py:f", "per": "dataset", "params": {"n": {"m": [1, None]}}, "files": ["v.json"]},
        "environment": {"dockerfile": "Dockerfile", "build_args": {"A": "1"}, "memory": "4g", "timeout": "10m"},
        "mapping": {"repo": "../x"},
    },
    {"name": "d", "croissant": "c.json", "environment": "local"},
]  # fmt: skip


@pytest.mark.parametrize("keys", ASKED, ids=["files", "list", "everything", "local"])
def test_what_is_written_is_read_back_equal(keys):
    asked = descriptor_from_mapping(keys, origin="x", base_dir=HERE)
    text = json.dumps(descriptor_document(asked, None))
    assert parse_descriptor(text, origin="x.jsonld", base_dir=HERE) == asked


@pytest.mark.parametrize("name", ["digits.yaml", "digits-docker.yaml", "digits-wavelet.yaml"])
def test_every_example_is_read_back_equal_with_its_parent(name):
    asked = parse_descriptor((DIGITS / name).read_text(), origin=name, base_dir=DIGITS)
    document = descriptor_document(asked, json.loads((DIGITS / "croissant.json").read_text()))
    assert parse_descriptor(json.dumps(document, indent=2), origin="x.jsonld", base_dir=DIGITS) == asked


def test_a_plain_croissant_is_told_from_a_descriptor():
    with pytest.raises(DescriptorSyntaxError, match="no descriptor") as caught:
        parse_descriptor((DIGITS / "croissant.json").read_text(), origin="d/croissant.json", base_dir=DIGITS)
    assert "croissant: croissant.json" in caught.value.remedy


def test_what_is_wrong_is_named():
    with pytest.raises(DescriptorSyntaxError, match="no JSON") as caught:
        parse_descriptor('{"@context": {},\n "a": }', origin="x.jsonld", base_dir=HERE)
    assert caught.value.facts["at"] == "x.jsonld:2"
    asked = descriptor_from_mapping(ASKED[3], origin="x", base_dir=HERE)
    document = descriptor_document(asked, None)
    document["cl:descriptor"]["limt"] = 3
    with pytest.raises(DescriptorValueError, match="unknown key 'limt'"):
        parse_descriptor(json.dumps(document), origin="x.jsonld", base_dir=HERE)
