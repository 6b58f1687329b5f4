"""`edgetam track`: what it writes, how it goes on after an interruption, and how it refuses."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import make_model, make_video_model, make_video_processor

from edgetam_cli import main
from edgetam_hf import (
    EdgeTamVideoModel,
    EdgeTamVideoProcessor,
    nano_checkpoint,
)
from edgetam_hf.commands import track as track_command
from edgetam_hf.commands.prompts import read_prompts
from edgetam_hf.formats import overlay_video, run_lengths

NUM_FRAMES, HEIGHT, WIDTH = 12, 48, 64
PROMPTS = ("--point", "20,20", "--box", "30,10,50,40", "--frame", "6", "--object", "1", "--point", "40,30,0")
KILLED = """
import os, signal, sys
from edgetam_hf.commands import track as track_command
from edgetam_cli import main

track_command.FRAMES_PER_CHECKPOINT = 4
write = track_command.TrackRun.write

def write_or_die(run, output):
    if output.frame_idx == 7:
        with open(run.folder.frames, "a") as file:
            file.write('{"frame": 7, "obj')
        (run.folder.masks / ".writing_abc.png").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
    write(run, output)

track_command.TrackRun.write = write_or_die
main(sys.argv[1:])
"""


def small_video_model():
    """A video model of 128x128 pixels whose random weights see every object on every frame."""
    model = make_video_model()
    with torch.no_grad():
        for parameter in model.mask_decoder.pred_obj_score_head.proj_out.parameters():
            parameter.fill_(1.0) if parameter.dim() == 1 else parameter.zero_()
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Folder of a small video model and its processor."""
    folder = tmp_path_factory.mktemp("video_model")
    small_video_model().save_pretrained(folder)
    make_video_processor(128).save_pretrained(folder)
    return folder


def clip():
    """uint8 frames (T, H, W, 3) of a bright square that moves over a textured ground."""
    frames = np.random.default_rng(0).integers(0, 90, (1, HEIGHT, WIDTH, 3), dtype=np.uint8).repeat(NUM_FRAMES, 0)
    for t in range(NUM_FRAMES):
        frames[t, 10:30, 5 + 3 * t : 25 + 3 * t] = 200
    return frames


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Folder with the frames of the clip."""
    folder = tmp_path_factory.mktemp("clips") / "clip"
    folder.mkdir()
    for t, frame in enumerate(clip()):
        Image.fromarray(frame).save(folder / f"frame{t}.png")
    return folder


@pytest.fixture
def run(capsys, checkpoint, tmp_path, monkeypatch):
    """Exit code, stdout and stderr of `edgetam track` with the small model, called in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        arguments = ["track", *map(str, arguments)]
        code = main(arguments if "--model" in arguments else [*arguments, "--model", str(checkpoint)])
        return code, *capsys.readouterr()

    return call


@pytest.fixture(scope="module")
def finished(pictures, checkpoint, tmp_path_factory):
    """What an uninterrupted run over the pictures has written."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    arguments = ["track", pictures, *PROMPTS, "--model", checkpoint, "--output", folder, "--json"]
    assert main([str(argument) for argument in arguments]) == 0
    return folder


def assert_same_results(folder, expected):
    """Masks and JSON are equal byte for byte, and the overlays show the same."""
    assert_same_data(folder, expected)
    assert np.array_equal(overlay_frames(folder), overlay_frames(expected))


def assert_same_data(folder, expected):
    for name in ("frames.jsonl", "tracks.json", "annotations.json"):
        assert (folder / name).read_text() == (expected / name).read_text(), name
    names = sorted(path.name for path in (expected / "masks").iterdir())
    assert names == sorted(path.name for path in (folder / "masks").iterdir()) and names
    for name in names:
        assert (folder / "masks" / name).read_bytes() == (expected / "masks" / name).read_bytes()


def overlay_frames(folder):
    av = pytest.importorskip("av")
    with av.open(str(folder / "overlay.mp4")) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def rows_of(folder):
    return [json.loads(line) for line in (folder / "frames.jsonl").read_text().splitlines()]


def test_track_writes_masks_overlay_and_tracks(run, pictures, tmp_path):
    pytest.importorskip("av"), pytest.importorskip("pycocotools")
    code, out, err = run(pictures, *PROMPTS)
    folder = tmp_path / "clip_track"
    lines = out.splitlines()
    assert code == 0 and "12/12" in err
    assert lines[0].split() == ["object", "prompts", "visible", "score"] and "12 / 12" in lines[1]
    assert "frame 0: +20,20; frame 6: -40,30" in lines[1] and "frame 0: box 30,10,50,40" in lines[2]
    assert "clip_track/overlay.mp4" in out and len(overlay_frames(folder)) == NUM_FRAMES
    rows = rows_of(folder)
    assert [row["frame"] for row in rows] == list(range(NUM_FRAMES))
    tracks = json.loads((folder / "tracks.json").read_text())
    assert [len(track["segmentations"]) for track in tracks] == [NUM_FRAMES] * 2
    annotations = json.loads((folder / "annotations.json").read_text())
    assert annotations["images"][10]["file_name"] == "frame10.png"
    assert {a["track_id"] for a in annotations["annotations"]} == {1, 2}
    top = rows[3]["objects"]["2"]  # the last object lies on top
    assert top["area"] == (np.asarray(Image.open(folder / "masks" / "frame3.png")) == 2).sum() > 0


@torch.no_grad()
def test_track_finds_what_the_api_finds(finished, pictures, checkpoint):
    model = EdgeTamVideoModel.from_pretrained(checkpoint)
    processor = EdgeTamVideoProcessor.from_pretrained(checkpoint)
    session = processor.init_video_session(clip())
    processor.add_inputs_to_inference_session(session, 0, 1, input_points=[[[[20, 20]]]], input_labels=[[[1]]])
    processor.add_inputs_to_inference_session(session, 0, 2, input_boxes=[[[30, 10, 50, 40]]])
    processor.add_inputs_to_inference_session(session, 6, 1, input_points=[[[[40, 30]]]], input_labels=[[[0]]])
    areas = set()
    for output, row in zip(model.propagate_in_video_iterator(session), rows_of(finished), strict=True):
        masks = processor.post_process_masks([output.pred_masks], [(HEIGHT, WIDTH)])[0][:, 0].numpy()
        indices = np.where(masks[1], 2, masks[0])
        written = np.asarray(Image.open(finished / "masks" / f"frame{output.frame_idx}.png"))
        assert np.array_equal(written, indices)
        assert [found["area"] for found in row["objects"].values()] == masks.sum((1, 2)).tolist()
        assert [found["score"] for found in row["objects"].values()] == pytest.approx(
            output.iou_scores.tolist(), abs=1e-4
        )
        areas.update(masks.sum((1, 2)).tolist())
    assert len(areas) > 6  # or equal masks would prove nothing


def test_track_resumes_after_a_kill_as_if_nothing_had_happened(run, finished, pictures, checkpoint, tmp_path):
    folder = tmp_path / "out"
    arguments = [str(a) for a in (pictures, *PROMPTS, "--model", checkpoint, "--output", folder, "--frame-rate", "2")]
    root = Path(__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", KILLED, "track", *arguments], cwd=root, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(list((folder / "masks").glob("frame*.png"))) == 7 and len(overlay_frames(folder)) > 3
    assert torch.load(folder / "session.pt", weights_only=False)["num_done"] == 4
    assert (folder / "session.pt").stat().st_size < 500_000
    code, out, _ = run(pictures, "--resume", "--output", folder, "--json")
    assert code == 0 and [o["frames"] for o in json.loads(out)["objects"]] == [NUM_FRAMES] * 2
    assert len(overlay_frames(folder)) == NUM_FRAMES
    assert_same_data(folder, finished)
    assert not list(folder.glob("**/.writing_*"))


@pytest.mark.parametrize("num_frames", [2, 8, NUM_FRAMES])
def test_track_resumes_after_an_interruption(run, finished, pictures, tmp_path, monkeypatch, num_frames):
    folder, write = tmp_path / "out", track_command.TrackRun.write

    def interrupted(self, output):
        if output.frame_idx == num_frames:
            raise KeyboardInterrupt
        write(self, output)

    monkeypatch.setattr(track_command, "FRAMES_PER_CHECKPOINT", 3)
    with monkeypatch.context() as patch:
        patch.setattr(track_command.TrackRun, "write", interrupted)
        code, out, err = run(pictures, *PROMPTS, "--output", folder)
    if num_frames < NUM_FRAMES:
        assert code == 130 and out == "" and f"stopped after {num_frames} frames" in err.splitlines()[-1]
    assert run(pictures, *PROMPTS, "--output", folder, "--resume")[0] == 0
    assert_same_results(folder, finished)


def test_track_resumes_in_reverse_to_the_first_frame(run, pictures, tmp_path, monkeypatch):
    arguments = (pictures, "--point", "20,20", "--frame", "3", "--reverse")
    assert run(*arguments, "--output", "whole")[0] == 0
    monkeypatch.setattr(track_command, "FRAMES_PER_CHECKPOINT", 3)
    with monkeypatch.context() as patch:
        write = track_command.TrackRun.write
        patch.setattr(
            track_command.TrackRun, "write", lambda run, o: write(run, o) if o.frame_idx else sys.exit("stopped")
        )
        with pytest.raises(SystemExit):
            run(*arguments, "--output", "part")
    assert run(*arguments, "--output", "part", "--resume")[0] == 0
    assert [row["frame"] for row in rows_of(tmp_path / "part")] == [3, 2, 1, 0]
    assert_same_results(tmp_path / "part", tmp_path / "whole")


def test_track_keeps_what_was_found_before_a_damaged_picture(run, finished, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "clip")
    whole = (pictures / "frame8.png").read_bytes()
    (tmp_path / "clip" / "frame8.png").write_bytes(whole[:200])
    code, out, err = run("clip", *PROMPTS)
    error, folder = err.splitlines()[-1], tmp_path / "clip_track"
    assert code == 1 and out == "" and error.startswith("edgetam: error: frame 8 (")
    assert "the 8 frames before it are in clip_track" in error
    assert rows_of(folder) == rows_of(finished)[:8] and len(overlay_frames(folder)) == 8
    segmentations = json.loads((folder / "tracks.json").read_text())[0]["segmentations"]
    assert len(segmentations) == NUM_FRAMES and segmentations[8:] == [None] * 4 and all(segmentations[:8])
    (tmp_path / "clip" / "frame8.png").write_bytes(whole)
    assert run("clip", "--resume")[0] == 0
    assert_same_results(folder, finished)


def test_track_names_a_damaged_picture_that_is_prompted(run, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "clip")
    (tmp_path / "clip" / "frame5.png").write_bytes(b"")
    code, _, err = run("clip", "--point", "20,20", "--frame", "5", "--point", "9,9")
    assert code == 1 and "error: frame 5 (" in err.splitlines()[-1] and "the 0 frames" in err


def test_track_reads_a_video_file_up_to_its_damage(run, tmp_path):
    av = pytest.importorskip("av")
    # the index comes first, so that a file that is cut off still says how many frames it had
    with av.open("clip.mp4", "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=4, options={"g": "4", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        for frame in clip():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    code, out, _ = run("clip.mp4", "--box", "5,10,25,30", "--json")
    assert code == 0 and json.loads(out)["num_frames"] == NUM_FRAMES
    assert len(overlay_frames(tmp_path / "clip_track")) == NUM_FRAMES
    whole = Path("clip.mp4").read_bytes()
    Path("cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    code, _, err = run("cut.mp4", "--box", "5,10,25,30")
    rows = rows_of(tmp_path / "cut_track")
    assert code == 1 and f"error: frame {len(rows)} of" in err.splitlines()[-1] and 0 < len(rows) < NUM_FRAMES
    assert rows == rows_of(tmp_path / "clip_track")[: len(rows)]
    assert len(overlay_frames(tmp_path / "cut_track")) == len(rows)


def test_track_json_is_all_that_is_printed(run, pictures):
    code, out, err = run(pictures, "--point", "20,20", "--max-frames", "2", "--json")
    report = json.loads(out)
    assert code == 0 and err == "" and (report["height"], report["width"]) == (HEIGHT, WIDTH)
    assert report["objects"][0]["frames"] == 2 and Path(report["tracks"]).exists()


def test_track_without_pyav_and_pycocotools_writes_pictures(run, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(overlay_video, "av", None)
    monkeypatch.setattr(run_lengths, "coco_mask", None)
    code, out, err = run(pictures, "--point", "20,20", "--start", "4", "--max-frames", "2")
    assert code == 0 and "tracks.json" not in out
    assert "without PyAV" in err.splitlines()[0] and "pip install pycocotools" in err.splitlines()[1]
    assert sorted(path.name for path in (tmp_path / "clip_track" / "overlay").iterdir()) == ["frame4.png", "frame5.png"]


def test_track_takes_masks_and_separates_objects(run, pictures, tmp_path):
    mask = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    mask[..., 3] = 255
    mask[10:30, 5:25, 2] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = ("--object", "7", "--mask", "mask.png", "--box", "2,2,60,44", "--non-overlapping", "--max-frames", "3")
    code, out, _ = run(pictures, *arguments, "--json")
    objects = json.loads(out)["objects"]
    assert code == 0 and [o["object"] for o in objects] == [7, 8]
    for row in rows_of(tmp_path / "clip_track"):
        written = np.asarray(Image.open(tmp_path / "clip_track" / "masks" / f"frame{row['frame']}.png"))
        assert [(written == number).sum() for number in (7, 8)] == [o["area"] for o in row["objects"].values()]


def test_track_takes_another_image_size(run, pictures, tmp_path):
    assert run(pictures, "--point", "20,20", "--max-frames", "1", "--image-size", "192", "--json")[0] == 0
    settings = json.loads((tmp_path / "clip_track" / "run.json").read_text())["settings"]
    assert settings["image_size"] == 192


def test_read_prompts_follows_frames_and_objects():
    first, second, click = ("box", (1, 2, 3, 4)), ("box", (5, 6, 7, 8)), ("point", (9, 9, 0))

    def read(*options):
        return [(p.frame_idx, p.object_id, p.box, p.points) for p in read_prompts(list(options))]

    assert read(first, second) == [(0, 1, first[1], []), (0, 2, second[1], [])]
    assert read(click, first) == [(0, 1, None, [click[1]]), (0, 2, first[1], [])]
    assert read(click, ("object", 1), first) == [(0, 1, first[1], [click[1]])]
    assert read(first, ("frame", 5), second, ("object", 3), click) == [
        (0, 1, first[1], []),
        (5, 1, second[1], []),
        (5, 3, None, [click[1]]),
    ]
    assert read(click, ("frame", 5)) == [(5, 1, None, [click[1]])]


@pytest.fixture(scope="module")
def image_checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    make_model().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{clip}"], "say what to find with --point"),
        (["{clip}"], "`edgetam track --everything` and `edgetam masks` find all objects"),
        (["{clip}", "--frame", "3"], "say what to find with --point"),
        (["{clip}", "--point", "1,1", "--frame", "12"], r"one of 0\.\.11 of this video, got 12"),
        (["{clip}", "--point", "1,1", "--start", "50"], r"one of 0\.\.11 of this video, got 50"),
        (["{clip}", "--frame", "1", "--point", "1,1", "--frame", "2"], "no prompt follows --frame 2"),
        (["{clip}", "--object", "1", "--box", "1,1,9,9", "--object", "1", "--box", "2,2,8,8"], "object 1 has two"),
        (["{clip}", "--object", "65535", "--box", "1,1,9,9", "--box", "2,2,8,8"], "object 65536"),
        (["{clip}", "--mask", "none.png"], r"mask .*none\.png cannot be read"),
        (["{clip}", "--mask", "small.png"], "must have the size of the picture, 64x48"),
        (["{clip}", "--mask", "full.png", "--point", "1,1"], "both a mask and clicks"),
        (["{clip}", "--point", "1,1", "--reverse"], "before which there is nothing"),
        (["{clip}", "--point", "1,1", "--resume"], "nothing to resume in clip_track"),
        (["{clip}", "--point", "1,1", "--output", "full.png"], "results go into a folder"),
        (["{clip}", "--point", "1,1", "--output", "."], "not empty: go on with --resume"),
        (["{clip}", "--point", "1,1", "--image-size", "100"], "image_size must be a positive multiple"),
        (["none.mp4", "--point", "1,1"], r"none\.mp4 does not exist"),
        (["full.png", "--point", "1,1"], "no video file"),
        (
            ["http://127.0.0.1:9/v.mp4", "--point", "1,1"],
            "http://127.0.0.1:9/v.mp4 cannot be opened: Connection refused",
        ),
        (["rtsp://127.0.0.1:9/v", "--point", "1,1", "--resume"], "is live, its frames come once: leave out --resume"),
        ([], "give a video: a file, a folder of pictures, an address, or --camera 0"),
        (["{clip}", "--camera", "0", "--point", "1,1"], "give a video: a file"),
        (["{clip}", "--point", "1,1", "--model", "{images}"], "no memory for video.*--model yonigozlan/EdgeTAM-hf"),
        (["{clip}", "--point", "1,1", "--model", "yonigozlan/EdgeTAM-hf"], "yonigozlan/EdgeTAM-hf cannot be loaded"),
    ],
)
def test_track_rejects_bad_calls_in_one_line(run, pictures, image_checkpoint, tmp_path, arguments, message):
    Image.new("L", (9, 9)).save("small.png")
    Image.new("L", (WIDTH, HEIGHT), 255).save("full.png")
    before = sorted(tmp_path.iterdir())
    places = {"{clip}": pictures, "{images}": image_checkpoint}
    code, out, err = run(*(places.get(argument, argument) for argument in arguments))
    assert code == 1 and out == "" and re.search(message, err) and len(err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--box", "9,9,1,1"], "X0 < X1"),
        (["--object", "0"], "integer in 1..65535, got '0'"),
        (["--frame", "-3"], "integer from 0 on, got '-3'"),
        (["--max-frames", "0"], "integer from 1 on"),
        (["--max-frames", "9" * 19], "integer of at most 18 digits"),
        (["--stride", "9" * 5000], "integer of at most 18 digits"),
        (["--frame-rate", "0"], "a positive number"),
    ],
)
def test_track_rejects_bad_values(capsys, arguments, message):
    with pytest.raises(SystemExit):
        main(["track", "clip", "--point", "1,1", *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--point", "9,9"], "other prompts"), (["--reverse"], "other reverse"), (["--model", "{nano}"], "other model")],
)
def test_track_rejects_other_settings_when_it_resumes(run, finished, pictures, arguments, message):
    arguments = [nano_checkpoint() if argument == "{nano}" else argument for argument in arguments]
    code, _, err = run(pictures, *arguments, "--resume", "--output", finished)
    assert code == 1 and message in err and "leave it out" in err


def test_track_rejects_another_video_when_it_resumes(run, finished, pictures, tmp_path):
    shutil.copytree(pictures, tmp_path / "clip")
    (tmp_path / "clip" / "frame11.png").unlink()
    code, _, err = run("clip", "--resume", "--output", finished)
    assert code == 1 and "another video" in err
