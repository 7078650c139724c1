"""What a request claims about its signature, from the Authorization header or from a presigned URL (sans-I/O).

Everything but the signature itself is checked here, each flaw with the error and in the order of AWS. Nothing in a
claim may be believed before ``sigv4`` has verified it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import gmtime, strftime
from typing import NamedTuple, NoReturn
from urllib.parse import unquote_to_bytes

from s3front.auth.canonical import SIGNATURE_PARAMETER, Pair
from s3front.auth.payload import UNSIGNED, SignedPayload, parse_payload
from s3front.auth.scope import Scope, ScopeFault, SigningKey, SigningKeys, parse_amz_date, parse_credential
from s3front.errors import (
    AccessDenied,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    InvalidArgument,
    InvalidRequest,
    RequestTimeTooSkewed,
)
from s3front.wire.headers import parse_http_date

ALGORITHM = b"AWS4-HMAC-SHA256"
SKEW_S_MAX = 900
EXPIRES_S_MAX = 604_800

Headers = Mapping[bytes, bytes]


class Claim(NamedTuple):
    """The parts of a signature, well-formed, its time and scope good for this server now."""

    credential: bytes
    """As spelt in the request: the key of the signing key cache."""
    known: SigningKey | None
    """From the cache, if the same credential has verified before."""
    scope: Scope
    signed_names: Sequence[bytes]
    """Lower-case, each once."""
    signature: bytes
    timestamps: Sequence[bytes]
    """Spellings of the request's time that may have been signed, the likeliest first."""
    payload: SignedPayload


class Verifier(NamedTuple):
    """What claims are checked against."""

    now_s: float
    region: str
    keys: SigningKeys


# -- Authorization header ------------------------------------------------------------------------------------


def header_claim(authorization: bytes, headers: Headers, verifier: Verifier) -> Claim:
    """Parse and check ``Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…``.

    Raises InvalidArgument, InvalidRequest, AccessDenied, RequestTimeTooSkewed, AuthorizationHeaderMalformed.
    """
    scheme, space, rest = authorization.strip().partition(b" ")
    if not space:
        _refuse_authorization(
            "Authorization header is invalid -- one and only one ' ' (space) required", authorization
        )
    if scheme != ALGORITHM:
        if scheme in (b"AWS", b"AWS4-ECDSA-P256-SHA256"):
            refuse_other_versions()
        _refuse_authorization("Unsupported Authorization Type", authorization)
    payload_line = headers.get(b"x-amz-content-sha256")
    if payload_line is None:
        raise InvalidRequest("Missing required header for this request: x-amz-content-sha256")
    payload = parse_payload(payload_line.strip())
    timestamps = _signed_times(headers, verifier.now_s)
    credential, signed_headers, signature = _components(rest)
    known = verifier.keys.get(credential, verifier.region)
    try:
        scope = parse_credential(credential, verifier.region) if known is None else known.scope
    except ScopeFault as fault:
        raise AuthorizationHeaderMalformed(_MALFORMED + fault.message, Region=fault.region) from None
    if scope.date != timestamps[0][:8]:
        raise AuthorizationHeaderMalformed(
            _MALFORMED + "Invalid credential date. Date is not the same as X-Amz-Date."
        )
    signed_names = signed_headers.lower().split(b";")
    if not _are_all_signed(headers, signed_names):
        raise AuthorizationHeaderMalformed(_MALFORMED + _SIGNED_TWICE)
    return Claim(credential, known, scope, signed_names, signature, timestamps, payload)


def _components(rest: bytes) -> tuple[bytes, bytes, bytes]:
    """Credential, SignedHeaders and Signature, in any order. Raises AuthorizationHeaderMalformed."""
    parts = rest.split(b",")
    found: dict[bytes, bytes] = {}
    for part in parts:
        name, equals, value = part.strip().partition(b"=")
        if not equals:
            raise AuthorizationHeaderMalformed(
                f'{_MALFORMED}the authorization component "{_text(part.strip())}" is malformed.'
            )
        found[name] = value
    try:
        components = found[b"Credential"], found[b"SignedHeaders"], found[b"Signature"]
    except KeyError:
        components = b"", b"", b""
    if len(parts) != 3 or not all(components):
        raise AuthorizationHeaderMalformed(
            _MALFORMED
            + "the authorization header requires three components: Credential, SignedHeaders, and Signature."
        )
    return components


def _signed_times(headers: Headers, now_s: float) -> Sequence[bytes]:
    """The request's time from x-amz-date, or else Date. Raises AccessDenied, RequestTimeTooSkewed."""
    sent = headers.get(b"x-amz-date")
    if sent is None:
        sent = headers.get(b"date", b"")
    sent = sent.strip()
    timestamps: Sequence[bytes] = (sent,)
    signed_s = parse_amz_date(sent)
    if signed_s is None:
        signed_s = parse_http_date(sent.decode("latin-1"))
        if signed_s is None:
            raise AccessDenied("AWS authentication requires a valid Date or x-amz-date header")
        timestamps = (strftime("%Y%m%dT%H%M%SZ", gmtime(signed_s)).encode(), sent)
    if abs(now_s - signed_s) > SKEW_S_MAX:
        raise RequestTimeTooSkewed(
            RequestTime=_text(sent), ServerTime=_iso(now_s), MaxAllowedSkewMilliseconds=SKEW_S_MAX * 1000
        )
    return timestamps


def refuse_other_versions() -> NoReturn:
    """Signature Version 2 and 4A are known to clients, but not to Trivet."""
    raise InvalidRequest(
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    )


def refuse_two_mechanisms(authorization: bytes | None) -> NoReturn:
    """Header and query, or two kinds of query: it would be a guess which one counts."""
    _refuse_authorization(
        "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
        "parameter or the Authorization header should be specified",
        authorization,
    )


def _refuse_authorization(message: str, authorization: bytes | None) -> NoReturn:
    value = None if authorization is None else _text(authorization)
    raise InvalidArgument(message, ArgumentName="Authorization", ArgumentValue=value)


# -- presigned URL -------------------------------------------------------------------------------------------


def query_claim(pairs: Sequence[Pair], headers: Headers, verifier: Verifier) -> Claim:
    """Parse and check ``?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=…``.

    Raises AuthorizationQueryParametersError, AccessDenied, InvalidArgument.
    """
    parameters = {name: value for name, _, value in pairs}
    if len(parameters) != len(pairs):
        _check_given_once(pairs)
    if parameters[b"X-Amz-Algorithm"] != ALGORITHM:
        raise AuthorizationQueryParametersError('X-Amz-Algorithm only supports "AWS4-HMAC-SHA256"')
    try:
        credential = parameters[b"X-Amz-Credential"]
        signature = parameters[SIGNATURE_PARAMETER]
        timestamp = parameters[b"X-Amz-Date"]
        signed_headers = parameters[b"X-Amz-SignedHeaders"]
        expires = parameters[b"X-Amz-Expires"]
    except KeyError:
        raise AuthorizationQueryParametersError(_MISSING_PARAMETERS) from None
    _check_validity(timestamp, expires, verifier.now_s)
    known = verifier.keys.get(credential, verifier.region)
    scope = _query_scope(credential, verifier.region) if known is None else known.scope
    if scope.date != timestamp[:8]:
        raise AuthorizationQueryParametersError(
            f'Invalid credential date "{_text(scope.date)}". This date is not the same as X-Amz-Date: '
            f'"{_text(timestamp[:8])}".'
        )
    if b"%" in signed_headers:
        signed_headers = unquote_to_bytes(signed_headers)
    signed_names = signed_headers.lower().split(b";")
    if not _are_all_signed(headers, signed_names):
        raise AuthorizationQueryParametersError(_SIGNED_TWICE)
    payload_line = headers.get(b"x-amz-content-sha256")
    payload = UNSIGNED if payload_line is None else parse_payload(payload_line.strip())
    return Claim(credential, known, scope, signed_names, signature, (timestamp,), payload)


def _query_scope(credential: bytes, region: str) -> Scope:
    try:
        return parse_credential(unquote_to_bytes(credential), region)
    except ScopeFault as fault:
        raise AuthorizationQueryParametersError(
            f"Error parsing the X-Amz-Credential parameter; {fault.message}", Region=fault.region
        ) from None


def _check_given_once(pairs: Sequence[Pair]) -> None:
    """Raise when an X-Amz parameter comes twice: it would be a guess which one counts."""
    seen: set[bytes] = set()
    for name, _, _ in pairs:
        if name in seen and name.lower().startswith(b"x-amz-"):
            raise AuthorizationQueryParametersError(f"{_text(name)} must not be given more than once")
        seen.add(name)


def _check_validity(timestamp: bytes, expires: bytes, now_s: float) -> None:
    """Raise unless the URL's time window is well-formed and `now_s` lies within it."""
    signed_s = parse_amz_date(timestamp)
    if signed_s is None:
        raise AuthorizationQueryParametersError(
            "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\""
        )
    valid_s = _parse_expires(expires)
    if signed_s - SKEW_S_MAX <= now_s <= signed_s + valid_s:
        return
    end = _iso(signed_s + valid_s)
    if now_s < signed_s:
        raise AccessDenied(
            "Request is not yet valid", X_Amz_Date=signed_s * 1000, Expires=end, ServerTime=_iso(now_s)
        )
    raise AccessDenied("Request has expired", X_Amz_Expires=valid_s, Expires=end, ServerTime=_iso(now_s))


def _parse_expires(expires: bytes) -> int:
    if not expires.removeprefix(b"-").isdigit() or len(expires) > 19:
        raise AuthorizationQueryParametersError("X-Amz-Expires should be a number")
    valid_s = int(expires)
    if valid_s < 0:
        raise AccessDenied("X-Amz-Expires must be non-negative")
    if valid_s > EXPIRES_S_MAX:
        raise AccessDenied(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be "
            "less than 604800 seconds"
        )
    return valid_s


# -- both ----------------------------------------------------------------------------------------------------


def _are_all_signed(headers: Headers, signed_names: Sequence[bytes]) -> bool:
    """Raise unless Host, Content-MD5 and every x-amz header sent are signed; False if one is signed twice.

    Otherwise whoever holds a presigned URL could add meaning to it, a copy source for instance (FIELD).
    x-amz-content-sha256 is in the signature by its value. A header signed a thousand times would let a stranger
    make us hash and echo a thousand times what was sent.
    """
    signed = set(signed_names)
    unsigned = [
        name
        for name in headers
        if name.startswith(b"x-amz-") and name not in signed and name != b"x-amz-content-sha256"
    ]
    if b"host" not in signed:
        unsigned.append(b"host")
    if b"content-md5" in headers and b"content-md5" not in signed:
        unsigned.append(b"content-md5")
    if unsigned:
        raise AccessDenied(
            "There were headers present in the request which were not signed",
            HeadersNotSigned=_text(b", ".join(sorted(unsigned))),
        )
    return len(signed) == len(signed_names)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _iso(seconds: float) -> str:
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(seconds))


_MALFORMED = "The authorization header is malformed; "
_SIGNED_TWICE = "each of the SignedHeaders must be named once."
_MISSING_PARAMETERS = (
    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
    "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
)
