"""A Hub on this machine: enough of it for the real client, over real HTTP, to make, fill, read and refuse repositories.

It speaks plain HTTP and LFS. The client decides by itself, without asking, to upload through Xet when the package
hf_xet is there, so `client_environment` tells it not to (HF_HUB_DISABLE_XET); downloads use Xet only when a server
offers it. As on the real Hub, large files lie on another host, to which the token must not go: "localhost" instead of
"127.0.0.1".
"""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

LARGE = (".safetensors", ".npy", ".png", ".jpg", ".mp4")  # what the Hub's own .gitattributes keeps in LFS
ROOT = Path(__file__).resolve().parents[1]
NAME = r"(?P<repo>[\w.-]+/[\w.-]+)"


@dataclass(frozen=True)
class Blob:
    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        """As the Hub names it, and as its ETag: of a large file the SHA-256, else git's SHA-1."""
        if self.large:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    admitted: set[str] = field(default_factory=set)
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)  # branches and tags

    def commit(self, branch: str, files: dict[str, Blob]) -> str:
        listing = json.dumps([len(self.commits), *((path, files[path].oid) for path in sorted(files))])
        sha = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha] = files
        self.references[branch] = sha
        return sha

    def find(self, revision: str) -> str | None:
        sha = self.references.get(revision, revision)
        return sha if sha in self.commits else None


@dataclass(frozen=True)
class Request:
    """One line of the log. `token` is the bearer token that came with it."""

    method: str
    host: str
    path: str
    status: int
    token: str | None
    range: str | None


class Refusal(Exception):
    def __init__(self, status: int, message: str, code: str | None = None):
        super().__init__(message)
        self.status, self.code = status, code


class Hub:
    """The server's state, and its thread. Users are made by `add_user`; a token is all they need."""

    def __init__(self) -> None:
        self.users: dict[str, str] = {}  # token -> name
        self.repositories: dict[str, Repository] = {}
        self.large_files: dict[str, bytes] = {}
        self.log: list[Request] = []
        self.breaks: dict[str, list[int]] = {}  # file name -> after how many bytes its next downloads break off
        handler = type("BoundHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def storage(self) -> str:
        return f"http://localhost:{self.port}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add_user(self, name: str) -> str:
        """The new user's token."""
        token = f"hf_{name}"
        self.users[token] = name
        return token

    def break_download(self, file: str, after: int, times: int = 1) -> None:
        """Let the next downloads of a file stop in the middle, `after` bytes into what was asked for."""
        self.breaks[file] = [after] * times

    def client_environment(self, home: Path, token: str | None = None, **more: str) -> dict[str, str]:
        """What a client reads when it is imported; `home` holds its cache."""
        tokens = {} if token is None else {"HF_TOKEN": token}
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
            **tokens,
            **more,
        }


class Handler(BaseHTTPRequestHandler):
    """A thread per connection; every route is a method that answers or raises `Refusal`."""

    hub: Hub
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        self.status = 0
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        self.range = self.headers.get("Range")
        bearer = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.token = bearer or None
        length = int(self.headers.get("Content-Length", 0))
        self.body = self.rfile.read(length) if length else b""
        try:
            if self.token is not None and self.token not in self.hub.users:
                raise Refusal(401, "Invalid credentials in Authorization header")
            for methods, pattern, route in ROUTES:
                match = re.fullmatch(pattern, url.path)
                if match and self.command in methods:
                    route(self, **{name: unquote(value) for name, value in match.groupdict().items()})
                    break
            else:
                raise Refusal(404, f"No such page: {self.command} {url.path}")
        except Refusal as refusal:
            headers = {"X-Error-Message": str(refusal)}
            if refusal.code:
                headers["X-Error-Code"] = refusal.code
            self.answer(json.dumps({"error": str(refusal)}).encode(), refusal.status, headers)
        host = self.headers.get("Host", "").partition(":")[0]
        self.hub.log.append(Request(self.command, host, unquote(url.path), self.status, self.token, self.range))

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *arguments) -> None:
        pass

    def answer(self, content: bytes = b"", status: int = 200, headers: dict | None = None, stop: int | None = None):
        """Send a response; `stop` breaks the connection after so many bytes of it."""
        self.status = status
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:stop])
        if stop is not None and stop < len(content):
            self.wfile.flush()
            self.close_connection = True

    def answer_json(self, value, status: int = 200, headers: dict | None = None) -> None:
        self.answer(json.dumps(value).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def answer_file(self, content: bytes, headers: dict, name: str) -> None:
        """A file or, as resuming clients ask, the rest of it; broken off if a test wants so."""
        status = 200
        if self.range is not None:
            match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.range)
            assert match, self.range
            start, end = int(match[1]), int(match[2] or len(content) - 1)
            headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
            content, status = content[start : end + 1], 206
        breaks = self.hub.breaks.get(name) if self.command == "GET" else None
        self.answer(content, status, headers, breaks.pop(0) if breaks else None)

    # Who may do what -------------------------------------------------------------------------------------------------

    @property
    def user(self) -> str | None:
        return self.hub.users.get(self.token) if self.token else None

    def readable(self, repo: str, content: bool = False) -> Repository:
        """The repository, if this user may know of it (and, for `content`, read it)."""
        found = self.hub.repositories.get(repo)
        owner = repo.split("/")[0]
        if found is None or (found.private and self.user != owner):
            if self.user is None:  # the Hub does not tell strangers what is missing from what is private
                raise Refusal(401, "Invalid username or password.")
            raise Refusal(404, "Repository not found", "RepoNotFound")
        if content and found.gated and self.user != owner and self.user not in found.admitted:
            message = f"Access to model {repo} is restricted."
            raise Refusal(401 if self.user is None else 403, message, "GatedRepo")
        return found

    def writable(self, repo: str) -> Repository:
        found = self.readable(repo)
        if self.user != repo.split("/")[0]:
            raise Refusal(401 if self.user is None else 403, "You have no right to write to this repository.")
        return found

    def revision(self, repository: Repository, revision: str) -> str:
        sha = repository.find(revision)
        if sha is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    # Repositories ----------------------------------------------------------------------------------------------------

    def create(self) -> None:
        wanted = json.loads(self.body)
        if self.user is None:
            raise Refusal(401, "Invalid username or password.")
        owner = wanted.get("organization") or self.user
        repo = f"{owner}/{wanted['name']}"
        if owner != self.user:
            raise Refusal(403, f'You don\'t have the rights to create a model under the namespace "{owner}"')
        url = {"url": f"{self.hub.endpoint}/{repo}"}
        if repo in self.hub.repositories:
            self.answer_json({**url, "error": "You already created this model repo"}, 409)
            return
        private = wanted.get("visibility") == "private" or wanted.get("private", False)
        self.hub.repositories[repo] = Repository(private)
        attributes = "".join(f"*{ending} filter=lfs diff=lfs merge=lfs -text\n" for ending in LARGE)
        self.hub.repositories[repo].commit("main", {".gitattributes": Blob(attributes.encode(), large=False)})
        self.answer_json(url)

    def describe(self, repo: str, revision: str = "main") -> None:
        repository = self.readable(repo)
        sha = self.revision(repository, revision)
        files = repository.commits[sha]
        info = {"id": repo, "sha": sha, "private": repository.private, "gated": "manual" if repository.gated else False}
        self.answer_json({**info, "siblings": [{"rfilename": path} for path in sorted(files)], "tags": []})

    def branch(self, repo: str, name: str) -> None:
        self.add_reference(repo, name, json.loads(self.body or b"{}").get("startingPoint", "main"))

    def tag(self, repo: str, revision: str) -> None:
        self.add_reference(repo, json.loads(self.body)["tag"], revision)

    def add_reference(self, repo: str, name: str, revision: str) -> None:
        repository = self.writable(repo)
        if name in repository.references:
            raise Refusal(409, f"Reference already exists: {name}")
        repository.references[name] = self.revision(repository, revision)
        self.answer()

    def tree(self, repo: str, revision: str) -> None:
        repository = self.readable(repo, content=True)
        files = repository.commits[self.revision(repository, revision)]
        entries: list[dict] = []
        for path, blob in sorted(files.items()):
            entries.append({"type": "file", "path": path, "size": len(blob.content), "oid": blob.oid})
            if blob.large:
                entries[-1]["lfs"] = {"oid": blob.oid, "size": len(blob.content), "pointerSize": 130}
        self.answer_json(entries)

    # Uploads ---------------------------------------------------------------------------------------------------------

    def validate_card(self) -> None:
        """The Hub's rules for a card's metadata, as far as they are checked here."""
        content = json.loads(self.body)["content"]
        match = re.match(r"---\r?\n(.*?)\r?\n---", content, re.DOTALL)
        data = yaml.safe_load(match[1]) if match else {}
        errors = []
        if not isinstance(data, dict):
            data, errors = {}, ["metadata must be a mapping"]
        for key in ("license", "library_name", "pipeline_tag"):
            if not isinstance(data.get(key, ""), str):
                errors.append(f"{key} must be a string")
        tags = data.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            errors.append("tags must be a list of strings")
        bases = data.get("base_model", [])
        for base in bases if isinstance(bases, list) else [bases]:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(base)):
                errors.append(f"base_model {base!r} is no repository")
        self.answer_json({"errors": [{"message": e} for e in errors], "warnings": []}, 400 if errors else 200)

    def preupload(self, repo: str, revision: str) -> None:
        repository = self.writable(repo)
        held = repository.commits[self.revision(repository, revision)]
        answers = []
        for file in json.loads(self.body)["files"]:
            path = file["path"]
            known = {"oid": held[path].oid} if path in held else {}
            mode = "lfs" if path.endswith(LARGE) else "regular"
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, **known})
        self.answer_json({"files": answers})

    def batch(self, repo: str) -> None:
        self.writable(repo)
        answers = []
        for wanted in json.loads(self.body)["objects"]:
            if wanted["oid"] not in self.hub.large_files:
                href = f"{self.hub.storage}/storage/{wanted['oid']}"
                wanted = {**wanted, "actions": {"upload": {"href": href}}}
            answers.append(wanted)
        self.answer_json({"transfer": "basic", "objects": answers})

    def store(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Refusal(400, "This is not the file that was announced.")
        self.hub.large_files[oid] = self.body
        self.answer()

    def add_commit(self, repo: str, revision: str) -> None:
        repository = self.writable(repo)
        files = dict(repository.commits[self.revision(repository, revision)])
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), large=False)
            elif operation["key"] == "lfsFile":
                files[value["path"]] = Blob(self.hub.large_files[value["oid"]], large=True)
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        sha = repository.commit(revision, files)
        self.answer_json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{sha}"})

    # Downloads -------------------------------------------------------------------------------------------------------

    def resolve(self, repo: str, revision: str, path: str) -> None:
        repository = self.readable(repo, content=True)
        sha = self.revision(repository, revision)
        blob = repository.commits[sha].get(path)
        if blob is None:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{blob.oid}"', "Accept-Ranges": "bytes"}
        if not blob.large:
            self.answer_file(blob.content, headers, path)
            return
        linked = {"X-Linked-Size": str(len(blob.content)), "X-Linked-ETag": f'"{blob.oid}"'}
        location = f"{self.hub.storage}/storage/{blob.oid}?name={path}"
        self.answer(b"", 302, {**headers, **linked, "Location": location})

    def fetch(self, oid: str) -> None:
        self.answer_file(self.hub.large_files[oid], {"ETag": f'"{oid}"'}, self.query["name"][0])


ROUTES: list[tuple[tuple[str, ...], str, Callable]] = [
    (("POST",), r"/api/repos/create", Handler.create),
    (("POST",), r"/api/validate-yaml", Handler.validate_card),
    (("GET",), rf"/api/models/{NAME}", Handler.describe),
    (("GET",), rf"/api/models/{NAME}/revision/(?P<revision>[^/]+)", Handler.describe),
    (("GET",), rf"/api/models/{NAME}/tree/(?P<revision>[^/]+)", Handler.tree),
    (("POST",), rf"/api/models/{NAME}/branch/(?P<name>[^/]+)", Handler.branch),
    (("POST",), rf"/api/models/{NAME}/tag/(?P<revision>[^/]+)", Handler.tag),
    (("POST",), rf"/api/models/{NAME}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    (("POST",), rf"/api/models/{NAME}/commit/(?P<revision>[^/]+)", Handler.add_commit),
    (("POST",), rf"/{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (("PUT",), r"/storage/(?P<oid>[0-9a-f]{64})", Handler.store),
    (("GET", "HEAD"), r"/storage/(?P<oid>[0-9a-f]{64})", Handler.fetch),
    (("GET", "HEAD"), rf"/{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
]


def run(program: str, environment: dict[str, str], *arguments, folder: Path | None = None):
    """A program as its own process, with the client's environment; what it prints as JSON on its last line."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env={**clean, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def usage(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return code
