"""Errors in a request, and the HTTP status of each reason, for TorchServe's handler and the gateway."""

from http import HTTPStatus

from audiocnn.errors import AudioCNNError

_BY_REASON = {
    "empty": HTTPStatus.BAD_REQUEST,
    "invalid_option": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "too_long": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "undecodable": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}


class InvalidOption(AudioCNNError):
    """An option that does not exist, or has no valid value."""

    reason = "invalid_option"


class Unauthorized(AudioCNNError):
    """A request without a valid key."""

    reason = "unauthorized"


def status_of(reason: str) -> HTTPStatus:
    """Return the status of a reason; 422 for valid audio that cannot be classified."""
    return _BY_REASON.get(reason, HTTPStatus.UNPROCESSABLE_ENTITY)
