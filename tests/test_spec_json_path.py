"""JSON paths: one spelling for each, and the rows that several of them share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.spec.json_path import (
    JsonPathError,
    common_row_path,
    is_plain,
    name_of,
    path_segments,
    relative_path,
)


@pytest.mark.parametrize(
    ("path", "segments"),
    [
        ("$", ()),
        ("$.a.b", ("['a']", "['b']")),
        ("$['a'][\"b\"]", ("['a']", "['b']")),
        ("a.b", ("['a']", "['b']")),
        (" $.a ", ("['a']",)),
        ("$.a[*].b", ("['a']", "[*]", "['b']")),
        ("$.*", ("[*]",)),
        ("$..a", ("..['a']",)),
        ("$..['a b']", ("..['a b']",)),
        ("$[0][-1]", ("[0]", "[-1]")),
        ("$.a[1:3]", ("['a']", "[1:3]")),
        ("$[?(@.x > 3)].y", ("[?(@.x > 3)]", "['y']")),
        ("$['it''s']", None),
        (r"$['it\'s']", (r"['it\'s']",)),
        ("$.é-ü", ("['é-ü']",)),
        ("$.a b", None),
        ("$.", None),
        ("$[", None),
        ("$.a..", None),
    ],
)
def test_a_path_is_cut_into_segments_of_one_spelling_or_refused(path, segments):
    if segments is None:
        with pytest.raises(JsonPathError, match="no JSON path"):
            path_segments(path)
    else:
        assert path_segments(path) == segments


@given(st.lists(st.text(min_size=1, max_size=5), max_size=4))
def test_any_key_can_be_written_and_read(names):
    quoted = [name.replace("\\", "\\\\").replace("'", "\\'") for name in names]
    path = "$" + "".join(f"['{name}']" for name in quoted)

    segments = path_segments(path)

    assert [name_of(segment) for segment in segments] == names
    assert path_segments("$" + "".join(segments)) == segments
    assert is_plain(path)


def test_names_and_indexes_give_one_value_and_the_rest_many():
    assert is_plain("$.a[0]['b'][-1]")
    for path in ("$.a[*]", "$..a", "$[0:2]", "$[?(@.a)]"):
        assert not is_plain(path)


@pytest.mark.parametrize(
    ("paths", "rows", "rest"),
    [
        (["$.a[*].x", "$.a[*].y.z"], "$['a'][*]", [("['x']",), ("['y']", "['z']")]),
        (["$.a[*]"], "$['a'][*]", [()]),
        (["$[*].x", "$[*].y[*].z"], "$[*]", [("['x']",), ("['y']", "[*]", "['z']")]),
        (["$.a[*].b[*].x", "$.a[*].b[*].y"], "$['a'][*]['b'][*]", [("['x']",), ("['y']",)]),
        (["$.a[*].x", "$.b"], "$", [("['a']", "[*]", "['x']"), ("['b']",)]),
        (["$.a.x", "$.a.y"], "$", [("['a']", "['x']"), ("['a']", "['y']")]),
        (["$..x", "$..y"], "$..*", [("['x']",), ("['y']",)]),
        (["$.a[*]..x", "$.a[*]..y.z"], "$['a'][*]..*", [("['x']",), ("['y']", "['z']")]),
    ],
)
def test_the_rows_are_what_all_paths_look_into(paths, rows, rest):
    assert common_row_path(paths) == rows
    assert [relative_path(path, rows) for path in paths] == rest


def test_the_spelling_of_paths_does_not_change_their_rows():
    assert common_row_path(["$.a[*].x", "$['a'][*]['y']"]) == common_row_path(['$["a"].*.x', "a[*].y"])
