"""`to_hf`: values equal to ours for every type, features that say what they mean, nothing copied, all by path."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from coralord_lightning.errors import UsageError
from coralord_lightning.share.huggingface.features import features_of, split_name
from coralord_lightning.spec.description import FieldDescription
from coralord_lightning.spec.statistics import FieldStatistics
from coralord_lightning.store import open_store
from damaged_shards import every_type
from hand_built import FINGERPRINT
from many_types import all_types, built, expected, sights


def test_every_type_has_the_same_values(tmp_path: Path) -> None:
    data = built(tmp_path, train=all_types())

    view = data.to_hf("train")

    assert {name: view.data.column(name).to_pylist() for name in view.column_names} == expected(data)
    assert view.features["image"] == datasets.List(datasets.List(datasets.Value("int16"), length=2), length=2)
    assert view.features["map"] == datasets.List({"key": datasets.Value("string"), "value": datasets.Value("int64")})
    assert view.features["decimal32"] == datasets.Value("decimal128(5, 1)")
    ours, kinds = data.table("train"), view.features.arrow_schema
    as_we_do = [name for name in view.column_names if kinds.field(name).type == ours.schema.field(name).type]
    written_anew = {"decimal32", "decimal64", "map", "maps", "span", "spans"}
    assert written_anew <= set(view.column_names) - set(as_we_do) <= written_anew | {"code"}  # of datasets 4, bytes
    assert all(view.data.column(name).equals(ours[name]) for name in as_we_do)


def test_rows_are_read_with_every_type(tmp_path: Path) -> None:
    data = built(tmp_path, train=all_types())
    values = expected(data)

    row = data.to_hf("train")[8]

    assert row["text"] == "röw 8"
    assert row["image"] == [[8, 2], [3, 4]]
    assert row["map"] == values["map"][8]
    assert row["maps"] == values["maps"][8]


def test_fields_are_what_the_croissant_says(tmp_path: Path) -> None:
    data = sights(tmp_path)

    view = data.to_hf("train")

    assert view.features == datasets.Features(
        {
            "picture": datasets.Image(),
            "views": datasets.List(datasets.Image()),
            "sound": datasets.Audio(),
            "species": datasets.ClassLabel(names=["ant", "bee", "cat"]),
            "color": datasets.ClassLabel(names=["red", "blue"]),
            "said": {"de": datasets.Value("string"), "en": datasets.Value("string")},
        }
    )
    assert view.remove_columns("sound")[5]["picture"].getpixel((0, 0)) == (5, 0, 0)
    assert view.remove_columns("sound")[3]["picture"] is None
    assert view.remove_columns("sound")[5]["views"][1].size == (4, 3)
    assert view.features["color"].int2str(view.remove_columns("sound")[1]["color"]) == "blue"
    assert view.data.column("picture").to_pylist() == [
        None if value is None else {"bytes": value, "path": None}
        for value in data.table("train")["picture"].to_pylist()
    ]
    for name in ("species", "color", "said"):
        assert view.data.column(name).to_pylist() == data.table("train")[name].to_pylist()


def test_languages_are_a_translation(tmp_path: Path) -> None:
    data = sights(tmp_path, ["said", "color"])

    view = data.to_hf("train")

    assert view.features["said"] == datasets.Translation(languages=["de", "en"])
    assert view[4] == {"said": {"de": "Zeile 4", "en": "row 4"}, "color": 0}


def test_an_enumeration_that_does_not_fit_its_numbers_is_no_class_label(tmp_path: Path) -> None:
    rows = ({"id": 0, "name": "red"}, {"id": 1, "name": "blue"})
    fields = {"color": FieldDescription(id="color", enumeration=("id", rows))}
    table = pa.table({"color": pa.array([0, 1, 2])})
    for number, (most, kind) in enumerate([(2, "value"), (1, "class"), (None, "value")]):
        counted = {} if most is None else {"train": {"color": FieldStatistics(kind="int", count=3, min=-1, max=most)}}
        (tmp_path / str(number)).mkdir()
        data = built(tmp_path / str(number), fields=fields, statistics=counted, train=table)
        said = open_store(tmp_path / str(number)).read_description(FINGERPRINT)

        found = features_of(data.version.manifest, said)["color"]

        assert isinstance(found, datasets.ClassLabel if kind == "class" else datasets.Value)


def test_no_value_is_copied(tmp_path: Path) -> None:
    data = built(tmp_path, rows=20_000, train=pa.table({"x": pa.array(np.zeros((40_000, 64)).tolist(),
                                                                      pa.list_(pa.float64(), 64))}))  # fmt: skip
    before = pa.total_allocated_bytes()

    view = data.to_hf("train")

    assert pa.total_allocated_bytes() - before < 10_000
    assert view.data.nbytes > 20_000_000


def test_what_map_computes_is_kept_beside_links_and_never_in_the_store(tmp_path: Path) -> None:
    data = built(tmp_path, train=every_type())
    before = sorted(tmp_path.rglob("*"))

    view = data.to_hf("train").map(_doubled)

    assert sorted(tmp_path.rglob("*")) == before
    assert view["long"][:3] == [0, 2, 4]
    assert view.cache_files[0]["filename"].startswith(str(datasets.config.HF_DATASETS_CACHE))
    assert data.to_hf("train").cleanup_cache_files() == 1


def _doubled(row: dict[str, Any]) -> dict[str, Any]:
    return {"long": row["long"] * 2}


def test_map_is_found_again_by_another_process_and_not_of_another_version(tmp_path: Path) -> None:
    data = built(tmp_path, train=every_type(), test=every_type())
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "from test_huggingface import _doubled; from many_types import Dataset, Version; from hand_built import *\n"
        "import json; from coralord_lightning.spec.manifest import parse_manifest\n"
        "manifest = parse_manifest(json.loads((Path(sys.argv[1]) / 'm.json').read_text()), origin='m')\n"
        "view = Dataset(Version(manifest=manifest, home=Path(sys.argv[1]))).to_hf('train').map(_doubled)\n"
        "print(view._fingerprint, view.cache_files[0]['filename'])"
    )
    (tmp_path / "m.json").write_text(json.dumps(data.version.manifest.to_json()))
    words = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path), str(Path(__file__).parent)]

    first, second = (subprocess.run(words, capture_output=True, text=True, check=True) for _ in range(2))

    assert first.stdout == second.stdout
    assert "Map:" in first.stderr
    assert "Map:" not in second.stderr
    other = built(tmp_path, fingerprint="e" * 64, train=every_type())
    assert (
        len({data.to_hf("train")._fingerprint, data.to_hf("test")._fingerprint, other.to_hf("train")._fingerprint}) == 3
    )


def test_all_splits_are_a_dict_by_names_that_datasets_takes(tmp_path: Path) -> None:
    data = built(tmp_path, **{"train": every_type(), "val-1.": every_type().slice(0, 0)})

    found = data.to_hf()

    assert isinstance(found, datasets.DatasetDict)
    assert {name: len(split) for name, split in found.items()} == {"train": 12, "val_1_": 0}
    assert str(found["train"].split) == "train"
    with pytest.raises(UsageError, match="are both 'a_b'"):
        built(tmp_path, **{"a-b": every_type(), "a_b": every_type()}).to_hf()
    assert [split_name(name) for name in ("a..b", "a-b", "a.b")] == ["a_.b", "a_b", "a.b"]


def test_an_older_datasets_is_refused_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = built(tmp_path, train=every_type())
    monkeypatch.delattr(datasets, "List")

    with pytest.raises(UsageError, match="datasets 4 or newer"):
        data.to_hf("train")


@pytest.mark.slow
def test_a_fifth_of_a_gigabyte_is_opened_in_no_time_and_no_memory(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "huggingface.py"
    words = [sys.executable, str(script), "--gigabytes", "0.2", "--shard-mb", "16", "--folder", str(tmp_path)]

    done = subprocess.run(words, capture_output=True, text=True, check=True)

    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == 6
    assert max(one["peak_mb"] for one in found) < 25
    assert max(one["pickle_kb"] for one in found) < 25
    assert max(one["seconds"] for one in found) < 10  # on a busy machine; `benchmarks/huggingface.py` measures
