"""What the page gives to take home is read back by Python: pictures, archives, annotations, projects."""

import io
import json
import zipfile

import browser
import javascript
import numpy as np
import pytest
import training_sources
from PIL import Image

from edgetam_hf.drawing.legend import topmost
from edgetam_hf.evaluation.video_datasets import read_indices
from edgetam_hf.formats import picture_output, run_lengths, tracks
from edgetam_hf.formats.index_pictures import picture_of_indices
from edgetam_hf.found_objects import CutMask, FoundObject
from edgetam_hf.training.masklet_videos import open_masklet_clips

NEEDS_COCO = "equality with pycocotools needs it"
HEIGHT, WIDTH = 24, 37
ODD_NAMES = [
    "../../etc/passwd",
    "a/b\\c",
    "CON",
    "nul.txt",
    "",
    "...",
    "Katze 🐈",
    "x" * 300,
    "\u202ecod.exe",
    "\ud800",
    "\n",
]
SIZES = [(1, 1), (1, 7), (9, 1), (5, 8), (31, 17), (64, 3), (2, 200)]


def run_tasks(tasks, folder):
    """What `web/page_files.js` says of tasks."""
    (folder / "job.json").write_text(json.dumps(tasks))
    return json.loads(javascript.node(javascript.WEB / "page_files.js", folder / "job.json", package=None))


def masks_of(size, generator):
    """Boolean masks of many kinds."""
    height, width = size
    yield np.zeros(size, bool)
    yield np.ones(size, bool)
    for density in (0.02, 0.5, 0.98):
        yield generator.random(size) < density
    rows, columns = np.mgrid[:height, :width]
    yield (rows - height / 3) ** 2 + (columns - width / 2) ** 2 < (max(size) / 3) ** 2
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        mask = np.zeros(size, bool)
        mask[corner] = True
        yield mask


def clip_masks(num_objects=3, num_frames=10):
    """Masks [frame][object], bool (HEIGHT, WIDTH): discs that move and overlap; the last object is on no frame."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    masks = np.zeros((num_frames, num_objects, HEIGHT, WIDTH), bool)
    for t in range(num_frames):
        for number in range(num_objects - 1):
            x, y, radius = (5 + 7 * number + 2 * t) % WIDTH, 6 + (3 * number + t) % 14, 3 + number % 6
            masks[t, number] = (columns - x) ** 2 + (rows - y) ** 2 <= radius**2
    return masks


def project_of(masks, frame_indices=None, kind="video", names=None, num_frames=None, ids=None):
    """A document as JSON; masks [frame][object], boolean (H, W)."""
    frame_indices = range(len(masks)) if frame_indices is None else frame_indices
    ids = ids or range(1, masks.shape[1] + 1)
    num_frames = num_frames or max(frame_indices) + 1
    media = {"kind": kind, "name": "clip.mp4" if kind == "video" else "coins.jpg", "frameRate": 24, "hasSound": False}
    media |= {"width": masks.shape[3], "height": masks.shape[2], "numFrames": num_frames}
    names = names or [f"Object {number}" for number in ids]
    objects = [
        {"id": number, "name": name, "colour": [number % 256, 255 - number % 251, 7], "isVisible": True}
        for number, name in zip(ids, names)
    ]
    prompt = {"points": [[3.5, 4], [9, 2.25]], "labels": [1, 0], "box": None, "mask": None}
    box = {"points": [], "labels": [], "box": [1, 2, 8.5, 9], "mask": None}
    prompts = [{"objectId": ids[0], "frameIdx": frame_indices[0], "prompts": [prompt, box], "choice": 0}]
    if kind == "video":
        mask = {"points": [], "labels": [], "box": None, "mask": runs_of(masks[0, 0])}
        prompts.append({"objectId": ids[1], "frameIdx": frame_indices[0], "prompts": [mask], "choice": 0})
    frames = [
        {"frameIdx": frame_idx, "objects": [found_of(mask, number) for mask, number in zip(of_frame, ids)]}
        for frame_idx, of_frame in zip(frame_indices, masks)
    ]
    return {"media": media, "objects": objects, "prompts": prompts, "frames": frames}


def runs_of(mask):
    return CutMask.of(mask).run_lengths()["counts"]


def found_of(mask, number):
    score = 0.9 - number / 1000
    return {"objectId": number, "runs": runs_of(mask), "iouScore": score, "isPresent": bool(mask.any())}


def found_objects(masks, ids):
    return [FoundObject(number, CutMask.of(mask), 0.9 - number / 1000) for mask, number in zip(masks, ids)]


def export(kind, project, folder):
    """What Node says of an export, and the path of the file."""
    path = folder / "exported"
    [said] = run_tasks([{"action": "export", "kind": kind, "project": project, "path": str(path)}], folder)
    assert "error" not in said, said
    return said, path


# Run lengths.


def test_runs_are_those_of_pycocotools(tmp_path):
    coco_mask = pytest.importorskip("pycocotools.mask", reason=NEEDS_COCO)
    masks = [mask for size in SIZES for mask in masks_of(size, np.random.default_rng(0))]
    tasks = [
        {
            "action": "runs",
            "pixels": mask.ravel().astype(int).tolist(),
            "size": {"width": mask.shape[1], "height": len(mask)},
        }
        for mask in masks
    ]
    for mask, found in zip(masks, run_tasks(tasks, tmp_path), strict=True):
        expected = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        assert found["text"] == expected["counts"].decode()
        assert found["runs"] == run_lengths.read_counts(expected, mask.shape, "mask").tolist()
        assert found["area"] == mask.sum()
        assert found["box"] == coco_mask.toBbox(expected).tolist()
        assert found["decoded"] == found["isOn"] == mask.ravel().astype(int).tolist()
        assert not any(found["isOnBeside"])


def test_runs_of_others_may_be_empty(tmp_path):
    runs, size = [4, 0, 3, 2, 0, 5, 10, 0, 0], {"width": 4, "height": 6}
    [found] = run_tasks([{"action": "partsOf", "runs": runs, "size": size}], tmp_path)
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(4, 6).T
    assert found == {"decoded": mask.ravel().astype(int).tolist(), "box": [1, 0, 2, 6], "area": 7}


def test_compressed_runs_are_read_as_python_reads_them_or_rejected(tmp_path):
    coco_mask = pytest.importorskip("pycocotools.mask", reason=NEEDS_COCO)
    generator = np.random.default_rng(0)
    text = coco_mask.encode(np.asfortranarray(generator.random((HEIGHT, WIDTH)) < 0.1, np.uint8))["counts"].decode()
    texts = [text, "", "é", "o", text[:-1], text + "0", "P" * 40]
    for _ in range(400):
        place, character = generator.integers(len(text)), chr(generator.integers(40, 120))
        texts.append(text[:place] + character + text[place + generator.integers(2) :])
    task = {"action": "decompress", "texts": texts, "size": {"width": WIDTH, "height": HEIGHT}}
    [found] = run_tasks([task], tmp_path)
    for given, runs in zip(texts, found, strict=True):
        try:
            expected = run_lengths.read_counts({"size": [HEIGHT, WIDTH], "counts": given}, (HEIGHT, WIDTH), "a mask")
            assert runs == expected.tolist()
        except ValueError:
            assert runs == f"a mask must have run lengths that fill {WIDTH} x {HEIGHT} pixels"
    assert sum(isinstance(runs, list) for runs in found) > 1


# Pictures.


def test_index_picture_is_that_of_python(tmp_path):
    masks = clip_masks(num_objects=6)[:1]
    project = project_of(masks, kind="picture")
    said, path = export("index", project, tmp_path)
    assert said["name"] == "coins_mask.png" and said["type"] == "image/png"
    with Image.open(path) as picture:
        assert picture.mode == "P" and picture.size == (WIDTH, HEIGHT)
        expected = topmost(found_objects(masks[0], range(1, 7)), (HEIGHT, WIDTH))
        np.testing.assert_array_equal(np.array(picture), expected)
        np.testing.assert_array_equal(read_indices(path), expected)  # as DAVIS is read
        palette = np.array(picture.getpalette()).reshape(-1, 3)[:7].tolist()
    assert palette == [[0, 0, 0], *(of_object["colour"] for of_object in project["objects"])]


@pytest.mark.parametrize("num_objects", [255, 300])
def test_index_picture_of_many_objects_is_that_of_python(num_objects, tmp_path):
    masks = np.zeros((1, num_objects, HEIGHT, WIDTH), bool)
    for number in range(num_objects):
        masks[0, number].flat[2 * number : 2 * number + 3] = True
    _, path = export("index", project_of(masks, kind="picture"), tmp_path)
    expected = picture_of_indices(topmost(found_objects(masks[0], range(1, num_objects + 1)), (HEIGHT, WIDTH)))
    with Image.open(path) as picture:
        assert picture.mode == expected.mode
        np.testing.assert_array_equal(np.array(picture), np.array(expected))


def test_coco_of_a_picture_is_that_of_python(tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason=NEEDS_COCO)
    masks = clip_masks(num_objects=4)[:1]
    said, path = export("coco", project_of(masks, kind="picture"), tmp_path)
    objects = found_objects(masks[0], range(1, 5))
    objects[0].points = [(3.5, 4, 1), (9, 2.25, 0)]
    dataset = picture_output.CocoDataset()
    dataset.add(picture_output.PictureResult(tmp_path / "coins.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8), objects))
    dataset.write(tmp_path / "python.json")
    assert json.loads(path.read_text()) == json.loads((tmp_path / "python.json").read_text())
    assert said["name"] == "coins_coco.json"
    read = coco.COCO(str(path))
    for annotation, mask in zip(read.loadAnns(read.getAnnIds(imgIds=1)), masks[0, :3], strict=True):
        np.testing.assert_array_equal(read.annToMask(annotation), mask)


def test_coco_has_categories_by_name(tmp_path):
    names = ["cup", " cup ", "Object 3", "", "dog"]
    _, path = export("coco", project_of(clip_masks(6)[:1, :5], kind="picture", names=names), tmp_path)
    data = json.loads(path.read_text())
    assert [category["name"] for category in data["categories"]] == ["cup", "object", "dog"]
    assert [annotation["category_id"] for annotation in data["annotations"]] == [1, 1, 2, 2, 3]


# Videos.


FRAME_INDICES = [0, 1, 2, 5, 8, 9, 12, 13, 14, 16]  # with gaps


def read_masks(archive):
    """Index arrays by name, and the modes of the pictures."""
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        return {name: np.array(Image.open(io.BytesIO(opened.read(name)))) for name in opened.namelist()}


def test_index_pictures_of_a_video_are_those_of_python(tmp_path):
    masks = clip_masks()
    said, path = export("index", project_of(masks, FRAME_INDICES), tmp_path)
    assert said["name"] == "clip_masks.zip" and said["progress"][-1] == [10, 10]
    found = read_masks(path)
    assert list(found) == [f"{frame_idx:05d}.png" for frame_idx in FRAME_INDICES]
    for of_frame, indices in zip(masks, found.values()):
        np.testing.assert_array_equal(indices, topmost(found_objects(of_frame, (1, 2, 3)), (HEIGHT, WIDTH)))


def python_tracks(masks, frame_indices, num_frames):
    """A `Track` of each object on the given frames, and one with all frames."""
    found, whole = [], []
    for number, of_object in enumerate(masks.swapaxes(0, 1), start=1):
        score = 0.9 - number / 1000 if of_object.any() else 0.0
        found.append(tracks.Track(number, score=score))
        whole.append(tracks.Track(number, score=score))
        by_frame = dict(zip(frame_indices, of_object))
        for mask in of_object:
            found[-1].append(mask)
        for t in range(num_frames):
            whole[-1].append(by_frame.get(t))
    return found, whole


def test_annotations_of_a_video_are_those_of_python(tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason=NEEDS_COCO)
    masks = clip_masks()
    project = project_of(masks, FRAME_INDICES, num_frames=20)
    found, whole = python_tracks(masks, FRAME_INDICES, 20)
    _, path = export("coco", project, tmp_path)
    names = [f"{frame_idx:05d}.png" for frame_idx in FRAME_INDICES]
    expected = tracks.coco_annotations("clip.mp4", names, (HEIGHT, WIDTH), found, frame_indices=FRAME_INDICES)
    assert json.loads(path.read_text()) == expected
    read = coco.COCO(str(path))
    for annotation in read.loadAnns(read.getAnnIds()):
        mask = masks[annotation["image_id"] - 1, annotation["track_id"] - 1]
        np.testing.assert_array_equal(read.annToMask(annotation), mask)
    _, path = export("youtube-vis", project, tmp_path)
    assert json.loads(path.read_text()) == tracks.youtube_vis_tracks(1, whole)


def test_masklets_are_read_as_training_videos(tmp_path):
    pytest.importorskip("pycocotools", reason=NEEDS_COCO)
    training_sources.write_masklets(tmp_path)
    size = (training_sources.HEIGHT, training_sources.WIDTH)
    masks = np.zeros((13, 2, *size), bool)
    masks[:, 0, 5:20, 30:50] = True
    masks[6:, 1, 25:40, 10:30] = True
    masks[9, 0] = False
    project = project_of(masks, [t for t in range(15) if t not in (4, 7)], num_frames=36)
    said, path = export("sa-v", project, tmp_path)
    assert said["name"] == "clip_manual.json"
    path.replace(tmp_path / "sav_000001_manual.json")
    [video] = open_masklet_clips(tmp_path).sequences.videos
    assert list(video.annotations) == [0, 4, 8, 12]
    for frame_idx, row in {0: 0, 4: None, 8: 6, 12: 10}.items():
        expected = {} if row is None else {number: mask for number, mask in enumerate(masks[row]) if mask.any()}
        found = video.read_masks(frame_idx)
        assert found.keys() == expected.keys()
        for number, mask in expected.items():
            np.testing.assert_array_equal(found[number], mask)
    data = json.loads((tmp_path / "sav_000001_manual.json").read_text())
    facts = {name: data[f"masklet_{name}"] for name in ("num", "id", "size_abs", "size_bucket", "first_appeared_frame")}
    assert facts == {
        "num": 2,
        "id": [1, 2],
        "size_abs": [300, 300],
        "size_bucket": ["small", "small"],
        "first_appeared_frame": [0, 8],
    }
    assert data["masklet_visibility_changes"] == [2, 0]


def test_objects_without_results_are_in_no_file(tmp_path):
    project = project_of(clip_masks())
    unused = {"id": 9, "name": "not clicked yet", "colour": [1, 2, 3], "isVisible": True}
    for kind in ("coco", "youtube-vis", "sa-v"):
        contents = []
        for objects in (project["objects"], [*project["objects"], unused]):
            contents.append(export(kind, {**project, "objects": objects}, tmp_path)[1].read_bytes())
        assert contents[0] == contents[1]


def test_archive_holds_more_files_than_its_short_record_counts(tmp_path):
    run_tasks([{"action": "manyFiles", "number": 65_600, "path": str(tmp_path / "many.zip")}], tmp_path)
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert len(archive.namelist()) == 65_600
        assert archive.read("65599.txt") == b"65599"


def test_export_can_be_stopped(tmp_path):
    project = project_of(clip_masks())
    kinds = ["index", "coco", "youtube-vis", "sa-v"]
    assert (
        run_tasks([{"action": "stop", "kind": kind, "project": project} for kind in kinds], tmp_path)
        == ["AbortError"] * 4
    )


def test_export_rejects_what_it_cannot_do(tmp_path):
    video, picture = project_of(clip_masks()), project_of(clip_masks()[:1], kind="picture")
    tasks = [
        ("nothing", video, "There is no export nothing, there are index, "),
        ("sa-v", picture, "SA-V masklets (JSON): that is for a video, but a picture is open"),
        ("coco", {**video, "frames": []}, "There is no mask yet: click on an object first"),
        ("index", project_of(clip_masks(2), ids=[1, 70_000]), "number objects up to 65535, here is object 70000"),
        ("sa-v", project_of(clip_masks()[:1], [3]), "SA-V has masks on every fourth frame, of which none has results"),
        ("cutouts", project_of(np.zeros((1, 2, 4, 4), bool)), "All masks are empty: there is nothing to cut out"),
    ]
    job = [
        {"action": "export", "kind": kind, "project": project, "path": str(tmp_path / "x")}
        for kind, project, _ in tasks
    ]
    for said, (_, _, message) in zip(run_tasks(job, tmp_path), tasks, strict=True):
        assert message in said["error"]


# Names and projects.


def test_names_are_made_harmless(tmp_path):
    given = [*ODD_NAMES, "cup", "Cup", "clip.final.mp4", "C:\\films\\clip.mp4", "/films/clip.mp4", ".mp4"]
    [said] = run_tasks([{"action": "names", "names": given}], tmp_path)
    for name in (*said["files"], *said["stems"], *said["objects"]):
        assert 0 < len(name) <= 90 and name.isprintable() and not set(name) & set('<>:"/\\|?*')
        assert name.split(".")[0].upper() not in ("CON", "NUL") and name[0] != "." and name[-1] not in ". "
    assert len({name.lower() for name in said["objects"]}) == len(given)
    assert said["stems"][-4:] == ["clip.final", "clip", "clip", "mp4"]


def test_odd_names_go_through_all_files(tmp_path):
    masks = clip_masks(len(ODD_NAMES))[:2]
    project = project_of(masks, names=ODD_NAMES)
    project["media"]["name"] = "../../<clip>.mp4"
    for kind in ("index", "coco", "youtube-vis", "sa-v"):
        said, path = export(kind, project, tmp_path)
        assert "/" not in said["name"] and "<" not in said["name"]
        assert kind == "index" or json.loads(path.read_text())
    _, path = export("coco", project, tmp_path)
    assert json.loads(path.read_text())["videos"][0]["name"] == "<clip>.mp4"


@pytest.fixture(scope="module")
def project_file(tmp_path_factory):
    """A saved project of a video, small enough to try every change."""
    folder = tmp_path_factory.mktemp("project")
    project = project_of(clip_masks(num_objects=2)[:2], [0, 3], names=["cup", "Katze 🐈\n"])
    run_tasks([{"action": "save", "project": project, "path": str(folder / "project.json")}], folder)
    return folder / "project.json"


def test_projects_are_saved_and_read_without_a_change(tmp_path):
    pytest.importorskip("pycocotools", reason=NEEDS_COCO)
    projects = {
        "picture": project_of(clip_masks()[:1], kind="picture"),
        "video": project_of(clip_masks(300)[:3], [1, 5, 6]),
        "names": project_of(clip_masks(len(ODD_NAMES))[:1], names=ODD_NAMES),
        "nothing": {**project_of(clip_masks()), "frames": [], "prompts": [], "objects": []},
    }
    tasks = []
    for name, project in projects.items():
        tasks += [{"action": "save", "project": project, "path": str(tmp_path / name)}]
        tasks += [{"action": "resave", "path": str(tmp_path / name)}]
    assert run_tasks(tasks, tmp_path) == [True] * len(tasks)
    saved = json.loads((tmp_path / "video").read_text())
    found = saved["frames"][2]["objects"][7]
    expected = run_lengths.compress(CutMask.of(clip_masks(300)[2, 7]))
    assert found == {"objectId": 8, "mask": expected["counts"], "iouScore": 0.9 - 8 / 1000, "isPresent": True}


def test_projects_with_one_changed_value_are_read_whole_or_rejected(project_file, tmp_path):
    [counts] = run_tasks([{"action": "mutate", "path": str(project_file)}], tmp_path)
    assert counts["wrong"] == []
    assert counts["rejected"] > 500 and counts["read"] > 10


def test_projects_that_end_too_early_are_rejected(project_file, tmp_path):
    [counts] = run_tasks([{"action": "truncate", "path": str(project_file)}], tmp_path)
    assert counts["wrong"] == [] and counts["read"] == 0
    assert counts["rejected"] >= len(project_file.read_text(encoding="utf-8").rstrip())


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "This is no project that was saved by this page, or it is damaged: "),
        (b"\x89PNG\r\n", "This is no project that was saved by this page, or it is damaged: "),
        (b'{"annotations": []}', "This is no project that was saved by this page."),
        (b'{"format": "edgetam project", "version": 2}', "saved by a newer page, in version 2; this one reads 1."),
        (b'{"format": "edgetam project", "version": 1}', "The project is damaged: the file must have just format, "),
    ],
)
def test_projects_reject_foreign_files(content, message, tmp_path):
    (tmp_path / "foreign").write_bytes(content)
    [said] = run_tasks([{"action": "resave", "path": str(tmp_path / "foreign")}], tmp_path)
    assert message in said["error"]


def test_projects_reject_what_no_browser_could_read(tmp_path):
    [said] = run_tasks([{"action": "readLarge", "size": 2**30}], tmp_path)
    assert said["error"].startswith("The project has 1024 MB, and a page reads at most 511 MB: export its masks")


def test_projects_are_read_again_where_a_score_is_no_number(tmp_path):
    project = project_of(clip_masks()[:1])
    project["frames"][0]["objects"][0]["iouScore"] = None  # as NaN in JSON
    path = str(tmp_path / "project.json")
    assert run_tasks(
        [{"action": "save", "project": project, "path": path}, {"action": "resave", "path": path}], tmp_path
    )[1]


# What needs a canvas.


@pytest.fixture(scope="module")
def chromium():
    """A page of the server of tests."""
    with browser.open_page(*browser.WITHOUT_GPU) as page:
        yield page


def export_in_chromium(page, kind, project, frames):
    """Name and bytes of an export; frames are uint8 (T, H, W, 3)."""
    script = 'async (task) => (await import("/tests/page_canvas.js")).exportInBrowser(...task)'
    found = page.evaluate(script, [kind, project, [frame.ravel().tolist() for frame in frames]])
    return found["name"], bytes(found["bytes"])


def draw_frames(num_frames):
    return np.random.default_rng(0).integers(0, 256, (num_frames, HEIGHT, WIDTH, 3), np.uint8)


def assert_cut_out(content, picture, mask):
    """The pixels of the mask's box, transparent where the mask is not."""
    cut = CutMask.of(mask)
    found = np.array(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(found[..., 3], cut.part * 255)
    np.testing.assert_array_equal(found[..., :3], picture[cut.window] * cut.part[..., None])


def test_cutouts_have_the_pixels_of_the_objects_in_chromium(chromium):
    masks, frames = clip_masks()[:3], draw_frames(3)
    name, content = export_in_chromium(chromium, "cutouts", project_of(masks[:1, :1], kind="picture"), frames)
    assert name == "coins_Object 1.png"
    assert_cut_out(content, frames[0], masks[0, 0])
    project = project_of(masks, names=["cup", "CUP", "nothing"])
    name, content = export_in_chromium(chromium, "cutouts", project, frames)
    assert name == "clip_cutouts.zip"
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = [f"{name}/{t:05d}.png" for t in range(3) for name in ("cup", "CUP_2")]
        assert archive.namelist() == names
        for idx, name in enumerate(names):
            assert_cut_out(archive.read(name), frames[idx // 2], masks[idx // 2, idx % 2])


def test_overlay_shows_visible_objects_in_chromium(chromium):
    masks, frames = clip_masks(4)[:1], draw_frames(1)
    project = project_of(masks, kind="picture")
    project["objects"][1]["isVisible"] = False
    name, content = export_in_chromium(chromium, "overlay-picture", project, frames)
    assert name == "coins_overlay.png"
    found = np.array(Image.open(io.BytesIO(content)))[..., :3].astype(int)
    ids = topmost([found_objects(masks[0], (1, 2, 3, 4))[idx] for idx in (0, 2)], (HEIGHT, WIDTH))
    np.testing.assert_array_equal(found[ids == 0], frames[0][ids == 0])
    for number in (1, 3):
        colour = np.array(project["objects"][number - 1]["colour"])
        is_line = (found[ids == number] == colour).all(1)
        assert 0 < is_line.sum() < (ids == number).sum()
        tinted = frames[0][ids == number] * 0.55 + colour * 0.45
        np.testing.assert_allclose(found[ids == number][~is_line], tinted[~is_line], atol=1)


def test_film_is_asked_of_the_engine_in_chromium(chromium):
    project = project_of(clip_masks()[:2], [3, 7])
    project["objects"][0]["isVisible"] = False
    name, content = export_in_chromium(chromium, "overlay-video", project, [])
    assert name == "clip_overlay.mp4"
    objects = [{"objectId": of_object["id"], "colour": of_object["colour"]} for of_object in project["objects"][1:]]
    assert json.loads(content) == {"objects": objects, "frames": [[3, [2, 3]], [7, [2, 3]]]}
