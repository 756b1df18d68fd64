"""`s3://` and `gs://` as https requests, signed where this site has keys. Makes no request; its own address rules none.

Keys come from `[credentials."s3://bucket"]`, else `[credentials."s3://"]` and the variables of AWS; without any, a
bucket is asked as anybody may ask. A bucket of Google takes a token from `[credentials."gs://bucket"]` or "gs://".
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from coralord_lightning.config import Config, Credential
from coralord_lightning.errors import ConfigError, ForbiddenSourceError, NotYetSupportedError
from coralord_lightning.sources.address import redact

__all__ = ["Bucket", "bucket_of", "sign"]

_QUERY = frozenset({"versionId", "generation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A file in a bucket.

    Args:
        name: of the bucket.
        asked: its `s3://` or `gs://` address.
        url: the http(s) address that serves it.
        region: S3's, as far as it is known.
        profile: what is sent along; None: nothing.
    """

    scheme: str
    name: str
    asked: str
    url: str
    region: str | None
    profile: Credential | None


def bucket_of(url: str, config: Config, *, region: str | None, subject: str) -> Bucket:
    """The file that an `s3://bucket/key` or `gs://bucket/key` address names.

    Args:
        region: what S3 said of this bucket before.
    Raises:
        ForbiddenSourceError: there is no key, or a query that means nothing here.
        ConfigError: the endpoint in a profile is no address.
    """
    parts = urlsplit(url)
    scheme, name, key = parts.scheme.lower(), parts.netloc, parts.path.removeprefix("/")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    if not key or "@" in name or ":" in name or parts.fragment or any(part not in _QUERY for part, _ in pairs):
        raise ForbiddenSourceError(
            subject,
            "is no address of a file in a bucket",
            facts={"got": redact(url), "expected": f"{scheme}://bucket/key"},
            remedy=f"{scheme}://bucket/path/of/file, with ?, # and % in the path written as %3F, %23 and %25",
        )
    profile = config.credentials.get(f"{scheme}://{name.lower()}") or config.credentials.get(f"{scheme}://")
    region = region or (profile.region if profile is not None else None)
    if scheme == "gs":
        place = f"{config.gs_endpoint.rstrip('/')}/{name}"
    elif profile is not None and profile.endpoint is not None:
        place = f"{_endpoint(profile.endpoint)}/{name}"
    else:
        host = f"s3.{region}.amazonaws.com" if region else "s3.amazonaws.com"
        place = f"https://{host}/{name}" if "." in name else f"https://{name}.{host}"
    query = f"?{urlencode(pairs, quote_via=quote)}" if pairs else ""
    path = quote(key, safe="/-_.~%")
    return Bucket(scheme=scheme, name=name, asked=url, url=f"{place}/{path}{query}", region=region, profile=profile)


def sign(bucket: Bucket, method: str, url: str) -> dict[str, str]:
    """The headers that show who asks; nothing where there is nobody to show.

    Raises:
        ConfigError: a secret that the profile names is not there.
        NotYetSupportedError: signing needs a package that is not installed.
    """
    profile = bucket.profile
    if profile is None:
        return {}
    if bucket.scheme == "gs":
        return {"authorization": f"Bearer {profile.token.reveal()}"} if profile.token is not None else {}
    if profile.access_key is None or profile.secret_key is None:
        return {}
    try:
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
    except ImportError as error:
        raise NotYetSupportedError(
            redact(bucket.asked),
            "is in a bucket that needs keys, and signing with them needs botocore",
            remedy="pip install 'coralord-lightning[s3]'",
        ) from error
    token = profile.session_token.reveal() if profile.session_token is not None else None
    keys = Credentials(profile.access_key.reveal(), profile.secret_key.reveal(), token)
    request = AWSRequest(method=method, url=url)
    S3SigV4Auth(keys, "s3", bucket.region or "us-east-1").add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}


def _endpoint(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc or parts.query:
        raise ConfigError(
            "credentials endpoint",
            "is no address of a service",
            facts={"got": redact(text), "expected": "https://host"},
            remedy='endpoint = "https://host:9000"',
        )
    return text.rstrip("/")
