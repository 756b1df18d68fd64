"""What a Dockerfile builds on: the images that it names, however it names them, and their pinned places."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coralord_lightning.builder.runners.dockerfile import Dockerfile, read_dockerfile
from coralord_lightning.errors import DescriptorValueError


def read(text: str, **options) -> Dockerfile:
    return read_dockerfile(text, origin="Dockerfile", platform="linux/amd64", **options)


def names(text: str, **options) -> list[str]:
    return [base.name for base in read(text, **options).bases]


def pinned(text: str, **options) -> str:
    found = read(text, **options)
    return found.pinned({base.name: f"PIN({base.name})" for base in found.bases})


SAID = {
    "FROM python:3.11\n": ["python:3.11"],
    "from python:3.11 as x\nfrom x\n": ["python:3.11"],
    "ARG V=3.11\nFROM python:$V\n": ["python:3.11"],
    "ARG V=3.11\nFROM python:${V}-slim\n": ["python:3.11-slim"],
    "ARG V\nFROM python:${V:-3.12}\n": ["python:3.12"],
    "ARG V=\nFROM python:${V:-3.12}\n": ["python:3.12"],
    "ARG V=1\nFROM python${V:+:slim}\n": ["python:slim"],
    "ARG A=a B=b\nFROM $A/$B\n": ["a/b"],
    "ARG V=3\nARG W=${V}.11\nFROM python:$W\n": ["python:3.11"],
    "ARG V='3.11'\nFROM \"python:${V}\"\n": ["python:3.11"],
    "FROM scratch\nCOPY a /\n": [],
    "FROM a AS One\nFROM b\nCOPY --from=one /x /x\nCOPY --from=0 /y /y\n": ["a", "b"],
    "FROM a\nCOPY --chown=1:1 --from=busybox:1 /x /x\n": ["a", "busybox:1"],
    "FROM a\nRUN --mount=type=bind,from=tools:2,target=/t --network=none make\n": ["a", "tools:2"],
    "FROM a\nRUN --mount=from=tools:2,target=/t make\n": ["a", "tools:2"],
    "FROM a AS x\nFROM b\nRUN --mount=type=cache,target=/c,from=x true\n": ["a", "b"],
    "FROM a\nRUN echo --mount=from=b\n": ["a"],
    "FROM a\nRUN cat <<EOF >/x\nFROM b\nEOF\nCOPY --from=c / /\n": ["a", "c"],
    "FROM a\nRUN <<-'EOF' cat <<B\nFROM b\n\tEOF\nCOPY --from=d / /\nB\nCOPY --from=c / /\n": ["a", "c"],
    "FROM a\nRUN echo $((1<<2))\nCOPY --from=c / /\n": ["a", "c"],
    "FROM \\\n  # between\n\n  a \\\n  AS x\nFROM x\n": ["a"],
    "# escape=`\nFROM `\n  a\nRUN dir c:\\\nCOPY --from=b / /\n": ["a", "b"],
    "# syntax=docker/dockerfile:1\n# escape=`\nFROM a`\n\n": ["a"],
    "# a comment\n# escape=`\nFROM a\\\n:1\n": ["a:1"],
    "\ufeff# so\r\nFROM a\r\nRUN x \\\r\n  y\r\nCOPY --from=b / /\r\n": ["a", "b"],
    "FROM --platform=linux/amd64 a\n": ["a"],
    "FROM --platform=$BUILDPLATFORM a-${TARGETARCH}\n": ["a-amd64"],
    "FROM a\nONBUILD COPY --from=b / /\n": ["a"],
    "FROM a@sha256:1\n": ["a@sha256:1"],
    "FROM a AS b\nFROM c\nCOPY --from=\"b\" / /\nCOPY --from='d:1' / /\n": ["a", "c", "d:1"],
}


@pytest.mark.parametrize("text", SAID)
def test_every_image_that_is_named_is_found(text):
    assert names(text) == SAID[text]


def test_the_pinned_text_keeps_every_line_and_all_but_the_names():
    text = (
        "ARG V=3\nFROM --platform=$BUILDPLATFORM \\\n  python:$V AS one # x\n".replace(" # x", "")
        + "RUN echo python:$V\nFROM one\nCOPY --from=busybox:1 \\\n  /a /b\n"
        + "RUN --mount=type=bind,from=tools,target=/t make\n"
    )
    assert pinned(text) == (
        "ARG V=3\nFROM --platform=linux/amd64 \\\n  PIN(python:3) AS one\n"
        "RUN echo python:$V\nFROM one\nCOPY --from=PIN(busybox:1) \\\n  /a /b\n"
        "RUN --mount=type=bind,from=PIN(tools),target=/t make\n"
    )


def test_build_args_go_before_defaults_and_stages_of_their_own_do_not_matter():
    text = "ARG V=3.11\nFROM python:$V\nARG V=3.13\nFROM python:$V\n"
    assert names(text) == ["python:3.11", "python:3.11"]
    assert names(text, build_args={"V": "3.12"}) == ["python:3.12", "python:3.12"]


def test_a_sites_base_image_keeps_the_name_that_the_dockerfile_gives():
    text = "ARG BASE_IMAGE=python:3.11-slim\nFROM ${BASE_IMAGE} AS one\nFROM $BASE_IMAGE\n"
    bases = read(text, base_image="mirror/python:1").bases
    assert {(base.name, base.image) for base in bases} == {("python:3.11-slim", "mirror/python:1")}
    given = read(text, base_image="mirror/python:1", build_args={"BASE_IMAGE": "own"}).bases
    assert {(base.name, base.image) for base in given} == {("own", "own")}
    (without,) = read("ARG BASE_IMAGE\nFROM $BASE_IMAGE\n", base_image="mirror").bases
    assert (without.name, without.image) == ("$BASE_IMAGE", "mirror")
    assert names("FROM a\nARG BASE_IMAGE\n", base_image="mirror") == ["a"]


def test_stages_behind_the_target_do_not_count():
    text = "FROM a AS One\nFROM b AS two\nFROM c\n"
    assert names(text) == ["a", "b", "c"]
    assert names(text, target="one") == ["a"]
    assert names(text, target="1") == ["a", "b"]


WRONG = {
    "": "has no FROM",
    "RUN true\n": "Dockerfile:1: RUN stands before the first FROM",
    "FROM a b\n": "Dockerfile:1: cannot be read",
    "FROM\n": "Dockerfile:1: cannot be read",
    "FROM --wrong=1 a\n": "Dockerfile:1: cannot be read",
    "ARG X\n\nFROM $X\n": "Dockerfile:3: FROM $X names no image",
    "ARG X\nFROM ${X:?needed}\n": "Dockerfile:2: X must be given: needed",
    "ARG X=a\nFROM ${X%a}\n": "Dockerfile:2: ${X%a} is not read here",
    "FROM 'a\n": "Dockerfile:1: 'a has a quote without end",
    "FROM --platform=linux/arm64 a\n": "Dockerfile:1: the stage is for 'linux/arm64'",
    "FROM a\nCOPY --from=3 / /\n": "Dockerfile:2: from=3 names no stage",
    "FROM a\nCOPY --from=$X / /\n": "Dockerfile:2: from=$X takes no variables",
    "FROM a\nRUN --mount=from=${X},target=/ x\n": "Dockerfile:2: from=${X} takes no variables",
    "FROM a\nRUN <<EOF\nx\n": "Dockerfile:2: the text after <<EOF has no end",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_cannot_be_pinned_is_an_error_with_its_line(text):
    with pytest.raises(DescriptorValueError) as caught:
        read(text)
    assert WRONG[text] in f"{caught.value.subject}: {caught.value.message}"
    assert caught.value.remedy


def test_a_misspelt_build_arg_or_target_is_an_error():
    text = "ARG VERSION=1\nFROM a AS runtime\nARG OTHER\n"
    with pytest.raises(DescriptorValueError, match="no argument 'VERSOIN'") as caught:
        read(text, build_args={"VERSOIN": "2"})
    assert caught.value.remedy == "build_args: {VERSION: …}"
    assert read(text, build_args={"OTHER": "2", "HTTPS_PROXY": "http://proxy:1"})
    with pytest.raises(DescriptorValueError, match="no stage 'runtme'") as caught:
        read(text, target="runtme")
    assert caught.value.remedy == "target: runtime"


def test_a_step_that_an_engine_names_has_its_line():
    found = read("# so\nARG V=1\nFROM a\n\nRUN one \\\n  two\nCOPY x /\n")
    assert [found.line_of_step(*step) for step in ((1, "ARG"), (3, "run"), (4, "COPY"))] == [2, 5, 7]
    assert found.line_of_step(3, "COPY") is None
    assert found.line_of_step(5, "LABEL") is None


@given(st.text("FROMARGCOPY a$b{}:-\"'\\\n#<=,1", max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        found = read(f"FROM base\n{text}")
    except DescriptorValueError:
        return
    assert found.pinned({base.name: found.text[base.start : base.end] for base in found.bases}) == found.text
