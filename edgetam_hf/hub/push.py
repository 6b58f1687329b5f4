"""One commit with all files of a folder to the Hub, and what went wrong in one line."""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.utils import HFValidationError, disable_progress_bars, validate_repo_id

from .folder import VIDEO_ONLY, WEIGHTS, check_listed, listed_files

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


def check_repo_id(repo_id):
    """Passes for USER/NAME.

    Raises:
        ValueError: for anything else.
    """
    try:
        validate_repo_id(repo_id)
        is_valid = repo_id.count("/") == 1 and repo_id.isascii()
    except HFValidationError:
        is_valid = False
    if not is_valid:
        raise ValueError(f"--repo-id must be USER/NAME, of letters, digits, '-', '_' and '.', got {repo_id!r}")


def push(folder, kind, repo_id, is_private=False, revision="main", create_pr=False):
    """The Hub's account of the commit (`commit_url`, `oid`, `pr_url`) that made the repository equal to the folder.

    Raises:
        ValueError: if the folder holds anything that is not on the list.
        PushError: if the Hub, the token or the network will not have it.
    """
    names = check_listed(folder, kind)
    disable_progress_bars()  # here, for loading a model turned them on again
    try:
        return _commit(Path(folder), names, repo_id, is_private, revision, create_pr)
    except PushError:
        raise
    except Exception as error:  # what transport raises depends on the client's version: of requests, or of httpx
        raise PushError(explain(error, repo_id)) from error


def _commit(folder, names, repo_id, is_private, revision, create_pr):
    api = HfApi()
    api.create_repo(repo_id, private=is_private or None, exist_ok=True)
    if is_private and not api.repo_info(repo_id).private:
        raise PushError(f"{repo_id} exists and is public: make it private on its settings page, or leave out --private")
    if revision != "main":
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    # the head that the deletions were chosen for: if somebody moves it meanwhile, the Hub refuses the commit
    head = api.repo_info(repo_id, revision=revision).sha
    stale = sorted(name for name in api.list_repo_files(repo_id, revision=head) if is_ours(name) and name not in names)
    # not upload_folder, which may make several commits of a folder
    return api.create_commit(
        repo_id,
        operations=[
            *(CommitOperationDelete(name) for name in stale),
            *(CommitOperationAdd(name, str(folder / name)) for name in names),
        ],
        commit_message="Upload EdgeTAM: weights, code and card",
        revision=revision,
        create_pr=create_pr,
        parent_commit=head,
    )


def is_ours(name):
    """Whether a file on the Hub is one that an earlier push may have left there."""
    is_code = name.endswith(".py") and "_edgetam" in name and "/" not in name
    return is_code or bool(WEIGHTS.fullmatch(name)) or (name in listed_files("video") and bool(VIDEO_ONLY.search(name)))


def explain(error, repo_id):
    """One line about an error of the client: what happened, and what to do."""
    causes = [error]
    while cause := causes[-1].__cause__ or causes[-1].__context__:
        causes.append(cause)
    response = next((cause.response for cause in causes if getattr(cause, "response", None) is not None), None)
    if response is None:
        first_line = (str(causes[-1]).strip() or type(causes[-1]).__name__).splitlines()[0]
        return f"no connection to the Hub, or it broke ({first_line}); {FINISH}"
    status = response.status_code
    refusal = "the Hub has a problem of its own" if status >= 500 else ADVICE.get(status, "").format(repo_id=repo_id)
    if not refusal:  # what the Hub says of it, in one line
        refusal = f"the Hub refuses: {' '.join(str(error).split())[:300]}"
    return f"{refusal} (HTTP {status}); {FINISH}"
