"""A small Hub on loopback: what huggingface_hub calls to push a model, with faults that tests inject."""

import base64
import hashlib
import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TOKEN = "hf_testtesttesttesttesttesttesttest"


class Repository:
    """Branches as lists of commits, and tags; a commit is its id and the content of all files by name.

    kind: "model" or "space".
    """

    def __init__(self, is_private, kind="model"):
        self.is_private, self.kind = is_private, kind
        self.branches, self.tags = {"main": []}, {}
        self.commit("main", {".gitattributes": b""})

    def commit(self, branch, files):
        """Id of a new commit with these files."""
        identity = f"{branch}{len(self.branches[branch])}{sorted(files)}".encode()
        oid = hashlib.sha1(identity).hexdigest()
        self.branches[branch].append((oid, files))
        return oid

    def find(self, revision):
        """(id, files) of the head of a branch or of a commit by its id; None if there is none."""
        if revision in self.branches:
            return self.branches[revision][-1]
        return next((c for commits in self.branches.values() for c in commits if c[0] == revision), None)


class HubStub(ThreadingHTTPServer):
    """The server, for use in `with`; `url` is where it listens.

    Attributes:
        repositories: `Repository` by id.
        blobs: content of large files by SHA-256.
        requests: "METHOD path" of all requests so far.
        faults: [substring of "METHOD path", HTTP status or "cut"] that hold until they are removed.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repositories, self.blobs, self.requests, self.faults = {}, {}, [], []
        self.lock = threading.Lock()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        """Says nothing of connections that a client gave up."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Keeps the output of tests clean."""

    def answer(self, content, status=200, headers=()):
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *headers):
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def read_body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def handle_request(self):
        path = unquote(urlsplit(self.path).path)
        line = f"{self.command} {path}"
        with self.server.lock:
            self.server.requests.append(line)
        fault = next((fault for part, fault in self.server.faults if part in line), None)
        if fault == "cut":
            self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        body = self.read_body()
        if fault is not None:
            headers = [("X-Error-Code", "RepoNotFound")] if fault == 404 else []
            self.answer({"error": "injected"}, fault, headers)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}" and not path.startswith("/lfs/"):
            self.answer({"error": "Invalid credentials"}, 401)
        else:
            with self.server.lock:
                self.route(path, body)

    do_GET = do_POST = do_PUT = handle_request  # noqa: N815

    def route(self, path, body):
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            has_metadata = json.loads(body)["content"].startswith("---\n")
            return self.answer(
                {} if has_metadata else {"errors": [{"message": "no metadata"}]}, 200 if has_metadata else 400
            )
        if path.startswith("/lfs/"):
            assert hashlib.sha256(body).hexdigest() == path.removeprefix("/lfs/")
            self.server.blobs[path.removeprefix("/lfs/")] = body
            return self.answer({})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        kind, user, name, *rest = path.removeprefix("/api/").split("/")
        repository = self.server.repositories.get(f"{user}/{name}")
        if repository is not None and kind != f"{repository.kind}s":
            repository = None
        action, revision = rest[0] if rest else "info", rest[1] if len(rest) > 1 else "main"
        if repository is None or (action != "branch" and repository.find(revision) is None):
            return self.answer({"error": "not found"}, 404, [("X-Error-Code", "RepoNotFound")])
        actions = {"info": self.info, "revision": self.info, "tree": self.tree, "branch": self.branch}
        actions.update(refs=self.refs, tag=self.tag, preupload=self.preupload, commit=self.commit)
        return actions[action](f"{user}/{name}", repository, revision, body)

    def create(self, request):
        repo_id = f"{request['organization']}/{request['name']}"
        status = 409 if repo_id in self.server.repositories else 200
        is_private = request.get("private") or request.get("visibility") == "private"
        repository = Repository(bool(is_private), request.get("type", "model"))
        self.server.repositories.setdefault(repo_id, repository)
        self.answer({"url": f"{self.server.url}/{repo_id}", "error": "You already created this model repo"}, status)

    def info(self, repo_id, repository, revision, _):
        self.answer({"id": repo_id, "sha": repository.find(revision)[0], "private": repository.is_private, "tags": []})

    def tree(self, repo_id, repository, revision, _):
        files = repository.find(revision)[1].items()
        self.answer([describe_file(path, content) for path, content in files])

    def refs(self, repo_id, repository, revision, _):
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": oid} for n, oid in repository.tags.items()]
        self.answer({"branches": [], "converts": [], "tags": tags})

    def tag(self, repo_id, repository, revision, body):
        name = json.loads(body)["tag"]
        is_new = name not in repository.tags
        repository.tags.setdefault(name, repository.find(revision)[0])
        self.answer({"error": "exists"}, 200 if is_new else 409)

    def branch(self, repo_id, repository, branch, _):
        is_new = branch not in repository.branches
        if is_new:
            repository.branches[branch] = list(repository.branches["main"])
        self.answer({"error": "exists"}, 200 if is_new else 409)

    def preupload(self, repo_id, repository, revision, body):
        old = repository.find(revision)[1]
        files = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            is_large = is_lfs(path)
            oid = path in old and (hashlib.sha256(old[path]).hexdigest() if is_large else git_oid(old[path]))
            mode = "lfs" if is_large else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid or None})
        self.answer({"files": files})

    def batch(self, request):
        objects = []
        for blob in request["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/lfs/{blob['oid']}"}}
            objects.append({**blob, **({} if blob["oid"] in self.server.blobs else {"actions": upload})})
        self.answer({"transfer": "basic", "objects": objects})

    def commit(self, repo_id, repository, branch, body):
        lines = [json.loads(line) for line in body.splitlines()]
        head, files = repository.find(branch)
        files = dict(files)
        for line in lines:
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit", head) != head:
                return self.answer({"error": "the head has moved"}, 412)
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        is_request = "create_pr=1" in self.path
        if is_request:
            branch = "refs/pr/1"
            repository.branches[branch] = list(repository.branches["main"])
        oid = repository.commit(branch, files)
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{self.server.url}/{repo_id}/commit/{oid}"}
        if is_request:
            answer["pullRequestUrl"] = f"{self.server.url}/{repo_id}/discussions/1"
        return self.answer(answer)


def is_lfs(path):
    """Whether the Hub keeps a file outside of git."""
    return path.endswith((".safetensors", ".png", ".jpg", ".onnx", ".wasm"))


def describe_file(path, content):
    """Entry of a file in the listing of a commit."""
    entry = {"type": "file", "path": path, "size": len(content), "oid": git_oid(content)}
    if is_lfs(path):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 127}
        entry["oid"] = git_oid(b"a pointer")
    return entry


def git_oid(content):
    """Id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
