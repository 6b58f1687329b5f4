"""`edgetam track` on live videos: frames that come once, from addresses, pipes and cameras."""

import json
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from small_videos import av, read_times, write_video

from edgetam_hf.commands import track_sources
from edgetam_hf.commands.track import TrackRun
from edgetam_hf.commands.track_sources import camera_input

PROMPTS = ("--point", "25,45", "--frame", "5", "--object", "2", "--box", "10,30,40,60")


class Files(SimpleHTTPRequestHandler):
    """Serves files without writing about it."""

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address(tmp_path):
    """Address of a server of the test's folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def video(clip, tmp_path):
    """A video file whose index comes first."""
    write_video(tmp_path / "clip.mp4", clip, container_options={"movflags": "faststart"})
    return tmp_path / "clip.mp4"


def rows_of(folder):
    return [json.loads(line) for line in (Path(folder) / "frames.jsonl").read_text().splitlines()]


def assert_finds_the_same(folder, expected):
    """Frames, times and the first object are equal; of the second one nothing is known before its prompt on frame 5."""
    rows, expected_rows = rows_of(folder), rows_of(expected)
    assert [row["frame"] for row in rows] == [row["frame"] for row in expected_rows]
    for row, expected_row in zip(rows, expected_rows):
        assert row["fingerprint"] == expected_row["fingerprint"]
        assert row["objects"]["1"] == expected_row["objects"]["1"]
        assert ("2" in row["objects"]) == (row["frame"] >= 5)
        if row["frame"] == 5:
            assert row["objects"] == expected_row["objects"]
    assert read_times(f"{folder}/overlay.mp4") == pytest.approx(read_times(f"{expected}/overlay.mp4"), abs=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
def test_an_address_is_tracked_as_the_file(track, video, address, stride):
    stride = ("--stride", stride)
    assert track(video, *PROMPTS, *stride, "--output", "file")[0] == 0
    code, out, _ = track(f"{address}/clip.mp4", *PROMPTS, *stride, "--json")
    report = json.loads(out)
    assert code == 0 and report["output"] == "clip_track" and report["num_frames"] is None
    assert report["objects"][1]["frames"] < report["objects"][0]["frames"] == report["num_tracked"]
    assert_finds_the_same("clip_track", "file")
    names = {name: [path.name for path in sorted(Path(name, "masks").iterdir())] for name in ("clip_track", "file")}
    assert names["clip_track"] == names["file"]
    annotations = json.loads(Path("clip_track/annotations.json").read_text())
    assert [image["frame_id"] for image in annotations["images"]] == [row["frame"] for row in rows_of("file")]


def test_an_address_of_a_file_is_the_file(track, video):
    assert track(video, *PROMPTS, "--output", "file")[0] == 0
    assert track(video.as_uri(), *PROMPTS)[0] == 0
    assert rows_of("clip_track") == rows_of("file")
    assert track(video.as_uri(), "--resume")[0] == 0


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are of POSIX systems")
def test_a_named_pipe_is_tracked_as_the_file(track, clip, tmp_path):
    write_video(tmp_path / "clip.ts", clip)
    os.mkfifo("pipe.ts")
    assert track("clip.ts", *PROMPTS, "--output", "file")[0] == 0
    content = Path("clip.ts").read_bytes()
    threading.Thread(target=Path("pipe.ts").write_bytes, args=(content,), daemon=True).start()
    assert track("pipe.ts", *PROMPTS)[0] == 0
    assert_finds_the_same("pipe_track", "file")


@pytest.fixture
def camera(monkeypatch):
    """A camera that shows a test picture without end."""
    pattern = "testsrc2=size=120x90:rate=20"
    monkeypatch.setattr(track_sources, "camera_input", lambda name: (pattern, "lavfi", {}))
    if "lavfi" not in av.formats_available:
        pytest.skip("this PyAV comes without the test pictures of FFmpeg")


def test_a_camera_is_tracked_until_it_is_interrupted(track, camera, monkeypatch):
    write = TrackRun.write

    def write_or_stop(run, step):
        if step.frame_idx == 13:
            raise KeyboardInterrupt
        write(run, step)

    monkeypatch.setattr(TrackRun, "write", write_or_stop)
    code, out, _ = track("--camera", "0", "--point", "25,45")
    assert code == 0 and "13 frames of camera 0, written to camera_0_track" in out
    assert len(rows_of("camera_0_track")) == len(read_times("camera_0_track/overlay.mp4")) == 13
    assert len(json.loads(Path("camera_0_track/tracks.json").read_text())[0]["segmentations"]) == 13
    assert not Path("camera_0_track/session.pt").exists()


def test_a_camera_keeps_little_of_what_has_passed(track, camera, monkeypatch):
    sizes, write = [], TrackRun.write

    def watch(run, step):
        write(run, step)
        (tracked_object,) = run.tracking.session.objects.values()
        sizes.append((len(tracked_object.tracked), len(run.tracking.session.image_embeddings)))

    monkeypatch.setattr(TrackRun, "write", watch)
    assert track("--camera", "0", "--point", "25,45", "--max-frames", "40")[0] == 0
    assert len(sizes) == 40 and len(set(sizes[20:])) == 1


@pytest.mark.parametrize(
    ("system", "expected"),
    [
        ("Linux", ("/dev/video1", "v4l2", {})),
        ("Darwin", ("1", "avfoundation", {"framerate": "30"})),
    ],
)
def test_cameras_are_opened_by_the_system(monkeypatch, system, expected):
    monkeypatch.setattr(track_sources.platform, "system", lambda: system)
    assert camera_input("1") == expected
    assert camera_input("/dev/video7")[0] == "/dev/video7"


def test_cameras_of_windows_are_counted(monkeypatch):
    class Device:
        def __init__(self, name, *media_types):
            self.name, self.media_types = name, media_types

    devices = [Device("Microphone", "audio"), Device("Front", "video"), Device("Back", "video", "audio")]
    monkeypatch.setattr(track_sources.platform, "system", lambda: "Windows")
    monkeypatch.setattr(track_sources.av, "enumerate_input_devices", lambda name: devices, raising=False)
    assert camera_input("1") == ("video=Back", "dshow", {})
    assert camera_input("Front") == ("video=Front", "dshow", {})
    with pytest.raises(ValueError, match="there is no camera 2, only Front, Back"):
        camera_input("2")


def test_a_stream_that_breaks_off_leaves_what_came_before(track, clip, address, tmp_path):
    write_video(tmp_path / "clip.ts", clip)
    whole = (tmp_path / "clip.ts").read_bytes()
    write_video(tmp_path / "other.ts", clip[:, :60])  # of another size
    (tmp_path / "both.ts").write_bytes(whole + (tmp_path / "other.ts").read_bytes())
    code, out, err = track(f"{address}/both.ts", "--point", "25,45", "--json")
    assert code == 1 and out == "" and err.count("\n") == 1
    assert "frame 12 of" in err and "another size" in err and "the 12 frames before it are in both_track" in err
    assert len(rows_of("both_track")) == 12 and Path("both_track/tracks.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{address}/missing.mp4", "--point", "9,9"], "missing.mp4 cannot be opened: Server returned 404"),
        (["{address}/text.txt", "--point", "9,9"], "text.txt cannot be opened: Invalid data"),
        (["{address}/clip.mp4", "--point", "9,9", "--resume"], "leave out --resume, --reverse and --start"),
        (["{address}/clip.mp4", "--point", "9,9", "--reverse"], "leave out --resume, --reverse and --start"),
        (["{address}/clip.mp4", "--point", "9,9", "--start", "2"], "leave out --resume, --reverse and --start"),
        (["{address}/clip.mp4", "--point", "9,9", "--frame", "50"], "has ended before frame 50"),
        (["--camera", "63", "--point", "9,9"], "camera 63 cannot be opened"),
        (["unknown://host", "--point", "9,9"], "unknown://host cannot be opened: Protocol not found"),
    ],
)
def test_live_videos_are_refused_in_one_line(track, video, address, tmp_path, arguments, message):
    (tmp_path / "text.txt").write_text("no video")
    code, out, err = track(*(argument.format(address=address) for argument in arguments), "--json")
    assert code == 1 and out == "" and message in err and err.count("\n") == 1


def test_track_everything_live_finds_what_it_finds_in_the_file(track, video, address):
    loose = ("--points-per-side", "3", "--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--nms", "1")
    everything = ("--everything", "--every", "4", "--max-objects", "4", *loose)
    assert track(video, *everything, "--output", "recorded")[0] == 0
    assert track(f"{address}/clip.mp4", *everything, "--output", "live")[0] == 0
    assert rows_of("live") == rows_of("recorded")


def test_track_everything_live_keeps_numbers_for_prompts_to_come(track, video, address):
    loose = ("--points-per-side", "3", "--pred-iou-thresh", "0", "--stability-score-thresh", "0", "--nms", "1")
    everything = ("--everything", "--every", "2", "--max-objects", "4", *loose)
    assert track(f"{address}/clip.mp4", *everything, "--frame", "3", "--point", "25,45", "--max-frames", "4")[0] == 0
    numbers = [[*row["objects"]] for row in rows_of("clip_track")]
    assert numbers[0][0] == "2" and "1" not in numbers[2] and "1" in numbers[3]
