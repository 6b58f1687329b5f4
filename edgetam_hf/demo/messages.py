"""What server and page say to each other: text is JSON, what has masks is binary, a JSON header and run lengths.

A binary message is the length n of the header (uint32, little-endian), the header, padded with spaces so that 4 + n is
a multiple of 4, and the payload. Run lengths are uint32, as COCO counts them, of one object after the other.
"""

import json
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..found_objects import CutMask

LENGTH = struct.Struct("<I")
RUNS = np.dtype("<u4")


@dataclass(frozen=True)
class Found:
    """One object on one frame: uint32 `runs` (N,) of its mask, predicted IoU, and whether it seems to be there."""

    object_id: int
    runs: np.ndarray
    iou_score: float
    is_present: bool


@dataclass(frozen=True)
class FoundFrame:
    """The objects that were found on a frame; a picture is frame 0."""

    frame_idx: int
    objects: list[Found]


def runs_of(mask: CutMask) -> np.ndarray:
    """uint32 array (N,) of the run lengths of a mask."""
    return np.array(mask.run_lengths()["counts"], RUNS)


def pack(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """A binary message."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % LENGTH.size)
    return LENGTH.pack(len(text)) + text + payload


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """(header, payload) of a binary message; raises a ValueError for anything else."""
    if len(message) < LENGTH.size:
        raise ValueError("a binary message must begin with the length of its header")
    (length,) = LENGTH.unpack_from(message)
    end = LENGTH.size + length
    if end > len(message):
        raise ValueError(f"a binary message of {len(message)} bytes cannot have a header of {length}")
    return read_object(message[LENGTH.size : end]), message[end:]


def read_object(text: str | bytes) -> dict[str, Any]:
    """The object {…} of a JSON text; raises a ValueError for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError("a message must have JSON in it") from error
    if not isinstance(value, dict):
        raise ValueError("a message must be an object {…} of JSON")
    return value


def pack_frame(frame: FoundFrame, call_id: int, is_result: bool) -> bytes:
    """The binary message of a `FoundFrame`, with all run lengths as its payload."""
    objects = [
        {
            "objectId": found.object_id,
            "iouScore": found.iou_score,
            "isPresent": found.is_present,
            "numRuns": len(found.runs),
        }
        for found in frame.objects
    ]
    header = {"id": call_id, "isResult": is_result, "frameIdx": frame.frame_idx, "objects": objects}
    return pack(header, b"".join(found.runs.astype(RUNS).tobytes() for found in frame.objects))


def read_runs(payload: bytes) -> np.ndarray:
    """uint32 array (N,) of run lengths; raises a ValueError for bytes that are none."""
    if len(payload) % RUNS.itemsize:
        raise ValueError(f"run lengths must be numbers of {RUNS.itemsize} bytes, got {len(payload)} bytes")
    return np.frombuffer(payload, RUNS)
