"""Admission: what the sandbox left becomes shards, or a typed error; hostile files cost a child process at most."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coralord_lightning.builder import admission as parent
from coralord_lightning.builder import admit as child
from coralord_lightning.builder.admission import Admission
from coralord_lightning.builder.admit import Refused, admit_file, cut_shards, row_bits
from coralord_lightning.errors import CoralError, PipelineOutputError, RunnerError, StoreFullError
from coralord_lightning.spec.manifest import Column

BATCH = pa.record_batch({"x": pa.array([1, 2, None], pa.int64()), "s": ["a", "bb", "ccc"]})


def write(path: Path, *batches: pa.RecordBatch, schema: pa.Schema | None = None) -> Path:
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_stream(sink, batches[0].schema if schema is None else schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
    return path


def take(path: Path, expect: tuple[Column, ...] | None = None, **changes: Any) -> Any:
    out_dir = path.parent / "shards"
    out_dir.mkdir(exist_ok=True)
    return admit_file(path, out_dir=out_dir, prefix=os.urandom(4).hex(), expect=expect, **changes)


def refusal(path: Path, expect: tuple[Column, ...] | None = None) -> dict[str, Any]:
    with pytest.raises(Refused) as caught:
        take(path, expect)
    return caught.value.answer


def rows_of(path: Path, part: Any) -> pa.Table:
    shards = [path.parent / "shards" / shard.path for shard in part.shards]
    return pa.concat_tables([pa.ipc.open_stream(shard.read_bytes()).read_all() for shard in shards])


@pytest.fixture
def admission(tmp_path: Path) -> Any:
    (tmp_path / "shards").mkdir()
    with Admission(tmp_path / "shards") as opened:
        yield opened


def test_one_process_admits_many_files(tmp_path, admission):
    for number in range(3):
        admitted = admission.admit(write(tmp_path / "out", BATCH, BATCH), expect=None, label=f"part {number}")
        assert [column.to_json() for column in admitted.columns] == [
            {"name": "x", "type": "int64", "shape": []},
            {"name": "s", "type": "string", "shape": []},
        ]
        (shard,) = admitted.part.shards
        file = tmp_path / "shards" / shard.path
        assert (shard.num_rows, shard.size_bytes) == (6, file.stat().st_size)
        assert shard.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
        assert sum(block.num_rows for block in admitted.part.blocks) == 6
    assert len(list((tmp_path / "shards").iterdir())) == 3


def test_a_shard_is_one_uncompressed_record_batch(tmp_path):
    path = write(tmp_path / "out", BATCH, BATCH)
    _, part = take(path)
    reader = pa.ipc.open_stream((tmp_path / "shards" / part.shards[0].path).read_bytes())
    assert [batch.num_rows for batch in reader] == [6]


def test_encodings_and_metadata_do_not_reach_the_shard(tmp_path):
    fields = [
        pa.field("d", pa.dictionary(pa.int8(), pa.large_string())),
        pa.field("v", pa.string_view(), metadata={"k": "v"}),
        pa.field("l", pa.large_list(pa.large_binary()), nullable=False),
        pa.field("t", pa.list_(pa.list_(pa.float32(), 2), 3)),
    ]
    values = [
        pa.array(["a", "b", "a"]).dictionary_encode().cast(fields[0].type),
        pa.array(["x", None, "y"], pa.string_view()),
        pa.array([[b"1"], [], [b"2", b"3"]], fields[2].type),
        pa.array([[[1, 2]] * 3] * 3, fields[3].type),
    ]
    path = write(tmp_path / "out", pa.RecordBatch.from_arrays(values, schema=pa.schema(fields, metadata={"a": "b"})))
    columns, part = take(path)
    assert [(column.name, column.type, column.shape) for column in columns] == [
        ("d", "string", ()), ("v", "string", ()), ("l", "list<item: binary>", ()), ("t", "float", (3, 2)),
    ]  # fmt: skip
    table = rows_of(path, part)
    assert table.schema == pa.schema(
        [("d", pa.string()), ("v", pa.string()), ("l", pa.list_(pa.binary())), ("t", fields[3].type)]
    )
    assert table.schema.metadata is None
    assert table.column("d").to_pylist() == ["a", "b", "a"]


def test_no_rows_give_columns_and_no_shard(tmp_path, admission):
    admitted = admission.admit(write(tmp_path / "out", schema=BATCH.schema), expect=None, label="t")
    assert admitted.part.shards == ()
    assert len(admitted.columns) == 2
    nothing = admission.admit(write(tmp_path / "out", schema=pa.schema([])), expect=admitted.columns, label="t")
    assert nothing.columns is None


UNSUPPORTED = {
    "union": pa.RecordBatch.from_arrays(
        [pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])], names=["u"]
    ),
    "no name": pa.RecordBatch.from_arrays([pa.array([1])], names=[""]),
    "twice": pa.RecordBatch.from_arrays([pa.array([1]), pa.array([1])], names=["a", "a"]),
}


@pytest.mark.parametrize("case", UNSUPPORTED)
def test_columns_that_no_dataset_can_have_are_refused(case, tmp_path, admission):
    path = write(tmp_path / "out", UNSUPPORTED[case])
    assert refusal(path)["kind"] == "unsupported"
    with pytest.raises(PipelineOutputError, match="cannot have"):
        admission.admit(path, expect=None, label="t")


PAIR = pa.array([[1, 2]], pa.list_(pa.int64(), 2))
OTHERS = {
    "type": (pa.record_batch({"x": [1.5], "s": ["a"]}), ("x", "int64", "double")),
    "missing": (pa.record_batch({"x": [1]}), ("s", "string", "absent")),
    "added": (pa.record_batch({"x": [1], "s": ["a"], "z": [1]}), ("z", "absent", "int64")),
    "order": (pa.record_batch({"s": ["a"], "x": [1]}), ("s", "x, s", "s, x")),
    "shape": (pa.record_batch({"x": PAIR, "s": ["a"]}), ("x", "int64", "int64 of shape [2]")),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_other_columns_than_before_are_named(case, tmp_path, admission):
    batch, (column, was, now) = OTHERS[case]
    expect = child.columns_of(BATCH.schema)
    assert refusal(write(tmp_path / "out", batch), expect) == {
        "ok": False, "kind": "other_columns", "column": column, "was": was, "now": now,
    }  # fmt: skip
    with pytest.raises(PipelineOutputError) as caught:
        admission.admit(tmp_path / "out", expect=expect, label="t")
    assert caught.value.facts == {"was": was, "now": now}
    assert list((tmp_path / "shards").iterdir()) == []


def _truncated(path: Path) -> None:
    write(path, BATCH, BATCH)
    path.write_bytes(path.read_bytes()[:-200])


def _no_end(path: Path) -> None:
    write(path, BATCH, BATCH)
    path.write_bytes(path.read_bytes()[:100])


def _bad_offsets(path: Path) -> None:
    data = bytearray(write(path, pa.record_batch({"s": ["a", "bb", "ccc"]})).read_bytes())
    at = data.index(b"".join(value.to_bytes(4, "little") for value in (0, 1, 3, 6)))
    data[at + 8 : at + 12] = (1_000_000).to_bytes(4, "little")
    path.write_bytes(data)


def _bad_utf8(path: Path) -> None:
    array = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff\xfe"]).buffers())
    write(path, pa.RecordBatch.from_arrays([array], names=["s"]))


def _bad_dictionary(path: Path) -> None:
    array = pa.DictionaryArray.from_arrays(pa.array([5], pa.int8()), pa.array(["a"]), safe=False)
    write(path, pa.RecordBatch.from_arrays([array], names=["s"]))


def _link(path: Path) -> None:
    path.symlink_to(write(path.parent / "elsewhere", BATCH))


HOSTILE = {
    "absent": lambda path: None,
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(b"junk" * 1000),
    "truncated": _truncated,
    "cut in the schema": _no_end,
    "offsets beyond the data": _bad_offsets,
    "text that is no UTF-8": _bad_utf8,
    "index beyond the dictionary": _bad_dictionary,
    "link": _link,
    "pipe": os.mkfifo,
    "directory": Path.mkdir,
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case, tmp_path, admission):
    HOSTILE[case](tmp_path / "out")
    assert refusal(tmp_path / "out")["kind"] in ("damaged", "not_regular")
    with pytest.raises(PipelineOutputError, match="no complete Arrow stream"):
        admission.admit(tmp_path / "out", expect=None, label="t")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 7)), min_size=1))
def test_flipped_bits_give_an_error_or_rows_but_never_another_exception(seed, flips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("flips")
    (folder / "shards").mkdir()
    data = bytearray(write(folder / "out", BATCH, BATCH).read_bytes())
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    (folder / "out").write_bytes(data)
    with Admission(folder / "shards") as admission:
        try:
            admission.admit(folder / "out", expect=None, label="t")
        except (PipelineOutputError, RunnerError):
            assert list((folder / "shards").iterdir()) == []


def test_a_crash_costs_the_child_and_the_next_file_gets_another(tmp_path, admission):
    path = write(tmp_path / "out", BATCH)
    admission.admit(path, expect=None, label="t")
    for number, error, text in (
        (signal.SIGSEGV, PipelineOutputError, "SIGSEGV"),
        (signal.SIGKILL, RunnerError, "SIGKILL"),
        (signal.SIGXCPU, RunnerError, "SIGXCPU"),
    ):
        worker = admission._worker or admission._start()
        os.kill(worker.pid, number)
        worker.wait()
        with pytest.raises(error) as caught:
            admission.admit(path, expect=None, label="t")
        assert text in str(caught.value)
    assert admission.admit(path, expect=None, label="t").part.num_rows == 3


def test_a_check_that_hangs_is_ended(tmp_path):
    with Admission(tmp_path, wait_s=0.0) as admission:
        worker = admission._start()
        os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(RunnerError, match="took too long"):
            admission.admit(write(tmp_path / "out", BATCH), expect=None, label="t")
        assert worker.poll() is not None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small tmpfs needs root")
def test_a_full_disk_is_the_stores_error_and_leaves_nothing(tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(small)], check=True)
    try:
        path = write(tmp_path / "out", pa.record_batch({"x": list(range(400_000))}))
        with Admission(small) as admission, pytest.raises(StoreFullError, match="No space left"):
            admission.admit(path, expect=None, label="t")
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


@pytest.mark.parametrize("kind", ["memory", "unwritable", "full"])
def test_limits_have_errors_of_their_own(kind, tmp_path):
    error: CoralError = parent._explain({"kind": kind, "message": "m"}, tmp_path, "t")
    assert isinstance(error, RunnerError if kind == "memory" else StoreFullError)
    assert error.remedy


def test_lack_of_memory_is_told_from_damage():
    with pytest.raises(Refused) as caught, child._arrow_trouble():
        raise pa.ArrowMemoryError("malloc")
    assert caught.value.answer["kind"] == "memory"


ROWS = st.lists(
    st.tuples(st.integers(0, 9), st.text(max_size=20), st.lists(st.integers(0, 9), max_size=5), st.booleans()),
    max_size=60,
)
SCHEMA = pa.schema(
    [("i", pa.int32()), ("s", pa.string()), ("l", pa.list_(pa.int8())), ("f", pa.list_(pa.bool_(), 2)),
     ("m", pa.map_(pa.string(), pa.int64())), ("n", pa.struct([("a", pa.string())])), ("z", pa.null())]
)  # fmt: skip


def _batch(rows: list[Any]) -> pa.RecordBatch:
    values = [
        {"i": i, "s": s, "l": items, "f": [b, b], "m": [(s, i)], "n": {"a": s} if b else None, "z": None}
        for i, s, items, b in rows
    ]
    return pa.RecordBatch.from_pylist(values, schema=SCHEMA)


@settings(deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 60), max_size=6), shard_bytes=st.integers(1, 400))
def test_shards_depend_on_rows_and_not_on_batches(rows, cuts, shard_bytes):
    whole = _batch(rows)
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    parts = [whole.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    one, many = (list(cut_shards(batches, shard_bytes)) for batches in ([whole], parts))
    assert [batch.to_pylist() for batch in one] == [batch.to_pylist() for batch in many]
    assert [row for batch in one for row in batch.to_pylist()] == whole.to_pylist()
    assert all(row_bits(batch) <= shard_bytes * 8 or batch.num_rows == 1 for batch in one)
    assert sum(map(row_bits, parts)) == row_bits(whole)


def test_several_shards_hold_all_rows_in_order(tmp_path):
    batch = pa.record_batch({"x": list(range(10_000))})
    path = write(tmp_path / "out", batch)
    _, part = take(path, shard_bytes=20_000)
    assert len(part.shards) == 5
    assert rows_of(path, part).column("x").to_pylist() == list(range(10_000))
    assert part.blocks == take(path)[1].blocks


def test_the_worker_bounds_itself_and_speaks_json_lines(tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "out", BATCH)
    request = {"path": str(path), "out_dir": str(tmp_path), "prefix": "p", "expect": None, "size_bytes": 1}
    again = request | {"expect": [{"name": "x", "type": "int64", "shape": []}], "prefix": "q"}
    bounded = {}
    monkeypatch.setattr(resource, "setrlimit", bounded.__setitem__)
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(item) + "\n" for item in (request, again))))
    child.main()
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["part"]["shards"][0]["num_rows"] == 3
    assert (second["ok"], second["column"]) == (False, "s")
    assert bounded.keys() >= {resource.RLIMIT_CORE, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells another process's limits")
def test_the_worker_really_is_bounded(tmp_path, admission):
    admission.admit(write(tmp_path / "out", BATCH), expect=None, label="t")
    for kind in ("CORE", "AS", "FSIZE", "NOFILE", "CPU"):
        soft, _ = resource.prlimit(admission._worker.pid, getattr(resource, f"RLIMIT_{kind}"))
        assert soft != resource.RLIM_INFINITY
