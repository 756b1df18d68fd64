"""One worker's bench: what it makes sure of where another worker was quicker."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pyarrow as pa
import pytest

from coralord_lightning.builder.admission import Admission
from coralord_lightning.builder.bench import Agreement, Bench
from coralord_lightning.errors import SourceFormatError
from coralord_lightning.spec.manifest import Column

COLUMNS = (Column(name="x", type="int64"),)


class Overtaken(Agreement):
    """Columns are agreed on by another worker while a first look finds none."""

    @property
    def columns(self) -> tuple[Column, ...] | None:
        return None


def output(path: Path, table: pa.Table) -> Path:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return path


def bench(folder: Path, admission: Admission, agreement: Agreement) -> Bench:
    shop = cast("Any", SimpleNamespace(agreement=agreement))
    return Bench(shop=shop, out_dir=folder, admission=admission, refiner=None, session=None)


def test_columns_that_another_worker_settled_meanwhile_hold(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with Admission(tmp_path / "shards") as admission:
        made = bench(tmp_path, admission, Overtaken(COLUMNS, {}))
        other = output(tmp_path / "a.arrow", pa.table({"x": ["one"]}))
        with pytest.raises(SourceFormatError, match="'x' has another type"):
            made._admitted(other, "partition 2 of 2, split train")
        same = output(tmp_path / "b.arrow", pa.table({"x": [1, 2]}))
        assert made._admitted(same, "partition 2 of 2, split train").num_rows == 2


def test_the_first_columns_hold_for_all() -> None:
    agreement = Agreement(None, {})
    assert agreement.settle_columns(COLUMNS) == COLUMNS
    assert agreement.settle_columns((Column(name="y", type="int64"),)) == COLUMNS
    assert agreement.columns == COLUMNS


def test_forms_that_another_worker_settled_meanwhile_hold() -> None:
    agreement = Agreement(None, {"image": {"shape": [2, 2]}})
    agreement.settle_forms({"image": {"shape": [2, 2]}, "sound": {"sample_rate": 8000}})
    with suppress(SourceFormatError):
        assert not agreement.settle_forms({"image": {"shape": [3, 3]}})
    assert agreement.forms == {"image": {"shape": [2, 2]}, "sound": {"sample_rate": 8000}}
