"""`edgetam track`: prompted objects followed through a video, with everything that is found written frame by frame.

A folder is filled: `run.json` (what was asked), `masks/` (index pictures), `frames.jsonl` (a line per frame), the
overlay, `session.pt` (from which `--resume` goes on) and in the end `tracks.json` and `annotations.json`.
"""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PretrainedConfig
from transformers.utils import logging

from edgetam_cli.arguments import VIDEO_CHECKPOINT

from .. import EdgeTamConfig, EdgeTamVideoModel, EdgeTamVideoProcessor, video_output
from ..drawing import overlay, save_whole, whole_file
from ..memory_edgetam import EdgeTamVideoInferenceSession, FrameResult, Prompt, TrackedObject
from ..pictures_edgetam import read_mask_picture
from ..video_frames_edgetam import open_video
from .support import as_columns, checkpoint_of, describe, device_of, load_quietly, measure

FRAMES_PER_CHECKPOINT = 10
FOLDER_FRAME_RATE = 25.0
# What decides the results, so that a resumed run must have it as it was; by option
SETTINGS = {
    "model": VIDEO_CHECKPOINT,
    "prompts": [],
    "start": None,
    "max_frames": None,
    "reverse": False,
    "non_overlapping": False,
    "image_size": None,
    "frame_rate": None,
}


# Prompts of a command line.


@dataclass
class ObjectPrompt:
    """What is said of one object on one frame; `mask` is the path of a picture."""

    frame_idx: int
    object_id: int
    points: list = field(default_factory=list)
    box: tuple | None = None
    mask: str | None = None

    def add(self, kind, value):
        """Adds a point, or the one box or mask."""
        if kind == "point":
            self.points.append(value)
        elif getattr(self, kind) is None:
            setattr(self, kind, value)
        else:
            raise ValueError(
                f"object {self.object_id} has two of --{kind} on frame {self.frame_idx}: give the second one another "
                "--object or --frame"
            )

    def inputs(self):
        """Arguments of `add_inputs_to_inference_session`."""
        inputs = {}
        if self.points:
            inputs["input_points"] = [[[point[:2] for point in self.points]]]
            inputs["input_labels"] = [[[point[2] for point in self.points]]]
        if self.box:
            inputs["input_boxes"] = [[self.box]]
        if self.mask:
            inputs["input_masks"] = [read_mask(self.mask)]
        return inputs

    def __str__(self):
        mask = f"mask {Path(self.mask).name}" if self.mask else ""
        return f"frame {self.frame_idx}: {describe(self.box, self.points)}{mask}"


def read_prompts(options):
    """`ObjectPrompt`s, one per object and frame, from (option, value) pairs in the order of the command line.

    `frame` and `object` choose where the prompts after them belong; where they come last and only once, they are for
    all prompts. A box or mask begins a new object if the current one already has a prompt on the frame, unless an
    `object` was given for it.
    """
    prompts, frame_idx, object_id, is_chosen = {}, 0, 1, False
    for option, value in _frames_and_objects_first(options):
        if option == "frame":
            frame_idx = value
        elif option == "object":
            object_id, is_chosen = value, True
        else:
            if option != "point":
                if not is_chosen and (frame_idx, object_id) in prompts:
                    object_id = max(known for _, known in prompts) + 1
                is_chosen = False
            prompt = prompts.setdefault((frame_idx, object_id), ObjectPrompt(frame_idx, object_id))
            prompt.add(option, value)
    if object_id > 255:
        raise ValueError(f"masks are written with 8 bits, which count to 255, but there is an object {object_id}")
    return list(prompts.values())


def _frames_and_objects_first(options):
    """The options with those behind the last prompt put before the first one."""
    is_prompt = [option not in ("frame", "object") for option, _ in options]
    if not any(is_prompt):
        raise ValueError("say what to track with --point X,Y, --box X0,Y0,X1,Y1 or --mask PNG")
    num_before = len(options) - is_prompt[::-1].index(True)
    before, behind = options[:num_before], options[num_before:]
    for option, value in behind:
        if option in [known for known, _ in before]:
            raise ValueError(f"no prompt follows --{option} {value}: put it before the prompts that it is for")
    return behind + before


def read_mask(path):
    """Boolean array (H, W) of the pixels of a picture that are not zero; transparency does not count."""
    return read_mask_picture(path, f"mask {path}")


# What is written.


class TrackFolder:
    """The folder that a run fills; all files but `frames.jsonl` and the overlay are written whole or not at all."""

    def __init__(self, path):
        self.path = Path(path)
        self.run, self.masks = self.path / "run.json", self.path / "masks"
        self.frames, self.checkpoint = self.path / "frames.jsonl", self.path / "session.pt"

    def mask_path(self, frame_idx):
        """Path of the index picture of a frame."""
        return self.masks / f"{frame_idx:05d}.png"

    def check_empty(self):
        """Raises a ValueError if there is something in the way of a new run."""
        if self.path.exists() and not self.path.is_dir():
            raise ValueError(f"{self.path} is a file: --output must be a folder")
        if self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"folder {self.path} is not empty: go on with --resume, or choose another --output")

    def start(self, settings, video):
        """Makes the folder, with what was asked and the properties of the video."""
        self.path.mkdir(parents=True, exist_ok=True)
        video_output.write_json_whole({"settings": settings, "video": video}, self.run)

    def started_with(self):
        """What `start` has written."""
        try:
            return json.loads(self.run.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"nothing to resume in {self.path}: start without --resume") from error

    def write_masks(self, masks, object_ids, frame_idx):
        """Writes the masks of a frame, boolean (H, W)."""
        self.masks.mkdir(exist_ok=True)
        video_output.write_index_picture(masks, object_ids, self.mask_path(frame_idx))

    def append(self, row):
        """Adds the line of a finished frame."""
        with open(self.frames, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def rows(self):
        """What is known of each finished frame, in the order of tracking; a torn last line does not count."""
        lines = self.frames.read_text(encoding="utf-8").split("\n")[:-1] if self.frames.exists() else []
        return [json.loads(line) for line in lines]

    def save_checkpoint(self, session, num_done):
        """Keeps the state of tracking after the first `num_done` frames; there is nothing of the video in it."""
        with whole_file(self.checkpoint) as temporary:
            torch.save({"objects": session.objects, "num_done": num_done}, temporary)

    def load_checkpoint(self, session):
        """Number of finished frames, after which the session is; lines of later frames are dropped."""
        num_done = 0
        if self.checkpoint.exists():
            torch.serialization.add_safe_globals([TrackedObject, FrameResult, Prompt])
            try:
                state = torch.load(self.checkpoint, map_location=session.inference_state_device, weights_only=True)
            except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
                raise ValueError(f"{self.checkpoint} is damaged: start again in another --output") from error
            session.objects, num_done = state["objects"], state["num_done"]
        rows = self.rows()[:num_done]
        if len(rows) < num_done or not all(self.mask_path(row["frame"]).exists() for row in rows):
            raise ValueError(f"{self.path} lacks frames that were finished: start again in another --output")
        with whole_file(self.frames) as temporary:
            Path(temporary).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        for path in self.path.glob("**/.writing_*"):
            path.unlink()  # half written by a killed process
        return num_done

    def open_overlay(self, size, frame_rate, frame_indices):
        """(writer of the overlay, its path): a video, or without PyAV a folder of pictures."""
        if video_output.av is not None:
            path = self.path / "overlay.mp4"
            return video_output.OverlayVideo(path, *size, frame_rate), path
        path = self.path / "overlay"
        path.mkdir(exist_ok=True)
        return OverlayPictures(path / f"{frame_idx:05d}.png" for frame_idx in frame_indices), path

    def write_tracks(self, video_name, frames, object_ids):
        """Writes the tracks as results of YouTube-VIS and as COCO annotations; returns the paths, by name."""
        by_frame = {row["frame"]: row["objects"] for row in self.rows()}
        has_masks = all("segmentation" in found for row in by_frame.values() for found in row.values())
        if video_output.coco_mask is None or not has_masks:
            return {}
        tracks = []
        for object_id in object_ids:
            found = [by_frame.get(t, {}).get(str(object_id)) for t in range(len(frames))]
            segmentations = [of_frame and of_frame["segmentation"] for of_frame in found]
            tracks.append(video_output.Track(object_id, 1, mean_score(filter(None, found)), segmentations))
        pictures = getattr(frames, "files", None) or [self.mask_path(t) for t in range(len(frames))]
        names, size = [picture.name for picture in pictures], (frames.height, frames.width)
        data = {
            "tracks": video_output.youtube_vis_tracks(1, tracks),
            "annotations": video_output.coco_annotations(video_name, names, size, tracks),
        }
        for name, content in data.items():
            video_output.write_json_whole(content, self.path / f"{name}.json")
        return {name: str(self.path / f"{name}.json") for name in data}


class OverlayPictures:
    """Writer of pictures to given paths, in place of an `OverlayVideo`."""

    def __init__(self, paths):
        self.paths = paths

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def write(self, picture):
        """Writes the next picture."""
        save_whole(picture, next(self.paths))


def mean_score(found):
    """Mean predicted IoU over the frames on which an object is visible; 0 without any."""
    scores = [o["score"] for o in found if o["visible"]]
    return round(sum(scores) / len(scores), 4) if scores else 0.0


# The run.


def run(options):
    """Tracks the prompted objects, writes what is found, and returns the report."""
    folder = TrackFolder(options.output or f"{Path(options.video).resolve().stem}_track")
    settings = read_settings(options, folder)
    prompts = read_prompts(settings["prompts"])
    frames = open_video(options.video)
    video = {"num_frames": len(frames), "height": int(frames.height), "width": int(frames.width)}
    if options.resume and folder.started_with()["video"] != video:
        raise ValueError(f"the run in {folder.path} was started with another video: {folder.started_with()['video']}")
    model, processor = load_video_model(settings, device_of(options.device))
    session = processor.init_video_session(
        frames, inference_device=model.device, dtype=model.dtype, max_memory_frames=1
    )
    run = TrackRun(model, processor, session, prompts, settings, folder)
    run.frame_indices = frames_to_track(session, prompts, settings)
    run.num_done = folder.load_checkpoint(session) if options.resume else 0
    if run.num_done == 0:  # later the checkpoint has the answers to them
        for prompt in prompts:
            processor.add_inputs_to_inference_session(session, prompt.frame_idx, prompt.object_id, **prompt.inputs())
    if not options.resume:
        folder.start(settings, video)
    error = run.track(is_quiet=options.json)
    files = {"masks": str(folder.masks), "overlay": str(run.overlay_path), "frames": str(folder.frames)}
    files.update(folder.write_tracks(Path(options.video).name, frames, session.obj_ids))
    if error is not None:
        raise ValueError(f"{error}; the {run.num_done} frames before it are in {folder.path}") from error
    head = {"video": options.video, **video, "model": settings["model"]}
    return {**head, "objects": report_objects(prompts, folder.rows()), **files}


def read_settings(options, folder):
    """`SETTINGS` with what the options say, or those of the run that they resume."""
    given = {name: getattr(options, name) for name in SETTINGS if getattr(options, name) is not None}
    if options.model and Path(options.model).is_dir():
        given["model"] = str(Path(given["model"]).resolve())
    given = json.loads(json.dumps(given))
    if not options.resume:
        folder.check_empty()
        return {**SETTINGS, **given}
    settings = folder.started_with()["settings"]
    for name, value in given.items():
        if value != settings[name]:
            raise ValueError(
                f"the run in {folder.path} was started with other {name.replace('_', ' ')}: leave it out with "
                "--resume, or start a new run in another --output"
            )
    return settings


def load_video_model(settings, device, **processor_settings):
    """The video model and its processor, at the image size of the settings, with other settings of the processor."""
    name, image_size = checkpoint_of(settings["model"]), settings["image_size"]
    try:
        model_type = PretrainedConfig.get_config_dict(name)[0].get("model_type")
        if model_type == EdgeTamConfig.model_type:
            raise ValueError(
                f"{name} is a checkpoint for pictures, it has no memory for video: use one for video, such as the "
                f"published --model {VIDEO_CHECKPOINT}"
            )
        model_settings = {}
        if image_size is not None:
            model_settings["image_size"] = image_size
            processor_settings["size"] = {"height": image_size, "width": image_size}
        model = load_quietly(EdgeTamVideoModel, name, device_map=device, **model_settings)
        return model, EdgeTamVideoProcessor.from_pretrained(name, **processor_settings)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise OSError(
            f"{name} cannot be loaded, give --model a folder or the id of a video checkpoint: {reason}"
        ) from error


def frames_to_track(session, prompts, settings):
    """Range of the frames, in the order of tracking."""
    prompted, reverse = [prompt.frame_idx for prompt in prompts], settings["reverse"]
    start = settings["start"]
    if start is None:
        start = max(prompted) if reverse else min(prompted)
    session.check_frame(start)
    if reverse and start == 0:
        raise ValueError("--reverse goes back from frame 0, before which there is nothing: choose a later --frame")
    frame_indices = range(start, -1, -1) if reverse else range(start, session.num_frames)
    return frame_indices[: settings["max_frames"]]


@dataclass
class TrackRun:
    """A run, of which `num_done` frames of `frame_indices` are finished."""

    model: EdgeTamVideoModel
    processor: EdgeTamVideoProcessor
    session: EdgeTamVideoInferenceSession
    prompts: list[ObjectPrompt]
    settings: dict
    folder: TrackFolder
    frame_indices: range = range(0)
    num_done: int = 0
    overlay_path: Path | None = None

    def track(self, is_quiet):
        """Goes through all frames and writes them; returns the error that ended it at a frame, if any did.

        Frames that are finished are drawn again, from their masks: a video cannot be added to.
        """
        frames, outputs = self.session.frames, self.outputs()
        frame_rate = self.settings["frame_rate"] or getattr(frames, "frame_rate", FOLDER_FRAME_RATE)
        size = frames.height, frames.width
        writer, self.overlay_path = self.folder.open_overlay(size, frame_rate, self.frame_indices)
        with writer:
            try:
                for idx, frame_idx in enumerate(logging.tqdm(self.frame_indices, desc="track", disable=is_quiet)):
                    if idx >= self.num_done:
                        self.write(next(outputs))
                        self.num_done = idx + 1
                        if self.num_done % FRAMES_PER_CHECKPOINT == 0:
                            self.folder.save_checkpoint(self.session, self.num_done)
                    writer.write(self.draw(frame_idx))
            except KeyboardInterrupt:
                # A frame may be half done, so there is no checkpoint of now
                raise InterruptedError(
                    f"stopped after {self.num_done} frames: the same command with --resume goes on"
                ) from None
            except ValueError as frame_error:
                error = frame_error
            else:
                error = None
        if self.num_done:
            self.folder.save_checkpoint(self.session, self.num_done)
        return error

    def outputs(self):
        """The model's outputs on the frames that are not finished."""
        frame_indices, reverse = self.frame_indices[self.num_done :], self.settings["reverse"]
        if self.num_done:
            for frame_idx in frame_indices:
                yield self.model(self.session, frame_idx=frame_idx, reverse=reverse, return_dict=True)
        else:  # prompts on all frames are answered before the first one
            yield from self.model.propagate_in_video_iterator(
                self.session, frame_indices[0], len(frame_indices) - 1, reverse
            )

    def write(self, output):
        """Writes the masks and the line of a frame."""
        frames = self.session.frames
        masks = self.processor.post_process_masks(
            [output.pred_masks],
            [(frames.height, frames.width)],
            apply_non_overlapping_constraints=self.settings["non_overlapping"],
        )
        masks = masks[0][:, 0].cpu().numpy()
        self.folder.write_masks(masks, output.object_ids, output.frame_idx)
        found = {}
        for object_id, mask, score, logit in zip(
            output.object_ids, masks, output.iou_scores.tolist(), output.object_score_logits.tolist()
        ):
            found[str(object_id)] = {"score": round(score, 4), "visible": logit > 0, **measure(mask)}
            if video_output.coco_mask is not None:
                found[str(object_id)]["segmentation"] = video_output.mask_to_rle(mask) if mask.any() else None
        self.folder.append({"frame": output.frame_idx, "objects": found})

    def draw(self, frame_idx):
        """The picture of a frame with its masks, as they were written, and the prompts on it."""
        object_ids = self.session.obj_ids
        masks = video_output.read_index_picture(self.folder.mask_path(frame_idx), object_ids)
        prompts = [prompt for prompt in self.prompts if prompt.frame_idx == frame_idx]
        return overlay(
            self.session.frames[frame_idx].permute(1, 2, 0).cpu().numpy(),
            masks,
            [point for prompt in prompts for point in prompt.points],
            [prompt.box for prompt in prompts if prompt.box],
            numbers=object_ids,
        )


def report_objects(prompts, rows):
    """What the report says of each object."""
    objects = []
    for object_id in dict.fromkeys(prompt.object_id for prompt in prompts):
        found = [row["objects"][str(object_id)] for row in rows]
        objects.append(
            {
                "object": object_id,
                "prompts": "; ".join(str(prompt) for prompt in prompts if prompt.object_id == object_id),
                "visible": sum(o["visible"] for o in found),
                "frames": len(found),
                "score": mean_score(found),
            }
        )
    return objects


def as_text(report):
    """The report as text: a line per object, then where the files are."""
    rows = [{**row, "visible": f"{row['visible']} / {row['frames']}"} for row in report["objects"]]
    rows = [{name: value for name, value in row.items() if name != "frames"} for row in rows]
    files = [name for name in ("masks", "overlay", "frames", "tracks", "annotations") if name in report]
    width = max(map(len, files)) + 1
    return "\n".join([*as_columns(rows), "", *(f"{name + ':':{width}} {report[name]}" for name in files)])
