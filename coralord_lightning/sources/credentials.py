"""What a request carries beside its question: who asks. Sent to the origin it belongs to, never kept, never shown."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from coralord_lightning.config import Config, Credential
from coralord_lightning.sources.address import origin, split_userinfo
from coralord_lightning.sources.buckets import Bucket, bucket_of, sign

__all__ = ["Access", "Target"]

_WRONG_REGION = frozenset({301, 307, 400, 403})


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a request goes first.

    Args:
        url: http(s) address, without user and password.
        userinfo: (user, password) that stood in the address.
        bucket: of an `s3://` or `gs://` address.
    """

    url: str
    userinfo: tuple[str, str] | None = None
    bucket: Bucket | None = None


class Access:
    """A site's credentials, by origin."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._profiles = {origin(name): profile for name, profile in config.credentials.items() if _is_http(name)}
        self._regions: dict[str, str] = {}
        self._lock = threading.Lock()

    def target(self, url: str, *, subject: str) -> Target:
        """The http(s) address that answers for an address.

        Raises:
            ForbiddenSourceError: it names no bucket and key.
        """
        if _is_http(url):
            bare, userinfo = split_userinfo(url)
            return Target(url=bare, userinfo=userinfo)
        bucket = bucket_of(url, self._config, region=self._regions.get(urlsplit(url).netloc.lower()), subject=subject)
        return Target(url=bucket.url, bucket=bucket)

    def headers(self, method: str, here: str, target: Target) -> dict[str, str]:
        """What is sent to the origin of `here`, and to no other.

        Args:
            here: the address that is asked now: that of `target`, or one that it redirects to.
        Raises:
            ConfigError: a secret that a profile names is not there.
        """
        at_home = origin(here) == origin(target.url)
        if at_home and target.userinfo is not None:
            return _basic(*target.userinfo)
        if at_home and target.bucket is not None:
            return sign(target.bucket, method, here) or self._of_origin(here)
        return self._of_origin(here)

    def elsewhere(self, target: Target, status: int, headers: Mapping[str, str]) -> Target | None:
        """The same bucket in the region that an answer names, where another was asked."""
        region = headers.get("x-amz-bucket-region")
        bucket = target.bucket
        if bucket is None or bucket.scheme != "s3" or not region or status not in _WRONG_REGION:
            return None
        if region == bucket.region or not region.replace("-", "").isalnum():
            return None
        with self._lock:
            self._regions[bucket.name] = region
        moved = bucket_of(bucket.asked, self._config, region=region, subject=bucket.name)
        return replace(target, url=moved.url, bucket=moved)

    def _of_origin(self, url: str) -> dict[str, str]:
        profile = self._profiles.get(origin(url))
        if profile is not None:
            return _headers(profile)
        token = self._config.hf_token
        if token is not None and origin(url) == origin(self._config.hf_endpoint):
            found = token.reveal_if_there()
            return {"authorization": f"Bearer {found}"} if found else {}
        return {}


def _headers(profile: Credential) -> dict[str, str]:
    out = {name: secret.reveal() for name, secret in profile.headers.items()}
    if profile.token is not None:
        out["authorization"] = f"Bearer {profile.token.reveal()}"
    elif profile.username is not None or profile.password is not None:
        out |= _basic(profile.username or "", profile.password.reveal() if profile.password is not None else "")
    return out


def _basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")}


def _is_http(url: str) -> bool:
    return urlsplit(url).scheme.lower() in ("http", "https")
