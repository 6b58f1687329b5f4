"""The overlay of `edgetam track`: its speed, sound and colours are those of the video."""

import numpy as np
import pytest
from small_videos import av, beep, read_beep, read_times, write_video

from edgetam_hf.formats.overlay_video import OverlayVideo
from edgetam_hf.formats.sound import open_sound

POINT = ("--point", "25,45")
# Seconds of frames that do not follow each other regularly
UNEVEN = np.array([0, 0.04, 0.1, 0.5, 0.55, 0.6, 1.2, 1.21, 1.3, 1.5, 1.9, 2.0])


@pytest.fixture
def uneven(clip, tmp_path):
    """A video of uneven times that has a tone from 0.5 to 0.8 s."""
    write_video(tmp_path / "uneven.mp4", clip, UNEVEN, ("aac", beep(0.5, 0.8, 2.1)))
    return tmp_path / "uneven.mp4"


def test_overlay_is_shown_as_the_video(track, uneven):
    assert track(uneven, *POINT)[0] == 0
    assert read_times("uneven_track/overlay.mp4") == pytest.approx(UNEVEN, abs=1e-3)
    assert read_beep("uneven_track/overlay.mp4")[:2] == pytest.approx((0.5, 0.8), abs=0.04)


def test_overlay_of_a_part_has_its_sound(track, uneven):
    assert track(uneven, *POINT, "--frame", "3", "--max-frames", "4")[0] == 0
    assert read_times("uneven_track/overlay.mp4") == pytest.approx(UNEVEN[3:7] - 0.5, abs=1e-3)
    start, end, length = read_beep("uneven_track/overlay.mp4")
    assert (start, end) == pytest.approx((0.0, 0.3), abs=0.04) and 0.7 < length < 0.95


def test_overlay_of_every_third_frame_keeps_time(track, uneven, tmp_path):
    assert track(uneven, *POINT, "--stride", "3")[0] == 0
    assert read_times("uneven_track/overlay.mp4") == pytest.approx(UNEVEN[::3], abs=1e-3)
    assert read_beep("uneven_track/overlay.mp4")[:2] == pytest.approx((0.5, 0.8), abs=0.04)
    assert sorted(path.stem for path in tmp_path.glob("uneven_track/masks/*")) == ["00000", "00003", "00006", "00009"]


def test_overlay_in_reverse_has_no_sound(track, uneven):
    assert track(uneven, *POINT, "--frame", "5", "--reverse")[0] == 0
    assert read_times("uneven_track/overlay.mp4") == pytest.approx(0.6 - UNEVEN[5::-1], abs=1e-3)
    assert read_beep("uneven_track/overlay.mp4") is None


def test_overlay_at_another_speed_has_no_sound(track, uneven):
    assert track(uneven, *POINT, "--max-frames", "3", "--frame-rate", "0.01")[0] == 0
    assert read_times("uneven_track/overlay.mp4") == pytest.approx([0, 100, 200])
    assert read_beep("uneven_track/overlay.mp4") is None


@pytest.mark.parametrize(("suffix", "codec"), [("mov", "pcm_s16le"), ("mp4", "aac"), ("mkv", "flac"), ("ts", "aac")])
def test_sound_of_any_container_is_taken_along(clip, tmp_path, suffix, codec):
    path = tmp_path / f"clip.{suffix}"
    write_video(path, clip, sound=(codec, beep(0.4, 0.8, 1.2)))
    sound = open_sound(path, 0.2, 1.0)
    assert sound.is_copied == (suffix != "ts" and codec != "pcm_s16le")
    with OverlayVideo(tmp_path / "overlay.mp4", 90, 120, 10, sound=sound) as video:
        for idx in range(8):
            video.write(clip[idx + 2])
    start, end, length = read_beep(tmp_path / "overlay.mp4")
    assert (start, end) == pytest.approx((0.2, 0.6), abs=0.04) and 0.7 < length < 0.9
    assert read_times(tmp_path / "overlay.mp4") == pytest.approx(np.arange(8) / 10, abs=1e-3)


def test_sound_is_none_where_a_file_has_none(clip, tmp_path):
    write_video(tmp_path / "clip.mp4", clip)
    (tmp_path / "text.mp4").write_text("no video")
    assert open_sound(tmp_path / "clip.mp4", 0, 1) is None
    assert open_sound(tmp_path / "text.mp4", 0, 1) is None
    assert open_sound(tmp_path / "missing.mp4", 0, 1) is None


def test_sound_that_ends_early_holds_no_pictures_back(clip, tmp_path):
    write_video(tmp_path / "clip.mp4", clip, sound=("aac", beep(0.1, 0.2, 0.3)))
    sound = open_sound(tmp_path / "clip.mp4", 0, 9)
    with OverlayVideo(tmp_path / "overlay.mp4", 90, 120, 2, sound=sound) as video:
        for frame in clip:
            video.write(frame)
        assert len(read_times(tmp_path / "overlay.mp4")) >= 8  # as after a kill
    assert len(read_times(tmp_path / "overlay.mp4")) == 12


def test_overlay_has_the_colours_of_the_pictures(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 60), (255, 255, 255), (20, 20, 20), (30, 160, 200)]
    picture = np.repeat(np.array([colours], np.uint8), 16, axis=1).repeat(32, axis=0)
    with OverlayVideo(tmp_path / "clip.mp4", *picture.shape[:2], 10) as video:
        video.write(picture)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc) == (1, 1, 1, 1)
        planes = next(container.decode(video=0)).to_ndarray()  # Y, U and V below each other
    red, green, blue = (np.array(colours) / 255).T
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    assert planes[16, 8:112:16] == pytest.approx(16 + 219 * luma, abs=2)
    chroma = planes[32:40].reshape(-1, 56)[4, 4:56:8]  # of every second row and column
    assert chroma == pytest.approx(128 + 224 * (blue - luma) / 1.8556, abs=2)


def test_overlay_keeps_primaries_and_transfer_of_the_video(track, clip):
    with av.open("wide.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 90, 120, "yuv420p"
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 14  # BT.2020
        for frame in clip[:3]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    assert track("wide.mp4", *POINT)[0] == 0
    with av.open("wide_track/overlay.mp4") as container:
        codec = container.streams.video[0].codec_context
        assert (codec.color_primaries, codec.color_trc, codec.colorspace) == (9, 14, 1)


def test_overlay_times_that_coincide_are_told_apart(tmp_path):
    with OverlayVideo(tmp_path / "clip.mp4", 32, 48, 10) as video:
        for time in (0, 0, 0.5, 0.2):
            video.write(np.zeros((32, 48, 3), np.uint8), time)
    times = read_times(tmp_path / "clip.mp4")
    assert len(times) == 4 and times == sorted(times) and times[2] == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [0.01, 1000])
def test_overlay_video_takes_extreme_rates(tmp_path, rate):
    with OverlayVideo(tmp_path / "clip.mp4", 32, 48, rate) as video:
        for _ in range(3):
            video.write(np.zeros((32, 48, 3), np.uint8))
    assert read_times(tmp_path / "clip.mp4") == pytest.approx(np.arange(3) / rate, rel=1e-3)


@pytest.mark.parametrize("rate", [0.0001, 1e9])
def test_overlay_video_rejects_rates_that_no_player_shows(tmp_path, rate):
    with pytest.raises(ValueError, match=r"the rate in 0\.01\.\.1000"):
        OverlayVideo(tmp_path / "clip.mp4", 32, 48, rate)
