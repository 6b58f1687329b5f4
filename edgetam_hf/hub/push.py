"""One commit with all files of a folder to the Hub, and what went wrong in one line."""

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import HFValidationError, disable_progress_bars, validate_repo_id
from huggingface_hub.utils.sha import git_hash

from edgetam_cli.endings import first_line

from .folder import VIDEO_ONLY, check_listed, is_made, listed_files
from .space import check_space_files, is_of_space

FINISH = "nothing is half-pushed, and the same command finishes it"
ADVICE = {
    401: "the Hub does not know who you are: run `hf auth login`, or set HF_TOKEN to a token that may write",
    403: "your token may not write to {repo_id}: check the name, and that the token may write",
    404: "the Hub knows no {repo_id} that your token may see: check the name and the token",
    409: "something else changed {repo_id} at the same time",
    412: "something else changed {repo_id} at the same time",
    429: "the Hub asks to wait: too many requests",
}


class PushError(OSError):
    """A push that did not happen, explained in one line."""


class Target(NamedTuple):
    """Where a push goes; `tag`, if any, becomes the name of the commit, unless that is to be a pull request."""

    repo_id: str
    tag: str | None
    is_private: bool = False
    branch: str = "main"
    create_pr: bool = False
    is_space: bool = False


def check_repo_id(repo_id: str) -> None:
    """Raises a ValueError for anything but USER/NAME."""
    try:
        validate_repo_id(repo_id)
        is_valid = repo_id.count("/") == 1 and repo_id.isascii()
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"--repo-id must be USER/NAME, of letters, digits, '-', '_' and '.', got {repo_id!r}")


def check_tag(tag: str) -> None:
    """Raises a ValueError for what cannot be the name of a tag."""
    if not re.fullmatch(r"[A-Za-z0-9]+([._-][A-Za-z0-9]+)*", tag) or tag == "main":
        raise ValueError(f"--tag must be a name like v1 or v1.0, of letters, digits, '-', '_' and '.', got {tag!r}")


def push(folder: str | Path, kind: str, target: Target) -> CommitInfo:
    """The Hub's account of the commit (`commit_url`, `oid`, `pr_url`) that made the repository equal to the folder.

    `kind` is that of the checkpoint; it does not matter for a Space.

    Raises:
        ValueError: if the folder holds anything that is not on the list.
        PushError: if the Hub, the token or the network will not have it.
    """
    names = check_space_files(folder) if target.is_space else check_listed(folder, kind)
    disable_progress_bars()  # here, for loading a model turned them on again
    try:
        return _commit(Path(folder), names, target)
    except PushError:
        raise
    except Exception as error:  # what transport raises depends on the client's version: of requests, or of httpx
        raise PushError(f"{explain(error, target.repo_id)}; {FINISH}") from error


def _commit(folder: Path, names: list[str], target: Target) -> CommitInfo:
    api, repo_id, repo_type = HfApi(), target.repo_id, "space" if target.is_space else "model"
    sdk = "static" if target.is_space else None
    api.create_repo(repo_id, repo_type=repo_type, private=target.is_private or None, exist_ok=True, space_sdk=sdk)
    if target.is_private and not api.repo_info(repo_id, repo_type=repo_type).private:
        raise PushError(f"{repo_id} exists and is public: make it private on its settings page, or leave out --private")
    if target.branch != "main":
        api.create_branch(repo_id, branch=target.branch, exist_ok=True, repo_type=repo_type)
    # the head that the deletions were chosen for: if somebody moves it meanwhile, the Hub refuses the commit
    head = api.repo_info(repo_id, revision=target.branch, repo_type=repo_type).sha
    tree = api.list_repo_tree(repo_id, revision=head, recursive=True, repo_type=repo_type)
    there = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    is_old = is_of_space if target.is_space else is_ours
    stale = sorted(name for name in there if is_old(name) and name not in names)
    is_new = bool(stale) or not all(name in there and is_same(folder / name, there[name]) for name in names)
    tags = {tag.name: tag.target_commit for tag in api.list_repo_refs(repo_id, repo_type=repo_type).tags}
    tagged = tags.get(target.tag or "")
    if tagged is not None and (is_new or tagged != head):
        raise PushError(
            f"{repo_id} has a tag {target.tag} at another commit, {tagged}: assemble the folder anew with another --tag"
        )
    # not upload_folder, which may make several commits of a folder
    commit = api.create_commit(
        repo_id,
        repo_type=repo_type,
        operations=[
            *(CommitOperationDelete(name) for name in stale),
            *(CommitOperationAdd(name, str(folder / name)) for name in names),
        ],
        commit_message=f"Upload EdgeTAM: {'page and model' if target.is_space else 'weights, code and card'}",
        revision=target.branch,
        create_pr=target.create_pr,
        parent_commit=head,
    )
    if target.tag and tagged is None and not target.create_pr:
        try:
            api.create_tag(repo_id, tag=target.tag, revision=commit.oid)
        except Exception as error:
            raise PushError(
                f"{explain(error, repo_id)}; commit {commit.oid} is there and complete, but not its tag {target.tag}, "
                "which the same command sets"
            ) from error
    return commit


def is_same(path: Path, entry: RepoFile) -> bool:
    """Whether a file has the content of one on the Hub."""
    content = path.read_bytes()
    if entry.lfs:
        return hashlib.sha256(content).hexdigest() == entry.lfs.sha256
    return git_hash(content) == entry.blob_id


def is_ours(name: str) -> bool:
    """Whether a file on the Hub is one that an earlier push may have left there."""
    is_code = name.endswith(".py") and "_edgetam" in name and "/" not in name
    return is_code or is_made(name) or (name in listed_files("video") and bool(VIDEO_ONLY.search(name)))


def explain(error: Exception, repo_id: str) -> str:
    """One line about an error of the client: what happened, and what to do."""
    causes: list[BaseException] = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    responses = [getattr(cause, "response", None) for cause in causes]
    response = next((response for response in responses if response is not None), None)
    if any(isinstance(cause, UnicodeEncodeError) for cause in causes):
        return "the token has a letter that no token has: check HF_TOKEN, or run `hf auth login`"
    if response is None:
        return f"no connection to the Hub, or it broke ({first_line(causes[-1])})"
    status = response.status_code
    refusal = "the Hub has a problem of its own" if status >= 500 else ADVICE.get(status, "").format(repo_id=repo_id)
    if not refusal:  # what the Hub says of it, in one line
        refusal = f"the Hub refuses: {' '.join(str(error).split())[:300]}"
    return f"{refusal} (HTTP {status})"
