"""A GPU gives what the CPU gives, in every precision and however models, prompts and frames get there.

`EDGETAM_TEST_DEVICE=cpu` runs what is here on the CPU: it shows that the tests themselves work.
"""

import copy
import os
import threading
from contextlib import contextmanager

import pytest
import torch
from edgetam_hf.mask_generation_edgetam import Crop, StabilityFilter, candidates_of_crop
from PIL import Image
from small_models import assert_outputs_close, make_model, make_video_model, random, small_video_config
from tracking import BOX, CLICK, CORRECTION, NAMES, OTHER_CLICK, Tracker, assert_equal
from transformers import pipeline

from edgetam_hf import (
    EdgeTamModel,
    EdgeTamProcessor,
    EdgeTamVideoModel,
    EdgeTamVideoProcessor,
    cuda_graphs_edgetam_video,
    mask_generation_edgetam,
    nano_checkpoint,
)
from edgetam_hf.commands.picture_files import SAMPLES

DEVICE = os.environ.get("EDGETAM_TEST_DEVICE", "cuda")
IS_GPU = DEVICE == "cuda"
needs_gpu = pytest.mark.skipif(not IS_GPU, reason="needs a GPU, which EDGETAM_TEST_DEVICE has replaced")
pytestmark = pytest.mark.skipif(
    IS_GPU and not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use, and there is none"
)
COMPILE_OPTIONS = {} if IS_GPU else {"backend": "eager"}  # what is written for the GPU is what is tested
GRAPHS = {"backend": "cudagraphs"}
HALVES = [torch.bfloat16, torch.float16]
ON_CPU = {"processing_device": "cpu"}  # a GPU resizes frames in float32, a CPU in integers: levels differ by 1
POINTS = torch.tensor([[[[30.0, 40.0]], [[90.0, 70.0]], [[60.0, 100.0]]]])
BOXES = torch.tensor([[[10.0, 20.0, 60.0, 70.0], [50.0, 40.0, 120.0, 110.0]]])
PROMPTS = {"clicks": {"input_points": POINTS}, "boxes": {"input_boxes": BOXES}}


@pytest.fixture(autouse=True)
def exact_float32():
    """Convolutions and products of float32 are not rounded to TF32."""
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    for backend in backends:
        backend.allow_tf32 = False
    yield
    for backend, is_allowed in zip(backends, before):
        backend.allow_tf32 = is_allowed


@contextmanager
def no_waits():
    """Inside of it a call that waits for the GPU raises a RuntimeError."""
    if not IS_GPU:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def sent(tensors):
    """Tensors by name on the device."""
    return {name: tensor.to(DEVICE) for name, tensor in tensors.items()}


def on_cpu(output):
    """An output whose tensors are in float32 on the CPU."""
    output = copy.copy(output)
    for name in NAMES:
        output[name] = output[name].detach().float().cpu()
    return output


def sent_model(model, dtype=torch.float32):
    """A copy of a model on the device, in eval mode."""
    return copy.deepcopy(model).to(DEVICE, dtype).eval()


def lowest_iou(actual, expected):
    """The lowest IoU of masks (N, h, w) of logits."""
    masks, others = actual > 0, expected > 0
    union = (masks | others).sum((1, 2))
    return torch.where(union > 0, (masks & others).sum((1, 2)) / union.clamp(min=1), 1.0).min().item()


# Pictures


@pytest.fixture(scope="module")
def nano():
    return EdgeTamModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def cat():
    """Pixel values of a picture and boxes around the eyes and the face of the cat in it, on the CPU."""
    processor = EdgeTamProcessor.from_pretrained(nano_checkpoint())
    boxes = [[[296, 105, 352, 165], [145, 85, 205, 145], [120, 60, 380, 260]]]
    picture = Image.open(SAMPLES / "cat.jpg").convert("RGB")
    inputs = processor(images=picture, input_boxes=boxes, return_tensors="pt")
    return {name: inputs[name] for name in ("pixel_values", "input_boxes")}


@pytest.mark.parametrize("name", PROMPTS)
@torch.no_grad()
def test_masks_equal_those_of_the_cpu(model, name):
    picture, prompts = random((1, 3, 128, 128)), PROMPTS[name]
    expected = model(pixel_values=picture, **prompts)
    actual = sent_model(model)(pixel_values=picture.to(DEVICE), **sent(prompts))
    assert actual.pred_masks.device.type == DEVICE
    assert_outputs_close(on_cpu(actual), expected, atol=5e-4)


@torch.no_grad()
def test_masks_of_the_embedded_checkpoint_equal_those_of_the_cpu(nano, cat):
    expected = nano(**cat)
    assert_outputs_close(on_cpu(sent_model(nano)(**sent(cat))), expected, atol=5e-3)  # of logits up to 30


@pytest.mark.parametrize("dtype", HALVES)
@torch.no_grad()
def test_masks_of_half_precision_are_near_those_of_the_cpu(nano, cat, dtype):
    expected = nano(**cat, multimask_output=False).pred_masks[0, :, 0]
    actual = sent_model(nano, dtype)(**sent(cat), multimask_output=False).pred_masks[0, :, 0]
    assert actual.dtype == dtype and lowest_iou(actual.float().cpu(), expected) >= 0.97


@pytest.mark.parametrize("dtype", HALVES)
@torch.no_grad()
def test_autocast_gives_masks_near_those_of_the_cpu(nano, cat, dtype):
    model, inputs = sent_model(nano), sent(cat)
    expected = model(**inputs, multimask_output=False).pred_masks
    with torch.autocast(DEVICE, dtype=dtype):
        actual = model(**inputs, multimask_output=False).pred_masks
    assert lowest_iou(actual[0, :, 0].float().cpu(), expected[0, :, 0].cpu()) >= 0.97
    assert torch.equal(model(**inputs, multimask_output=False).pred_masks, expected)  # what was folded stays exact


@torch.inference_mode()
def test_pictures_in_a_batch_equal_pictures_one_by_one(model):
    model, pictures, points = sent_model(model), random((2, 3, 128, 128)).to(DEVICE), POINTS.to(DEVICE)
    batched = model(pixel_values=pictures, input_points=points.expand(2, -1, -1, -1))
    alone = [model(pixel_values=picture[None], input_points=points) for picture in pictures]
    for name in ("pred_masks", "iou_scores"):
        expected = torch.cat([output[name] for output in alone])
        torch.testing.assert_close(batched[name], expected, atol=5e-4, rtol=0)


@torch.no_grad()
def test_encoder_and_decoder_do_not_wait_for_the_device(model):
    model, picture, points = sent_model(model), random((1, 3, 128, 128)).to(DEVICE), POINTS.to(DEVICE)
    model(pixel_values=picture, input_points=points)  # folds weights and fills tables
    with no_waits():
        embeddings = model.get_image_embeddings(picture)
        model(image_embeddings=embeddings, input_points=points)
        model(image_embeddings=embeddings, input_points=points[:, :1], multimask_output=False)


@needs_gpu
def test_forward_rejects_prompts_that_are_on_another_device(model):
    with pytest.raises(ValueError, match=r"input_points must lie on the device of the model, cuda:0, got cpu"):
        sent_model(model)(pixel_values=random((1, 3, 128, 128)).to(DEVICE), input_points=POINTS)


@needs_gpu
@torch.no_grad()
def test_masks_on_another_stream_equal_those_on_the_default_one(model):
    model, picture, points = sent_model(model), random((1, 3, 128, 128)).to(DEVICE), POINTS.to(DEVICE)
    expected = model(pixel_values=picture, input_points=points)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        actual = copy.deepcopy(model)(pixel_values=picture, input_points=points)
    stream.synchronize()
    assert_outputs_close(actual, expected)


def gradients(model, picture, points):
    output = model(pixel_values=picture, input_points=points)
    (output.pred_masks.square().mean() + output.iou_scores.sum()).backward()
    return {name: part.grad.cpu() for name, part in model.named_parameters() if part.grad is not None}


@pytest.mark.parametrize("is_training", [False, True])
def test_gradients_equal_those_of_the_cpu(is_training):
    model, picture = make_model().train(is_training), random((2, 3, 128, 128))
    points, twin = POINTS.expand(2, -1, -1, -1), sent_model(model).train(is_training)
    expected, actual = gradients(model, picture, points), gradients(twin, picture.to(DEVICE), points.to(DEVICE))
    assert actual.keys() == expected.keys()
    for name, gradient in actual.items():
        assert gradient.isfinite().all(), name
        scale = expected[name].abs().max().clamp(min=1e-3).item()
        torch.testing.assert_close(gradient, expected[name], atol=1e-2 * scale, rtol=0, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("dtype", HALVES)
def test_gradients_of_autocast_are_finite(dtype):
    model = sent_model(make_model()).train()
    with torch.autocast(DEVICE, dtype=dtype):
        output = model(pixel_values=random((1, 3, 128, 128)).to(DEVICE), input_points=POINTS.to(DEVICE))
        loss = output.pred_masks.float().square().mean()
    loss.backward()
    found = [part.grad for part in model.parameters() if part.grad is not None]
    assert found and all(gradient.isfinite().all() for gradient in found)


@torch.no_grad()
def test_compiled_masks_equal_eager_ones(model):
    torch._dynamo.reset()
    model, picture, points = sent_model(model), random((1, 3, 128, 128)).to(DEVICE), POINTS.to(DEVICE)
    compiled = copy.deepcopy(model)
    compiled.compile(**COMPILE_OPTIONS)
    for prompts in (points, points[:, :1]):
        expected = model(pixel_values=picture, input_points=prompts)
        assert_outputs_close(compiled(pixel_values=picture, input_points=prompts), expected, atol=1e-3)


@torch.no_grad()
def test_saved_model_equals_the_loaded_one(model, tmp_path):
    model, inputs = sent_model(model), {"pixel_values": random((1, 3, 128, 128)).to(DEVICE)}
    inputs["input_points"] = POINTS.to(DEVICE)
    expected = model(**inputs)
    model.save_pretrained(tmp_path)
    assert_outputs_close(EdgeTamModel.from_pretrained(tmp_path).to(DEVICE).eval()(**inputs), expected, atol=1e-5)
    loaded = EdgeTamModel.from_pretrained(tmp_path, device_map=DEVICE).eval()
    assert loaded.device.type == DEVICE
    assert_outputs_close(loaded(**inputs), expected, atol=1e-5)


@pytest.mark.parametrize("is_offloaded", [False, True])
@torch.no_grad()
def test_device_map_auto_changes_no_masks(nano, cat, tmp_path, is_offloaded):
    pytest.importorskip("accelerate", reason="device_map needs accelerate")
    settings = {"max_memory": {0 if IS_GPU else "cpu": "4MB"}, "offload_folder": tmp_path} if is_offloaded else {}
    if is_offloaded and IS_GPU:
        settings["max_memory"]["cpu"] = "1GB"
    model = EdgeTamModel.from_pretrained(nano_checkpoint(), device_map="auto", **settings).eval()
    if is_offloaded:
        assert len({str(place) for place in model.hf_device_map.values()}) > 1
    assert_outputs_close(on_cpu(model(**sent(cat))), on_cpu(sent_model(nano)(**sent(cat))), atol=5e-3)


def test_pipeline_finds_what_it_finds_on_the_cpu():
    picture, found = Image.open(SAMPLES / "coins.jpg").convert("RGB"), []
    for device in ("cpu", 0 if IS_GPU else "cpu"):
        generator = pipeline("mask-generation", model=str(nano_checkpoint()), device=device, dtype=torch.float32)
        found.append(generator(picture, points_per_crop=8))
    expected, actual = (torch.stack([torch.as_tensor(mask) for mask in one["masks"]]) for one in found)
    assert len(actual) == len(expected) > 3
    assert lowest_iou(actual.float(), expected.float()) >= 0.99


@pytest.mark.parametrize("width, height", [(5, 5), (300, 200), (1500, 900)])
def test_masks_measured_together_equal_those_of_the_cpu(monkeypatch, width, height):
    logits, crop = random((50, 16, 16)) * 5, Crop(0, 0, width, height)
    logits = torch.nn.functional.interpolate(logits[:, None], (64, 64), mode="bicubic")[:, 0]
    logits[7] = -9.0
    scores, points, found = torch.rand(50), torch.rand(50, 2), []
    monkeypatch.setattr(mask_generation_edgetam, "MAX_PIXELS_AT_ONCE", 20 * max(width * height, 64 * 64))
    for device in ("cpu", DEVICE):
        stability = StabilityFilter(mask_threshold=0.5, offset=1.0, lowest_score=0.0)
        found.append(candidates_of_crop(logits.to(device), scores, points, crop, crop, stability))
    expected, actual = found
    assert len(actual.groups) == (3 if IS_GPU else 50)
    assert torch.equal(actual.scores, scores) and (actual.boxes - expected.boxes).abs().max() <= 1
    torch.testing.assert_close(actual.stability_scores, expected.stability_scores, atol=0.02, rtol=0, equal_nan=True)
    masks = [torch.stack(list(candidates.masks(height, width, 0.5))).float() for candidates in found]
    assert lowest_iou(*masks) >= 0.99


# Video


@pytest.fixture(scope="module")
def tracked(video_model, video_processor, clip):
    """Outputs of the CPU for a click, a box, and a correction on the way."""
    return track(Tracker(video_model, video_processor, clip))


@pytest.fixture(scope="module")
def device_model(video_model):
    return sent_model(video_model) if torch.cuda.is_available() or not IS_GPU else None


def track(tracker):
    """Outputs of all frames, in float32 on the CPU."""
    tracker.add(0, [1], **CLICK)
    tracker.add(0, [2], **BOX)
    tracker.add(5, [3], **OTHER_CLICK)
    return [on_cpu(output) for output in tracker.track()]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"inference_state_device": "cpu"},
        {"video_storage_device": "cpu"},
        {"video_storage_device": "cpu", "inference_state_device": "cpu"},
        {"max_objects_per_batch": 1},
        {"max_memory_frames": 8},
    ],
    ids=["all_there", "results_on_cpu", "frames_on_cpu", "all_on_cpu", "one_by_one", "forgetting"],
)
def test_video_equals_that_of_the_cpu(device_model, video_processor, clip, tracked, settings):
    tracker = Tracker(device_model, video_processor, clip, inference_device=DEVICE, **ON_CPU, **settings)
    assert_equal(track(tracker), tracked, atol=5e-3)


def test_video_that_is_resized_there_is_near_that_of_the_cpu(device_model, video_processor, clip, tracked):
    outputs = track(Tracker(device_model, video_processor, clip, inference_device=DEVICE))
    assert_equal(outputs, tracked, atol=5e-2)


def test_frames_of_a_stream_equal_those_of_a_video(device_model, video_processor, clip):
    whole = Tracker(device_model, video_processor, clip, inference_device=DEVICE, **ON_CPU)
    stream = Tracker(device_model, video_processor, inference_device=DEVICE)
    outputs = []
    for tracker in (whole, stream):
        tracker.add(0, [1], **CLICK)
        tracker.add(0, [2], **BOX)
    outputs = [[on_cpu(output) for output in part] for part in (whole.track(), stream.stream(clip))]
    assert_equal(*outputs, atol=5e-3)


def test_corrections_that_are_tensors_equal_those_that_are_lists(device_model, video_processor, clip):
    outputs = []
    for convert in (lambda prompt: prompt, torch.tensor, lambda prompt: torch.tensor(prompt, device=DEVICE)):
        tracker = Tracker(device_model, video_processor, clip, inference_device=DEVICE)
        tracker.add(0, [1], **{name: convert(prompt) for name, prompt in CLICK.items()})
        tracker.track()
        tracker.add(4, [1], **{name: convert(prompt) for name, prompt in CORRECTION.items()})
        outputs.append([on_cpu(output) for output in tracker.track()])
    assert_equal(outputs[1], outputs[0])
    assert_equal(outputs[2], outputs[0])


@torch.inference_mode()
def test_video_in_inference_mode_equals_that_of_the_cpu(device_model, video_processor, clip, tracked):
    tracker = Tracker(device_model, video_processor, clip, inference_device=DEVICE, **ON_CPU)
    assert_equal(track(tracker), tracked, atol=5e-3)


@pytest.mark.parametrize("dtype", HALVES)
def test_video_of_half_precision_is_near_that_of_the_cpu(dtype):
    """The embedded checkpoint, on a picture that moves to the left."""
    picture = Image.open(SAMPLES / "cat.jpg").convert("RGB")
    frames = [picture.crop((left, 20, left + 260, 280)) for left in range(60, 0, -6)]
    processor, masks = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint()), []
    model = EdgeTamVideoModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval()
    for one in (model, sent_model(model, dtype)):
        tracker = Tracker(one, processor, frames, inference_device=one.device, dtype=one.dtype)
        tracker.add(0, [1, 2], input_boxes=[[[52, 52, 130, 156], [143, 78, 234, 208]]])
        masks.append(torch.cat([on_cpu(output).pred_masks[:, 0] for output in tracker.track()]))
    assert lowest_iou(masks[1], masks[0]) >= 0.9  # each follows its own masks


def test_compiled_video_equals_that_of_the_cpu(video_processor, clip):
    torch._dynamo.reset()
    model = make_video_model(config=small_video_config(num_maskmem=2, max_object_pointers_in_encoder=2))
    compiled, outputs = sent_model(model), []
    compiled.compile(**COMPILE_OPTIONS)
    for one in (model, compiled):
        tracker = Tracker(one, video_processor, clip[:5], inference_device=one.device)
        tracker.add(0, [1], **CLICK)
        outputs.append([on_cpu(output) for output in tracker.track()])
    assert_equal(*outputs, atol=5e-3)


def test_frame_of_a_stream_does_not_wait_for_the_device(device_model, video_processor, clip):
    tracker = Tracker(device_model, video_processor, inference_device=DEVICE)
    tracker.add(0, [1, 2], input_boxes=[[[10, 30, 40, 60], [50, 20, 90, 70]]])
    tracker.stream(clip[:4])
    frame = tracker.processor(images=[clip[4]], return_tensors="pt")["pixel_values"][0]
    with no_waits():
        output = tracker.model(tracker.session, frame=frame)
    assert output.pred_masks.device.type == DEVICE


# CUDA graphs


def film(model, processor, frames, num_objects=1):
    """Outputs of a video with a correction on the way, on the device."""
    tracker = Tracker(model, processor, frames, inference_device=DEVICE)
    obj_ids = list(range(num_objects))
    tracker.add(0, obj_ids, input_boxes=[[[10 + 20 * idx, 30, 40 + 20 * idx, 60] for idx in obj_ids]])
    tracker.add(3, [0], **CORRECTION)
    return tracker.track()


def num_graphs(model):
    return sum(graph is not None for graph in model._graphs._graphs.values())


@pytest.mark.parametrize("num_objects", [1, 3])
@pytest.mark.parametrize(
    "options, atol",
    [(GRAPHS, 1e-4), ({"mode": "reduce-overhead", **COMPILE_OPTIONS}, 5e-3)],
    ids=["graphs", "compiled"],
)
def test_video_with_cuda_graphs_equals_the_eager_one(video_processor, clip, num_objects, options, atol):
    """Three times: the second records what the first has seen, and nothing overwrites what was found before."""
    torch._dynamo.reset()
    config = small_video_config(num_maskmem=2, max_object_pointers_in_encoder=2)
    model = sent_model(make_video_model(config=config))
    expected = film(model, video_processor, clip[:5], num_objects)
    model.compile(**options)
    found = [film(model, video_processor, clip[:5], num_objects) for _ in range(3)]
    for outputs in found:
        assert_equal(outputs, expected, atol=atol)
    assert num_graphs(model) >= (5 if IS_GPU else 0)


def test_cuda_graphs_follow_changed_weights(device_model, video_processor, clip):
    model = copy.deepcopy(device_model)
    model.compile(**GRAPHS)
    for seed in (1, 2):
        weights = make_video_model(seed=seed).state_dict()
        model.load_state_dict(weights)
        plain = copy.deepcopy(model)
        expected = film(plain, video_processor, clip[:5])
        for _ in range(3):
            assert_equal(film(model, video_processor, clip[:5]), expected)
    model.to(torch.bfloat16).to(torch.float32)
    expected = film(copy.deepcopy(model), video_processor, clip[:5])
    for _ in range(3):
        assert_equal(film(model, video_processor, clip[:5]), expected)
    assert num_graphs(model) >= (4 if IS_GPU else 0)


def test_cuda_graphs_can_be_forgotten_and_made_again(device_model, video_processor, clip, monkeypatch):
    monkeypatch.setattr(cuda_graphs_edgetam_video, "MAX_SHAPES", 6)
    model = copy.deepcopy(device_model)
    expected = film(model, video_processor, clip, 2)
    model.compile(**GRAPHS)
    for _ in range(3):
        assert_equal(film(model, video_processor, clip, 2), expected)
        torch.cuda.empty_cache()


@pytest.mark.parametrize("dtype", HALVES)
def test_stream_with_cuda_graphs_in_half_precision_equals_the_eager_one(device_model, video_processor, clip, dtype):
    model, outputs = copy.deepcopy(device_model).to(dtype), []
    for options in (None, GRAPHS):
        if options is not None:
            model.compile(**options)
        tracker = Tracker(model, video_processor, inference_device=DEVICE, dtype=dtype)
        tracker.add(0, [1, 2], input_boxes=[[[10, 30, 40, 60], [50, 20, 90, 70]]])
        with torch.inference_mode():
            outputs.append([on_cpu(output) for output in tracker.stream(clip[:5])])
    assert_equal(*outputs, atol=1e-2)


def test_replayed_frame_does_not_wait_for_the_device(device_model, video_processor, clip):
    model = copy.deepcopy(device_model)
    model.compile(**GRAPHS)
    for is_last in (False, False, True):
        tracker = Tracker(model, video_processor, inference_device=DEVICE)
        tracker.add(0, [1, 2], input_boxes=[[[10, 30, 40, 60], [50, 20, 90, 70]]])
        tracker.stream(clip[:4])
        frame = tracker.processor(images=[clip[4]], return_tensors="pt")["pixel_values"][0]
        if not is_last:
            model(tracker.session, frame=frame)
    with no_waits():
        output = model(tracker.session, frame=frame)
    assert output.pred_masks.device.type == DEVICE and num_graphs(model) >= (5 if IS_GPU else 0)


@needs_gpu
def test_cuda_graphs_of_threads_with_streams_of_their_own_equal_the_eager_video(device_model, video_processor, clip):
    model, found = copy.deepcopy(device_model), {}
    expected = {num_objects: film(model, video_processor, clip[:6], num_objects) for num_objects in (1, 2)}
    model.compile(**GRAPHS)
    torch.cuda.synchronize()

    def run(num_objects):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            found[num_objects] = [film(model, video_processor, clip[:6], num_objects) for _ in range(4)]
        stream.synchronize()

    threads = [threading.Thread(target=run, args=(num_objects,)) for num_objects in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.keys() == expected.keys()
    for num_objects, videos in found.items():
        for outputs in videos:
            assert_equal(outputs, expected[num_objects])
