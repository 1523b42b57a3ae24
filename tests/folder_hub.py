"""A Hub on 127.0.0.1 whose repositories are folders: what huggingface_hub asks of the real one.

Enough of its HTTP API for huggingface_hub's own client: repositories, branches, commits (with files
kept in git and outside it, as the real Hub does for safetensors), revisions and downloads.

    <root>/<user>/<name>/repo.json               private, gated; branch -> commit
    <root>/<user>/<name>/commits/<commit>/...    the files of a commit
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_of_the_tests"
USER = "someone"
_LICENSES = ("apache-2.0", "mit", "other")


class FolderHub:
    """The Hub; ``url`` is its endpoint. ``requests`` holds the method and path of each request.

    ``status``: answer with this status and nothing else.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.requests: list[tuple[str, str]] = []
        self.status: int | None = None
        self.lock = threading.RLock()
        self.large: dict[str, bytes] = {}
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        # Another host for large files, as the real one has: there is no token for it.
        self.store = self.url.replace("127.0.0.1", "localhost")

    def settings(self, repo: str) -> dict[str, Any] | None:
        path = self.root / repo / "repo.json"
        return json.loads(path.read_text()) if path.is_file() else None

    def change(self, repo: str, **settings: Any) -> None:
        path = self.root / repo / "repo.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**(self.settings(repo) or {}), **settings}))

    def create(self, repo: str, *, private: bool = False) -> None:
        self.change(repo, private=private, gated=False, branches={})
        self.commit(repo, "main", {".gitattributes": b""})

    def commit(
        self, repo: str, branch: str, files: dict[str, bytes], parent: str | None = None
    ) -> str:
        """A commit that adds or replaces files."""
        with self.lock:
            branches = (self.settings(repo) or {})["branches"]
            commit = secrets.token_hex(20)
            folder = self.root / repo / "commits" / commit
            before = self.find(repo, branch) or parent
            if before is not None:
                shutil.copytree(self.root / repo / "commits" / before, folder)
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            self.change(repo, branches={**branches, branch: commit})
            return commit

    def find(self, repo: str, revision: str) -> str | None:
        """The commit that a revision stands for."""
        branches: dict[str, str] = (self.settings(repo) or {})["branches"]
        known = (self.root / repo / "commits" / revision).is_dir()
        return branches.get(revision) or (revision if known and len(revision) == 40 else None)

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The files of a revision, by their paths."""
        folder = self.root / repo / "commits" / str(self.find(repo, revision))
        found = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@contextmanager
def folder_hub(root: Path) -> Iterator[FolderHub]:
    """A running Hub."""
    hub = FolderHub(root)
    thread = threading.Thread(target=hub.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.server.shutdown()
        hub.server.server_close()
        thread.join()


class _RefusedError(Exception):
    def __init__(self, status: int, code: str = "", message: str = "", **body: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.body = status, code, {"error": message, **body}


class _Handler(BaseHTTPRequestHandler):
    server_hub: FolderHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # a body would wait 40 ms for its headers' receipt

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        hub = self.server_hub
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            self.body = b"".join(iter(self._chunk, b""))
        path = urlsplit(self.path).path
        hub.requests.append((self.command, path))
        try:
            if hub.status is not None:
                raise _RefusedError(hub.status, message="as the test wishes")
            for pattern, answer in _ROUTES:
                if found := re.fullmatch(pattern, path):
                    return answer(self, *map(unquote, found.groups()))
            raise _RefusedError(404, message="no such route")
        except _RefusedError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": str(error)}
            self._send(error.status, error.body, {k: v for k, v in headers.items() if v})

    def _chunk(self) -> bytes:
        data = self.rfile.read(int(self.rfile.readline(), 16))
        self.rfile.readline()
        return data

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    @property
    def _known(self) -> bool:
        given = self.headers.get("Authorization")
        if given not in (None, f"Bearer {TOKEN}"):
            raise _RefusedError(401, message="Invalid credentials in Authorization header")
        return given is not None

    def _repo(self, repo: str, *, write: bool = False) -> dict[str, Any]:
        settings, known = self.server_hub.settings(repo), self._known
        if settings is None or (settings["private"] and not known):
            raise _RefusedError(404 if known else 401, "RepoNotFound", "Repository not found")
        if settings["gated"]:
            raise _RefusedError(403, "GatedRepo", "Access to this model is restricted")
        if write and (not known or not repo.startswith(f"{USER}/")):
            raise _RefusedError(403, message="You don't have the right to write here")
        return settings

    def _commit_of(self, repo: str, revision: str) -> str:
        commit = self.server_hub.find(repo, revision)
        if commit is None:
            raise _RefusedError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def info(self, repo: str, revision: str = "main") -> None:
        settings = self._repo(repo)
        sha = self._commit_of(repo, revision)
        self._send(200, {"id": repo, "sha": sha, "private": settings["private"], "siblings": []})

    def resolve(self, repo: str, revision: str, name: str) -> None:
        self._repo(repo)
        commit = self._commit_of(repo, revision)
        headers = {"X-Repo-Commit": commit}
        path = self.server_hub.root / repo / "commits" / commit / name
        if not path.is_file():
            raise _RefusedError(404, "EntryNotFound", "Entry not found")
        size = path.stat().st_size
        if size > 2**30:  # sparse; nobody should ask for more than its size
            assert self.command == "HEAD"
            self._send(200, b"", {**headers, "ETag": '"huge"', "Content-Length": str(size)})
            return
        data = path.read_bytes()
        if name.endswith(".safetensors"):
            oid = hashlib.sha256(data).hexdigest()
            self.server_hub.large[oid] = data
            headers |= {"X-Linked-Etag": f'"{oid}"', "X-Linked-Size": str(size)}
            self._send(302, b"", {**headers, "Location": f"{self.server_hub.store}/large/{oid}"})
        else:
            self._send(200, data, {**headers, "ETag": f'"{_git_oid(data)}"'})

    def large(self, oid: str) -> None:
        if self.command == "PUT":
            assert hashlib.sha256(self.body).hexdigest() == oid
            self.server_hub.large[oid] = self.body
            return self._send(200, b"")
        return self._send(200, self.server_hub.large[oid], {"ETag": f'"{oid}"'})

    def create(self) -> None:
        if not self._known:
            raise _RefusedError(401, message="Invalid username or password.")
        wish = json.loads(self.body)
        repo = f"{wish.get('organization') or USER}/{wish['name']}"
        answer = {"url": f"{self.server_hub.url}/{repo}", "name": repo}
        if self.server_hub.settings(repo) is not None:
            raise _RefusedError(409, message="You already created this model repo", **answer)
        if not repo.startswith(f"{USER}/"):
            raise _RefusedError(403, message="You don't have the rights to create a model there")
        private = wish.get("visibility") == "private" or bool(wish.get("private"))
        self.server_hub.create(repo, private=private)
        self._send(200, answer)

    def branch(self, repo: str, name: str) -> None:
        self._repo(repo, write=True)
        if self.server_hub.find(repo, name) is not None:
            raise _RefusedError(409, message="Reference already exists")
        self.server_hub.commit(repo, name, {}, parent=self._commit_of(repo, "main"))
        self._send(200, {})

    def validate(self) -> None:
        front = yaml.safe_load(json.loads(self.body)["content"].split("\n---\n")[0])
        if front.get("license", "mit") not in _LICENSES:
            message = '"license" must be one of ' + ", ".join(_LICENSES)
            raise _RefusedError(400, errors=[{"message": message}], warnings=[])
        self._send(200, {"errors": [], "warnings": []})

    def preupload(self, repo: str, revision: str) -> None:
        self._repo(repo, write=True)
        there = self.server_hub.files(repo, self._commit_of(repo, revision))
        answers = []
        for name in (one["path"] for one in json.loads(self.body)["files"]):
            mode = "lfs" if name.endswith(".safetensors") else "regular"
            oid = _oid(name, there[name]) if name in there else None
            answers.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._send(200, {"files": answers})

    def batch(self, repo: str) -> None:
        self._repo(repo, write=True)
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server_hub.url}/large/{one['oid']}"}}}
            for one in json.loads(self.body)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def commit(self, repo: str, revision: str) -> None:
        self._repo(repo, write=True)
        self._commit_of(repo, revision)
        files = {}
        for one in map(json.loads, self.body.splitlines()):
            value = one["value"]
            if one["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                files[value["path"]] = self.server_hub.large[value["oid"]]
        oid = self.server_hub.commit(repo, revision, files)
        url = f"{self.server_hub.url}/{repo}/commit/{oid}"
        self._send(200, {"success": True, "commitOid": oid, "commitUrl": url})


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _oid(name: str, data: bytes) -> str:
    return hashlib.sha256(data).hexdigest() if name.endswith(".safetensors") else _git_oid(data)


_R = "([^/]+/[^/]+)"
_ROUTES = [
    (f"/{_R}/resolve/([^/]+)/(.+)", _Handler.resolve),
    ("/large/([0-9a-f]{64})", _Handler.large),
    ("/api/repos/create", _Handler.create),
    ("/api/validate-yaml", _Handler.validate),
    (f"/api/models/{_R}", _Handler.info),
    (f"/api/models/{_R}/revision/([^/]+)", _Handler.info),
    (f"/api/models/{_R}/branch/([^/]+)", _Handler.branch),
    (f"/api/models/{_R}/preupload/([^/]+)", _Handler.preupload),
    (f"/api/models/{_R}/commit/([^/]+)", _Handler.commit),
    (f"/{_R}.git/info/lfs/objects/batch", _Handler.batch),
]
