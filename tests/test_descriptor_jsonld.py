"""A descriptor as Croissant JSON-LD: the same descriptor, whichever way it is written."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from command_line import DIGITS, Digits, coral, coral_json
from coralord_lightning.errors import DescriptorNotFoundError, DescriptorSyntaxError, DescriptorValueError, UsageError
from coralord_lightning.spec.descriptor import descriptor_from_mapping, parse_descriptor
from coralord_lightning.spec.descriptor.jsonld import descriptor_document
from coralord_lightning.workspace.describe import describe_descriptor

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


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=8)
FIELD = st.from_regex(r"[a-z][a-z0-9_ é.]{0,6}[a-z]", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.one_of(
    st.none(),
    st.just({}),
    st.fixed_dictionaries(
        {"encode": st.just("category")}, optional={"classes": st.lists(TEXT, min_size=1, unique=True)}
    ),
    st.fixed_dictionaries(
        {"nulls": st.just("fill"), "fill": st.integers(-9, 9) | st.floats(0, 1) | st.booleans() | TEXT}
    ),
    st.fixed_dictionaries({"nulls": st.sampled_from(["error", "mask"])}),
)
NAMES = st.lists(FIELD, min_size=1, max_size=4, unique=True)
SPLIT = st.one_of(
    st.none(),
    st.fixed_dictionaries({"where": st.sampled_from(["a < 1", "b = 'x\"y'"])}),
    st.fixed_dictionaries({"source": FIELD}),
    st.fixed_dictionaries(
        {"from": st.just("rest"), "fraction": st.floats(0.01, 0.2)}, optional={"group_by": NAMES, "stratify_by": NAMES}
    ),
)
PIPELINE = st.fixed_dictionaries(
    {"entrypoint": st.just("p.py:f")},
    optional={
        "per": st.sampled_from(["batch", "partition", "dataset"]),
        "params": st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), VALUES, max_size=3),
        "files": st.just(["v.json"]),
    },
)
DESCRIPTORS = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z][a-z0-9]{0,8}(/[a-z]{1,4})?", fullmatch=True), "croissant": st.just("c.json")},
    optional={
        "record_set": TEXT,
        "fields": NAMES | st.dictionaries(FIELD, OPTIONS, min_size=1, max_size=3),
        "where": st.sampled_from(["a < 'x\"y'", "b IN (1, 2)"]),
        "order_by": NAMES.map(lambda names: [f"{name} desc" for name in names if name.isalpha()]),
        "limit": st.integers(1, 2**63 - 1),
        "splits": st.dictionaries(st.from_regex(r"[a-z]{2,5}", fullmatch=True), SPLIT, min_size=1, max_size=3),
        "split_key": NAMES,
        "pipeline": PIPELINE,
        "mapping": st.dictionaries(TEXT, st.just("../x"), max_size=2),
        "max_fetch": st.integers(0, 2**60) | st.just("5GB"),
    },
)


def read(keys: dict[str, Any]) -> Any:
    return descriptor_from_mapping(keys, origin="x", base_dir=HERE)


def can_be_read(keys: dict[str, Any]) -> bool:
    try:
        read(keys)
    except DescriptorValueError:
        return False
    return True


@settings(max_examples=200, deadline=None)
@given(keys=DESCRIPTORS.filter(can_be_read))
def test_whatever_yaml_says_json_ld_says(keys: dict[str, Any]) -> None:
    file = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.sort_base_mapping_type_on_output = False
    yaml.dump(keys, file)
    asked = parse_descriptor(file.getvalue(), origin="x.yaml", base_dir=HERE)
    for indent in (None, 2):
        text = json.dumps(descriptor_document(asked, None), indent=indent, ensure_ascii=indent is None)
        again = parse_descriptor(text, origin="x.jsonld", base_dir=HERE)
        assert again == asked == read(keys)
        assert descriptor_document(again, None) == descriptor_document(asked, None)


def test_what_cannot_be_read_is_a_descriptor_error(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("name: d\ncroissant: é.json\n".encode("latin-1"))
    with pytest.raises(DescriptorSyntaxError, match="not UTF-8"):
        describe_descriptor(tmp_path / "latin.yaml", target=None)
    assert coral("describe", tmp_path / "latin.yaml")[0] == 1
    with pytest.raises(DescriptorNotFoundError, match="is a directory"):
        describe_descriptor(tmp_path, target=None)


@pytest.mark.parametrize(
    "line",
    ["croissant: https://user:secret@example.org/c.json", "croissant: https://example.org/c.json?token=secret",
     "croissant: c.json\npipeline: {entrypoint: 'p.py:f', params: {from: 'https://example.org/?sig=secret'}}"],
    ids=["password", "token", "parameter"],
)  # fmt: skip
def test_an_address_with_a_secret_is_never_written(tmp_path: Path, line: str) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(f"name: d\n{line}\n")
    with pytest.raises(UsageError, match="with a secret") as caught:
        describe_descriptor(path, target=None)
    assert "secret@" not in str(caught.value)
    assert "=secret" not in str(caught.value)
    code, out, _ = coral("describe", path, "-o", tmp_path / "d.jsonld")
    assert (code, out, (tmp_path / "d.jsonld").exists()) == (2, "", False)


def test_secrets_of_the_parent_are_left_out_and_its_terms_are_not(tmp_path: Path) -> None:
    digits = Digits.copy_to(tmp_path / "digits")
    digits.croissant(lambda document: document.update(url="https://example.org/?token=secret&page=1"))
    document = describe_descriptor(digits.descriptor, target=None).document
    assert document["url"] == "https://example.org/?page=1"
    parent = json.loads((digits.folder / "croissant.json").read_text())
    assert {key: document["@context"][key] for key in parent["@context"]} == parent["@context"]
    assert document["recordSet"] == parent["recordSet"]


def test_a_parent_that_lies_elsewhere_is_only_named(tmp_path: Path) -> None:
    digits = Digits.copy_to(tmp_path / "digits")
    (digits.folder / "sub").mkdir()
    path = digits.folder / "sub" / "d.yaml"
    path.write_text("name: d\ncroissant: ../croissant.json\n")
    code, _, err = coral("describe", path, "-o", path.with_suffix(".jsonld"), "--home", tmp_path / "home")
    assert (code, err) == (
        0,
        f"coral: wrote {path.with_suffix('.jsonld')}; every command that takes a descriptor takes it\n",
    )
    assert "distribution" not in json.loads(path.with_suffix(".jsonld").read_text())
    first = coral_json("build", path, "--home", tmp_path / "home")
    assert coral_json("build", path.with_suffix(".jsonld"), "--home", tmp_path / "home")["built"] is False
    assert first["built"] is True
