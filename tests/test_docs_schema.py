"""The JSON Schema of a descriptor: it takes what we take, marks what we refuse, and says what a key is for."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from test_spec_descriptor import FULL, GOLDEN

from command_line import coral
from coralord_lightning.errors import CoralError, DescriptorSyntaxError
from coralord_lightning.spec.descriptor import parse_descriptor
from coralord_lightning.spec.descriptor.problems import EXPECTED
from coralord_lightning.spec.descriptor.reader import read_yaml
from coralord_lightning.spec.descriptor.schema import TEXTS, descriptor_schema

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = descriptor_schema()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
UNSAYABLE = {"not a number", "fill that JSON cannot hold"}
"""Mistakes that JSON Schema has no words for: `.nan` and `.inf` are numbers to it."""


def _values(text: str) -> Any:
    return read_yaml(text, origin="d.yaml").values


def _is_read(text: str) -> bool:
    try:
        parse_descriptor(text, origin="d.yaml", base_dir=Path())
    except CoralError:
        return False
    return True


def _strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _every_descriptor() -> Iterator[tuple[str, str]]:
    """Whatever stands in examples, documents and tests and is a descriptor to us."""
    for path in [*(ROOT / "examples").rglob("*.yaml")]:
        yield path.name, path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for text in re.findall(r"^ *```yaml[^\n]*\n(.*?)^ *```$", path.read_text(), flags=re.MULTILINE | re.DOTALL):
            yield path.name, text
    for path in (ROOT / "tests").glob("*.py"):
        for text in _strings(path):
            if re.search(r"^name: ", text, flags=re.MULTILINE):
                yield path.name, text


def test_the_schema_is_one():
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_every_descriptor_that_we_take_is_valid():
    taken = [(name, text) for name, text in _every_descriptor() if _is_read(text)]
    assert len(taken) > 30
    for name, text in taken:
        assert [error.message for error in VALIDATOR.iter_errors(_values(text))] == [], f"{name}\n{text}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[image, label]", "{image: {decode: image, shape: [-1, 28]}, label: {encode: {category: [a]}}, x:}"),
        ("[image, label]", "{image: null, age: {nulls: fill, fill: 0.5}, b: {encode: category, classes: [a, b]}}"),
        ("where: \"part = 'test'\"", "source: test, where: null"),
        ("fraction: 0.9", "fraction: 0.9, group_by: patient, stratify_by: [label, site]"),
        ("order_by: [label desc]", "order_by: label"),
        ("split_key: [id]", "split_key: null"),
        ("environment: local", "environment: null"),
        ("environment: local", "environment: {image: 'ghcr.io/team/etl:1.2', memory: 4g, cpus: 1.5, timeout: 10 min}"),
        ("environment: local", "environment: {dockerfile: ../D, context: ., build_args: {A: b}, output: 1.5 TB}"),
        ("environment: local", "environment: {memory: 1024, timeout: 90}"),
        ("limit: null", "max_fetch: 50GB\nmapping: {repo: ../checkout}"),
        ("croissant: croissant.json", "files: data/**/*.csv"),
        ("croissant: croissant.json", "files: [a.csv, b/c.csv]\ncroissant: null"),
        ("max: 16", "max: {deep: [1, null, text]}"),
        ("files: [vocab.json]", "files: []"),
    ],
)
def test_every_way_to_write_a_key_is_valid(old, new):
    assert old in FULL
    text = FULL.replace(old, new)
    assert _is_read(text)
    assert [error.message for error in VALIDATOR.iter_errors(_values(text))] == []


@pytest.mark.parametrize("mistake", json.loads((GOLDEN / "descriptor_mistakes.json").read_text()).items(), ids=str)
def test_a_mistake_that_we_refuse_is_marked(mistake):
    name, change = mistake
    text = change[0] if len(change) == 1 else FULL.replace(*change)
    try:
        values = _values(text)
    except DescriptorSyntaxError:
        return  # no YAML, or none of ours: an editor says so without a schema
    assert VALIDATOR.is_valid(values) == (name in UNSAYABLE)


@pytest.mark.parametrize("key", [key for key in TEXTS if not key.endswith(".*")])
def test_a_misspelt_key_is_marked(key):
    *parents, last = key.replace("*", "train").split(".")
    values = _values(FULL)
    place = values
    for name in parents:
        if not isinstance(place.get(name), dict):
            place[name] = {}
        place = place[name]
    place[f"{last}x"] = place.pop(last, "a")
    assert not VALIDATOR.is_valid(values)


def test_every_key_says_what_it_is_for_and_what_it_takes():
    assert TEXTS.keys() == EXPECTED.keys()
    assert all(text.endswith(".") for text in TEXTS.values())
    described = json.dumps(SCHEMA, ensure_ascii=False)
    for key, text in TEXTS.items():
        assert json.dumps(text, ensure_ascii=False)[1:-1] in described, key


def test_defaults_are_said():
    (pipeline,) = [item for item in SCHEMA["properties"]["pipeline"]["anyOf"] if item.get("type") == "object"]
    assert pipeline["properties"]["per"]["default"] == "batch"
    assert pipeline["properties"]["per"]["enum"] == ["batch", "partition", "dataset"]


def test_every_example_of_a_key_is_valid_yaml_of_that_key():
    for key, (_, example) in EXPECTED.items():
        assert isinstance(_values(example), dict), key


def test_coral_schema_prints_it():
    code, out, err = coral("schema")
    assert (code, err, json.loads(out)) == (0, "", SCHEMA)


def test_schemas_need_neither_torch_nor_arrow():
    import subprocess

    code = "import sys; from coralord_lightning.spec.descriptor.schema import descriptor_schema as s; s()\n"
    code += "print({'torch', 'pyarrow', 'duckdb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
