"""The descriptor: what is read, and what every mistake says."""

from __future__ import annotations

import copy
import datetime as dt
import itertools
import json
import pickle  # noqa: TID251  # other processes get descriptors that way
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.errors import (
    CoralError,
    DescriptorError,
    DescriptorSyntaxError,
    DescriptorValueError,
    NotYetSupportedError,
)
from coralord_lightning.spec.descriptor import (
    SubsetDescriptor,
    descriptor_from_mapping,
    key_line,
    parse_descriptor,
)

GOLDEN = Path(__file__).parent / "golden" / "spec"
DIGEST = "sha256:" + "ab" * 32
FULL = """\
name: digits-even
croissant: croissant.json
record_set: digits
fields: [image, label]
where: "label % 2 = 0 AND label < 8"
order_by: [label desc]
limit: null
splits:
  test:  {where: "part = 'test'"}
  train: {from: rest, fraction: 0.9}
  val:   {from: rest, fraction: 0.1}
split_key: [id]
pipeline:
  entrypoint: pipeline.py:scale
  per: batch
  params: {max: 16}
  files: [vocab.json]
environment: local
"""


def outcome(act: Callable[[], SubsetDescriptor]) -> SubsetDescriptor | CoralError:
    """A descriptor or the error that a user meets; any other exception passes."""
    try:
        return act()
    except (DescriptorError, NotYetSupportedError) as error:
        return error


def read(text: str = FULL) -> SubsetDescriptor:
    return parse_descriptor(text, origin="digits.yaml", base_dir=Path("data"))


def changed(old: str, new: str) -> SubsetDescriptor:
    assert old in FULL
    return read(FULL.replace(old, new))


def test_every_key_is_read():
    descriptor = read()
    assert (descriptor.name, descriptor.croissant, descriptor.record_set) == ("digits-even", "croissant.json", "digits")
    assert descriptor.fields is not None
    assert (descriptor.fields.names, descriptor.fields.ordered) == (("image", "label"), True)
    assert descriptor.where == "label % 2 = 0 AND label < 8"
    assert (descriptor.order_by, descriptor.limit, descriptor.split_key) == (("label desc",), None, ("id",))
    assert descriptor.splits is not None
    assert {name: (item.where, item.group, item.fraction) for name, item in descriptor.splits.items()} == {
        "test": ("part = 'test'", None, None),
        "train": (None, "rest", 0.9),
        "val": (None, "rest", 0.1),
    }
    pipeline = descriptor.pipeline
    assert pipeline is not None
    assert (pipeline.file, pipeline.function, pipeline.per) == ("pipeline.py", "scale", "batch")
    assert (pipeline.params, pipeline.files) == ({"max": 16}, ("vocab.json",))
    assert descriptor.environment is not None
    assert descriptor.environment.local
    assert (descriptor.origin, descriptor.base_dir) == ("digits.yaml", Path("data"))


def test_the_shortest_descriptor_has_defaults():
    descriptor = read("name: team/digits\ncroissant: https://example.org/croissant.json\n")
    assert descriptor.fields is descriptor.splits is descriptor.pipeline is descriptor.environment is None
    assert (descriptor.order_by, descriptor.split_key, descriptor.limit) == ((), (), None)


def test_limits_of_the_environment_are_read_in_units():
    image = f"ghcr.io/team/etl@{DIGEST}"
    text = f"{{image: '{image}', memory: 4g, cpus: 1.5, timeout: 10m, network: true}}"
    environment = changed("environment: local", f"environment: {text}").environment
    assert environment is not None
    assert (environment.image, environment.memory, environment.cpus) == (image, 4 << 30, 1.5)
    assert (environment.timeout, environment.network, environment.local) == (600.0, True, False)


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [("512m", 512 << 20), ("4GiB", 4 << 30), ("50GB", 50 * 10**9), ("1.5k", 1536), (1024, 1024), ("7 b", 7)],
)
def test_sizes_have_units(written, size_bytes):
    environment = changed("environment: local", f"environment: {{memory: {written}}}").environment
    assert environment is not None
    assert environment.memory == size_bytes


@pytest.mark.parametrize(("written", "seconds"), [(90, 90), ("90s", 90), ("1.5h", 5400), ("2d", 172800), (0.5, 0.5)])
def test_durations_have_units(written, seconds):
    environment = changed("environment: local", f"environment: {{timeout: {written}}}").environment
    assert environment is not None
    assert environment.timeout == seconds


def test_a_mapping_of_fields_asks_for_no_order():
    choice = changed("[image, label]", "{label: {}, image: }").fields
    assert choice is not None
    assert (set(choice.names), choice.ordered) == ({"image", "label"}, False)


def test_yaml_is_1_2():
    params = changed(
        "max: 16", "on: no, y: yes, oct: 0o17, hex: 0x1F, n: ~, e: , t: TRUE, f: 1e3, under: 1_0, at: 1:30"
    )
    assert params.pipeline is not None
    assert params.pipeline.params == {
        "on": "no", "y": "yes", "oct": 15, "hex": 31, "n": None, "e": None, "t": True, "f": 1000.0, "under": "1_0",
        "at": "1:30",
    }  # fmt: skip


def test_anchors_write_a_value_twice():
    text = FULL.replace("params: {max: 16}", "params: {a: &a [1, {b: 2}], c: *a}")
    pipeline = read(text).pipeline
    assert pipeline is not None
    assert pipeline.params == {"a": [1, {"b": 2}], "c": [1, {"b": 2}]}


def test_comments_spaces_and_key_order_say_nothing():
    lines = FULL.replace("limit: null\n", "").splitlines(keepends=True)
    again = "# a comment\n" + "".join([*lines[1:6], "\n", lines[0], *lines[6:]])
    assert read(again) == read()


def test_the_same_words_are_equal_wherever_they_were_read():
    mapping = {"name": "a", "croissant": Path("c.json"), "limit": 3}
    one = descriptor_from_mapping(mapping, origin="descriptor", base_dir=Path("xyz"))
    other = parse_descriptor("{name: a, croissant: c.json, limit: 3}", origin="a.yaml", base_dir=Path("there"))
    assert one == other == SubsetDescriptor(name="a", croissant="c.json", limit=3)
    assert "xyz" not in repr(one)
    assert one.at(Path("there")).base_dir == Path("there")
    assert one.base_dir == Path("xyz")


def test_descriptors_travel_between_processes_and_do_not_change():
    descriptor = read()
    for twin in (pickle.loads(pickle.dumps(descriptor)), copy.deepcopy(descriptor)):
        assert twin == descriptor
        assert (twin.origin, twin.base_dir) == (descriptor.origin, descriptor.base_dir)
        assert key_line(twin, "where") == "digits.yaml:5"
    with pytest.raises(ValueError, match="frozen"):
        descriptor.name = "other"


def test_a_key_knows_its_line():
    descriptor = read()
    assert key_line(descriptor, "splits.test.where") == "digits.yaml:9"
    assert key_line(descriptor, "order_by.0") == "digits.yaml:6"
    assert key_line(descriptor, "splits.nothing.here") == "digits.yaml:8"
    assert key_line(descriptor, "no_such_key") == "digits.yaml"


def test_a_hydra_config_is_resolved_first():
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"name": "a", "croissant": "${dir}/c.json", "dir": "data", "limit": 5})
    del config["dir"]
    with pytest.raises(DescriptorValueError, match="cannot be resolved"):
        descriptor_from_mapping(config, origin="config", base_dir=Path())
    config = omegaconf.OmegaConf.create(
        {"name": "a", "croissant": "${name}.json", "pipeline": {"entrypoint": "p.py:f"}}
    )
    descriptor = descriptor_from_mapping(config, origin="config", base_dir=Path())
    assert descriptor.croissant == "a.json"
    nested = {"name": "a", "croissant": "c", "pipeline": omegaconf.OmegaConf.create({"entrypoint": "p.py:f"})}
    pipeline = descriptor_from_mapping(nested, origin="config", base_dir=Path()).pipeline
    assert pipeline is not None
    assert pipeline.function == "f"


@pytest.mark.parametrize(
    "value",
    [dt.date(2020, 1, 1), float("nan"), b"x", {1, 2}, object(), Path("x"), "\ud800", "a\0b", {1: 2}],
)
def test_a_mapping_holds_what_json_holds(value):
    params = {"name": "a", "croissant": "c", "pipeline": {"entrypoint": "p.py:f", "params": {"x": [value]}}}
    with pytest.raises(DescriptorError) as caught:
        descriptor_from_mapping(params, origin="descriptor", base_dir=Path())
    assert caught.value.subject.startswith("pipeline.params.x")
    assert caught.value.remedy


def test_what_is_no_mapping_or_never_ends_is_refused():
    with pytest.raises(DescriptorSyntaxError):
        descriptor_from_mapping([1], origin="descriptor", base_dir=Path())
    circle: dict[str, object] = {"name": "a"}
    circle["pipeline"] = circle
    with pytest.raises(DescriptorSyntaxError, match="nests deeper"):
        descriptor_from_mapping(circle, origin="descriptor", base_dir=Path())


@pytest.mark.parametrize("key", ["self", "_provenance", "cls", "model_config", "__class__", "group"])
def test_no_key_reaches_behind_the_descriptor(key):
    with pytest.raises(DescriptorValueError, match="unknown key"):
        descriptor_from_mapping({"name": "a", "croissant": "c", key: 1}, origin="descriptor", base_dir=Path())
    with pytest.raises(DescriptorValueError, match="unknown key"):
        read(FULL + f"{key}: 1\n")


def test_the_constructor_raises_our_errors():
    with pytest.raises(DescriptorValueError, match="unknown key 'nmae'"):
        SubsetDescriptor(nmae="a", croissant="c")


def _mistakes() -> dict[str, list[str]]:
    loaded: dict[str, list[str]] = json.loads((GOLDEN / "descriptor_mistakes.json").read_text(encoding="utf-8"))
    return loaded


def test_every_mistake_names_line_expectation_and_remedy():
    shown = []
    for name, edit in _mistakes().items():
        act = read if len(edit) == 1 else changed
        with pytest.raises(CoralError) as caught:
            act(*edit)
        assert isinstance(caught.value, DescriptorError | NotYetSupportedError), name
        assert caught.value.facts["at"].startswith("digits.yaml"), name
        shown.append(f"# {name}\n{caught.value}")
    assert "\n\n".join(shown) + "\n" == (GOLDEN / "descriptor_errors.txt").read_text(encoding="utf-8")


def test_plain_files_stand_in_place_of_a_croissant_file():
    assert changed("croissant: croissant.json", "files: data/*.csv").files == ("data/*.csv",)
    assert changed("croissant: croissant.json", "files: [a.csv, ./b/**/c.csv]").files == ("a.csv", "b/**/c.csv")


def test_a_mapping_leads_where_the_user_says():
    asked = changed("limit: null", "mapping: {repo: ../checkout, other: /data/x.zip}").at(Path("/work/here"))
    assert asked.mapped == {"repo": Path("/work/here/../checkout"), "other": Path("/data/x.zip")}
    assert changed("limit: null", "mapping: null").mapped == {}


@pytest.mark.parametrize(("text", "size_bytes"), [("50GB", 50 * 10**9), ("4g", 4 * 2**30), ("0", 0), ("null", None)])
def test_what_may_be_fetched_is_a_size(text, size_bytes):
    assert changed("limit: null", f"max_fetch: {text}").max_fetch == size_bytes


@pytest.mark.parametrize(
    "image",
    [
        DIGEST,
        f"python@{DIGEST}",
        f"registry.example.org:5000/a/b@{DIGEST}",
        "python",
        "python:3.11-slim",
        "localhost:5000/a__b/c-d.e:V_1.0",
    ],
)
def test_an_image_by_digest_or_tag_is_taken(image):
    environment = changed("environment: local", f"environment: {{image: '{image}'}}").environment
    assert environment is not None
    assert environment.image == image


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [1,1,1,1,1,1,1,1]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 8)}]\n" for a, b in itertools.pairwise("abcdefgh")),
        "a: " + "[" * 5_000,
        "a: " + "{b: " * 5_000,
        "x: '" + "y" * (1 << 20) + "'",
        "name: !!python/object/apply:os.system [echo]",
        "name: !!binary aGk=",
        "name: &x\n  name: *x",
        "? [a, b]\n: c",
        "name: *nothing",
        "%YAML 1.1\n---\nname: a",
        "name: a\n---\nname: b",
        "name: '\\ud800'",
        'name: "\\ud800"',
        "name: \x07",
        "\x00",
        "- a\n- b",
        "<html>",
        "limit: " + "9" * 5_000,
    ],
)
def test_hostile_yaml_is_a_typed_error(text):
    with pytest.raises(DescriptorError) as caught:
        read(text)
    assert caught.value.remedy


_JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=5,
)
_KEYS = st.sampled_from(sorted(SubsetDescriptor.model_fields.keys() - {"name", "croissant"}))


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(_KEYS, _JUNK, max_size=3))
def test_any_value_under_any_key_is_read_or_refused_with_a_remedy(junk):
    keys = {"name": "a", "croissant": "c.json", **junk}
    found = outcome(lambda: descriptor_from_mapping(keys, origin="descriptor", base_dir=Path()))
    assert found.remedy if isinstance(found, CoralError) else found == copy.deepcopy(found)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(FULL)), st.integers(0, 12), st.text("{}[]:,'\"&*!|>%@`#-?\t\n a0", max_size=4))
def test_any_slip_of_the_keyboard_is_read_or_refused_with_a_remedy(start, length, typed):
    found = outcome(lambda: read(FULL[:start] + typed + FULL[start + length :]))
    assert found.remedy if isinstance(found, CoralError) else found.name
