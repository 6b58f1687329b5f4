"""`edgetam track --everything`: objects that nobody prompts, which come and go through a video."""

from argparse import Namespace
from typing import Any

from ..everything_edgetam_video import EverythingOptions
from ..session_edgetam import EdgeTamVideoInferenceSession
from .track_folder import mean_score
from .track_sources import LiveVideo, RecordedVideo

# Options of `track_everything` by those of the command line
NAMES = {
    "every": "every",
    "max_objects": "max_objects",
    "points_per_side": "points_per_crop",
    "pred_iou_thresh": "pred_iou_thresh",
    "stability_score_thresh": "stability_score_thresh",
    "nms": "crops_nms_thresh",
    "crops": "crops_n_layers",
}
SETTINGS: dict[str, Any] = {"everything": False, **dict.fromkeys(NAMES)}


def check_options(options: Namespace, source: RecordedVideo | LiveVideo) -> None:
    """Raises a ValueError for options that do not fit each other or the video."""
    given = [name for name in NAMES if getattr(options, name) is not None]
    if given and not options.everything and not options.resume:
        raise ValueError(f"--{given[0].replace('_', '-')} is for --everything: give both, or leave it out")
    if options.everything and options.reverse:
        raise ValueError("--everything goes forward, in which objects enter and leave: leave out --reverse")
    if options.crops and source.is_live:
        raise ValueError(f"{source.name} is live, no parts of its frames can be searched: leave out --crops")


def are_settings(settings: dict[str, Any]) -> bool:
    """Whether JSON can be the settings of a run with or without `--everything`."""
    try:
        EverythingOptions.read(options_of(settings), None)
    except (TypeError, ValueError):
        return False
    return isinstance(settings["everything"], bool)


def options_of(settings: dict[str, Any]) -> dict[str, Any]:
    """Options of `track_everything`; what is not given is left to it and to the checkpoint."""
    return {name: settings[option] for option, name in NAMES.items() if settings[option] is not None}


def check_search(settings: dict[str, Any], session: EdgeTamVideoInferenceSession) -> None:
    """Raises a ValueError if the checkpoint brings options of mask generation that are wrong."""
    EverythingOptions.read(options_of(settings), session.mask_generation)


def report_objects(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the report says of each object: where it was seen first and last, on how many frames, how large, how well.

    The area is the mean one in pixels, where it was seen.
    """
    frames: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    for row in rows:
        for object_id, found in row["objects"].items():
            frames.setdefault(object_id, []).append((row["frame"], found))
    objects = []
    for object_id, of_object in frames.items():
        seen = {frame_idx: found["area"] for frame_idx, found in of_object if found["visible"]}
        objects.append(
            {
                "object": int(object_id),
                "first": min(seen, default=None),
                "last": max(seen, default=None),
                "visible": len(seen),
                "frames": len(of_object),
                "area": round(sum(seen.values()) / max(len(seen), 1)),
                "score": mean_score(found for _, found in of_object),
            }
        )
    return objects
