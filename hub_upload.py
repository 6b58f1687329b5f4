"""Assembles a Hub repository of an EdgeTAM checkpoint, checks it in a clean process and, if told to, pushes it."""

import argparse
import shutil
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

from edgetam_cli.endings import end, loading_libraries

with loading_libraries():
    from edgetam_hf.commands.support import quieten_libraries
    from edgetam_hf.hub.check import check_folder, fill_card
    from edgetam_hf.hub.folder import Source, assemble, check_listed, read_source
    from edgetam_hf.hub.push import Target, check_repo_id, check_tag, push
    from edgetam_hf.output_folder import reserved
    from edgetam_hf.whole_files import unfinished_prefix, writing

PLACEHOLDER = "USER/NAME"
EPILOG = """\
examples:
  python hub_upload.py edgetam.pt                                      assemble and check, and keep nothing
  python hub_upload.py --nano --repo-id me/edgetam-nano --output out   keep the folder, to look at it
  python hub_upload.py --nano --repo-id me/edgetam-nano --output out --push
                                                                       check that folder again, and push it
  python hub_upload.py yonigozlan/EdgeTAM-hf --repo-id me/edgetam --push --create-pr

Where the package is installed without its repository: python -m edgetam_hf.hub_upload. Nothing is pushed without
--push, nor anything that failed a check. huggingface_hub finds the token: run
`hf auth login`, or set HF_TOKEN.
"""


def make_parser():
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
    parser.add_argument(
        "--dtype",
        choices=("float32", "float16", "bfloat16"),
        help="how weights are stored (default: float32, nano: float16)",
    )
    return parser


def check_options(options):
    """Passes for options that go together; what needs no work is refused before any.

    Raises:
        ValueError: saying which do not.
    """
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
    output = options.output
    if output is not None and output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: --output must be a new or empty folder")
    if output is not None and is_filled(output) and not options.push:
        raise ValueError(f"{output} is not empty: give --output a new or empty folder, or --push what is in it")


def is_filled(folder):
    """Whether a folder exists and holds anything."""
    return folder is not None and folder.is_dir() and any(folder.iterdir())


def run(options):
    """Does what the options say; prints a line for every step."""
    check_options(options)
    repo_id = options.repo_id or PLACEHOLDER
    parent = options.output.absolute().parent if options.output else None
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    prefix = unfinished_prefix(options.output or "repository")
    # what is not complete and checked never stands at --output
    with (
        reserved(options.output) if parent else nullcontext(),
        writing(options.output or tempfile.gettempdir()),
        tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as work,
    ):
        converted = Path(work) / "converted"
        kind = read_source(options.source, options.nano, converted)
        is_there = is_filled(options.output)
        if is_there:
            check_listed(options.output, kind)
        source = Source(converted, kind, options.dtype or ("float16" if kind == "nano" else "float32"))
        folder = options.output if is_there else Path(work) / "repository"
        if not is_there:
            folder.mkdir()
            assemble(source, folder, repo_id, options.tag)
            fill_card(folder, repo_id)
        names = check_listed(folder, kind)
        size = sum((folder / name).stat().st_size for name in names)
        print(f"{'found' if is_there else 'assembled'} {len(names)} files, {size / 1e6:.1f} MB")
        for line in check_folder(folder, source, repo_id, options.tag):
            print(f"  {line}")
        if options.output and not is_there:
            if options.output.exists():
                options.output.rmdir()
            shutil.move(folder, options.output)
            folder = options.output
            print(f"folder: {folder}")
        if options.push:
            target = Target(repo_id, options.tag, options.private, options.revision, options.create_pr)
            report(push(folder, kind, target), target)
        else:
            print("not pushed: that takes --push and --repo-id")


def report(commit, target):
    """Prints where the commit is, and what to pin."""
    print(f"pushed: {commit.pr_url or commit.commit_url}")
    print(f"tag: {target.tag}" + (", which the card pins: set it when the request is merged" if commit.pr_url else ""))
    print(f'pin: revision="{commit.oid}"')


def main(arguments=None):
    """Exit code of the command; what is not its own fault is one line on stderr."""
    options = make_parser().parse_args(arguments)
    quieten_libraries()
    return end("hub_upload.py", lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
