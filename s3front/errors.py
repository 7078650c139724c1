"""The errors of S3, one class a code (STYLE 16): status and text as AWS sends them.

Raise them where the fault is found; the pipeline renders them. Codes, statuses and texts are from the API
reference's "Error responses" and, where that is silent, from what AWS answers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from s3front.wire.xml_writer import DECLARATION, element, text

Header = tuple[bytes, bytes]


class S3Error(Exception):
    """An answer other than success. The class name is its code.

    `message` replaces the code's usual text. Keyword arguments become elements of the body, ``_`` standing for
    ``-`` and None for no element. `headers` go on the response. Never put a secret into an element: the client
    sees them all.
    """

    code: ClassVar[str] = "InternalError"
    status: ClassVar[int] = 500
    message: str = ""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if "code" not in cls.__dict__:
            cls.code = cls.__name__

    def __init__(
        self, message: str | None = None, /, *, headers: Iterable[Header] = (), **elements: str | int | None
    ) -> None:
        if message is not None:
            self.message = message
        self.headers: tuple[Header, ...] = tuple(headers)
        self.elements = {name: value for name, value in elements.items() if value is not None}
        super().__init__(self.message)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, {self.elements!r})"


def render(error: S3Error, *, resource: str, request_id: str, host_id: str) -> bytes:
    """The XML body. Not for 304 and not for answers to HEAD, which have none."""
    parts = [text("Code", error.code), text("Message", error.message)]
    parts += [text(name.replace("_", "-"), value) for name, value in error.elements.items()]
    if resource and "Resource" not in error.elements:
        parts.append(text("Resource", resource))
    parts += [text("RequestId", request_id), text("HostId", host_id)]
    return (DECLARATION + element("Error", *parts)).encode("utf-8", "replace")


# -- who is asking -------------------------------------------------------------------------------------------


class AccessDenied(S3Error):
    status = 403
    message = "Access Denied"


class AccessForbidden(S3Error):
    """To a preflight request for a bucket whose CORS rules, if it has any, don't allow it."""

    status = 403
    message = "CORSResponse: CORS is not enabled for this bucket."


class AuthorizationHeaderMalformed(S3Error):
    status = 400
    message = "The authorization header that you provided is not valid."


class AuthorizationQueryParametersError(S3Error):
    status = 400
    message = "The authorization query parameters that you provided are not valid."


class InvalidAccessKeyId(S3Error):
    status = 403
    message = "The AWS Access Key Id you provided does not exist in our records."


class InvalidToken(S3Error):
    status = 400
    message = "The provided token is malformed or otherwise invalid."


class MissingSecurityHeader(S3Error):
    status = 400
    message = "Your request is missing a required header."


class RequestTimeTooSkewed(S3Error):
    status = 403
    message = "The difference between the request time and the current time is too large."


class SignatureDoesNotMatch(S3Error):
    status = 403
    message = (
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method."
    )


# -- what was asked for is not there, or in the way ----------------------------------------------------------


class BucketAlreadyExists(S3Error):
    status = 409
    message = (
        "The requested bucket name is not available. The bucket namespace is shared by all users of the "
        "system. Please select a different name and try again."
    )


class BucketAlreadyOwnedByYou(S3Error):
    status = 409
    message = "Your previous request to create the named bucket succeeded and you already own it."


class BucketNotEmpty(S3Error):
    status = 409
    message = "The bucket you tried to delete is not empty"


class ConditionalRequestConflict(S3Error):
    status = 409
    message = "The conditional request cannot succeed due to a conflicting operation against this resource."


class InvalidBucketState(S3Error):
    status = 409
    message = "The request is not valid with the current state of the bucket."


class InvalidObjectState(S3Error):
    status = 403
    message = "The operation is not valid for the object's storage class"


class NoSuchBucket(S3Error):
    status = 404
    message = "The specified bucket does not exist"


class NoSuchKey(S3Error):
    status = 404
    message = "The specified key does not exist."


class NoSuchObjectLockConfiguration(S3Error):
    status = 404
    message = "The specified object does not have a ObjectLock configuration"


class NoSuchTagSet(S3Error):
    status = 404
    message = "The TagSet does not exist"


class NoSuchUpload(S3Error):
    status = 404
    message = (
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
        "aborted or completed."
    )


class NoSuchVersion(S3Error):
    status = 404
    message = "The specified version does not exist."


class NotModified(S3Error):
    """Answered without a body; carry ETag, Last-Modified and the like in `headers` (RFC 9110, 15.4.5)."""

    status = 304
    message = "Not Modified"


class ObjectLockConfigurationNotFoundError(S3Error):
    status = 404
    message = "Object Lock configuration does not exist for this bucket"


class OperationAborted(S3Error):
    status = 409
    message = (
        "A conflicting conditional operation is currently in progress against this resource. Please try "
        "again."
    )


class PreconditionFailed(S3Error):
    status = 412
    message = "At least one of the pre-conditions you specified did not hold"


class QuotaExceeded(S3Error):
    """Not AWS's, which knows no quotas: code and status as Ceph answers."""

    status = 403
    message = "The bucket's quota does not allow so many bytes; delete something or have the quota raised."


# -- the request is wrong ------------------------------------------------------------------------------------


class BadRequest(S3Error):
    status = 400
    message = "Bad Request"


class EncryptionTypeMismatch(S3Error):
    status = 400
    message = (
        "The existing object was created with a different encryption type. Subsequent write requests must include "
        "the appropriate encryption parameters."
    )


class IllegalVersioningConfigurationException(S3Error):
    status = 400
    message = "The versioning configuration specified in the request is invalid."


class InvalidArgument(S3Error):
    status = 400
    message = "Invalid Argument"


class InvalidBucketName(S3Error):
    status = 400
    message = "The specified bucket is not valid."


class InvalidEncryptionAlgorithmError(S3Error):
    status = 400
    message = "The Encryption request you specified is not valid. Supported value: AES256."


class InvalidLocationConstraint(S3Error):
    status = 400
    message = "The specified location-constraint is not valid"


class InvalidPart(S3Error):
    status = 400
    message = (
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the "
        "specified entity tag may not match the part's entity tag."
    )


class InvalidPartOrder(S3Error):
    status = 400
    message = "The list of parts was not in ascending order. Parts must be ordered by part number."


class InvalidRange(S3Error):
    status = 416
    message = "The requested range is not satisfiable"


class InvalidRedirectLocation(S3Error):
    status = 400
    message = "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."


class InvalidRequest(S3Error):
    status = 400
    message = "Invalid Request"


class InvalidRetentionPeriod(S3Error):
    status = 400
    message = "Default retention period must be a positive integer value."


class InvalidStorageClass(S3Error):
    status = 400
    message = "The storage class you specified is not valid"


class InvalidTag(S3Error):
    status = 400
    message = (
        "The tag provided was not a valid tag. This error can occur if the tag did not pass input validation."
    )


class InvalidURI(S3Error):
    status = 400
    message = "Couldn't parse the specified URI."


class InvalidWriteOffset(S3Error):
    status = 400
    message = "The write offset value that you specified does not match the current object size."


class KeyTooLongError(S3Error):
    status = 400
    message = "Your key is too long"


class KMSDisabled(S3Error):
    """A dot in a code can't be in a class name."""

    code = "KMS.DisabledException"
    status = 400
    message = "The key that encrypts the object is disabled."


class KMSNotFound(S3Error):
    code = "KMS.NotFoundException"
    status = 400
    message = "The key that is to encrypt the object does not exist."


class MalformedXML(S3Error):
    status = 400
    message = "The XML you provided was not well-formed or did not validate against our published schema"


class MetadataTooLarge(S3Error):
    status = 400
    message = "Your metadata headers exceed the maximum allowed metadata size"


class MethodNotAllowed(S3Error):
    status = 405
    message = "The specified method is not allowed against this resource."


class MissingContentLength(S3Error):
    status = 411
    message = "You must provide the Content-Length HTTP header."


class MissingRequestBodyError(S3Error):
    status = 400
    message = "Request body is empty."


class NotImplementedS3(S3Error):
    """Python has a NotImplemented of its own, so this class name is not its code."""

    code = "NotImplemented"
    status = 501
    message = "A header you provided implies functionality that is not implemented"


class RequestHeaderSectionTooLarge(S3Error):
    status = 400
    message = "Your request header section exceeds the maximum allowed size."


class TooManyParts(S3Error):
    status = 400
    message = (
        "You have attempted to add more parts than the maximum of 10000 that are allowed for this object."
    )


class UnexpectedContent(S3Error):
    status = 400
    message = "This request does not support content"


# -- configurations that are not there, or can't be ----------------------------------------------------------


class AccessControlListNotSupported(S3Error):
    status = 400
    message = "The bucket does not allow ACLs"


class NoSuchBucketPolicy(S3Error):
    status = 404
    message = "The bucket policy does not exist"


class NoSuchConfiguration(S3Error):
    status = 404
    message = "The specified configuration does not exist."


class NoSuchCORSConfiguration(S3Error):
    status = 404
    message = "The CORS configuration does not exist"


class NoSuchPublicAccessBlockConfiguration(S3Error):
    status = 404
    message = "The public access block configuration was not found"


class NoSuchWebsiteConfiguration(S3Error):
    status = 404
    message = "The specified bucket does not have a website configuration"


class OwnershipControlsNotFoundError(S3Error):
    status = 404
    message = "The bucket ownership controls were not found"


class ReplicationConfigurationNotFoundError(S3Error):
    status = 404
    message = "The replication configuration was not found"


class ServerSideEncryptionConfigurationNotFoundError(S3Error):
    status = 404
    message = "The server side encryption configuration was not found"


class TooManyConfigurations(S3Error):
    status = 400
    message = "You are attempting to create a new configuration but have already reached the limit."


# -- the body is wrong ---------------------------------------------------------------------------------------


class BadDigest(S3Error):
    status = 400
    message = "The Content-MD5 you specified did not match what we received."


class EntityTooLarge(S3Error):
    status = 400
    message = "Your proposed upload exceeds the maximum allowed size"


class EntityTooSmall(S3Error):
    status = 400
    message = "Your proposed upload is smaller than the minimum allowed size"


class IncompleteBody(S3Error):
    status = 400
    message = "The request body terminated unexpectedly"


class InvalidDigest(S3Error):
    status = 400
    message = "The Content-MD5 you specified was invalid."


class MalformedTrailerError(S3Error):
    status = 400
    message = (
        "The request contained trailing data that was not well-formed or did not conform to our published "
        "schema."
    )


class MaxMessageLengthExceeded(S3Error):
    status = 400
    message = "Your request was too big."


class RequestTimeout(S3Error):
    status = 400
    message = (
        "Your socket connection to the server was not read from or written to within the timeout period. "
        "Idle connections will be closed."
    )


class XAmzContentSHA256Mismatch(S3Error):
    status = 400
    message = "The provided 'x-amz-content-sha256' header does not match what was computed."


# -- our fault, or our load ----------------------------------------------------------------------------------


class InternalError(S3Error):
    status = 500
    message = "We encountered an internal error. Please try again."


class ServiceUnavailable(S3Error):
    status = 503
    message = "Service is unable to handle request."


class SlowDown(S3Error):
    status = 503
    message = "Please reduce your request rate."
