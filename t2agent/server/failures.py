"""Errors in the form of OpenAI's API."""

from __future__ import annotations

from typing import Any

from t2agent.errors import (
    BusyError,
    ContextLengthError,
    ExpertExistsError,
    ExpertNotFoundError,
    GrammarError,
    HubError,
    ImageRefusedError,
    ModalityError,
    T2Error,
)

RETRY = 1
"""Seconds after which a refused request may be tried again."""
_KINDS: tuple[tuple[type[T2Error], int, str], ...] = (
    (BusyError, 429, "queue_full"),
    (ExpertNotFoundError, 404, "expert_not_found"),
    (ExpertExistsError, 409, "expert_exists"),
    (HubError, 502, "hub_error"),
    (ContextLengthError, 400, "context_length_exceeded"),
    (ImageRefusedError, 400, "image_refused"),
    (ModalityError, 400, "modality"),
    (GrammarError, 400, "invalid_schema"),
    (T2Error, 400, "invalid_request"),
)


class RefusedError(Exception):
    """A request that is answered by an error.

    Attributes:
        status: of HTTP. told: what is wrong and what to do. code: OpenAI's short name of it.
        param: the field of the body that it is about.
    """

    def __init__(self, status: int, told: str, code: str, param: str | None = None) -> None:
        super().__init__(told)
        self.status, self.told, self.code, self.param = status, told, code, param

    @classmethod
    def of(cls, error: BaseException) -> RefusedError:
        """An error of t2agent, or any other, which is then the server's."""
        if isinstance(error, RefusedError):
            return error
        for kind, status, code in _KINDS:
            if isinstance(error, kind):
                return cls(status, str(error), code)
        told = f"the server failed ({type(error).__name__}); its log says more"
        return cls(500, told, "internal_error")

    @property
    def headers(self) -> dict[str, str]:
        """What tells a client how to go on."""
        if self.status == 401:
            return {"WWW-Authenticate": 'Basic realm="t2agent", charset="UTF-8"'}
        return {"Retry-After": str(RETRY)} if self.status == 429 else {}

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {
            "error": {
                "message": self.told,
                "type": kinds.get(self.status, kind),
                "param": self.param,
                "code": self.code,
            }
        }
