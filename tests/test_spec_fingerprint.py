"""Plans, their fingerprints, and what changed between two of them."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.spec.code import code_digest
from coralord_lightning.spec.explain import explain
from coralord_lightning.spec.fingerprint import canonical, fingerprint, partition_key, plain
from coralord_lightning.spec.plan import (
    BatchBounds,
    EnvironmentPlan,
    Partition,
    PipelinePlan,
    Plan,
    SourceFile,
)
from coralord_lightning.spec.selection import FileSet, OrderKey, SelectedField, Selection, SplitRule

GOLDEN = Path(__file__).parent / "golden" / "fingerprints.json"


def example_selection(**changes) -> Selection:
    selection = Selection(
        record_set="digits",
        distribution=FileSet(id="files", format="parquet", includes=("*.parquet",)),
        fields=(
            SelectedField(name="image", column="image", dtype="uint8", shape=(8, 8)),
            SelectedField(name="label", column="label", dtype="integer"),
        ),
        splits=(SplitRule(name="train", bounds=(0, 2**63)), SplitRule(name="val", bounds=(2**63, 2**64))),
    )
    return replace(selection, **changes)


def example_plan(**changes) -> Plan:
    plan = Plan(
        selection=example_selection(),
        sources=(
            SourceFile(name="a.parquet", format="parquet", identity={"sha256": "a" * 64}, size_bytes=10),
            SourceFile(name="b.parquet", format="parquet", identity={"sha256": "b" * 64}, size_bytes=20),
        ),
        partitions=(Partition(sources=(0,)), Partition(sources=(1,))),
        pipeline=PipelinePlan(
            file="pipeline.py",
            function="scale",
            per="batch",
            params={"max": 16},
            code={"pipeline.py": "c" * 64, "shapes.py": "d" * 64},
        ),
        environment=EnvironmentPlan(kind="docker", identity={"image": "sha256:" + "e" * 64, "platform": "linux/amd64"}),
    )
    return replace(plan, **changes)


def print_of(plan: Plan) -> str:
    return fingerprint(canonical(plan.to_json()))


VECTORS = {
    "whole": example_plan(),
    "selection only": example_plan(pipeline=None, environment=None),
    "odd params": example_plan(
        pipeline=replace(
            example_plan().pipeline,
            params={"float": 1.0, "int": 1, "large": 2**70, "text": "é", "none": None, "list": [True, 0.1], "$x": {}},
        )
    ),
    "ordered": example_plan(
        selection=example_selection(
            order_by=(OrderKey(field="label", descending=True),), limit=10, split_key=("label",)
        )
    ),
}


@pytest.mark.parametrize("case", VECTORS)
def test_golden_vectors_hold(case):
    assert print_of(VECTORS[case]) == json.loads(GOLDEN.read_text())[case]


SOURCE = """def f(b, n=1):  # comment
    '''doc # no comment   

    '''
    x = f"{b!r:>{n}}# text"   

    return x, rb"\\#", '#'
"""

OTHER_PYTHON = """
import json, sys
from coralord_lightning.spec.code import code_digest
from coralord_lightning.spec.fingerprint import canonical, fingerprint
given = json.load(sys.stdin)
print(json.dumps([[fingerprint(canonical(plan)) for plan in given["plans"]], code_digest(given["source"])]))
"""


def test_another_python_gives_the_same_fingerprints():
    others = _other_pythons()
    if not others:
        pytest.skip("no Python 3.12 or newer found on this machine")
    import rfc8785

    import coralord_lightning

    given_ = json.dumps({"plans": [plan.to_json() for plan in VECTORS.values()], "source": SOURCE})
    roots = [Path(coralord_lightning.__file__).parents[1], Path(rfc8785.__file__).parents[1]]
    env = {"PYTHONPATH": os.pathsep.join(map(str, roots))}
    expected = [[print_of(plan) for plan in VECTORS.values()], code_digest(SOURCE)]
    for python in others:
        done = subprocess.run(
            [python, "-S", "-B", "-c", OTHER_PYTHON], input=given_, capture_output=True, text=True, env=env, check=False
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == expected


def _other_pythons() -> list[Path]:
    homes = [*Path("/usr/bin").glob("python3.1[2-9]"), *Path("/usr/local/bin").glob("python3.1[2-9]")]
    root = os.environ.get("PYENV_ROOT", str(Path.home() / ".pyenv"))
    homes += Path(root).glob("versions/3.1[2-9]*/bin/python3")
    return [path for path in homes if path.is_file()]


def reordered(value, order):
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: hash((order, key)))
        return {key: reordered(value[key], order) for key in keys}
    return [reordered(item, order) for item in value] if isinstance(value, list) else value


@given(st.integers())
def test_key_order_never_changes_a_fingerprint(order):
    plan = canonical(example_plan().to_json())
    assert fingerprint(reordered(plan, order)) == fingerprint(plan)


CHANGES = {
    "sources.b.parquet.sha256": lambda p: replace(
        p, sources=(p.sources[0], replace(p.sources[1], identity={"sha256": "0" * 64}))
    ),
    "selection.fields.image.shape": lambda p: replace(
        p, selection=replace(p.selection, fields=(replace(p.selection.fields[0], shape=(64,)), p.selection.fields[1]))
    ),
    "selection.fields.label.dtype": lambda p: replace(
        p, selection=replace(p.selection, fields=(p.selection.fields[0], replace(p.selection.fields[1], dtype="int8")))
    ),
    "selection.limit": lambda p: replace(p, selection=replace(p.selection, limit=3)),
    "selection.splits.val": lambda p: replace(p, selection=replace(p.selection, splits=p.selection.splits[:1])),
    "pipeline.params.max": lambda p: replace(p, pipeline=replace(p.pipeline, params={"max": 16.0})),
    "pipeline.code.shapes.py": lambda p: replace(
        p, pipeline=replace(p.pipeline, code={**p.pipeline.code, "shapes.py": "0" * 64})
    ),
    "pipeline.files": lambda p: replace(p, pipeline=replace(p.pipeline, files={"vocab.json": "0" * 64})),
    "pipeline.per": lambda p: replace(p, pipeline=replace(p.pipeline, per="partition")),
    "pipeline.function": lambda p: replace(p, pipeline=replace(p.pipeline, function="other")),
    "environment.image": lambda p: replace(
        p, environment=replace(p.environment, identity={**p.environment.identity, "image": "sha256:0"})
    ),
    "environment.network": lambda p: replace(p, environment=replace(p.environment, network=True)),
    "batch.rows": lambda p: replace(p, batch=BatchBounds(rows=5)),
    "selection.fields.(order)": lambda p: replace(p, selection=replace(p.selection, fields=p.selection.fields[::-1])),
}


@pytest.mark.parametrize("what", CHANGES)
def test_every_input_changes_the_fingerprint_and_is_named(what):
    old = example_plan()
    new = CHANGES[what](old)
    assert print_of(new) != print_of(old)
    assert [change.what for change in explain(canonical(old.to_json()), canonical(new.to_json()))] == [what]


def test_the_engines_name_for_an_image_and_sizes_are_no_identity():
    old = example_plan()
    new = replace(
        old,
        environment=replace(old.environment, image="name@sha256:0"),
        sources=tuple(replace(source, size_bytes=99) for source in old.sources),
    )
    assert print_of(new) == print_of(old)


def test_a_change_tells_what_was_and_what_is():
    old, new = example_plan(), CHANGES["pipeline.params.max"](example_plan())
    (change,) = explain(canonical(old.to_json()), canonical(new.to_json()))
    assert (change.was, change.now) == ("16", "16.0")


def test_an_added_file_is_told_once():
    old = example_plan()
    more = SourceFile(name="c.parquet", format="parquet", identity={"sha256": "f" * 64}, size_bytes=1)
    new = replace(old, sources=(*old.sources, more), partitions=(*old.partitions, Partition(sources=(2,))))
    told = explain(canonical(old.to_json()), canonical(new.to_json()))
    assert [change.what for change in told] == ["sources.c.parquet"]


def test_equal_plans_have_nothing_to_explain():
    assert explain(canonical(example_plan().to_json()), canonical(example_plan().to_json())) == ()


def test_a_partition_depends_on_its_own_sources_only():
    old = example_plan()
    new = CHANGES["sources.b.parquet.sha256"](old)
    was, now = canonical(old.to_json()), canonical(new.to_json())
    assert partition_key(was, 0) == partition_key(now, 0)
    assert partition_key(was, 1) != partition_key(now, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "$int", "$dict", "b"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_canonical_values_come_back_whole(value):
    back = plain(json.loads(json.dumps(canonical(value))))
    assert back == value
    assert repr(_sorted(back)) == repr(_sorted(value))


def _sorted(value):
    if isinstance(value, dict):
        return [(key, _sorted(value[key])) for key in sorted(value)]
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@given(JSON, JSON)
def test_different_values_have_different_canonical_forms(one, other):
    if repr(_sorted(one)) != repr(_sorted(other)):
        assert fingerprint(canonical(one)) != fingerprint(canonical(other))
