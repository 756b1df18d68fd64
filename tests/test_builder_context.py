"""What a build sends: Docker's rules of what is left out, a digest of what counts, and a tar that holds just that."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.builder.runners.context import (
    SENT_DOCKERFILE,
    context_digest,
    read_recipe,
    write_context,
)
from coralord_lightning.builder.runners.ignore import parse_ignore
from coralord_lightning.errors import DescriptorValueError, ForbiddenSourceError, SourceIntegrityError
from coralord_lightning.spec.recipe import Recipe

TREE = ("Dockerfile", "a.txt", "b.md", "src/a.py", "src/deep/b.py", "src/deep/c.txt", "data/x.bin", "data/keep/y.bin")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(folder: Path, names=TREE, ignore: str | None = None) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    if ignore is not None:
        (folder / ".dockerignore").write_text(ignore)
    return folder


def read(folder: Path, dockerfile: str = "Dockerfile", **options) -> Recipe:
    return read_recipe(folder / dockerfile, folder, shown=dockerfile, hasher=sha256, **options)


def sent(folder: Path, **options) -> list[str]:
    return [file.path for file in read(folder, **options).files]


def packed(recipe: Recipe, text: str = "FROM scratch\n") -> dict[str, tarfile.TarInfo]:
    stream = io.BytesIO()
    write_context(stream, recipe, text)
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        return {entry.name: entry for entry in tar.getmembers()}


RULES = [
    "*.md\n",
    "# a comment\n\n  *.txt  \n",
    "*\n!src\n",
    "src\n!src/deep/b.py\n",
    "**/*.py\n",
    "**/deep\n",
    "src/**\n",
    "**/b.*\n",
    "/src/a.py\n",
    "src/*/b.py\n",
    "?.txt\n",
    "[ab].*\n",
    "*\n!data/*.bin\n",
    "data\n!data/keep\ndata/keep/y.bin\n",
    ".dockerignore\nDockerfile\n",
    "./src/./deep/\n",
    "src/deep/../a.py\n",
    "da*\n",
    "**\n!a.txt\n",
    "data/x\\.bin\n",
    "data/[!x]*\n",
    "data/[^x]*\n",
]


@pytest.mark.docker
@pytest.mark.parametrize("rules", RULES)
def test_what_is_sent_is_what_docker_itself_sends(tmp_path, rules):
    if shutil.which("docker") is None:
        if os.environ.get("CORAL_REQUIRE_DOCKER"):
            pytest.fail("CORAL_REQUIRE_DOCKER is set, but there is no command docker", pytrace=False)
        pytest.skip("needs the command docker, to compare with")
    folder = tree(tmp_path / "context", ignore=rules)
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    ours = [name for name in sent(folder) if name not in (".dockerignore", "Dockerfile")]
    tag = f"coral-test/context:{os.getpid()}"
    built = subprocess.run(
        ["docker", "build", "--no-cache", "-t", tag, folder], env=os.environ | {"DOCKER_BUILDKIT": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    try:
        saved = subprocess.run(["docker", "create", tag, "none"], capture_output=True, text=True, check=True)
        container = saved.stdout.strip()
        exported = subprocess.run(["docker", "export", container], capture_output=True, check=True).stdout
        subprocess.run(["docker", "rm", container], capture_output=True, check=True)
    finally:
        subprocess.run(["docker", "image", "rm", tag], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(exported)) as tar:
        theirs = {entry.name for entry in tar.getmembers() if entry.isfile()}
    assert ours == sorted(theirs & set(TREE) - {"Dockerfile"})


def test_an_exception_reaches_into_folders_that_are_left_out(tmp_path):
    folder = tree(tmp_path, ignore="*\n!**/*.py\n")
    assert sent(folder) == ["src/a.py", "src/deep/b.py"]


def test_a_dockerfiles_own_ignore_file_goes_before_the_contexts(tmp_path):
    folder = tree(tmp_path, ignore="*\n")
    (folder / "Dockerfile.dockerignore").write_text("*\n!b.md\n")
    assert sent(folder) == ["b.md"]


@given(
    st.text("ab*?[]!/.\\#- \n", max_size=20), st.lists(st.text("ab.-", min_size=1, max_size=3), min_size=1, max_size=3)
)
def test_any_text_is_read_or_refused_and_pruning_never_hides_a_kept_file(text, parts):
    try:
        ignore = parse_ignore(text)
    except ValueError:
        return
    path = "/".join(parts)
    if ignore.leaves_out(path):
        return
    for end in range(1, len(parts)):
        folder = "/".join(parts[:end])
        assert not ignore.leaves_out(folder) or ignore.may_keep_beneath(folder)


@pytest.mark.parametrize("line", ["!", "[", "[b-a]"])
def test_a_line_that_is_no_pattern_is_named(tmp_path, line):
    with pytest.raises(DescriptorValueError, match=r"\.dockerignore") as caught:
        sent(tree(tmp_path, ignore=f"ok\n{line}\n"))
    assert "line 2" in caught.value.facts["got"]


def test_time_owner_mask_and_order_do_not_count(tmp_path):
    mask = os.umask(0o077)
    try:
        one = tree(tmp_path / "one")
    finally:
        os.umask(mask)
    other = tree(tmp_path / "other", names=TREE[::-1])
    for name in TREE:
        os.utime(other / name, (1, 1))
    assert context_digest(read(one)) == context_digest(read(other))
    streams = io.BytesIO(), io.BytesIO()
    for stream, folder in zip(streams, (one, other), strict=True):
        write_context(stream, read(folder), "FROM scratch\n")
    assert streams[0].getvalue() == streams[1].getvalue()


CHANGES = {
    "bytes": lambda folder: (folder / "a.txt").write_text("other"),
    "a new file": lambda folder: (folder / "new").touch(),
    "one less": lambda folder: (folder / "a.txt").unlink(),
    "another name": lambda folder: (folder / "a.txt").rename(folder / "c.txt"),
    "executable": lambda folder: (folder / "a.txt").chmod(0o755),
    "a link": lambda folder: (folder / "link").symlink_to("a.txt"),
    "a comment in the Dockerfile": lambda folder: (folder / "Dockerfile").write_text("# so\nDockerfile\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_an_image_could_hold_counts(tmp_path, change):
    folder = tree(tmp_path)
    before = context_digest(read(folder))
    CHANGES[change](folder)
    assert context_digest(read(folder)) != before


def test_links_count_by_where_they_point(tmp_path):
    folder = tree(tmp_path)
    digests = set()
    for target in ("a.txt", "b.md", "nowhere", "src/../a.txt"):
        (folder / "link").unlink(missing_ok=True)
        (folder / "link").symlink_to(target)
        digests.add(context_digest(read(folder)))
        assert packed(read(folder))["link"].linkname == target
    assert len(digests) == 4


def test_the_dockerfile_that_is_used_counts_even_where_it_is_not_sent(tmp_path):
    folder = tree(tmp_path, names=(*TREE, "gpu.Dockerfile"), ignore="*Dockerfile\n.dockerignore\n")
    first = context_digest(read(folder))
    (folder / "Dockerfile").write_text("# other\n")
    assert context_digest(read(folder)) not in (first, context_digest(read(folder, "gpu.Dockerfile")))
    assert sent(folder) == sorted(set(TREE) - {"Dockerfile"})


def test_locks_and_the_store_are_never_sent(tmp_path):
    folder = tree(
        tmp_path, names=(*TREE, "coral.lock", ".coral.lock-x1", "src/coral.lock", "store/objects/a", ".git/HEAD")
    )
    assert sent(folder, never=(folder / "store",)) == sorted(TREE)


def test_the_tar_holds_what_was_hashed_and_the_pinned_dockerfile_hidden(tmp_path):
    folder = tree(tmp_path, ignore="*.md\n")
    (folder / "src" / "a.py").chmod(0o755)
    entries = packed(read(folder))
    assert sorted(entries) == sorted({*TREE, ".dockerignore", SENT_DOCKERFILE} - {"b.md"})
    assert entries["src/a.py"].mode == 0o755
    assert {(entry.uid, entry.gid, entry.mtime) for entry in entries.values()} == {(0, 0, 315532800)}
    stream = io.BytesIO()
    write_context(stream, read(folder), "FROM scratch\n")
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert tar.extractfile(".dockerignore").read().decode() == f"*.md\n\n{SENT_DOCKERFILE}\n"
        assert tar.extractfile(SENT_DOCKERFILE).read() == b"FROM scratch\n"


MEANWHILE = {
    "edited": lambda path: path.write_text("other"),
    "longer": lambda path: path.write_text("a.txt\nmore"),
    "shorter": lambda path: path.write_text(""),
    "gone": lambda path: path.unlink(),
    "executable": lambda path: path.chmod(0o755),
    "a link": lambda path: (path.unlink(), path.symlink_to("b.md")),
}


@pytest.mark.parametrize("change", MEANWHILE)
def test_a_file_that_changes_after_it_was_hashed_is_named(tmp_path, change):
    folder = tree(tmp_path)
    recipe = read(folder)
    MEANWHILE[change](folder / "a.txt")
    with pytest.raises(SourceIntegrityError, match=r"a\.txt: was changed after it was hashed") as caught:
        packed(recipe)
    assert caught.value.remedy == "run the same command again"


def test_a_link_that_moves_after_it_was_read_is_named(tmp_path):
    folder = tree(tmp_path)
    (folder / "link").symlink_to("a.txt")
    recipe = read(folder)
    (folder / "link").unlink()
    with pytest.raises(SourceIntegrityError, match="link"):
        packed(recipe)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "src/../../outside"])
def test_a_link_that_leaves_the_context_is_refused(tmp_path, target):
    folder = tree(tmp_path / "context")
    (folder / "link").symlink_to(target)
    with pytest.raises(ForbiddenSourceError, match="leaves the context") as caught:
        sent(folder)
    assert "link >> .dockerignore" in caught.value.remedy
    (folder / ".dockerignore").write_text("link\n")
    assert "link" not in sent(folder)


def test_a_link_up_and_down_within_the_context_is_sent(tmp_path):
    folder = tree(tmp_path)
    (folder / "src" / "deep" / "link").symlink_to("../../data/./x.bin")
    assert packed(read(folder))["src/deep/link"].linkname == "../../data/x.bin"


def test_pipes_and_sockets_are_refused(tmp_path):
    folder = tree(tmp_path)
    os.mkfifo(folder / "pipe")
    with pytest.raises(ForbiddenSourceError, match="pipe"):
        sent(folder)
    (folder / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket"))
        with pytest.raises(ForbiddenSourceError, match="socket"):
            sent(folder)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    folder = tree(tmp_path)
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).touch()
    with pytest.raises(ForbiddenSourceError, match="not UTF-8"):
        sent(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_what_cannot_be_read_is_named(tmp_path):
    script = """
import hashlib, os, sys
from pathlib import Path
from coralord_lightning.builder.runners.context import read_recipe
from coralord_lightning.errors import ForbiddenSourceError
folder = Path(sys.argv[1])
os.chdir(folder)
os.setuid(65534)
hasher = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
try:
    read_recipe(Path("Dockerfile"), Path("."), shown="Dockerfile", hasher=hasher)
except ForbiddenSourceError as error:
    print(error.subject, error.message)
"""
    folder = tree(tmp_path, names=("Dockerfile", "secret"))
    (folder / "secret").chmod(0)
    for path in (folder, *list(folder.parents)[:-2]):
        path.chmod(path.stat().st_mode | 0o055)
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=False)
    assert done.stdout == "build context: secret cannot be read: Permission denied\n", done.stderr


def test_a_context_that_is_too_large_names_its_largest_files(tmp_path):
    folder = tree(tmp_path)
    (folder / "data" / "x.bin").write_bytes(b"0" * 5000)
    with pytest.raises(ForbiddenSourceError, match="larger") as caught:
        sent(folder, max_bytes=4000)
    assert caught.value.facts["largest"].splitlines()[0] == "5,000 bytes  data/x.bin"
    assert ".dockerignore" in caught.value.remedy
    (folder / ".dockerignore").write_text("data/x.bin\n")
    assert sent(folder, max_bytes=4000)


def test_a_dockerfile_that_is_no_text_is_refused(tmp_path):
    folder = tree(tmp_path)
    (folder / "Dockerfile").write_bytes(b"\xff\xfe")
    with pytest.raises(DescriptorValueError, match="UTF-8"):
        sent(folder)


def test_a_store_in_the_context_is_left_out_under_whatever_name_it_is_given(tmp_path):
    folder = tree(tmp_path / "real", names=("Dockerfile", "store/shard"))
    (tmp_path / "link").symlink_to(folder)
    assert sent(folder, never=(tmp_path / "link" / "store",)) == ["Dockerfile"]
    assert sent(tmp_path / "link", never=(folder / "store",)) == ["Dockerfile"]
