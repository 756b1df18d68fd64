"""Found by attack: registries that lie, flood, or send us elsewhere to have the user's password."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coralord_lightning.builder.runners.registry import Trouble, open_registry
from coralord_lightning.builder.runners.tags import _platforms
from coralord_lightning.config import Config
from web import Site, answer, serve

LOGIN = base64.b64encode(b"ada:secret").decode()
TAG = "/v2/team/etl/manifests/1"
D = f"sha256:{'a' * 64}"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve() as found:
        yield found


@pytest.fixture
def config(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The user is logged in to the registry."""
    host = site.url.removeprefix("http://")
    (tmp_path / "config.json").write_text(json.dumps({"auths": {host: {"auth": LOGIN}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return Config(home=tmp_path / "home")


def ask(site: Site, config: Config, *answers: Any, reference: str = "1") -> Any:
    site.scripts[f"/v2/team/etl/manifests/{reference}"] = list(answers)
    with open_registry(f"{site.url.removeprefix('http://')}/team/etl:1", config=config) as registry:
        manifest = registry.manifest(reference)
        return manifest, registry.platform(manifest)


def challenge(url: str) -> Any:
    return answer(401, b"{}", {"WWW-Authenticate": f'Bearer realm="{url}",service="x",scope="y"'})


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
def test_who_we_are_only_redirected_to_never_gets_the_password(site: Site, config: Config, scheme: str) -> None:
    with serve() as thief:
        asks = {"WWW-Authenticate": f'{scheme} realm="{thief.url}/token"'}
        thief.scripts[TAG] = [answer(401, b"{}", asks), answer(401, b"{}", asks)]
        thief.scripts["/token"] = [answer(200, b'{"token": "t"}')]
        elsewhere = answer(307, b"", {"Location": thief.url + TAG})
        with pytest.raises(Trouble, match="sends us to") as caught:
            ask(site, config, elsewhere, elsewhere)
        assert caught.value.kind == "denied"
        assert [item.path for item in thief.requests] == [TAG]
        assert not any("authorization" in item.headers for item in thief.requests)


def test_the_registrys_own_question_is_answered(site: Site, config: Config) -> None:
    blob = b'{"os": "linux", "architecture": "arm64"}'
    body = json.dumps({"config": {"digest": f"sha256:{hashlib.sha256(blob).hexdigest()}"}}).encode()
    site.scripts["/token"] = [answer(200, b'{"token": "t"}')]
    site.files[f"/v2/team/etl/blobs/sha256:{hashlib.sha256(blob).hexdigest()}"] = blob
    manifest, platform = ask(site, config, challenge(f"{site.url}/token"), answer(200, body))
    assert (manifest.digest, platform) == (f"sha256:{hashlib.sha256(body).hexdigest()}", "linux/arm64")
    assert [item.headers.get("authorization") for item in site.requests if item.path.startswith("/token")] == [
        f"Basic {LOGIN}"
    ]


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, b"[" * 100_000),
        answer(200, b"[]"),
        answer(200, b'{"config": []}'),
        answer(200, b'{"config": {"digest": "../../../v2/other"}}'),
        answer(200, b"{}", {"Content-Length": "100"}),
        answer(200, b" " * (5 << 20)),
        answer(200, gzip.compress(b" " * (64 << 20)), {"Content-Encoding": "gzip"}),
        answer(302, b"", {"Location": TAG}),
        answer(302, b"", {"Location": "file:///etc/passwd"}),
        answer(302, b"", {"Location": "http://[::1"}),
        answer(500),
    ],
)
def test_what_is_no_manifest_is_trouble(site: Site, config: Config, reply: Any) -> None:
    with pytest.raises(Trouble):
        ask(site, config, *[reply] * 40)


def test_other_bytes_than_the_digest_says_are_refused(site: Site, config: Config) -> None:
    with pytest.raises(Trouble, match="other bytes"):
        ask(site, config, answer(200, b"{}"), reference=D)


@pytest.mark.parametrize("realm", ["http://[", "", "ftp://x/y", "file:///etc/passwd", "/token"])
def test_a_place_for_passwords_that_is_none_is_trouble(site: Site, config: Config, realm: str) -> None:
    with pytest.raises(Trouble):
        ask(site, config, challenge(realm))


def test_a_token_without_end_is_trouble(site: Site, config: Config) -> None:
    site.scripts["/token"] = [answer(200, gzip.compress(b" " * (256 << 20)), {"Content-Encoding": "gzip"})]
    with pytest.raises(Trouble, match="no JSON"):
        ask(site, config, challenge(f"{site.url}/token"))


@pytest.mark.parametrize(
    "listed",
    [
        5,
        {"a": 1},
        [5, None, {"platform": 3, "digest": D}],
        [{"platform": {"os": "linux", "architecture": "amd64"}}],
        [{"platform": {"os": "linux", "architecture": "amd64"}, "digest": "x\nRUN evil"}],
    ],
)
def test_a_list_of_platforms_that_is_none_has_none(listed: Any) -> None:
    assert _platforms({"manifests": listed}) == {}
