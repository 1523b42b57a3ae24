"""Experts on the Hugging Face Hub: fetching the three files of one, and committing them.

All traffic goes through huggingface_hub. Sizes are asked for before anything is downloaded, and
what it raises becomes an error of the project.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t2agent.errors import ConfigError, ExpertFormatError, ExpertNotFoundError, HubError, T2Error
from t2agent.experts.folder import (
    CONFIG_FILE,
    MAX_CONFIG_BYTES,
    README_FILE,
    VECTORS_FILE,
    parse_config,
)
from t2agent.experts.pins import Address

_MAX_README_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class HubOptions:
    """How the Hub is reached.

    ``token``: None uses the one of ``hf auth login`` or ``$HF_TOKEN``, False none. ``endpoint``:
    None is ``$HF_ENDPOINT``, else the public Hub. ``cache_dir``: None is huggingface_hub's.
    ``local_files_only``: only what is in the cache is used, as with ``HF_HUB_OFFLINE=1``.
    """

    token: str | bool | None = field(default=None, repr=False)
    endpoint: str | None = None
    cache_dir: Path | str | None = None
    local_files_only: bool = False

    @property
    def url(self) -> str:
        """The Hub's URL, without a slash at its end."""
        from huggingface_hub import constants

        # Read now, not when huggingface_hub was imported: a program may set it later.
        chosen = self.endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
        if not chosen.startswith(("https://", "http://")):
            raise ConfigError(f"{chosen!r:.120} is no Hub; give the URL of one (https://...)")
        return chosen.rstrip("/")


@dataclass(frozen=True, slots=True)
class Pushed:
    """A commit that holds an expert. ``str()`` of it is what `Expert.from_pretrained` takes."""

    repo: str
    commit: str
    url: str

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit}"


def fetch(address: Address, options: HubOptions) -> tuple[dict[str, bytes], str]:
    """The files (name -> content) of the expert at ``address``, from the Hub or the cache, and the
    commit that they all are of.

    The cache is used where it holds the very commit asked for, where the Hub cannot be reached, and
    in offline mode. A file of the cache that is damaged is downloaded again.

    Raises:
        ExpertNotFoundError: there is no such repository (for this token), revision or folder.
        ExpertFormatError: what is there is no expert, or too large for one.
        HubError: the Hub cannot be reached or refuses, and the cache does not have it.
        ConfigError: the name cannot be a repository's.
    """
    source = _Source(address, options)
    revision = address.revision or "main"
    data, commit = source.read(CONFIG_FILE, revision, MAX_CONFIG_BYTES)
    config = parse_config(Path(str(address)), data)
    vectors, _ = source.read(VECTORS_FILE, commit, config.most_bytes)
    files = {CONFIG_FILE: data, VECTORS_FILE: vectors}
    try:
        files[README_FILE], _ = source.read(README_FILE, commit, _MAX_README_BYTES)
    except (ExpertFormatError, ExpertNotFoundError, HubError):
        files[README_FILE] = config.card.readme(config.parameters).encode()
    return files, commit


def push(
    address: Address,
    files: Mapping[str, bytes],
    message: str,
    private: bool | None,
    options: HubOptions,
) -> Pushed:
    """Commit the files of an expert, in one commit; the repository and branch are made if needed.

    Args:
        address: the repository, the branch (None: main) and the folder in it.
        files: name -> content.
        message: the commit's.
        private: whether a repository that is made is; None leaves it to the Hub's settings.
        options: how the Hub is reached; the token must be allowed to write.

    Raises:
        HubError: the Hub cannot be reached or refuses; nothing was committed.
        ConfigError: the name cannot be a repository's, or ``private`` and it is public already.
    """
    from huggingface_hub import CommitOperationAdd, HfApi

    folder = f"{address.subfolder}/" if address.subfolder else ""
    operations = [
        CommitOperationAdd(path_in_repo=folder + name, path_or_fileobj=content)
        for name, content in files.items()
    ]
    if address.is_commit:
        raise ConfigError(f"{address.revision} is a commit; what is pushed goes to a branch")
    with typed_errors(address, options.url):
        api = HfApi(endpoint=options.url, token=options.token, library_name="t2agent")
        repo = api.create_repo(address.repo, private=private, exist_ok=True).repo_id
        if private and not api.model_info(repo).private:
            raise ConfigError(
                f"{repo} is there already and is public; make it private in its settings on the "
                "Hub, give another repository, or push without private"
            )
        if address.revision is not None:
            api.create_branch(repo, branch=address.revision, exist_ok=True)
        done = api.create_commit(
            repo, operations, commit_message=message, revision=address.revision
        )
    return Pushed(repo, done.oid, str(done.commit_url))


@dataclass(frozen=True, slots=True)
class _Source:
    """The files at one address, on the Hub and in the cache."""

    address: Address
    options: HubOptions

    def read(self, name: str, revision: str, largest: int) -> tuple[bytes, str]:
        """The bytes of a file, of at most ``largest``, and the commit that they are of."""
        with typed_errors(self.address, self.options.url, name):
            path = self._path(name, revision, largest)
            data = _content(path, largest, self.address)
            if not _is_intact(path, data):
                path = self._again(name, revision)
                data = _content(path, largest, self.address)
        # The cache keeps a file as .../snapshots/<commit>/<path in the repository>.
        depth = (self.address.subfolder.count("/") + 1) if self.address.subfolder else 0
        return data, path.parents[depth].name

    def _again(self, name: str, revision: str) -> Path:
        """A file that is damaged in the cache, fetched anew."""
        why: object = "offline"
        if not self.options.local_files_only:
            try:
                return self._download(name, revision, anew=True)
            except Exception as error:
                # A ValueError says that anew is impossible, and its cause why.
                if not isinstance(error, ValueError) and not is_unreachable(error):
                    raise
                why = _short(error.__cause__ or error)
        raise HubError(
            f"{self.address}: {name} is damaged in the cache of downloads, and the Hub cannot be "
            f"asked for it ({why}). Load it once with the network, without HF_HUB_OFFLINE and "
            "local_files_only: it is then replaced."
        )

    def _path(self, name: str, revision: str, largest: int) -> Path:
        from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache

        repo, folder = self.address.repo, self.address.subfolder
        file = f"{folder}/{name}" if folder else name
        cached = try_to_load_from_cache(repo, file, self.options.cache_dir, revision)
        exact = isinstance(cached, str) and Address(repo, revision).is_commit
        if exact or self.options.local_files_only:
            return self._download(name, revision)
        url = hf_hub_url(repo, file, revision=revision, endpoint=self.options.url)
        try:
            metadata = get_hf_file_metadata(url, token=self.options.token)
        except Exception as error:
            if not isinstance(cached, str) or not is_unreachable(error):
                raise
            return Path(cached)
        if metadata.commit_hash is None:
            raise HubError(f"{self.options.url} does not answer as a Hub does; check HF_ENDPOINT")
        if metadata.size is None or metadata.size > largest:
            shown = "an unknown number of" if metadata.size is None else f"{metadata.size:,}"
            raise ExpertFormatError(
                f"{self.address} is not a usable expert: {name} has {shown} bytes, at most "
                f"{largest:,} are downloaded. Ask its author."
            )
        return self._download(name, revision)

    def _download(self, name: str, revision: str, *, anew: bool = False) -> Path:
        from huggingface_hub import hf_hub_download

        path = hf_hub_download(
            self.address.repo,
            name,
            subfolder=self.address.subfolder or None,
            revision=revision,
            token=self.options.token,
            endpoint=self.options.url,
            cache_dir=self.options.cache_dir,
            library_name="t2agent",
            local_files_only=self.options.local_files_only,
            force_download=anew,
        )
        return Path(path)


def _content(path: Path, largest: int, address: Address) -> bytes:
    with path.open("rb") as file:
        data = file.read(largest + 1)
    if len(data) > largest:
        raise ExpertFormatError(f"{address}: {path.name} is larger than {largest:,} bytes")
    return data


def _is_intact(path: Path, data: bytes) -> bool:
    """Whether a file of the cache is what it was, where its name there tells its hash."""
    name = path.resolve().name
    if len(name) == 64:  # kept outside git: SHA-256
        return hashlib.sha256(data).hexdigest() == name
    if len(name) == 40:  # in git: the hash of a blob
        blob = b"blob %d\0" % len(data) + data
        return hashlib.sha1(blob, usedforsecurity=False).hexdigest() == name
    return True


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
