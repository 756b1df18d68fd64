"""`coral export hf FP DIR`: a folder that `datasets.load_dataset` reads without a network, whole or not at all."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from command_line import Digits, coral, coral_json
from coralord_lightning import Dataset, load
from coralord_lightning.config import load_config
from coralord_lightning.errors import ShardMissingError, UsageError
from coralord_lightning.share.folders import publish_folder
from coralord_lightning.share.huggingface.licences import hub_licence
from coralord_lightning.store import open_store
from coralord_lightning.versions.export import export_hf
from coralord_lightning.workspace import open_workspace
from coralord_lightning.workspace.describe import validate
from many_types import all_types, built, published, sights, undecoded

pytestmark = [  # mlcroissant
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index is deprecated"),
]


def export(data: Dataset, folder: Path, **options: Any) -> Any:
    home = data.version.home
    store = open_store(home)
    if store.read_manifest(data.version.fingerprint) is None:
        store.publish_manifest(data.version.manifest)
    return export_hf(open_workspace(load_config(home=home)), data.version.fingerprint, folder, **options)


def read(folder: Path, cache: Path, **options: Any) -> Any:
    return datasets.load_dataset(str(folder), cache_dir=str(cache), **options)


def front_matter(folder: Path) -> Any:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


@pytest.fixture(params=["types", "sights", "translation"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    (tmp_path / "home").mkdir()
    if request.param == "types":
        return built(tmp_path / "home", train=all_types())
    return sights(tmp_path / "home", ["said", "color"] if request.param == "translation" else None)


def test_a_folder_is_loaded_with_equal_values_and_features(data: Dataset, tmp_path: Path) -> None:
    view = data.to_hf("train")

    export(data, tmp_path / "out")

    for streaming in (False, True):
        again = read(tmp_path / "out", tmp_path / "cache", split="train", streaming=streaming)
        assert again.features == view.features
    loaded = undecoded(read(tmp_path / "out", tmp_path / "cache", split="train"))
    ours = undecoded(view)
    assert loaded.with_format("arrow")[:].to_pylist() == ours.with_format("arrow")[:].to_pylist()
    stored = pq.read_schema(tmp_path / "out" / "data" / "train-00000-of-00001.parquet")
    kept = datasets.Features.from_arrow_schema(stored)
    assert {name for name in kept if kept[name] != view.features[name]} <= {"of time32[s]", "of timestamp[s]", "date64"}


def test_a_column_of_nulls_and_a_split_without_rows(tmp_path: Path) -> None:
    table = pa.table({"x": [1, 2], "nothing": pa.nulls(2)})
    (tmp_path / "home").mkdir()
    data = built(tmp_path / "home", train=table, test=table.slice(0, 0))

    export(data, tmp_path / "out")

    found = read(tmp_path / "out", tmp_path / "cache")
    assert {name: rows[:] for name, rows in found.items()} == {"train": {"x": [1, 2], "nothing": [None, None]}}
    assert "left out: `test`" in (tmp_path / "out" / "README.md").read_text()


def test_the_card_says_what_it_is(tmp_path: Path) -> None:
    data = published(tmp_path / "home")

    done = export(data, tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text()
    said = front_matter(tmp_path / "out")
    assert said["license"] == "cc-by-4.0"
    assert said["pretty_name"] == "toy"
    assert said["size_categories"] == ["n<1K"]
    assert said["tags"] == ["croissant", "coralord-lightning"]
    assert said["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train-*"}
    assert said["dataset_info"]["splits"][1]["num_examples"] == 3
    for text in (
        data.version.fingerprint, data.version.content_digest, "ab" * 32, "Rows and texts.", "A subset of Toy",
        "| `row` | `Value('int64')` | Its number \\| from 0. |", "croissant: toy.json", "coral build",
    ):  # fmt: skip
        assert text in card
    assert done.to_json()["files"] == sorted(done.files)
    assert done.num_rows == 23


def test_secrets_of_addresses_are_in_no_card(tmp_path: Path) -> None:
    data = published(tmp_path / "home")
    store = open_store(data.version.home)
    said = store.read_description(data.version.fingerprint)
    assert said is not None
    address = "https://me:canary@example.org/toy.json?X-Amz-Signature=canary"
    body = said.to_json() | {"descriptor": {"name": "toy", "croissant": address}}
    body["croissant"]["url"] = address
    store.describe(data.version.fingerprint, type(said).from_json(body))

    export(data, tmp_path / "out")

    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"canary" not in path.read_bytes()
    assert "https://example.org/toy.json" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("stated", "ids"),
    [
        (["https://creativecommons.org/licenses/by-nc-sa/4.0/"], ("cc-by-nc-sa-4.0",)),
        (["http://creativecommons.org/publicdomain/zero/1.0/legalcode"], ("cc0-1.0",)),
        (["https://www.apache.org/licenses/LICENSE-2.0"], ("apache-2.0",)),
        (["https://spdx.org/licenses/ODC-By-1.0.html"], ("odc-by",)),
        (["MIT License"], ("mit",)),
        (["GPL-3.0-or-later"], ("gpl-3.0",)),
        (["MIT", "apache-2.0"], ("mit", "apache-2.0")),
        (["MIT", "https://example.org/terms"], ("other",)),
        (["https://creativecommons.org/licenses/by/9.9/"], ("other",)),
        (["ask me"], ("other",)),
    ],
)
def test_licences_have_the_names_of_the_hub(stated: list[str], ids: tuple[str, ...]) -> None:
    found = hub_licence(stated)

    assert found is not None
    assert found.ids == ids
    assert (found.name is not None) == (ids == ("other",))
    assert hub_licence([]) is None


def test_an_earlier_export_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    data, out = published(tmp_path / "home"), tmp_path / "out"
    export(data, out)

    export(published(tmp_path / "other", rows=9), out)
    assert read(out, tmp_path / "cache")["train"].num_rows == 9
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="is no export"):
        export(data, out)
    done = export(data, out, force=True)

    assert done.set_aside == tmp_path / "out.before"
    assert (tmp_path / "out.before" / "notes.txt").read_text() == "mine"
    assert not (out / "notes.txt").exists()
    (out / "notes.txt").write_text("mine, again")
    with pytest.raises(UsageError, match=r"out\.before"):
        export(data, out, force=True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))) == [
        "out", "out.before",
    ]  # fmt: skip


def test_where_you_are_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = published(tmp_path / "home")
    (tmp_path / "work" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "mine").write_text("mine")
    monkeypatch.chdir(tmp_path / "work" / "deep")

    with pytest.raises(UsageError, match="is where you are"):
        export(data, tmp_path / "work", force=True)


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with publish_folder(folder, {}) as place:
            (place.temp / "README.md").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_export_is_never_mistaken(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from coralord_lightning.share.folders import publish_folder\n"
        "with publish_folder(Path(sys.argv[1]), {}) as place:\n"
        "    (place.temp / 'README.md').write_text('half'); os._exit(9)"
    )

    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "out")], check=False)

    assert done.returncode == 9
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".out.")
    assert [path.name for path in left.iterdir()] == ["README.md"]
    export(published(tmp_path / "home"), tmp_path / "out")


def test_damage_is_found_before_it_is_published(tmp_path: Path) -> None:
    data = published(tmp_path / "home")
    shard = data.version.home / "train-1.arrow"
    body = bytearray(shard.read_bytes())
    body[-20] ^= 1
    shard.write_bytes(body)

    with pytest.raises(ShardMissingError, match=r"train-1\.arrow"):
        export(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_parquet_or_datasets_cannot_tell_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    empty = pa.table({"s": pa.array([{}], pa.struct([]))})
    with pytest.raises(UsageError, match="struct without fields"):
        export(built(tmp_path / "home", train=empty), tmp_path / "out")
    table = pa.table({"x": [1]})
    with pytest.raises(UsageError, match="are both 'a_b'"):
        export(built(tmp_path / "home", fingerprint="d" * 64, **{"a-b": table, "a_b": table}), tmp_path / "out")


def test_the_command_line_exports_a_built_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = Digits.copy_to(tmp_path / "digits")
    data = load(digits.descriptor, home=tmp_path / "home")
    words = ("export", "hf", data.version.fingerprint[:8])

    code, out, err = coral(*words, "--home", tmp_path / "home", tmp_path / "out")
    again = coral_json(*words, tmp_path / "out", "--home", tmp_path / "home")

    assert code == 0, err
    assert data.version.fingerprint in out
    assert again["num_rows"] == data.version.num_rows
    loaded = read(tmp_path / "out", tmp_path / "cache")
    assert {name: rows.num_rows for name, rows in loaded.items()} == data.version.splits
    assert loaded["train"][:] == data.to_hf("train")[:]
    assert coral(*words, "--home", tmp_path / "home")[0] == 2
    assert coral("export", "croissant", "ab", "--push", "a/b")[0] == 2


def test_two_exports_are_byte_for_byte_equal(tmp_path: Path) -> None:
    data = published(tmp_path / "home")

    export(data, tmp_path / "a")
    export(data, tmp_path / "b")

    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    assert os.stat(tmp_path / "a").st_mode & 0o777 == 0o777 & ~_umask()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def test_the_croissant_of_a_folder_is_valid_and_builds_the_same_rows(tmp_path: Path) -> None:
    data = published(tmp_path / "home")
    export(data, tmp_path / "out")

    document = json.loads((tmp_path / "out" / "croissant.json").read_text())
    descriptor = {
        "name": "again",
        "croissant": "croissant.json",
        "record_set": "data",
        "fields": ["row", "text"],
        "splits": {"train": {"source": "train"}, "test": {"source": "test"}},
    }
    again = load(descriptor, base_dir=tmp_path / "out", home=tmp_path / "home")

    assert validate(document) == []
    assert document["cl:fingerprint"] == data.version.fingerprint
    assert document["recordSet"][1]["field"][1]["description"] == "Its number | from 0."
    assert document["prov:wasDerivedFrom"]["name"] == "Toy"
    assert document["license"] == "https://creativecommons.org/licenses/by/4.0/"
    assert {name: again.table(name).to_pylist() for name in again.version.splits} == {
        name: data.table(name).to_pylist() for name in data.version.splits
    }


def test_the_croissant_of_pictures_is_read_by_the_official_reader(tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    (tmp_path / "home").mkdir()
    export(sights(tmp_path / "home"), tmp_path / "out")

    found = mlcroissant.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))

    (rows,) = found.metadata.record_sets
    first = next(iter(found.records(rows.id)))
    assert first[f"{rows.id}/picture"].getpixel((0, 0)) == (0, 0, 0)
    assert first[f"{rows.id}/said"] == {f"{rows.id}/said/de": b"Zeile 0", f"{rows.id}/said/en": b"row 0"}


def test_texts_of_others_forge_no_section_of_the_card_and_carry_no_secret(tmp_path: Path) -> None:
    digits = Digits.copy_to(tmp_path / "digits")
    path = digits.folder / "croissant.json"
    said = json.loads(path.read_text())
    said["description"] = "hi\n\n## Licence\n\nMIT <script> https://user:SECRET1@example.org/"
    said["license"] = "one\n\n## Citation\n\nhttps://example.org/x?token=SECRET2"
    said["citeAs"] = "```\n# ESCAPED\n````\n## Provenance"
    said["recordSet"][0]["field"][0]["description"] = "a|b `c` https://user:SECRET3@example.org/"
    path.write_text(json.dumps(said))
    data = load(digits.descriptor, home=tmp_path / "home")

    export(data, tmp_path / "out")

    card = (tmp_path / "out" / "README.md").read_text()
    for title in ("## Licence", "## Citation", "## Provenance"):
        outside = re.sub(r"^(`{3,}).*?^\1$", "", card, flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(f"^{title}$", outside, flags=re.MULTILINE)) <= 1, title
    assert "<script>" not in card
    for written in (tmp_path / "out").rglob("*"):
        assert not written.is_file() or b"SECRET" not in written.read_bytes(), written
    said = yaml.safe_load(re.search(r"```yaml\n(.*?)\n```", card, re.DOTALL)[1])
    assert said["fields"] == ["image", "label"]
