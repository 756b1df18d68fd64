"""`coral.lock`: printed sorted, read strictly, complained about with file and line."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.errors import ConfigError
from coralord_lightning.spec.image_tag import ImageTag
from coralord_lightning.spec.lock import (
    Lock,
    LockedCroissant,
    LockedSource,
    LockEntry,
    parse_lock,
    print_lock,
    with_entry,
)

A, B = "a" * 64, "b" * 64

GOLDEN = f"""\
# Written by `coral build` and `coral update`; commit it beside the descriptor.
version = 1

[datasets.digits-even]
fingerprint = "{A}"
content_digest = "{B}"

[datasets.digits-even.croissant]
url = "https://example.org/croissant.json"
sha256 = "{B}"

[datasets.digits-even.image]
base = "sha256:{A}"
context = "{B}"
platform = "linux/amd64"

[datasets.digits-even.image.build_args]
A = "1"
B = "2"

[[datasets.digits-even.sources]]
url = "https://example.org/a/rather/long/path/to/one/of/the/files/of/the/data/set/a.parquet"
size = 10
etag = "\\"x\\""

[[datasets.digits-even.sources]]
url = "https://example.org/b.parquet"
size = 20

[datasets."team/other"]
fingerprint = "{B}"
"""


def example_entry(**changes):
    entry = LockEntry(
        name="digits-even",
        fingerprint=A,
        content_digest=B,
        image={
            "platform": "linux/amd64",
            "context": B,
            "base": f"sha256:{A}",
            "build_args": {"B": "2", "A": "1"},
        },
        croissant=LockedCroissant(url="https://example.org/croissant.json", sha256=B),
        sources=(
            LockedSource(url="https://example.org/b.parquet", size_bytes=20),
            LockedSource(
                url="https://example.org/a/rather/long/path/to/one/of/the/files/of/the/data/set/a.parquet",
                size_bytes=10,
                etag='"x"',
            ),
        ),
    )
    return replace(entry, **changes)


def example_lock():
    return with_entry(with_entry(Lock(), LockEntry(name="team/other", fingerprint=B)), example_entry())


def test_the_printed_lock_never_moves():
    assert print_lock(example_lock()) == GOLDEN


def test_what_is_printed_reads_back():
    read = parse_lock(GOLDEN, "coral.lock")
    assert print_lock(read) == GOLDEN
    assert read.entries["team/other"] == LockEntry(name="team/other", fingerprint=B)
    assert set(read.entries["digits-even"].sources) == set(example_entry().sources)


def test_a_tag_is_printed_beside_the_identity_and_is_no_part_of_it():
    tag = ImageTag(name="etl:1", index=f"sha256:{B}", platforms={"linux/arm64": f"sha256:{B}"})
    entry = example_entry(image={"image": f"sha256:{A}", "platform": "linux/amd64"}, tag=tag, sources=())
    for changed in (entry, replace(entry, tag=ImageTag(name="etl:1", local=True)), replace(entry, tag=None)):
        text = print_lock(with_entry(Lock(), changed))
        assert parse_lock(text, "coral.lock").entries[entry.name] == changed
    text = print_lock(with_entry(Lock(), entry))
    assert f'[datasets.{entry.name}.image.platforms]\n"linux/arm64" = "sha256:{B}"\n' in text
    with pytest.raises(ConfigError, match=r"image\.platforms\.linux/arm64"):
        parse_lock(text.replace(f'"linux/arm64" = "sha256:{B}"', '"linux/arm64" = 3'), "coral.lock")


def test_a_new_fingerprint_changes_one_line():
    moved = with_entry(example_lock(), example_entry(fingerprint=B))
    before, after = GOLDEN.splitlines(), print_lock(moved).splitlines()
    assert [line for line in after if line not in before] == []
    assert sum(left != right for left, right in zip(before, after, strict=True)) == 1


texts = st.text(max_size=20)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
entries = st.builds(
    LockEntry,
    name=texts,
    fingerprint=digests,
    content_digest=st.none() | digests,
    image=st.none()
    | st.fixed_dictionaries(
        {"context": digests, "platform": st.just("linux/amd64")},
        optional={
            "bases": st.dictionaries(texts, digests, max_size=2),
            "build_args": st.dictionaries(texts, texts, max_size=2),
            "target": texts,
        },
    ),
    croissant=st.none() | st.builds(LockedCroissant, url=texts, sha256=digests),
    sources=st.lists(
        st.builds(
            LockedSource,
            url=texts,
            size_bytes=st.integers(0, 2**62),
            etag=st.none() | texts,
            sha256=st.none() | digests,
        ),
        max_size=3,
        unique_by=lambda source: source.url,
    ).map(lambda rows: tuple(sorted(rows, key=lambda source: source.url))),
)


@given(st.lists(entries, max_size=3))
def test_every_lock_reads_back_whatever_the_order(items):
    lock = Lock()
    for entry in items:
        lock = with_entry(lock, entry)
    text = print_lock(lock)
    assert parse_lock(text, "coral.lock") == lock
    assert print_lock(Lock(entries=dict(reversed(lock.entries.items())))) == text


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("version = 1\nnonsense", 2, "is not TOML"),
        ("version = 1\n[datasets.a]\nfingerprint = ", 3, "is not TOML"),
        ("", 1, "'version' must be an integer"),
        ("version = true", 1, "'version' must be an integer"),
        ("version = 1\ndata = 2", 2, "unknown key 'data'"),
        ("version = 1\ndatasets = 2", 2, "'datasets' must be a table"),
        ("version = 1\n[datasets]\na = 2", 3, "'datasets.a' must be a table"),
        ("version = 1\n\n[datasets.a]\n", 3, "'datasets.a.fingerprint' must be a text"),
        ("version = 1\n[datasets.a]\nfingerprint = 'ABC'", 3, "64 lowercase"),
        (f"version = 1\n[datasets.a]\nfingerprint = '{A}'\ncontent-digest = ''", 4, "did you mean 'content_digest'"),
        (f"version = 1\n[datasets.a]\nfingerprint = '{A}'\nimage = 'x'", 4, "'datasets.a.image' must be a table"),
        (f"version = 1\n[datasets.a]\nfingerprint = '{A}'\nsources = ['x']", 4, "must hold tables"),
        (f"version = 1\n[datasets.a]\nfingerprint = '{A}'\nsources = [\n{{url = 'x'}}]", 4, "sources.size"),
        (f"version = 1\n[datasets.a]\nfingerprint = '{A}'\n[datasets.a.croissant]\nurl = 'x'", 4, "croissant.sha256"),
        (
            f"version = 1\n[datasets.a]\nfingerprint = '{A}'\n[datasets.'t/b']\nfingerprint = 1",
            5,
            "'datasets.t/b.fingerprint'",
        ),
    ],
)
def test_bad_text_is_a_config_error_with_file_and_line(text, line, words):
    with pytest.raises(ConfigError) as caught:
        parse_lock(text, "some/coral.lock")
    assert caught.value.subject == f"some/coral.lock:{line}"
    assert words in caught.value.message
    assert caught.value.facts["line"] == str(line)
    assert "some/coral.lock" in caught.value.remedy


def test_a_newer_format_says_to_upgrade():
    with pytest.raises(ConfigError, match="format 2") as caught:
        parse_lock("version = 2", "coral.lock")
    assert caught.value.remedy.startswith("pip install --upgrade")


@given(st.text())
def test_any_text_is_no_lock_but_a_config_error(text):
    with pytest.raises(ConfigError, match=r"coral\.lock:\d+"):  # no text that Hypothesis draws says `version = 1`
        parse_lock(text, "coral.lock")


@pytest.mark.parametrize(
    ("table", "line", "message"),
    [
        ("image = 5\nplatform = 'linux/amd64'", 4, "must be a text"),
        (f"image = \"sha256:{A}\\nRUN evil\"\nplatform = 'linux/amd64'", 4, "must be a digest"),
        (f"image = 'evil/other@sha256:{A}'\nplatform = 'linux/amd64'", 4, "must be a digest"),
        ("image = 2020-01-01\nplatform = 'linux/amd64'", 4, "must be a text"),
        (f"image = 'sha256:{A}'\nplatform = \"linux/amd64\\n\"", 6, "must be a platform"),
        (f"image = 'sha256:{A}'\nplatform = 'linux/amd64'\nspell = 1", 7, "unknown key"),
        (f"image = 'sha256:{A}'", 4, "must be a text"),
        ("platform = 'linux/amd64'\nname = 'etl:1'", 4, "must be a text"),
        (f"image = 'sha256:{A}'\nplatform = 'linux/amd64'\nname = 'etl:1'\nindex = 'no'", 8, "must be a digest"),
        (f"image = 'sha256:{A}'\nplatform = 'linux/amd64'\nname = 'etl:1'\nlocal = 'yes'", 8, "must be true"),
        (f"context = '{A}'\nplatform = 'linux/amd64'\nbases = 'abc'", 7, "must be a table"),
        (f"context = '{A}'\nplatform = 'linux/amd64'\nbases = {{a = \"{A}\\nRUN evil\"}}", 7, "must be a digest"),
        (f"context = '{A}'\nplatform = 'linux/amd64'\nbuild_args = {{a = 1}}", 7, "must be a text"),
        (f"context = '{A}'\nplatform = 'linux/amd64'\ntarget = 1", 7, "must be a text"),
    ],
)
def test_an_image_that_was_changed_by_hand_is_refused_with_its_line(table, line, message):
    text = f"version = 1\n[datasets.x]\nfingerprint = '{A}'\n[datasets.x.image]\n{table}\n"
    with pytest.raises(ConfigError, match=message) as caught:
        parse_lock(text, "coral.lock")
    assert caught.value.subject == f"coral.lock:{line}"
