"""HTTP statuses of the reasons for which a request gets no answer, of TorchServe's handler and of the gateway."""

from http import HTTPStatus

_BY_REASON = {
    "empty": HTTPStatus.BAD_REQUEST,
    "invalid_option": HTTPStatus.BAD_REQUEST,
    "unauthorized": HTTPStatus.UNAUTHORIZED,
    "too_long": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "undecodable": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "internal": HTTPStatus.INTERNAL_SERVER_ERROR,
}


def status_of(reason: str) -> HTTPStatus:
    """Return the status of a reason; 422 for valid audio that cannot be classified."""
    return _BY_REASON.get(reason, HTTPStatus.UNPROCESSABLE_ENTITY)
