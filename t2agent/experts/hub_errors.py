"""What huggingface_hub raises, as errors of the project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from t2agent.errors import ConfigError, ExpertNotFoundError, HubError, T2Error
from t2agent.experts.pins import Address

_SHOWN = 300


def is_unreachable(error: Exception) -> bool:
    """Whether the Hub did not answer, or answered that it cannot serve now."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code >= 500 or error.response.status_code == 429
    return isinstance(error, (OfflineModeIsEnabled, _http_error()))


def _http_error() -> type[Exception]:
    """What the HTTP library raises: httpx or httpx2, by the version of huggingface_hub."""
    from huggingface_hub.errors import HfHubHTTPError

    found: type[Exception] = HfHubHTTPError.__bases__[0]
    return found


@contextmanager
def typed_errors(address: Address, url: str, name: str = "") -> Iterator[None]:
    """Turn what huggingface_hub raises inside into errors of the project.

    address: what is read or written. url: the Hub's. name: of the file that is read; "" for a push.
    """
    from huggingface_hub import errors

    asked = f"{address}" + (f", {name}" if name else "")
    cache = ", and the cache of downloads does not have it" if name else ""
    try:
        yield
    except errors.HFValidationError as error:
        raise ConfigError(
            f"{address.repo!r} is no repository of the Hub: {_short(error)} Give 'user/name'."
        ) from error
    except errors.GatedRepoError as error:
        raise HubError(
            f"{address.repo} asks for consent before it may be read: accept its terms at "
            f"{url}/{address.repo}, and log in with `hf auth login` or give token="
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ExpertNotFoundError(
            f"no repository {address.repo!r} at {url} for this token; check the name, and for a "
            "private one log in with `hf auth login` or give token="
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ExpertNotFoundError(
            f"{address.repo} has no revision {address.revision or 'main'!r}; give a branch, a tag "
            f"or a commit that {url}/{address.repo}/commits/main lists"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise HubError(
            f"{asked} is not in the cache of downloads, and the Hub may not be asked (offline). "
            "Load it once with the network, or unset HF_HUB_OFFLINE and local_files_only."
        ) from error
    except errors.EntryNotFoundError as error:
        raise ExpertNotFoundError(
            f"{address} has no {name or 'such file'}, so it is no expert of t2agent; where a "
            "repository holds several, name the folder of one (subfolder=, --subfolder)"
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise HubError(
            "there is no token for the Hub; log in with `hf auth login` or give token="
        ) from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(
            f"HF_HUB_OFFLINE forbids to ask the Hub for {asked}{cache}; unset it to use the network"
        ) from error
    except errors.HfHubHTTPError as error:
        raise HubError(_refusal(address, error.response.status_code, error)) from error
    except T2Error:
        raise
    except _http_error() as error:
        raise HubError(
            f"the Hub at {url} cannot be reached for {asked} ({type(error).__name__}: "
            f"{_short(error)}){cache}; check the network and HF_ENDPOINT"
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        # huggingface_hub's own: refused metadata, a download cut short, a cache that is read-only.
        raise HubError(f"{asked} at {url}: {_short(error)} Try again.") from error


def _refusal(address: Address, status: int, error: Any) -> str:
    said = _short(error.server_message or error)
    text = f"the Hub refused {address} with status {status}: {said}"
    if status in (401, 403):
        return f"{text} Log in with `hf auth login` or give a token= that may do this."
    return f"{text} Try again later."


def _short(error: object) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
