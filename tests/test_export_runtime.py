"""Exported models find what PyTorch finds: in pictures, in sessions and by commands, on each runtime."""

import inspect
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from edgetam_hf.stages_edgetam_video import TrackingModel
from PIL import Image
from small_datasets import make_masked_pictures
from small_models import assert_outputs_close, make_processor, random
from tracking import BOX, CLICK, CORRECTION, Tracker, assert_equal, square
from transformers import pipeline

import edgetam_runtime
from edgetam_cli import main
from edgetam_hf import EdgeTamMaskGenerationPipeline, EdgeTamModel
from edgetam_hf.export.runtime import ExportedEdgeTam
from edgetam_runtime.pictures import upsampled_masks

RUNTIMES = ("onnxruntime", "openvino")
ROOT = Path(__file__).parents[1]
POINTS = torch.tensor([[[[30.0, 40.0], [90.0, 20.0]], [[64.0, 64.0], [5.0, 120.0]], [[100.0, 90.0], [-10.0, -10.0]]]])
LABELS = torch.tensor([[[1, 0], [1, 1], [1, -10]]])
BOXES = torch.tensor([[[10.0, 20.0, 80.0, 90.0], [-10.0, -10.0, -10.0, -10.0], [50.0, 60.0, 120.0, 110.0]]])
PROMPTS = {
    "clicks": {"input_points": POINTS, "input_labels": LABELS},
    "boxes": {"input_boxes": BOXES},
    "clicks and boxes": {"input_points": POINTS, "input_labels": LABELS, "input_boxes": BOXES},
    "masks": {"input_points": POINTS, "input_labels": LABELS, "input_masks": 5 * random((1, 3, 32, 32))},
    "one mask of another size for all": {"input_boxes": BOXES, "input_masks": 5 * random((1, 50, 60))},
    "nothing": {},
}
VIDEO_GRAPHS = ("memory_attention", "mask_adopter", "memory_encoder")


@pytest.fixture(scope="module", params=RUNTIMES)
def graphs(exported, request):
    """The exported video model on each runtime."""
    return ExportedEdgeTam.from_pretrained(exported, request.param)


@pytest.fixture(scope="module")
def picture_model(video_folder):
    """The image part of the model that is exported."""
    return EdgeTamModel.from_pretrained(video_folder).eval()


@pytest.fixture
def broken(exported, tmp_path):
    """A copy of the exported model."""
    return shutil.copytree(exported, tmp_path / "broken")


@pytest.fixture
def exported_for_pictures(broken):
    """The exported model without what is for video."""
    for name in VIDEO_GRAPHS:
        (broken / "onnx" / f"{name}.onnx").unlink()
    change_facts(broken, tracking=None)
    return broken


def change_facts(folder, **facts):
    config = json.loads((folder / "config.json").read_text())
    config["edgetam_export"].update(facts)
    (folder / "config.json").write_text(json.dumps(config))


# Pictures


@pytest.mark.parametrize("multimask_output", [True, False], ids=["three", "single"])
@pytest.mark.parametrize("kind", PROMPTS)
@torch.no_grad()
def test_masks_of_graphs_equal_those_of_pytorch(graphs, picture_model, pictures, kind, multimask_output):
    prompts = {name: torch.cat((prompt, prompt)) for name, prompt in PROMPTS[kind].items()}
    expected = picture_model(pixel_values=pictures, multimask_output=multimask_output, **prompts)
    found = graphs(pixel_values=pictures, multimask_output=multimask_output, **prompts)
    assert_outputs_close(found, expected)
    embeddings = list(found.image_embeddings)
    again = graphs(image_embeddings=embeddings, multimask_output=multimask_output, return_dict=False, **prompts)
    assert torch.equal(again[1], found.pred_masks)


def test_many_prompts_are_computed_in_pieces(graphs, pictures, monkeypatch):
    points, labels = POINTS.repeat(1, 3, 1, 1), LABELS.repeat(1, 3, 1)
    settings = {"pixel_values": pictures[:1], "input_points": points, "input_labels": labels}
    whole = [graphs(multimask_output=three, **settings) for three in (True, False)]
    monkeypatch.setattr(graphs.stages, "num_at_once", 2)
    for three, expected in zip((True, False), whole):
        assert_outputs_close(graphs(multimask_output=three, **settings), expected)


@torch.no_grad()
def test_mask_generation_equals_pytorch(graphs, picture_model, clip):
    settings = {"image_processor": make_processor(128).image_processor, "points_per_crop": 6, "crops_n_layers": 1}
    settings |= {"pred_iou_thresh": 0.3, "stability_score_thresh": 0.0, "crops_nms_thresh": 0.95}
    expected = EdgeTamMaskGenerationPipeline(model=picture_model, **settings)(clip[0])
    by_graphs = pipeline(
        "mask-generation", model=graphs, pipeline_class=EdgeTamMaskGenerationPipeline, device="cpu", **settings
    )
    found = by_graphs(clip[0])
    assert len(found["masks"]) == len(expected["masks"]) > 1
    torch.testing.assert_close(found["scores"], expected["scores"], atol=1e-4, rtol=0.0)
    different = sum(int((one != other).sum()) for one, other in zip(found["masks"], expected["masks"]))
    assert different <= 1e-4 * sum(mask.numel() for mask in expected["masks"])  # pixels on an edge


def test_graphs_reject_what_they_were_not_exported_for(graphs, pictures):
    with pytest.raises(ValueError, match=r"must have shape \(batch_size, 3, 128, 128\), for which the model was"):
        graphs(pixel_values=pictures[:, :, :64])
    with pytest.raises(ValueError, match="exactly one of pixel_values and image_embeddings"):
        graphs(**PROMPTS["clicks"])
    with pytest.raises(ValueError, match="input_labels must be 0 to 3"):
        graphs(pixel_values=pictures[:1], input_points=POINTS, input_labels=LABELS + 7)
    with pytest.raises(ValueError, match="takes tensors of float32 on the CPU: choose where"):
        graphs.to(torch.float16)
    assert graphs.to("cpu", torch.float32) is graphs


# Sessions


def test_sessions_with_graphs_equal_those_with_pytorch(graphs, video_model, video_processor, clip):
    def use(model):
        tracker = Tracker(model, video_processor, clip)
        tracker.add(0, 1, **CLICK)
        tracker.add(0, 2, **BOX)
        tracker.add(0, 3, input_masks=square(clip))
        outputs = tracker.track()
        tracker.add(4, 1, **CORRECTION, clear_old_inputs=False)  # corrects tracking
        outputs.append(tracker.show(4))
        tracker.add(6, 4, input_masks=np.zeros((90, 120), bool))  # absent
        tracker.add(6, 5, **CLICK)  # begins in the middle
        outputs += tracker.track(4)
        tracker.session.remove_object(2)
        return outputs + tracker.track(6, reverse=True)

    assert_equal(use(graphs), use(video_model))


def test_streams_with_graphs_equal_those_with_pytorch(graphs, video_model, video_processor, clip):
    def use(model):
        tracker = Tracker(model, video_processor)
        tracker.add(0, 1, **CLICK)
        tracker.add(0, 2, **BOX)
        return tracker.stream(clip)

    assert_equal(use(graphs), use(video_model))


@pytest.mark.parametrize("num_at_once", [1, 2])
def test_objects_of_a_session_are_computed_in_pieces(graphs, video_processor, clip, monkeypatch, num_at_once):
    def use():
        tracker = Tracker(graphs, video_processor, clip[:6])
        for obj_id in (1, 2, 3):
            tracker.add(0, obj_id, **CLICK)
            tracker.add(0, obj_id + 3, input_masks=square(clip))
        return tracker.track()

    whole = use()
    monkeypatch.setattr(graphs.stages, "num_at_once", num_at_once)
    assert_equal(use(), whole)


def test_exported_model_is_what_tracking_asks_for(graphs):
    stages = [name for name, member in vars(TrackingModel).items() if inspect.isfunction(member) and name[0] != "_"]
    for stage in stages:
        expected, actual = (inspect.signature(getattr(owner, stage)) for owner in (TrackingModel, ExportedEdgeTam))
        assert actual == expected
    assert (graphs.mask_size, graphs.dtype, graphs.device.type) == ((32, 32), torch.float32, "cpu")
    assert graphs.config.num_maskmem == 7 and graphs.config.model_type == "edgetam_video"


def test_graphs_for_pictures_alone_reject_sessions(exported_for_pictures, video_processor, clip):
    graphs = ExportedEdgeTam.from_pretrained(exported_for_pictures)
    assert graphs.config.model_type == "edgetam"
    tracker = Tracker(graphs, video_processor, clip)
    tracker.add(0, 1, **CLICK)
    with pytest.raises(ValueError, match="is exported for pictures only: export a video model to track"):
        tracker.show(0)


# Without PyTorch


@pytest.fixture(scope="module", params=RUNTIMES)
def segmenter(exported, request):
    """What finds masks in pictures without PyTorch, on each runtime."""
    return edgetam_runtime.load(exported, request.param)


def test_pixel_values_are_those_of_the_processor(segmenter):
    picture = Image.open(ROOT / "edgetam_hf" / "samples" / "cat.jpg")
    expected = make_processor(128)(images=picture, return_tensors="pt")["pixel_values"].numpy()
    one_level = 1 / 255 / 0.224
    np.testing.assert_allclose(segmenter.pixel_values(picture), expected, atol=1.01 * one_level, rtol=0)


@torch.no_grad()
def test_pictures_without_pytorch_equal_those_with_it(segmenter, picture_model, clip):
    picture, processor = segmenter.encode(clip[0]), make_processor(128)
    points, labels, box = [[30, 45], [100, 80]], [1, 0], (10, 30, 40, 60)
    for multimask in (False, True):
        found = picture.segment([points, [[70, 20]]], [labels, [1]], [None, box], multimask=multimask)
        corners = [[box[:2], box[2:], [70, 20]], points]
        inputs = processor(
            original_sizes=[(90, 120)],
            input_points=[corners[::-1]],
            input_labels=[[labels, [2, 3, 1]]],
            return_tensors="pt",
        )
        embeddings = [torch.from_numpy(feature_map) for feature_map in picture.image_embeddings]
        outputs = picture_model(image_embeddings=embeddings, multimask_output=multimask, **inputs)
        best = outputs.iou_scores[0].argmax(-1)
        masks = processor.post_process_masks([outputs.pred_masks[0]], [(90, 120)])[0].numpy()
        assert (found.masks != masks[[0, 1], best]).mean() <= 1e-4
        np.testing.assert_allclose(found.scores, outputs.iou_scores[0, [0, 1], best], atol=1e-4)
        assert found.is_present.tolist() == (outputs.object_score_logits[0, :, 0] > 0).tolist()


def test_rough_masks_are_refined_within_their_box(segmenter, clip):
    picture, rough = segmenter.encode(Image.fromarray(clip[0])), square(clip)
    by_mask, by_both = picture.segment(masks=[rough]), picture.segment(boxes=[(10, 30, 39, 59)], masks=[rough])
    assert by_mask.masks.shape == (1, 90, 120) and np.array_equal(by_mask.masks, by_both.masks)
    assert picture.segment(masks=[rough], multimask=True).masks.shape == (1, 90, 120)


def test_files_are_turned_upright(segmenter, tmp_path, clip):
    upright = Image.fromarray(clip[0])
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(segmenter.pixel_values(tmp_path / "turned.png"), segmenter.pixel_values(upright))


@pytest.mark.parametrize("size", [(90, 120), (20, 301), (32, 32)])
def test_upsampled_masks_are_those_of_pytorch(size):
    logits = random((3, 32, 32))
    expected = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
    different = upsampled_masks(logits.numpy(), size) != (expected > 0).numpy()
    assert (expected.abs().numpy()[different] < 1e-5).all()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "give points, boxes or masks"),
        ({"points": [[(1, 1)]], "boxes": [None, None]}, "something for each object"),
        ({"points": [[(1, 1)]], "labels": [[1, 0]]}, "object 0 has 1 points, but 2 labels"),
        ({"points": [[]]}, "each object needs a point, a box or a mask"),
        ({"masks": [np.zeros((90, 120))]}, "a mask that is not empty"),
        ({"masks": [np.zeros((9, 12))]}, "must have the size of the picture"),
    ],
)
def test_pictures_without_pytorch_reject_prompts_that_do_not_fit(segmenter, clip, prompts, message):
    with pytest.raises(ValueError, match=message):
        segmenter.encode(clip[0]).segment(**prompts)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtime_needs_neither_pytorch_nor_transformers(exported, runtime):
    code = f"""
import sys
import edgetam_runtime
picture = edgetam_runtime.load({str(exported)!r}, {runtime!r}).encode("edgetam_hf/samples/cat.jpg")
assert picture.segment(points=[[(175, 115)]]).masks.shape == (1, 300, 451)
found = {{"torch", "torchvision", "transformers", "edgetam_hf"}} & set(sys.modules)
sys.exit(f"imported {{found}}" if found else 0)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


# What is missing or damaged


def test_load_rejects_what_is_no_exported_model(video_folder, tmp_path):
    with pytest.raises(OSError, match="there is no folder"):
        edgetam_runtime.load(tmp_path / "nothing")
    with pytest.raises(OSError, match=r"config\.json cannot be read: No such file"):
        edgetam_runtime.load(tmp_path)
    with pytest.raises(ValueError, match=r"is no exported model, its config\.json has no edgetam_export"):
        edgetam_runtime.load(video_folder)
    assert not edgetam_runtime.is_exported(video_folder) and not edgetam_runtime.is_exported(tmp_path / "nothing")


def test_load_rejects_another_version_and_damaged_facts(broken):
    change_facts(broken, version=2)
    with pytest.raises(ValueError, match="has graphs of version 2, this release reads version 1"):
        edgetam_runtime.load(broken)
    change_facts(broken, version=1, image_size=None)
    with pytest.raises(ValueError, match="edgetam_export lacks something: export it again"):
        edgetam_runtime.load(broken)
    (broken / "config.json").write_text('{"edgetam_export"')
    with pytest.raises(ValueError, match="is damaged, it is no JSON"):
        edgetam_runtime.load(broken)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_load_rejects_truncated_and_missing_graphs_and_other_dtypes(broken, runtime):
    for dtype in ("float16", "int8"):
        with pytest.raises(OSError, match=f"is missing, which is for {dtype}: this folder has float32 of it"):
            edgetam_runtime.load(broken, runtime, dtype=dtype)
    encoder = broken / "onnx" / "vision_encoder.onnx"
    content = encoder.read_bytes()
    encoder.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=rf"vision_encoder\.onnx cannot be loaded by {runtime}, it may be damaged"):
        edgetam_runtime.load(broken, runtime)
    encoder.unlink()
    with pytest.raises(OSError, match="is missing, which is for float32: the folder is not complete"):
        edgetam_runtime.load(broken, runtime)


def test_load_rejects_runtimes_devices_and_dtypes_that_are_not_there(exported):
    with pytest.raises(ValueError, match="runtime must be one of onnxruntime, openvino, got 'onnx'"):
        edgetam_runtime.load(exported, "onnx")
    with pytest.raises(ValueError, match="dtype must be one of float32, float16, int8, bfloat16, got 'float64'"):
        edgetam_runtime.load(exported, dtype="float64")
    with pytest.raises(ValueError, match="ONNX Runtime does not compute in bfloat16"):
        edgetam_runtime.load(exported, "onnxruntime", dtype="bfloat16")
    for runtime, name in (("onnxruntime", "ONNX Runtime"), ("openvino", "OpenVINO")):
        with pytest.raises(ValueError, match=f"{name} has no device 'tpu' here, it has .*cpu"):
            edgetam_runtime.load(exported, runtime, "tpu")


@pytest.mark.parametrize(("runtime", "extra"), [("onnxruntime", "onnx"), ("openvino", "openvino")])
def test_load_names_the_package_that_is_missing(exported, monkeypatch, runtime, extra):
    for name in [name for name in sys.modules if name.startswith("edgetam_runtime.o")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, runtime, None)
    with pytest.raises(ImportError, match=rf"{runtime} is not installed: pip install 'edgetam-hf\[{extra}\]'"):
        edgetam_runtime.load(exported, runtime)


def test_graphs_are_loaded_when_they_are_first_needed(broken, clip):
    for name in ("prompt_encoder_mask_decoder", *VIDEO_GRAPHS):
        (broken / "onnx" / f"{name}.onnx").unlink()
    picture = edgetam_runtime.load(broken).encode(clip[0])
    assert picture.segment(points=[[(30, 45)]]).masks.any()
    with pytest.raises(OSError, match=r"prompt_encoder_mask_decoder\.onnx is missing"):
        picture.segment(points=[[(30, 45)]], multimask=True)


# Commands


@pytest.fixture
def call(capsys, tmp_path, monkeypatch):
    """The report of a command in JSON, called in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        assert (code, err) == (0, "")
        return json.loads(out)

    return run


def without_files(report):
    """What a report says of objects, without names of files and with rounded scores."""
    return [{**row, "score": round(row["score"], 2)} for row in report["objects"]]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_segment_and_masks_take_an_exported_model(call, exported, video_folder, runtime):
    prompts = ("--point", "175,115", "--box", "296,105,352,165", "--object", 3, "--point", "50,60", "--point", "9,9,0")
    search = ("--points-per-side", 4, "--pred-iou-thresh", 0.3, "--stability-score-thresh", 0.3)
    for command in (("segment", *prompts), ("segment", "--multimask", *prompts), ("masks", *search)):
        expected = call(*command, "--model", video_folder)
        found = call(*command, "--model", exported, "--runtime", runtime)
        assert len(found["objects"]) == len(expected["objects"]) > 0
        for one, other in zip(without_files(found), without_files(expected)):
            assert one["score"] == pytest.approx(other["score"], abs=0.011)
            assert one["area"] == pytest.approx(other["area"], rel=0.01, abs=20)


def test_segment_refines_a_mask_with_an_exported_model(call, exported, video_folder, tmp_path):
    rough = np.zeros((300, 451), np.uint8)
    rough[100:130, 160:190] = 255
    Image.fromarray(rough).save(tmp_path / "rough.png")
    command = ("segment", ROOT / "edgetam_hf/samples/cat.jpg", "--mask", tmp_path / "rough.png")
    found, expected = (call(*command, "--model", folder)["objects"][0] for folder in (exported, video_folder))
    assert found["area"] == pytest.approx(expected["area"], rel=0.01, abs=20)


@pytest.fixture
def frames(clip, tmp_path):
    """Folder with the frames of the clip."""
    (tmp_path / "clip").mkdir()
    for idx, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / "clip" / f"{idx}.png")
    return tmp_path / "clip"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_track_takes_an_exported_model_and_resumes(call, exported, video_folder, frames, runtime):
    prompts = ("--point", "25,45", "--frame", 4, "--object", 2, "--box", "30,30,60,60")
    graphs = ("--model", exported, "--runtime", runtime)
    expected = call("track", frames, *prompts, "--model", video_folder, "--output", "expected")
    found = call("track", frames, *prompts, *graphs, "--output", "found")
    for one, other in zip(without_files(found), without_files(expected)):
        assert (one["visible"], one["frames"]) == (other["visible"], other["frames"])
        assert one["score"] == pytest.approx(other["score"], abs=0.011)
    whole = (Path("found") / "frames.jsonl").read_text()
    Path("part").mkdir()
    for name in ("run.json", "session.pt", "masks"):  # as if it had been stopped after the last checkpoint
        source = Path("found") / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, Path("part") / name)
    (Path("part") / "frames.jsonl").write_text(whole)
    state = torch.load("part/session.pt", weights_only=False)
    torch.save({**state, "num_done": 12}, "part/session.pt")
    resumed = call("track", frames, "--resume", "--output", "part")
    assert without_files(resumed) == without_files(found)
    assert (Path("part") / "frames.jsonl").read_text() == whole


def test_labelling_takes_an_exported_model(exported, video_folder, clip, frames):
    labelling = pytest.importorskip("labelling", reason="labelling needs pyarrow: pip install 'edgetam-hf[label]'")
    from edgetam_hf.label.items import CLIP, Item, Prompt

    Image.fromarray(clip[0]).save(frames.parent / "picture.png")
    box, picture = (Prompt(1, box=(10, 30, 40, 60)),), str(frames.parent / "picture.png")
    items = [Item("a", address=picture, prompts=box), Item("b", address=picture, prompts=box)]
    items.append(Item("c", CLIP, str(frames), prompts=box))
    rows = [labelling.label(labelling.labeller_of(folder), items) for folder in (exported, video_folder)]
    provenances = {(row.checkpoint, row.settings) for row in rows[0]}
    assert len(provenances) == 1 and rows[1][0].checkpoint not in provenances.pop()
    same = [replace(row, checkpoint=rows[1][0].checkpoint) for row in rows[0]]
    labelling.assert_same_rows(same, rows[1])


def test_evaluate_takes_an_exported_model(call, exported, video_folder, davis, tmp_path):
    expected = call("evaluate", "davis", davis, "--model", video_folder, "--output", "expected")
    found = call("evaluate", "davis", davis, "--model", exported, "--output", "found")
    assert found["total"]["J&F"] == pytest.approx(expected["total"]["J&F"], abs=1e-3)
    pictures = make_masked_pictures(tmp_path / "pictures")
    expected = call("evaluate", "clicks", pictures, "--model", video_folder)
    found = call("evaluate", "clicks", pictures, "--model", exported, "--runtime", "openvino")
    assert found["mIoU"] == pytest.approx(expected["mIoU"], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--compile",), "--compile is for models of PyTorch"),
        (("--image-size", 64), "--image-size 64: .* is exported for 128x128"),
        (("--dtype", "int8"), "is missing, which is for int8: this folder has float32 of it"),
        (("--dtype", "bfloat16", "--runtime", "onnxruntime"), "does not compute in bfloat16"),
        (("--device", "tpu"), "has no device 'tpu' here"),
    ],
)
def test_commands_reject_what_an_exported_model_does_not_have(capsys, exported, arguments, message):
    assert main(["segment", "--model", str(exported), *map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert re.search(message, err), err


def test_commands_reject_options_of_exported_models_for_others(capsys, video_folder, exported_for_pictures, frames):
    assert main(["segment", "--model", str(video_folder), "--runtime", "openvino"]) == 1
    assert "--runtime openvino is for exported models" in capsys.readouterr().err
    assert main(["segment", "--model", str(video_folder), "--dtype", "int8"]) == 1
    assert "--dtype int8 is for exported models" in capsys.readouterr().err
    assert main(["track", str(frames), "--point", "9,9", "--model", str(exported_for_pictures)]) == 1
    assert "is exported for pictures, it has no graphs for video" in capsys.readouterr().err
