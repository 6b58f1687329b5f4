"""The files that a path, an address or a pattern stands for."""

import os
import posixpath
import re

from pyarrow import fs

from ..pictures_edgetam import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from .items import CLIP, PICTURE
from .place import Place

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz")
TABLE_SUFFIXES = (".parquet",)
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")
WILDCARDS = re.compile(r"(\*\*/|\*\*|\*|\?|\[[^\]/]+\])")
MOST_FILES = 10_000_000  # of a pattern with numbers


def has_suffix(name: str, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is of a kind, by its name."""
    return name.lower().endswith(suffixes)


def find_files(address: str) -> tuple[Place, list[str]]:
    """(folder, sorted paths of files below it) of a file, a folder or a pattern; hidden ones are left out.

    Args:
        address: path or address, which may have `*`, `**`, `?` and `[…]` as file names do in a shell, where a folder
            stands for all files in it; and `{000..099}` or `{train,val}`, all of which must be there.

    Raises:
        FileNotFoundError: for what is not there.
        OSError, ValueError: see `Place`.
    """
    address = address.replace(os.sep, "/")
    if not address:
        raise FileNotFoundError("there is no file or folder without a name: use . for the folder that you are in")
    place = Place.of(address)
    kind = place.info().type
    if kind == fs.FileType.File:
        return place.folder, [posixpath.basename(place.path)]
    if kind == fs.FileType.Directory:
        return place, _visible(place.file_names())
    patterns = expand_braces(address)
    if patterns == [address] and not WILDCARDS.search(address):
        raise FileNotFoundError(f"there is no file or folder {address}")
    root = re.split(r"[*?\[{]", address, maxsplit=1)[0].rpartition("/")[0] or ("/" if address.startswith("/") else ".")
    folder, prefix = Place.of(root), "" if root == "." else f"{root.rstrip('/')}/"
    names: set[str] = set()
    for pattern in patterns:
        names |= _matches(folder, pattern.removeprefix(prefix).rstrip("/"))
    if not names:
        raise FileNotFoundError(f"there is no file that matches {address}")
    return folder, sorted(names)


def expand_braces(pattern: str) -> list[str]:
    """The patterns of one with braces: `{08..10}` is 08, 09, 10, and `{train,val}` is train, val."""
    braces = BRACES.search(pattern)
    if braces is None:
        return [pattern]
    first, last, words = braces.groups()
    if words is None:
        if int(last) - int(first) >= MOST_FILES:
            raise ValueError(f"{pattern} stands for more than {MOST_FILES} files")
        values = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    else:
        values = words.split(",")
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    return [expanded for value in values for expanded in expand_braces(before + value + after)]


def _matches(folder: Place, pattern: str) -> set[str]:
    """Paths below the folder that match a pattern without braces."""
    if not WILDCARDS.search(pattern):
        return set(_files_at(folder, pattern))
    parts = [_as_regex(part) if idx % 2 else re.escape(part) for idx, part in enumerate(WILDCARDS.split(pattern))]
    try:
        regex = re.compile("".join(parts) + "(/.*)?", re.DOTALL)
    except re.error as error:
        raise ValueError(f"{pattern} is no pattern of file names: {error}") from error
    # a last part with a dot names files, and the folders beside them, which may be many, need not be listed
    names = folder.file_names(is_recursive="/" in pattern or "**" in pattern or "." not in pattern)
    return {name for name in _visible(names) if regex.fullmatch(name)}


def _files_at(folder: Place, name: str) -> list[str]:
    """Paths below a folder of a file in it, or of all files of a folder in it."""
    place = folder / name
    kind = place.info().type
    if kind == fs.FileType.NotFound:
        raise FileNotFoundError(f"there is no file or folder {place}")
    return [name] if kind == fs.FileType.File else [posixpath.join(name, file) for file in _visible(place.file_names())]


def _as_regex(wildcard: str) -> str:
    if wildcard.startswith("["):
        inner = wildcard[1:-1].replace("\\", r"\\")
        return f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
    return {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[wildcard]


def _visible(names: list[str]) -> list[str]:
    return [name for name in names if not name.startswith(".") and "/." not in name]


def kind_of(names: list[str], is_clips: bool | None, source: str) -> str:
    """`CLIP` if the files are videos or `is_clips` says so, otherwise `PICTURE`.

    Raises:
        ValueError: for videos among pictures, if `is_clips` does not say what to label.
    """
    if is_clips is None:
        num_videos = sum(has_suffix(name, VIDEO_SUFFIXES) for name in names)
        if 0 < num_videos < len(names):
            raise ValueError(
                f"{source} has {num_videos} videos and {len(names) - num_videos} pictures: label them apart, with a "
                "pattern for each such as FOLDER/**/*.mp4"
            )
        is_clips = num_videos > 0
    return CLIP if is_clips else PICTURE


def media_of(names: list[str], is_clips: bool | None, source: str) -> tuple[list[str], str]:
    """(files or folders of frames, kind) that are labelled of the files of a folder; see `kind_of`."""
    videos = [name for name in names if has_suffix(name, VIDEO_SUFFIXES)]
    pictures = [name for name in names if has_suffix(name, PICTURE_SUFFIXES)]
    if is_clips is False:
        return pictures, PICTURE
    kind = kind_of(videos + pictures, None, source)
    if kind == PICTURE and is_clips:
        return sorted({posixpath.dirname(name) for name in pictures}), CLIP
    return (videos if kind == CLIP else pictures), kind
