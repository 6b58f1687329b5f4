"""edgetam.js finds in Node and in Chromium what Python finds, and exported folders serve Transformers.js."""

import base64
import json

import browser
import javascript
import numpy as np
import pytest
import small_models
import torch
from edgetam_hf.memory_selection_edgetam import MemorySelection, learn_looks
from javascript import FoundMask, assert_same_mask, assert_same_outputs, make_task, run_in_node, run_in_python
from PIL import Image

from edgetam_hf import EdgeTamModel, EdgeTamVideoProcessor, nano_checkpoint
from edgetam_hf.export import parity
from edgetam_hf.export.folder import write_configuration
from edgetam_hf.export.graphs import graphs_of
from edgetam_hf.export.onnx import write_onnx

COIN, OTHER_COIN = [211, 192], [45, 55]
BOX, OTHER_BOX = [246, 93, 296, 143], [22, 32, 68, 78]
PROMPTS = [
    {"points": [[COIN]]},
    {"points": [[COIN]], "multimask": False},
    {"points": [[COIN, [255, 192]], [OTHER_COIN]], "labels": [[1, 0], [1]]},
    {"boxes": [BOX, OTHER_BOX], "multimask": False},
    {"boxes": [BOX, None], "points": [[[270, 100]], [COIN, [215, 195]]]},
]
NANO_FRAMES = parity.draw_clip(parity.FRAMES_PER_TURN)
MIDDLE = len(NANO_FRAMES) // 2


@pytest.fixture
def coins():
    """A picture, uint8 (1, 303, 384, 3)."""
    with Image.open(parity.SAMPLES / "coins.jpg") as picture:
        return np.array(picture.convert("RGB"))[None]


@pytest.fixture(scope="session")
def coins_in_python():
    """A function that gives what `EdgeTamModel` finds in a picture (1, height, width, 3) for prompts of `PROMPTS`."""
    model = EdgeTamModel.from_pretrained(nano_checkpoint(), dtype=torch.float32).eval().requires_grad_(False)
    processor = EdgeTamVideoProcessor.from_pretrained(nano_checkpoint())

    def find(picture, points=None, labels=None, boxes=None, multimask=True):
        """Masks, [object][mask]."""
        given = {"input_points": points, "input_labels": labels, "input_boxes": boxes}
        given = {name: [fill_none(value)] for name, value in given.items() if value is not None}
        inputs = processor(images=picture[0], return_tensors="pt", **given)
        output = model(**inputs, multimask_output=multimask)
        masks = processor.post_process_masks(output.pred_masks, inputs["original_sizes"])[0].numpy()
        found = zip(masks, output.iou_scores[0].tolist(), output.object_score_logits[0, :, 0].tolist())
        return [[FoundMask(mask, iou, score) for mask, iou in zip(masks, ious)] for masks, ious, score in found]

    return find


def fill_none(prompts):
    """Padding in place of a missing box; points are never missing here."""
    return [[-10] * 4 if prompt is None else prompt for prompt in prompts]


def assert_same_picture(actual, expected):
    """Masks [prompts][object][mask] that agree."""
    for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
        for obj, (masks, wanted) in enumerate(zip(one, other, strict=True)):
            for found, mask in zip(masks, wanted, strict=True):
                assert_same_mask(found, mask, f"prompts {number}, object {obj}")


def follow_three():
    """Three objects, one that begins in the middle, a correction, and tracking back from there."""
    x, y = parity.place_of(parity.STAYING, MIDDLE)
    outside = [x + 2 * parity.STAYING[2], y]
    return [
        ["add", 0, [1, 2], {"points": [[parity.place_of(parity.STAYING, 0)], None], "boxes": [None, box(0)]}],
        ["propagate", {"count": MIDDLE}],
        ["add", MIDDLE, 3, {"masks": [parity.disc_of(parity.COMING, MIDDLE).astype(int).ravel().tolist()]}],
        ["add", MIDDLE, 1, {"points": [[[x, y], outside]], "labels": [[1, 0]]}],
        ["propagate", {"start": MIDDLE}],
        ["propagate", {"start": MIDDLE, "count": 5, "reverse": True}],
    ]


def box(frame_idx):
    return parity.box_of(parity.LEAVING, frame_idx)


@pytest.fixture(scope="session")
def clip():
    """Frames of a view that swings over coins, uint8 (24, 240, 240, 3)."""
    return np.stack([np.array(frame) for frame in NANO_FRAMES])


@pytest.fixture(scope="session")
def followed(nano, clip):
    """What PyTorch finds in the steps of `follow_three`."""
    return run_in_python(*nano, clip, {"steps": follow_three()})


def test_web_has_types_that_agree():
    javascript.node(javascript.MODULES / "typescript/bin/tsc", "-p", javascript.WEB, package="typescript")


@pytest.mark.parametrize("target", [(128, 128), (96, 256)])
def test_frames_have_the_levels_of_python(target, tmp_path):
    sizes = [(90, 120), (128, 128), (303, 384), (64, 300), (1, 5)]
    generator, tasks, expected = np.random.default_rng(0), [], []
    processor = small_models.make_processor(*target)
    preparation = {"size": {"height": target[0], "width": target[1]}, "rescaleFactor": 1 / 255}
    preparation |= {"mean": processor.image_processor.image_mean, "std": processor.image_processor.image_std}
    for number, (height, width) in enumerate(sizes):
        picture = generator.integers(0, 256, (height, width, 3), np.uint8)
        expected.append(processor(images=picture, return_tensors="pt")["pixel_values"][0].numpy())
        paths = {"pixels": tmp_path / f"{number}.rgb", "target": tmp_path / f"{number}.floats"}
        paths["pixels"].write_bytes(picture.tobytes())
        paths = {name: str(path) for name, path in paths.items()}
        tasks.append({**paths, "frame": {"width": width, "height": height}, "preparation": preparation})
    (tmp_path / "job.json").write_text(json.dumps(tasks))
    javascript.node(javascript.WEB / "resize.js", tmp_path / "job.json")
    for task, values in zip(tasks, expected):
        found = np.fromfile(task["target"], np.float32).reshape(values.shape)
        np.testing.assert_allclose(found, values, atol=1e-5)  # a level is 0.017


def test_pictures_in_node_equal_python(nano_folder, coins, coins_in_python, tmp_path):
    task = make_task(nano_folder, coins, tmp_path / "coins.rgb", prompts=PROMPTS)
    [found] = run_in_node([task], tmp_path)
    assert_same_picture(found, [coins_in_python(coins, **prompts) for prompts in PROMPTS])


def test_pictures_in_float16_are_found_in_node(video_model, video_folder, kept_graphs, tmp_path):
    javascript.needs_package("onnxruntime-web")
    processor = small_models.make_processor(128)
    folder = tmp_path / "half"
    (folder / "onnx").mkdir(parents=True)
    write_configuration(video_model, processor, folder, False, ["float16"])
    for graph in graphs_of(video_model, False, "float16"):
        if graph.name != "prompt_encoder_mask_decoder":
            write_onnx(graph, folder / "onnx" / f"{graph.name}_fp16.onnx")
    picture, click = small_models.make_clip(1), [[[25, 45]]]
    task = make_task(folder, picture, tmp_path / "picture.rgb", prompts=[{"points": click}])
    [[[masks]]] = run_in_node([task], tmp_path, dtype="fp16")
    inputs = processor(images=picture[0], input_points=[click], return_tensors="pt")
    with torch.no_grad():
        expected = EdgeTamModel.from_pretrained(video_folder)(**inputs).iou_scores[0, 0]
    np.testing.assert_allclose([mask.iou_score for mask in masks], expected, atol=5e-3)


def test_three_objects_in_node_equal_python(nano_folder, clip, followed, tmp_path):
    task = make_task(nano_folder, clip, tmp_path / "clip.rgb", steps=follow_three())
    [found] = run_in_node([task], tmp_path)
    assert_same_outputs(found, followed)


def test_bounded_sessions_in_node_equal_python(nano, nano_folder, clip, tmp_path):
    x, y = parity.place_of(parity.STAYING, 4)
    stream = [
        *(["add", 0, 1, {"points": [[parity.place_of(parity.STAYING, 0)]]}], ["receive", 0], ["receive", 1]),
        *(["add", 1, 2, {"boxes": [box(1)]}], ["segment", 1], ["receive", 2], ["receive", 3], ["receive", 4]),
        *(["add", 4, 1, {"points": [[[x + 3, y]]]}], ["segment", 4]),
        *(["add", 4, 1, {"points": [[[x, y + 60]]], "labels": [[0]], "joinEarlier": True}], ["segment", 4]),
        *(["receive", 5], ["clear", 4, 1], ["remove", 2], ["receive", 6]),
    ]
    video = [
        *(["add", 0, 1, {"points": [[parity.place_of(parity.STAYING, 0)]]}], ["propagate", {"count": 5}]),
        *(["add", 3, 1, {"boxes": [parity.box_of(parity.STAYING, 3)]}], ["segment", 3], ["segment", 0]),
        *(["propagate", {"start": 4, "reverse": True}], ["clear", 3, 1], ["propagate", {"count": 2}]),
        *(["clear", 3, 1], ["segment", 99]),  # of which nothing is left
    ]
    tasks = [
        {"isStream": True, "settings": {"maxCachedFrames": 2}, "steps": stream},
        {"settings": {"maxMemoryFrames": 1, "maxObjectsPerBatch": 1}, "steps": video},
    ]
    expected = [run_in_python(*nano, clip, task) for task in tasks]
    found = run_in_node([make_task(nano_folder, clip, tmp_path / "clip.rgb", **task) for task in tasks], tmp_path)
    for outputs, wanted in zip(found, expected):
        assert_same_outputs(outputs, wanted)
    assert ["error" in output for output in found[1]][-2:] == [True, True]


def test_memories_that_choose_in_node_equal_python(nano, nano_folder, clip, tmp_path):
    choosy = {"numSearched": 9, "leastIou": 0.87, "hasAbsent": False}
    begin = ["add", 0, [1, 2], {"points": [[parity.place_of(parity.STAYING, 0)], None], "boxes": [None, box(0)]}]
    correct = ["add", 3, 1, {"points": [[parity.place_of(parity.STAYING, 3)]]}]
    steps = [begin, ["propagate", {"count": 11}], correct, ["segment", 3], ["propagate", {"start": 3, "count": 4}]]
    settings = [{"memorySelection": choosy}, {"memorySelection": choosy, "maxMemoryFrames": 2}]
    tasks = [{"settings": one, "steps": steps} for one in settings]
    expected = [run_in_python(*nano, clip, task) for task in tasks]
    found = run_in_node([make_task(nano_folder, clip, tmp_path / "clip.rgb", **task) for task in tasks], tmp_path)
    for outputs, wanted in zip(found, expected, strict=True):
        assert_same_outputs(outputs, wanted)
    scores = [mask.iou_score for output in expected[0] for _, mask in output["masks"]]
    assert 0.1 < np.mean(np.array(scores) < choosy["leastIou"]) < 0.9


def test_memories_that_choose_have_the_values_of_python(tmp_path):
    script = tmp_path / "selections.mjs"
    script.write_text(
        f"import {{ MemorySelection, SELECTIONS }} from {str(javascript.SOURCES / 'memory_selection.js')!r};\n"
        "const chosen = Object.keys(SELECTIONS).map((name) => [name, MemorySelection.of(name)]);\n"
        "console.log(JSON.stringify(Object.fromEntries(chosen)));\n"
    )
    found = json.loads(javascript.node(script, package=None))
    chosen = {name: javascript.read_setting(values) for name, values in found.items()}
    assert chosen == {name: MemorySelection.of(name) for name in found}


def test_looks_in_node_equal_python(nano, nano_folder, clip, tmp_path):
    x, y, radius = parity.STAYING
    beside, tiny = (x + radius, y, radius), (x, y, 1)
    begun = [*(parity.disc_of(coin, 0) for coin in (beside, parity.STAYING, tiny)), np.ones(clip.shape[1:3])]
    steps = [
        ["add", 0, [1, 2, 3, 4], {"masks": [mask.astype(int).ravel().tolist() for mask in begun]}],
        ["add", 9, 2, {"masks": [parity.disc_of(beside, 9).astype(int).ravel().tolist()]}],
        ["propagate", {"count": 10}],
    ]
    settings = [{"memorySelection": "confident"}, {"memorySelection": {"lookWeight": 20}, "maxMemoryFrames": 1}]
    tasks = [{"settings": one, "steps": steps} for one in settings]
    expected = [run_in_python(*nano, clip, task) for task in tasks]
    found = run_in_node([make_task(nano_folder, clip, tmp_path / "clip.rgb", **task) for task in tasks], tmp_path)
    for outputs, wanted in zip(found, expected, strict=True):
        assert_same_outputs(outputs, wanted)
        # the second object looks like itself up to where the mask beside it is closer; the last is like everything
        of_second, of_last = ([output["masks"][i][1].object_score_logit > 0 for output in wanted] for i in (1, 3))
        assert all(of_second[:5]) and not any(of_second[6:9]) and of_second[9] and not of_second[10] and all(of_last)


def test_looks_have_the_values_of_python(tmp_path):
    features = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    features[:, :3, :4] += 1
    features[:, 3] = 1
    masks = torch.full((6, 8, 8), -5.0)
    for mask, num_pixels in zip(masks, (0, 2, 3, 32, 62, 64)):
        mask.view(-1)[:num_pixels] = 5
    given = json.dumps({"features": features.flatten().tolist(), "masks": masks.flatten(1).tolist()})
    script = tmp_path / "looks.mjs"
    script.write_text(
        f"import {{ doubt, learnLook }} from {str(javascript.SOURCES / 'looks.js')!r};\n"
        f"const given = {given};\n"
        "const features = Float32Array.from(given.features);\n"
        "const masks = given.masks.map((mask) => Float32Array.from(mask));\n"
        "const looks = masks.map((mask) => learnLook(features, mask));\n"
        "const doubts = looks.map((look) => masks.map((mask) => doubt(features, mask, look)));\n"
        "console.log(JSON.stringify({ looks: looks.map((look) => [...look]), doubts }));\n"
    )
    found = json.loads(javascript.node(script, package=None))
    looks, selection = learn_looks(features, masks), MemorySelection(look_weight=1.0)
    np.testing.assert_allclose(found["looks"], looks, atol=1e-4)
    doubts = [-selection.doubt(features, masks, torch.zeros(6), look.expand(6, -1)) for look in looks]
    np.testing.assert_allclose(found["doubts"], torch.stack(doubts), atol=1e-4)


@pytest.mark.parametrize("num_runs", [0, 9])
def test_sessions_go_on_where_the_gpu_fails(num_runs, nano_folder, clip, followed, tmp_path):
    steps = [follow_three()[0], ["propagate", {"count": 2}]]
    task = make_task(nano_folder, clip, tmp_path / "clip.rgb", steps=steps)
    [found] = run_in_node([task], tmp_path, device="webgpu", numRuns=num_runs)
    assert_same_outputs(found, followed[:3])


def test_web_rejects_wrong_use(nano_folder, tmp_path):
    (tmp_path / "job.json").write_text(json.dumps({"modules": str(javascript.MODULES), "folder": str(nano_folder)}))
    said = json.loads(javascript.node(javascript.WEB / "errors.js", tmp_path / "job.json"))
    parts = json.loads((javascript.WEB / "errors.json").read_text())
    assert said.keys() == parts.keys()
    wrong = {name: message for name, message in said.items() if message is None or parts[name] not in message}
    assert not wrong


def test_readme_of_web_runs(nano_folder, coins, tmp_path):
    text = (javascript.SOURCES / "README.md").read_text()
    code = text.split("```js\n")[1].split("```")[0]
    imports = code[: code.index("const model")]
    (tmp_path / "coins.rgb").write_bytes(coins.tobytes())
    prelude = f"""
        import {{ readFile }} from "node:fs/promises";
        import * as ort from {str(javascript.MODULES / "onnxruntime-web/dist/ort.node.min.mjs")!r};
        import {{ EdgeTam }} from {str(javascript.SOURCES / "edgetam.js")!r};
        globalThis.fetch = async (path) => new Response(await readFile(path));
        ort.env.wasm.numThreads = 1;
        const canvas = {{ data: await readFile("{tmp_path}/coins.rgb"), width: 384, height: 303 }};
        const [frames, videoElement] = [[canvas, canvas, canvas], canvas];
    """
    code = code.replace(imports, prelude).replace("models/edgetam", str(nano_folder))
    (tmp_path / "readme.mjs").write_text(code + "console.log(masks.get(1).pixels.some(Boolean));\n")
    lines = javascript.node(tmp_path / "readme.mjs").splitlines()
    assert lines[0].split()[::2] == [str(384 * 303), "true"]
    assert [line.split()[0] for line in lines[2:]] == ["0", "1", "2", "2", "1", "0", "true"]


def test_web_in_chromium_equals_python(nano_folder, coins, coins_in_python, clip, followed, tmp_path):
    tasks = [
        make_task(nano_folder, coins, tmp_path / "coins.rgb", prompts=PROMPTS[2:4]),
        make_task(nano_folder, clip, tmp_path / "clip.rgb", steps=follow_three()),
    ]
    with browser.open_page(*browser.WITHOUT_GPU) as page:
        of_picture, of_clip = browser.run_in_browser(page, tasks, "wasm")
    assert_same_picture(of_picture, [coins_in_python(coins, **prompts) for prompts in PROMPTS[2:4]])
    assert_same_outputs(of_clip, followed)


def test_frames_of_all_kinds_are_the_same_in_chromium():
    with browser.open_page(*browser.WITHOUT_GPU) as page:
        found = page.evaluate('async () => (await import("/tests/frames.js")).framesOfAllKinds()')
    assert found.pop("kinds") == ["ImageData", "RGB", "canvas", "OffscreenCanvas", "ImageBitmap", "image", "video"]
    assert found == {"size": [40, 30], "differences": [0, 0, 0, 0, 0, 0, found["differences"][-1]]}
    assert found["differences"][-1] < 3  # levels on average: the stream of a canvas is compressed


def test_web_falls_back_where_the_gpu_is_lost_in_chromium(nano_folder, coins, coins_in_python, tmp_path):
    task = make_task(nano_folder, coins, tmp_path / "coins.rgb", prompts=PROMPTS[3:4])
    with browser.open_page(*browser.WITH_SIMULATED_GPU) as page:
        if not page.evaluate("async () => Boolean(await navigator.gpu?.requestAdapter())"):
            pytest.skip("this Chromium has no WebGPU, not even a simulated one")
        found = page.evaluate('async (task) => (await import("/tests/browser.js")).loseGpu(task)', task)
    assert found["devices"] == ["webgpu", "wasm"]
    assert "GPU was lost" in found["deviceError"]
    expected = [coins_in_python(coins, **PROMPTS[3])]
    for masks in found["outputs"]:
        assert_same_picture(javascript.read_found({"outputs": [masks]}, task["size"]), expected)


def test_transformers_js_takes_the_first_dtype(nano_folder):
    config = json.loads((nano_folder / "config.json").read_text())
    assert config["transformers.js_config"] == {"dtype": "fp32"}  # in browsers it would look for 8 bits


def test_transformers_js_finds_what_python_finds(nano_folder, coins, coins_in_python, tmp_path):
    picture = coins[:, :256, 100:356].copy()  # of the model's size: Transformers.js resizes in other ways
    points, boxes = [[[111, 192]], [[70, 60], [80, 70]]], [[146, 93, 196, 143]]
    prompts = [
        {"input_points": [points[:1]], "input_labels": [[[1]]]},
        {"input_points": [points[1:]], "input_labels": [[[1, 0]]]},
        {"input_boxes": [boxes]},
    ]
    task = make_task(nano_folder, picture, tmp_path / "coins.rgb", prompts=prompts)
    (tmp_path / "job.json").write_text(json.dumps({"modules": str(javascript.MODULES), "tasks": [task]}))
    script = javascript.WEB / "transformers.js"
    found = json.loads(javascript.node(script, tmp_path / "job.json", package="@huggingface/transformers"))
    wanted = [coins_in_python(picture, points[:1]), coins_in_python(picture, points[1:], [[1, 0]])]
    wanted.append(coins_in_python(picture, boxes=boxes))
    for of_prompts, [masks] in zip(found, wanted, strict=True):
        scores = zip(of_prompts["iouScores"], of_prompts["objectScoreLogits"] * 3)
        for pixels, (iou, score), mask in zip(of_prompts["masks"], scores, masks, strict=True):
            bits = np.frombuffer(base64.b64decode(pixels), np.uint8).reshape(256, 256).astype(bool)
            assert_same_mask(FoundMask(bits, iou, score), mask, "Transformers.js")
