"""An ML backend of Label Studio: keypoints and rectangles in, masks for its brush out.

    python -m edgetam_hf.integrations.label_studio --port 9090 --model nano

It also starts as the package's own command starts backends:

    label-studio-ml init backend --script label_studio.py:EdgeTamBackend && label-studio-ml start backend

This file imports nothing relative to itself, since that command copies it. The variables EDGETAM_MODEL and
EDGETAM_DEVICE choose the model and where it computes.
"""

import argparse
import os
import sys
import tempfile
import uuid
from functools import lru_cache
from inspect import signature
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from edgetam_cli.endings import end
from edgetam_hf import EdgeTamModel, EdgeTamProcessor, __version__
from edgetam_hf.integrations.brush import encode_brush
from edgetam_hf.integrations.clicked_picture import Box, ClickedPicture, Point
from edgetam_hf.loading import ModelChoice, load_with_processor
from edgetam_hf.pictures_edgetam import read_picture

try:
    from label_studio_ml import api
    from label_studio_ml import model as backend
    from label_studio_ml.exceptions import AnswerException
except ImportError as error:
    raise ImportError(
        "edgetam_hf.integrations.label_studio needs Label Studio's backend: pip install label-studio-ml rq redis"
    ) from error

BRUSHES = ("BrushLabels", "Brush")
FETCHED = ("http://", "https://", "/data/", "upload/", "/upload/", "s3:", "gs:", "azure-blob:")
LOCAL_ROOTS = (
    "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT",
    "HEARTEX_LOCAL_FILES_DOCUMENT_ROOT",
    "LOCAL_FILES_DOCUMENT_ROOT",
)
MODEL_VERSION = f"edgetam-hf {__version__}"
NUM_PICTURES = 4  # that stay encoded, so that the next click on one of them is answered at once
BAD_REQUEST = 400


class Prompted(NamedTuple):
    """What people have marked: points (x, y, label) and a box in pixels, and the name of the label, if there is one."""

    points: list[Point]
    box: Box | None
    label: str | None


class EdgeTamBackend(backend.LabelStudioMLBase):
    """Answers smart keypoints and rectangles on a picture with the mask of the object, as a region of the brush.

    `choice` says which model that is.
    """

    choice = ModelChoice(os.environ.get("EDGETAM_MODEL", "nano"), os.environ.get("EDGETAM_DEVICE", "cpu"))

    def predict(self, tasks: list[dict], context: dict | None = None, **kwargs: Any) -> list[dict]:
        """A prediction for each task, which is empty unless something is marked in its picture.

        Args:
            tasks: as Label Studio sends them; where something is marked, the one that is open.
            context: under "result" the regions that are marked, with coordinates in per cent of the picture.
            kwargs: what else Label Studio sends, which is not needed.

        Raises:
            ValueError: for what cannot be answered; within a request the server answers 400 with the reason.
        """
        regions = (context or {}).get("result")
        if not regions:
            return [prediction([], 0.0) for _ in tasks]
        try:
            return [self._answer(tasks, regions)]
        except ValueError as error:
            raise refusal(error) from error

    def _answer(self, tasks: list[dict], regions: list[dict]) -> dict:
        """The prediction for the picture in which something is marked."""
        if len(tasks) != 1:
            raise ValueError(f"regions are marked in the picture of one task, got {len(tasks)} tasks")
        from_name, control = brush_of(self.parsed_label_config)
        picture = encoded(self.choice, self._picture_of(tasks[0], control["inputs"][0]["value"]))
        height, width = picture.size
        prompted = read_regions(regions, picture.size, control["labels"])
        mask, score = picture.find(prompted.points, prompted.box)
        kind = control["type"].lower()
        value: dict[str, Any] = {"format": "rle", "rle": encode_brush(mask)}
        if prompted.label is not None:
            value[kind] = [prompted.label]
        region = {
            "id": uuid.uuid4().hex[:10],
            "from_name": from_name,
            "to_name": control["to_name"][0],
            "type": kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": value,
            "score": score,
            "readonly": False,
        }
        return prediction([region] if mask.any() else [], score)

    def _picture_of(self, task: dict, name: str) -> bytes | str:
        """The file of a task's picture, or its data: URI.

        Raises:
            ValueError: if there is none, or none that may be read.
        """
        address = (task.get("data") or {}).get(name)
        if not isinstance(address, str) or not address:
            raise ValueError(f"the task must have the address of a picture in data.{name}, got {address!r}")
        if address.startswith("data:"):
            return address
        check_address(address)
        with_task = {"task_id": task.get("id")} if "task_id" in signature(self.get_local_path).parameters else {}
        try:
            return Path(self.get_local_path(address, **with_task)).read_bytes()
        except Exception as error:  # of requests, of the file system, or a plain one of Label Studio's
            raise ValueError(f"the picture {address[:200]} cannot be fetched: {error}") from error


def check_address(address: str) -> None:
    """Raises a ValueError for all but the addresses that Label Studio gives pictures.

    Label Studio's package would read any file of this machine whose path stands behind `?d=`, unless it is told the
    folder of local files.
    """
    path, _, local = address.partition("?d=")
    if not address.startswith(FETCHED) or ".." in PurePosixPath(path).parts:
        raise ValueError(
            f"the address of a picture must be one of Label Studio, of the web or a data: URI, got {address[:200]!r}"
        )
    if local and not address.startswith(("http://", "https://")):
        root = next((os.environ[name] for name in LOCAL_ROOTS if name in os.environ), None)
        if root is None:
            raise ValueError("LOCAL_FILES_DOCUMENT_ROOT is not set: set it to the folder of Label Studio's local files")
        if not Path(root, local).resolve().is_relative_to(Path(root).resolve()):
            raise ValueError(f"{local[:200]!r} lies outside of the folder of Label Studio's local files")


def prediction(regions: list[dict], score: float) -> dict:
    """A prediction as Label Studio takes it."""
    return {"result": regions, "score": score, "model_version": MODEL_VERSION}


def refusal(error: ValueError) -> Exception:
    """What makes the server answer 400 with the reason; outside of a request, the error itself."""
    try:
        return AnswerException(BAD_REQUEST, str(error), {"traceback": ""})
    except (RuntimeError, NameError):  # there is no request, or a release that cannot make its own exception
        return error


def brush_of(config: dict[str, dict]) -> tuple[str, dict]:
    """Name and description of the first brush for a picture in a parsed labelling configuration."""
    for name, control in config.items():
        if control["type"] in BRUSHES and control["inputs"] and control["inputs"][0]["type"] == "Image":
            return name, control
    raise ValueError("the labelling configuration must have <BrushLabels> or <Brush> for an <Image>, it has neither")


def read_regions(regions: list[dict], size: tuple[int, int], labels: list[str]) -> Prompted:
    """The prompts of regions in a picture (height, width); of several rectangles the last one counts.

    labels: those of the brush.

    Raises:
        ValueError: for regions of another kind or of another picture, and for a label that the brush does not have.
    """
    points: list[Point] = []
    box: Box | None = None
    label = labels[0] if len(labels) == 1 else None
    for region in regions:
        kind, value = str(region.get("type")).lower(), region.get("value") or {}
        check_region(region, size)
        if kind in ("keypointlabels", "keypoint"):
            x, y = in_pixels(value, ("x", "y"), size)
            points.append((x, y, int(bool(region.get("is_positive", True)))))
        elif kind in ("rectanglelabels", "rectangle"):
            x, y, width, height = in_pixels(value, ("x", "y", "width", "height"), size)
            box = (x, y, x + width, y + height)
        else:
            raise ValueError(f"only keypoints and rectangles say what the object is, got a region of type {kind}")
        label = next(iter(value.get(kind) or value.get("labels") or [label]))
    if not labels:
        return Prompted(points, box, None)
    if label not in labels:
        raise ValueError(f"the label must be one of the brush, {', '.join(labels)}, got {label!r}")
    return Prompted(points, box, label)


def check_region(region: dict, size: tuple[int, int]) -> None:
    """Raises a ValueError for a region of a picture of another size (height, width), and for what is turned."""
    shown = (region.get("original_height", size[0]), region.get("original_width", size[1]))
    if shown != size:
        raise ValueError(
            f"the picture is {size[1]} wide and {size[0]} high, but Label Studio shows it {shown[1]} wide and "
            f"{shown[0]} high: give the task the address of the same file"
        )
    if region.get("image_rotation") or (region.get("value") or {}).get("rotation"):
        raise ValueError("turned pictures and turned rectangles are not taken: turn them back")


def in_pixels(value: dict, names: tuple[str, ...], size: tuple[int, int]) -> list[float]:
    """Coordinates and lengths of a region in pixels of a picture (height, width), from per cent of its sides."""
    numbers: list[Any] = [value.get(name) for name in names]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
        raise ValueError(f"a region must have the numbers {', '.join(names)}, got {numbers}")
    height, width = size
    return [number * (height if name in ("y", "height") else width) / 100 for name, number in zip(names, numbers)]


@lru_cache(maxsize=1)
def loaded(choice: ModelChoice) -> tuple[Any, Any]:
    """The model and its processor; kept, for the server makes a new backend for each request."""
    return load_with_processor(EdgeTamModel, EdgeTamProcessor, choice)


@lru_cache(maxsize=NUM_PICTURES)
def encoded(choice: ModelChoice, source: bytes | str) -> ClickedPicture:
    """The picture of a file or data: URI, encoded; see `read_picture` for errors."""
    return ClickedPicture(*loaded(choice), read_picture(source, "the picture of the task"))


def make_app(folder: str | Path | None = None) -> Any:
    """The server of the backend, a WSGI application.

    folder: where Label Studio's package keeps notes of its own, in releases that do; a new one unless given.
    """
    settings = {}
    if hasattr(backend, "LabelStudioMLManager"):  # label-studio-ml<2
        settings["model_dir"] = str(folder or tempfile.mkdtemp(prefix="edgetam_label_studio_"))
    return api.init_app(EdgeTamBackend, **settings)


def serve(choice: ModelChoice, host: str, port: int) -> None:
    """Answers requests until it is stopped; see `load_with_processor` for errors."""
    EdgeTamBackend.choice = choice
    loaded(choice)
    with tempfile.TemporaryDirectory(prefix="edgetam_label_studio_") as folder:
        make_app(folder).run(host=host, port=port)


def main(arguments: list[str] | None = None) -> int:
    """Exit code of the command that serves the backend."""
    command, choice = "python -m edgetam_hf.integrations.label_studio", EdgeTamBackend.choice
    parser = argparse.ArgumentParser(command, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=9090, help="default: %(default)s")
    parser.add_argument("--model", default=choice.name, help="folder, Hub id or nano (default: %(default)s)")
    parser.add_argument("--device", default=choice.device, help="cpu or cuda (default: %(default)s)")
    options = parser.parse_args(arguments)
    return end(command, lambda: serve(ModelChoice(options.model, options.device), options.host, options.port))


if __name__ == "__main__":
    sys.exit(main())
