"""Credentials: each to its own origin and nowhere else; buckets are asked by signed requests, proxies with care."""

from __future__ import annotations

import base64
import hashlib
import hmac
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote

import pytest

from coralord_lightning.config import Config, load_config
from coralord_lightning.errors import (
    ConfigError,
    ForbiddenSourceError,
    NotYetSupportedError,
    SourceMissingError,
    UpstreamError,
)
from coralord_lightning.sources import Sources, open_sources
from coralord_lightning.sources.buckets import bucket_of
from coralord_lightning.sources.fetch import read_all
from coralord_lightning.sources.http import HttpClient
from coralord_lightning.sources.transport import Policy, goes_directly
from coralord_lightning.spec.plan import LocalFile, RemoteFile
from coralord_lightning.spec.selection import FileObject
from web import Site, answer, serve

CSV = b"n\n1\n2\n"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(a_csv=CSV) as found:
        yield found


def settings(tmp_path: Path, text: str = "", env: dict[str, str] | None = None, **arguments: Any) -> Config:
    """The configuration of a project whose coral.toml says this, on a machine without any other."""
    (tmp_path / "coral.toml").write_text('allow_private_hosts = ["127.0.0.1"]\n' + text)
    base = {"XDG_CONFIG_HOME": str(tmp_path / "none"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    return load_config(
        project_dir=tmp_path, environ=base | (env or {}), system_file=tmp_path / "system.toml", **arguments
    )


@contextmanager
def client(config: Config) -> Iterator[HttpClient]:
    found = HttpClient(config, sleep=lambda seconds: None)
    try:
        yield found
    finally:
        found.close()


def get(config: Config, url: str) -> bytes:
    with client(config) as asking:
        return read_all(asking, url, subject="data", limit=10_000)[0]


def sent(site: Site, header: str = "authorization") -> list[str | None]:
    return [item.headers.get(header) for item in site.requests]


def test_a_profile_goes_to_its_origin_only(site: Site, tmp_path: Path) -> None:
    with serve(a_csv=CSV) as other:
        (tmp_path / "token").write_text("from-a-file\n")
        config = settings(
            tmp_path,
            f"""
            [credentials."{site.url}"]
            token = "env:TOKEN"
            headers = {{x-team = "file:token"}}
            """,
            env={"TOKEN": "canary"},
        )
        site.scripts["/go"] = [answer(302, b"", {"Location": f"{other.url}/a.csv"})]
        assert get(config, f"{site.url}/go") == CSV
        assert get(config, f"{other.url}/a.csv") == CSV
        assert sent(site) == ["Bearer canary"]
        assert sent(site, "x-team") == ["from-a-file"]
        assert sent(other) == sent(other, "x-team") == [None, None]
    assert "canary" not in repr(config)


def test_user_and_password_of_a_profile(site: Site, tmp_path: Path) -> None:
    config = settings(tmp_path, f'[credentials."{site.url}/"]\nusername = "me"\npassword = "env:PW"', {"PW": "canary"})
    get(config, f"{site.url}/a.csv")
    get(config, f"{site.url}/a.csv".replace("//", "//you:there@"))
    users = [base64.b64decode(text.split()[1]).decode() for text in sent(site) if text]
    assert users == ["me:canary", "you:there"]


def test_a_secret_that_is_not_there_is_named_when_it_is_needed(site: Site, tmp_path: Path) -> None:
    with serve(a_csv=CSV) as other:
        config = settings(tmp_path, f'[credentials."{site.url}"]\ntoken = "env:NOT_SET"')
        assert get(config, f"{other.url}/a.csv") == CSV
        with pytest.raises(ConfigError, match="export NOT_SET"):
            get(config, f"{site.url}/a.csv")
    assert site.requests == []


def test_a_refusal_says_how_to_get_in(site: Site, tmp_path: Path) -> None:
    site.scripts["/a.csv"] = [answer(401)]
    with pytest.raises(UpstreamError, match=r"credentials\.\"http://127"):
        get(settings(tmp_path), f"{site.url}/a.csv")


@pytest.mark.parametrize("way", ["HF_TOKEN", "HF_TOKEN_PATH", "HF_HOME", "cache"])
def test_the_hubs_token_goes_to_the_hub_only(site: Site, tmp_path: Path, way: str) -> None:
    places = {"HF_TOKEN_PATH": "tokens/mine", "HF_HOME": "home/token", "cache": "cache/huggingface/token"}
    env = {"HF_TOKEN": "hf_canary"} if way == "HF_TOKEN" else {}
    if way in places:
        path = tmp_path / places[way]
        path.parent.mkdir(parents=True)
        path.write_text("hf_canary\n")
        env = {"HF_TOKEN_PATH": str(path)} if way == "HF_TOKEN_PATH" else env
        env = {"HF_HOME": str(path.parent)} if way == "HF_HOME" else env
    with serve(a_csv=CSV) as other:
        config = settings(tmp_path, env=env | {"HF_ENDPOINT": site.url})
        site.scripts["/a.csv"] = [answer(302, b"", {"Location": f"{other.url}/a.csv"})]
        assert get(config, f"{site.url}/a.csv") == CSV
        assert sent(site) == ["Bearer hf_canary"]
        assert sent(other) == [None]
    assert "canary" not in repr(config)


# buckets

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "canary/secret", "AWS_SESSION_TOKEN": "session"}


def signed(secret: str) -> Any:
    """A guard that lets in who signs as Amazon says; written from its specification, without botocore.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """

    def guard(handler: Any) -> int | None:
        headers = {key.lower(): value for key, value in handler.headers.items()}
        parts = dict(
            item.strip().split("=", 1) for item in headers.get("authorization", "x y=").split(" ", 1)[1].split(",")
        )
        if "Credential" not in parts:
            return 403
        _, day, region, service, end = parts["Credential"].split("/")
        path, _, query = handler.path.partition("?")
        pairs = sorted(parse_qsl(query, keep_blank_values=True))
        canonical_query = "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in pairs)
        names = parts["SignedHeaders"].split(";")
        lines = [f"{name}:{headers[name].strip()}" for name in names]
        hashed = headers["x-amz-content-sha256"]
        request = "\n".join([handler.command, path, canonical_query, *lines, "", ";".join(names), hashed])
        scope = f"{day}/{region}/{service}/{end}"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest])
        key = f"AWS4{secret}".encode()
        for part in (day, region, service, end):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        right = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        covered = {"host", "x-amz-date", "x-amz-content-sha256"} <= set(names)
        return None if hmac.compare_digest(right, parts["Signature"]) and covered else 403

    return guard


@contextmanager
def door(config: Config, tmp_path: Path) -> Iterator[Sources]:
    with open_sources(config, cache_dir=tmp_path / "kept", sleep=lambda seconds: None) as found:
        yield found


def test_a_bucket_is_read_by_signed_requests(site: Site, tmp_path: Path) -> None:
    site.files = {"/data/deep/a%20b+c.csv".replace("+", "%2B"): CSV * 100}
    site.guard = signed("canary/secret")
    config = settings(tmp_path, env=KEYS | {"AWS_ENDPOINT_URL": site.url, "AWS_REGION": "eu-central-1"})
    with door(config, tmp_path) as asking:
        node = FileObject(id="a", content_url="s3://data/deep/a%20b+c.csv?versionId=3.L%2F", format="csv")
        ((source, location),) = asking.resolve(node, base=Path())
        assert isinstance(location, RemoteFile)
        assert source.identity["url"] == "s3://data/deep/a%20b+c.csv?versionId=3.L%2F"
        fs = asking.filesystem({"a": location})
        assert fs.read_at(fs.path_of("a"), 100, 200) == (CSV * 100)[100:200]
        whole = FileObject(id="a", content_url="s3://data/deep/a%20b+c.csv", format="any")
        ((_, kept),) = asking.resolve(whole, base=Path())
        assert isinstance(kept, LocalFile)
        assert kept.path.read_bytes() == CSV * 100
    assert {item.headers["x-amz-security-token"] for item in site.requests} == {"session"}
    assert all("eu-central-1" in str(text) for text in sent(site))
    assert "canary" not in f"{config!r}{site.requests}"
    wrong = settings(tmp_path, env=KEYS | {"AWS_ENDPOINT_URL": site.url, "AWS_SECRET_ACCESS_KEY": "other"})
    with door(wrong, tmp_path) as asking, pytest.raises(UpstreamError):
        asking.resolve(whole, base=Path())


def test_a_croissant_file_in_a_bucket_names_its_neighbours(site: Site, tmp_path: Path) -> None:
    site.files = {"/data/set/c.json": b"{}", "/data/set/a.csv": CSV}
    site.guard = signed("canary/secret")
    config = settings(tmp_path, env=KEYS | {"AWS_ENDPOINT_URL": site.url})
    with door(config, tmp_path) as asking:
        text = asking.read_text("s3://data/set/c.json", base_dir=Path())
        ((source, _),) = asking.resolve(FileObject(id="a", content_url="a.csv", format="csv"), base=text.base)
    assert source.identity["url"] == "s3://data/set/a.csv"


def test_the_region_that_a_bucket_says_is_used(site: Site, tmp_path: Path) -> None:
    site.files = {"/data/a.csv": CSV}
    config = settings(tmp_path, env=KEYS | {"AWS_ENDPOINT_URL": site.url})
    site.scripts["/data/a.csv"] = [answer(400, b"", {"x-amz-bucket-region": "ap-south-1"})]
    with client(config) as asking:
        for _ in range(2):
            assert read_all(asking, "s3://data/a.csv", subject="a", limit=1000)[0] == CSV
    assert ["ap-south-1" in str(text) for text in sent(site)] == [False, True, True]


def test_without_keys_a_bucket_is_asked_as_anybody_may(site: Site, tmp_path: Path) -> None:
    site.files = {"/data/a.csv": CSV}
    text = f'gs_endpoint = "{site.url}"\n[credentials."s3://data"]\nendpoint = "{site.url}"'
    config = settings(tmp_path, text)
    assert get(config, "s3://data/a.csv") == get(config, "gs://data/a.csv") == CSV
    assert sent(site) == [None, None]
    site.requests.clear()
    get(settings(tmp_path, text + '\n[credentials."gs://"]\ntoken = "env:T"', {"T": "canary"}), "gs://data/a.csv")
    assert sent(site) == ["Bearer canary"]
    with pytest.raises(SourceMissingError):
        get(config, "s3://data/none.csv")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://data/a/b.csv", "https://data.s3.amazonaws.com/a/b.csv"),
        ("s3://da.ta/a b.csv", "https://s3.amazonaws.com/da.ta/a%20b.csv"),
        ("gs://data/a.csv?generation=3", "https://storage.googleapis.com/data/a.csv?generation=3"),
    ],
)
def test_where_buckets_are(tmp_path: Path, url: str, address: str) -> None:
    assert bucket_of(url, Config(home=tmp_path), region=None, subject="a").url == address


@pytest.mark.parametrize(
    "url", ["s3://data", "s3://data/", "s3://me:pw@data/k", "s3://data/k?x=1", "s3:///k", "s3://d/k#f"]
)
def test_what_is_no_file_in_a_bucket_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ForbiddenSourceError) as caught:
        get(Config(home=tmp_path), url)
    assert "pw" not in str(caught.value)


def test_a_private_endpoint_of_a_bucket_needs_to_be_allowed(site: Site, tmp_path: Path) -> None:
    config = settings(tmp_path, f'[credentials."s3://"]\nendpoint = "{site.url}"'.replace("127.0.0.1", "localhost"))
    with pytest.raises(ForbiddenSourceError, match="localhost"):
        get(config, "s3://data/a.csv")
    assert site.requests == []


def test_without_botocore_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(NotYetSupportedError, match=r"coralord-lightning\[s3\]"):
        get(settings(tmp_path, env=KEYS), "s3://data/a.csv")


# proxies


def test_a_proxy_is_asked_and_told_the_password_it_needs(site: Site, tmp_path: Path, monkeypatch: Any) -> None:
    import socket

    real = socket.getaddrinfo

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if host == "data.example":
            raise socket.gaierror("only the proxy knows")
        return real("8.8.8.8" if host == "data2.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    address = site.url.replace("//", "//me:canary@")
    config = settings(tmp_path, env={"http_proxy": address, "NO_PROXY": "direct.example"})
    for host in ("data.example", "data2.example"):
        site.scripts[f"http://{host}/a.csv"] = [answer(200, CSV)]
        assert get(config, f"http://{host}/a.csv") == CSV
    expected = "Basic " + base64.b64encode(b"me:canary").decode()
    assert sent(site, "proxy-authorization") == [expected] * 2
    assert "canary" not in repr(config)


@pytest.mark.parametrize("target", ["http://169.254.169.254/x", "http://10.0.0.1/x", "http://[::ffff:10.0.0.1]/x"])
def test_a_proxy_is_not_asked_for_what_is_forbidden(site: Site, tmp_path: Path, target: str) -> None:
    config = settings(tmp_path, f'proxies = {{http = "{site.url}"}}')
    with pytest.raises(ForbiddenSourceError):
        get(config, target)
    site.files |= {"http://8.8.8.8/x": b""}
    site.scripts["http://8.8.8.8/x"] = [answer(302, b"", {"Location": target})]
    with pytest.raises(ForbiddenSourceError):
        get(config, "http://8.8.8.8/x")
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("host", "entry", "directly"),
    [
        ("a.example", "example", True), ("a.example", ".example", True), ("a.example", "*.example", True),
        ("aexample", "example", False), ("10.1.2.3", "10.0.0.0/8", True), ("a.b", "*", True), ("a.b", "a.b:80", True),
        ("a.b", "a.b:81", False), ("127.0.0.1", "", True), ("localhost", "", True), ("[::1]", "", True),
        ("x", "y", False),
    ],
)  # fmt: skip
def test_who_is_reached_without_a_proxy(host: str, entry: str, directly: bool) -> None:
    assert goes_directly(host, 80, [entry] if entry else []) is directly


def test_allow_private_is_an_argument_and_limits_rule_it_out(site: Site, tmp_path: Path) -> None:
    url = f"{site.url}/a.csv".replace("127.0.0.1", "localhost")
    assert get(settings(tmp_path, allow_private=True), url) == CSV
    (tmp_path / "system.toml").write_text(
        "[limits]\nlock_private_hosts = true\nallow_private_hosts = ['files.example']\n"
    )
    with pytest.raises(ConfigError, match=r"system\.toml"):
        settings(tmp_path, allow_private=True)
    locked = settings(tmp_path)
    with pytest.raises(ForbiddenSourceError, match=r"limits\.allow_private_hosts in .*system\.toml"):
        get(locked, f"{site.url}/a.csv")
    assert Policy(locked).allows("files.example")
