"""Assembles a Hub repository or Space of an EdgeTAM checkpoint, checks it and, if told to, pushes it."""

import argparse
import sys
import tempfile
from pathlib import Path

from edgetam_cli.arguments import DTYPES
from edgetam_cli.endings import end, loading_libraries

with loading_libraries():
    from edgetam_hf.commands.support import quieten_libraries
    from edgetam_hf.files.writing import reserved, whole_folder
    from edgetam_hf.hub.check import check_folder, fill_card
    from edgetam_hf.hub.endpoint import check_packages, has_endpoint
    from edgetam_hf.hub.endpoint_check import check_endpoint
    from edgetam_hf.hub.folder import assemble, check_listed, has_graphs
    from edgetam_hf.hub.push import CommitInfo, Target, check_repo_id, check_tag, push
    from edgetam_hf.hub.source import Source, read_source
    from edgetam_hf.hub.space import assemble_space, check_space_files, find_ort
    from edgetam_hf.hub.space_check import check_space

PLACEHOLDER = "USER/NAME"
EPILOG = """\
examples:
  python hub_upload.py edgetam.pt                                      assemble and check, and keep nothing
  python hub_upload.py --nano --repo-id me/edgetam-nano --output out   keep the folder, to look at it
  python hub_upload.py --nano --repo-id me/edgetam-nano --output out --push
                                                                       check that folder again, and push it
  python hub_upload.py yonigozlan/EdgeTAM-hf --repo-id me/edgetam --push --create-pr
  python hub_upload.py --space --nano --repo-id me/edgetam-demo --ort node_modules/onnxruntime-web/dist --push
                                                                       a page that computes in the browser

Where the package is installed without its repository: python -m edgetam_hf.hub_upload. Nothing is pushed without
--push, nor anything that failed a check. huggingface_hub finds the token: run
`hf auth login`, or set HF_TOKEN.
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    parser = argparse.ArgumentParser(
        "hub_upload.py", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", metavar="SOURCE", help=".pt file, folder or Hub id of a checkpoint")
    parser.add_argument("--nano", action="store_true", help="take the embedded checkpoint as the source")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="keep the assembled folder here")
    parser.add_argument("--repo-id", metavar=PLACEHOLDER, help="repository on the Hub, which the card names")
    parser.add_argument("--tag", default="v1", help="tag of the commit, which the card pins (default: %(default)s)")
    parser.add_argument("--push", action="store_true", help="push, if every check passes")
    parser.add_argument("--private", action="store_true", help="make the repository a private one")
    parser.add_argument("--revision", default="main", metavar="BRANCH", help="push to this branch (default: main)")
    parser.add_argument("--create-pr", action="store_true", help="push as a pull request")
    parser.add_argument("--dtype", choices=DTYPES, help="how weights are stored (default: float32, nano: float16)")
    parser.add_argument(
        "--onnx", action="store_true", help="add graphs for browsers and Transformers.js (needs edgetam-hf[onnx])"
    )
    parser.add_argument(
        "--endpoint", action="store_true", help="add what an inference endpoint needs: handler.py (needs pycocotools)"
    )
    parser.add_argument(
        "--space", action="store_true", help="make a static Space, whose page runs the model (needs edgetam-hf[onnx])"
    )
    parser.add_argument(
        "--ort", type=Path, metavar="FOLDER", help="of a Space: ONNX Runtime Web, the folder dist of its npm package"
    )
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Raises a ValueError that says which options do not go together, before any work is done."""
    if options.nano == (options.source is not None):
        raise ValueError("give one source: a folder or Hub id, or --nano")
    if options.push and options.repo_id is None:
        raise ValueError(f"--push needs --repo-id {PLACEHOLDER}")
    if options.repo_id is not None:
        check_repo_id(options.repo_id)
    check_tag(options.tag)
    if options.revision == options.tag:
        raise ValueError(f"a branch and a tag of one name, {options.tag}, would be mixed up: give --tag another name")
    if options.create_pr and options.revision != "main":
        raise ValueError("pull requests go to main: leave out --revision, or --create-pr")
    if options.ort is not None and not options.space:
        raise ValueError("--ort is for a Space: add --space")
    if options.space and not (options.push and options.output and is_filled(options.output)):
        find_ort(options.ort)  # before any work is done
    if options.space and options.onnx:
        raise ValueError("a Space always has graphs for browsers: leave out --onnx")
    if options.space and options.endpoint:
        raise ValueError("a static Space computes in the browser, it is no endpoint: leave out --space, or --endpoint")
    if options.endpoint:
        check_packages()
    output = options.output
    if output is not None and output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: --output must be a new or empty folder")
    if output is not None and is_filled(output) and not options.push:
        raise ValueError(f"{output} is not empty: give --output a new or empty folder, or --push what is in it")


def is_filled(folder: Path) -> bool:
    """Whether a folder exists and holds anything."""
    return folder.is_dir() and any(folder.iterdir())


def run(options: argparse.Namespace) -> None:
    """Does what the options say; prints a line for every step."""
    check_options(options)
    repo_id = options.repo_id or PLACEHOLDER
    with tempfile.TemporaryDirectory(prefix="edgetam_upload_") as work:
        folder = options.output or Path(work, "repository")
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        is_new = not is_filled(folder)
        # what is not complete and checked never stands at --output
        with whole_folder(folder) if is_new else reserved(folder) as repository:
            kind = read_source(options.source, options.nano, Path(work, "converted"))
            make = make_space if options.space else make_repository
            make(options, repository, Path(work, "converted"), kind, is_new)
        if options.output and is_new:
            print(f"folder: {folder}")
        if options.push:
            tag = None if options.space else options.tag
            target = Target(repo_id, tag, options.private, options.revision, options.create_pr, options.space)
            report(push(folder, kind, target), target)
        else:
            print("not pushed: that takes --push and --repo-id")


def make_repository(options: argparse.Namespace, folder: Path, checkpoint: Path, kind: str, is_new: bool) -> None:
    """Fills a new folder with all that the repository of a model holds, and checks it."""
    repo_id = options.repo_id or PLACEHOLDER
    if not is_new:
        check_listed(folder, kind)
        if options.onnx and not has_graphs(folder):
            raise ValueError(f"{options.output} has no graphs for browsers: assemble it anew with --onnx")
        if options.endpoint and not has_endpoint(folder):
            raise ValueError(f"{options.output} has no handler of an endpoint: assemble it anew with --endpoint")
    source = Source(checkpoint, kind, options.dtype or ("float16" if kind == "nano" else "float32"))
    if is_new:
        extras = [name for name in ("onnx", "endpoint") if getattr(options, name)]
        assemble(source, folder, repo_id, options.tag, extras)
        fill_card(folder, repo_id)
    tell_size(folder, check_listed(folder, kind), is_new)
    for line in check_folder(folder, source, repo_id, options.tag):
        print(f"  {line}")
    if has_endpoint(folder):
        print(f"  {check_endpoint(folder, source)}")


def make_space(options: argparse.Namespace, folder: Path, checkpoint: Path, kind: str, is_new: bool) -> None:
    """Fills a new folder with all that a Space holds, and checks it."""
    source = Source(checkpoint, kind, "float32")
    if is_new:
        assemble_space(source, folder, find_ort(options.ort))
    tell_size(folder, check_space_files(folder), is_new)
    print(f"  {check_space(folder, source)}")


def tell_size(folder: Path, names: list[str], is_new: bool) -> None:
    """Prints how much there is to push."""
    size = sum((folder / name).stat().st_size for name in names)
    print(f"{'assembled' if is_new else 'found'} {len(names)} files, {size / 1e6:.1f} MB")


def report(commit: CommitInfo, target: Target) -> None:
    """Prints where the commit is, and what to pin."""
    print(f"pushed: {commit.pr_url or commit.commit_url}")
    if target.tag:
        is_missing = ", which the card pins: set it when the request is merged" if commit.pr_url else ""
        print(f"tag: {target.tag}{is_missing}")
    print(f'pin: revision="{commit.oid}"')


def main(arguments: list[str] | None = None) -> int:
    """Exit code of the command; what is not its own fault is one line on stderr."""
    options = make_parser().parse_args(arguments)
    quieten_libraries()
    return end("hub_upload.py", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
