"""Frames of video files of every kind are those of decoding the file in one go, in whatever order they are read."""

import gc
import os
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from edgetam_hf.video_frames_edgetam import open_video

from edgetam_hf import video_file_edgetam

av = pytest.importorskip("av", reason="reading video files needs PyAV")
from video_streams import decode_plainly, encode_file, field_packets, remux, write_packets  # noqa: E402

OPEN_GOP = "open-gop=1:keyint=8:min-keyint=8:scenecut=0:bframes=2:b-adapt=0"
H265 = "log-level=none:keyint=8:min-keyint=8:bframes=2:pools=1:frame-threads=1"
VARIANTS = {  # codec, its options, largest number of B-frames, format of pixels
    "h264": ("libx264", {}, 0, "yuv420p"),
    "h264-b": ("libx264", {"b_strategy": "0"}, 3, "yuv420p"),
    "h264-pyramid": ("libx264", {"b_strategy": "0", "x264-params": "b-pyramid=normal"}, 5, "yuv420p"),
    "h264-open": ("libx264", {"x264-params": OPEN_GOP}, 2, "yuv420p"),
    "h264-refresh": ("libx264", {"intra-refresh": "1"}, 0, "yuv420p"),
    "h264-interlaced": ("libx264", {"x264-params": "tff=1"}, 2, "yuv420p"),
    "h265": ("libx265", {"x265-params": H265 + ":open-gop=0"}, 2, "yuv420p"),
    "h265-open": ("libx265", {"x265-params": H265 + ":open-gop=1"}, 2, "yuv420p"),
    "mpeg4": ("mpeg4", {}, 0, "yuv420p"),
    "mpeg4-b": ("mpeg4", {}, 2, "yuv420p"),
    "mpeg2": ("mpeg2video", {}, 2, "yuv420p"),
    "mpeg2-interlaced": ("mpeg2video", {"flags": "+ildct+ilme"}, 2, "yuv420p"),
    "mpeg1": ("mpeg1video", {}, 2, "yuv420p"),
    "vp8": ("libvpx", {"auto-alt-ref": "1", "lag-in-frames": "10", "cpu-used": "8"}, 0, "yuv420p"),
    "vp9": ("libvpx-vp9", {"lag-in-frames": "10", "cpu-used": "8"}, 0, "yuv420p"),
    "mjpeg": ("mjpeg", {}, 0, "yuvj420p"),
    "ffv1": ("ffv1", {}, 0, "yuv420p"),
    "prores": ("prores_ks", {}, 0, "yuv422p10le"),
    "flv1": ("flv", {}, 0, "yuv420p"),
    "qtrle": ("qtrle", {}, 0, "rgb24"),
    "png": ("png", {}, 0, "rgb24"),
    "gif": ("gif", {}, 0, "rgb8"),
    "wmv2": ("wmv2", {}, 0, "yuv420p"),
    "msmpeg4": ("msmpeg4", {}, 0, "yuv420p"),
    "huffyuv": ("huffyuv", {}, 0, "yuv422p"),
    "raw": ("rawvideo", {}, 0, "yuv420p"),
}
CONTAINERS = {
    **dict.fromkeys(
        ("h264", "h264-b", "h264-pyramid", "h264-open", "h264-refresh", "h264-interlaced"),
        ("mp4", "mkv", "avi", "ts", "flv", "h264", "mxf", "nut", "mpg"),
    ),
    **dict.fromkeys(("h265", "h265-open"), ("mp4", "mkv", "ts", "hevc")),
    **dict.fromkeys(("mpeg4", "mpeg4-b"), ("mp4", "avi", "mkv", "ts", "m4v")),
    **dict.fromkeys(("mpeg2", "mpeg2-interlaced"), ("ts", "mpg", "mkv", "mxf", "m2v", "avi")),
    "mpeg1": ("mpg", "mkv"),
    "vp8": ("webm", "ivf", "ogg"),
    "vp9": ("webm", "mp4", "ivf"),
    "mjpeg": ("avi", "mov", "mkv"),
    "ffv1": ("mkv", "avi"),
    "prores": ("mov", "mkv"),
    **dict.fromkeys(("qtrle", "png"), ("mov",)),
    "flv1": ("flv",),
    "gif": ("gif",),
    "wmv2": ("wmv",),
    **dict.fromkeys(("msmpeg4", "huffyuv", "raw"), ("avi",)),
}
MATRIX = [(variant, container) for variant, containers in CONTAINERS.items() for container in containers]


def assert_plain_in_any_order(path, num_frames=None):
    """Checks all frames in order, backwards and at random; returns the frames."""
    frames, expected = open_video(path), decode_plainly(path)
    last = len(expected) - 1
    assert len(frames) == len(expected) and last > 0 and num_frames in (None, len(expected))
    shuffled = np.random.default_rng(0).permutation(len(expected))
    for idx in [*range(last + 1), *range(last, -1, -1), *shuffled]:
        assert torch.equal(frames[idx], expected[idx]), f"frame {idx}"
    assert frames.times[0] == 0 and len(frames.times) == len(frames) and (np.diff(frames.times) >= 0).all()
    return frames


@pytest.mark.parametrize(("variant", "container"), MATRIX)
def test_frames_are_those_of_plain_decoding(tmp_path, variant, container):
    codec, options, num_b_frames, pix_fmt = VARIANTS[variant]
    path = encode_file(tmp_path / f"clip.{container}", codec, options, 20, pix_fmt, num_b_frames)
    frames = assert_plain_in_any_order(path, 20)
    assert frames.frame_rate == pytest.approx(25, rel=0.001)


@pytest.mark.parametrize("container", ["h264", "ts", "mkv", "mp4"])
@pytest.mark.parametrize("is_joined", [False, True])
def test_fields_are_not_frames(tmp_path, container, is_joined):
    fields = field_packets(17)
    packets = (
        [first + second for first, second in fields] if is_joined else [field for pair in fields for field in pair]
    )
    raw = tmp_path / "raw.h264"
    raw.write_bytes(b"".join(packets))
    path = raw if container == "h264" else write_packets(raw, packets, tmp_path / f"clip.{container}")
    assert_plain_in_any_order(path, 16 if container == "mp4" else 17)  # an MP4 that begins late leaves one out


@pytest.mark.parametrize(
    ("variant", "container"),
    [("h264-b", "ts"), ("mpeg2", "ts"), ("mpeg2", "mpg"), ("h264-open", "h264"), ("h264", "flv")],
)
def test_times_may_start_again(tmp_path, variant, container):
    codec, options, num_b_frames, pix_fmt = VARIANTS[variant]
    path = encode_file(tmp_path / f"clip.{container}", codec, options, 20, pix_fmt, num_b_frames)
    path.write_bytes(path.read_bytes() * 2)
    assert assert_plain_in_any_order(path).frame_rate == pytest.approx(25, rel=0.05)


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
@pytest.mark.parametrize("variant", ["h264-b", "h264-open", "mpeg4-b"])
def test_a_file_may_begin_between_key_frames(tmp_path, variant, container):
    codec, options, num_b_frames, pix_fmt = VARIANTS[variant]
    whole = encode_file(tmp_path / "whole.ts", codec, options, 24, pix_fmt, num_b_frames)
    if container == "avi" and variant != "mpeg4-b":
        pytest.skip("H.264 out of MPEG-TS has no header for AVI")
    assert_plain_in_any_order(remux(whole, tmp_path / f"cut.{container}", lambda number, packet: number < 5))


def test_frame_rate_is_the_mean_of_the_times(tmp_path):
    times = np.cumsum([0, *np.random.default_rng(0).choice([17, 33, 101], 29)]).tolist()
    for name, codec in (("clip.webm", "libvpx-vp9"), ("clip.mkv", "libx264"), ("clip.mp4", "libx264")):
        frames = assert_plain_in_any_order(encode_file(tmp_path / name, codec, times=times), 30)
        assert frames.frame_rate == pytest.approx(29_000 / times[-1], rel=0.01)
        np.testing.assert_allclose(frames.times, np.array(times) / 1000, atol=0.002)


def test_an_edit_list_leaves_frames_out(tmp_path):
    path = encode_file(tmp_path / "clip.mp4", "libx264", {"b_strategy": "0"}, num_b_frames=2)
    content = path.read_bytes()
    start = content.index(b"elst") + 16  # the time in the media at which the only edit starts
    rate = int.from_bytes(content[content.index(b"mdhd") + 16 :][:4], "big")
    later = int.from_bytes(content[start : start + 4], "big") + 5 * rate // 25
    path.write_bytes(content[:start] + later.to_bytes(4, "big") + content[start + 4 :])
    assert_plain_in_any_order(path, 15)


def test_an_edit_list_ends_before_the_last_frame(tmp_path):
    path = encode_file(tmp_path / "clip.mp4", "libx264")
    content = path.read_bytes()
    start = content.index(b"elst") + 12
    half = int.from_bytes(content[start : start + 4], "big") // 2
    path.write_bytes(content[:start] + half.to_bytes(4, "big") + content[start + 4 :])
    assert_plain_in_any_order(path)


def test_a_note_that_is_too_long_is_no_damage(tmp_path):
    path = encode_file(tmp_path / "clip.h264", "libx264")
    content = bytearray(path.read_bytes())
    position = content.index(b"\0\0\1\6\5") + 5  # the length of what the encoder says of itself
    while content[position] == 255:
        position += 1
    content[position] += 1
    path.write_bytes(content)
    assert_plain_in_any_order(path, 20)


def test_titles_need_not_be_utf8(tmp_path):
    path = tmp_path / "clip.avi"
    encode_file(path, "mpeg4", title="Cafe!")
    content = path.read_bytes()
    assert content.count(b"Cafe!") == 1
    path.write_bytes(content.replace(b"Cafe!", b"Caf\xe9!"))
    assert_plain_in_any_order(path, 20)


def test_threads_may_share_a_video_file(tmp_path):
    path = encode_file(tmp_path / "clip.mp4", "libx264", num_b_frames=2)
    frames, expected = open_video(path), decode_plainly(path)

    def read(seed):
        return all(torch.equal(frames[idx], expected[idx]) for idx in np.random.default_rng(seed).integers(0, 20, 30))

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(read, range(4)))


def test_threads_convert_a_picture_one_after_the_other(tmp_path, monkeypatch):
    frames = open_video(encode_file(tmp_path / "clip.mp4", "libx264"))
    frames[0]
    lock = next(iter(frames._readers.values()))._lock
    is_held = []
    convert = video_file_edgetam.to_frame
    monkeypatch.setattr(video_file_edgetam, "to_frame", lambda *args: is_held.append(lock.locked()) or convert(*args))
    assert torch.equal(frames[0], frames[0])
    assert is_held == [True, True]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9", "mpeg2video"])
def test_forked_processes_may_share_a_video_file(tmp_path, codec):
    path = encode_file(tmp_path / "clip.mkv", codec)
    frames, expected = open_video(path), decode_plainly(path)
    assert torch.equal(frames[3], expected[3])

    def read_and_free():
        nonlocal frames
        is_right = all(torch.equal(frames[idx], expected[idx]) for idx in (4, 19, 0))
        frames = None
        gc.collect()
        return is_right

    assert status_of_fork(read_and_free) == 0
    assert torch.equal(frames[4], expected[4]) and torch.equal(pickle.loads(pickle.dumps(frames))[9], expected[9])


def test_forked_processes_do_not_wait_for_a_thread_that_was_reading(tmp_path):
    path = encode_file(tmp_path / "clip.mp4", "libx264")
    frames, expected = open_video(path), decode_plainly(path)
    frames[0]
    lock = next(iter(frames._readers.values()))._lock
    with lock:
        assert status_of_fork(lambda: torch.equal(frames[7], expected[7])) == 0


def status_of_fork(function):
    """0 if a function is true in a forked process."""
    process_id = os.fork()
    if process_id == 0:
        try:
            os._exit(0 if function() else 1)
        finally:
            os._exit(2)
    killer = threading.Timer(60, os.kill, (process_id, 9))
    killer.start()
    status = os.waitpid(process_id, 0)[1]
    killer.cancel()
    return status


@pytest.mark.parametrize("variant", ["h264-b", "h264-open", "h265", "mpeg4-b", "mpeg2"])
@pytest.mark.parametrize("container", ["mkv", "ts"])
def test_damage_makes_up_no_frame_and_moves_none(tmp_path, variant, container):
    codec, options, num_b_frames, pix_fmt = VARIANTS[variant]
    path = encode_file(tmp_path / f"clip.{container}", codec, options, 24, pix_fmt, num_b_frames)
    expected = decode_plainly(path)
    copy = remux(path, tmp_path / f"damaged.{container}", damage=10)
    frames = open_video(copy)
    assert len(frames) == len(expected)
    readable = [{}, {}]
    for found, indices in zip(readable, (range(24), range(23, -1, -1))):
        for idx in indices:
            try:
                found[idx] = frames[idx]
            except ValueError as error:
                assert f"frame {idx} of" in str(error)
    assert set(readable[0]) == set(readable[1]) and {0, 1, 2, 3, 4, 5, 23} <= set(readable[0])
    assert 1 <= 24 - len(readable[0]) <= 10
    assert all(torch.equal(open_video(copy)[idx], expected[idx]) for idx in readable[0])  # also as the first one
    for idx, frame in [*readable[0].items(), *readable[1].items()]:
        assert torch.equal(frame, expected[idx])


def test_audio_files_are_no_videos(tmp_path):
    cover = encode_file(tmp_path / "cover.mkv", "mjpeg", num_frames=1, pix_fmt="yuvj420p")
    path = tmp_path / "song.m4a"
    with av.open(str(cover)) as source, av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=44100)
        picture = container.add_stream_from_template(source.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(sound.encode(frame))
        packet = next(packet for packet in source.demux(video=0) if packet.size)
        packet.stream = picture
        container.mux(packet)
        container.mux(sound.encode(None))
    with pytest.raises(ValueError, match=r"song.m4a is no video file: .* with sound and a cover picture only"):
        open_video(path)
