"""Frames of a video: the same whatever holds them, whatever the order, and never made up."""

import pickle
import struct
from fractions import Fraction

import numpy as np
import pytest
import torch
from edgetam_hf.video_file_edgetam import VideoReader
from edgetam_hf.video_frames_edgetam import Frames, PictureFolder, StoredFrames, VideoFile, open_video
from PIL import Image, ImageOps

from edgetam_hf import video_file_edgetam

NUM_FRAMES, HEIGHT, WIDTH = 24, 32, 48
KEY_DISTANCE = 8
NEEDS_AV = "reading video files needs PyAV"


def rgb(num_frames=5, height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def assert_frames_equal(frames, expected):
    expected = list(expected)
    assert isinstance(frames, Frames) and len(frames) == len(expected)
    assert (frames.height, frames.width) == tuple(expected[0].shape[-2:])
    for frame, other in zip(frames, expected):
        assert frame.dtype == torch.uint8 and torch.equal(frame, other)


# Pictures, arrays and tensors.

ARRAY = rgb()
TENSOR = torch.from_numpy(ARRAY).permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    "video",
    [
        ARRAY,
        ARRAY.transpose(0, 3, 1, 2),
        TENSOR,
        torch.from_numpy(ARRAY),
        list(ARRAY),
        tuple(TENSOR),
        list(torch.from_numpy(ARRAY)),
        [Image.fromarray(picture) for picture in ARRAY],
        [Image.fromarray(ARRAY[0]).convert("RGBA"), ARRAY[1], TENSOR[2], *ARRAY[3:]],
    ],
    ids=["array", "array_first", "tensor", "tensor_last", "arrays", "tensors", "tensors_last", "pil", "mixed"],
)
def test_stored_frames_are_the_pictures(video):
    frames = open_video(video)
    assert_frames_equal(frames, TENSOR)
    assert isinstance(frames, StoredFrames) and frames.pixels.shape == (5, 3, 6, 8)


def test_stored_frames_repeat_grey():
    grey = ARRAY[..., 0]
    expected = torch.from_numpy(grey)[:, None].expand(-1, 3, -1, -1)
    for video in (list(grey), list(torch.from_numpy(grey)), [Image.fromarray(picture) for picture in grey]):
        assert_frames_equal(open_video(video), expected)


def test_stored_frames_lie_on_the_storage_device():
    for video in (ARRAY, TENSOR, list(ARRAY)):
        assert open_video(video, storage_device="meta").pixels.device.type == "meta"


def test_stored_frames_share_a_tensor_and_spare_a_read_only_array(recwarn):
    assert open_video(TENSOR).pixels.data_ptr() == TENSOR.data_ptr()
    read_only = ARRAY.copy()
    read_only.flags.writeable = False
    assert_frames_equal(open_video(read_only), TENSOR)
    assert_frames_equal(open_video(ARRAY[:, ::-1]), TENSOR.flip(2))
    assert not recwarn.list


def test_open_video_returns_frames_as_they_are():
    class Camera:
        height, width = 4, 4

        def __len__(self):
            return 1

        def __getitem__(self, idx):
            return torch.zeros(3, 4, 4, dtype=torch.uint8)

    for frames in (open_video(ARRAY), Camera()):
        assert open_video(frames) is frames


def test_frames_reject_indices_outside():
    frames = open_video(ARRAY)
    assert torch.equal(frames[np.int64(4)], frames[torch.tensor(4)])
    for idx in (5, -1):
        with pytest.raises(IndexError, match=rf"frame index must be in 0\.\.4, got {idx}"):
            frames[idx]
    with pytest.raises(TypeError):
        frames[1:3]


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ([], "empty list: give at least one frame"),
        (ARRAY[:0], r"no frames or no pixels: its shape is \(0, 6, 8, 3\)"),
        (ARRAY[0], r"must have shape \(T, H, W, 3\) or .* got \(6, 8, 3\): .* video\[None\]"),
        (ARRAY[..., :2], r"video must have 3 channels, first or last, got shape \(5, 6, 8, 2\)"),
        ([ARRAY[0], ARRAY[1, :, :2, :2]], r"frame 1 must have 3 channels"),
        ([ARRAY[0], ARRAY], r"frame 1 must have shape \(H, W, 3\)"),
        (ARRAY[None], r"got \(1, 5, 6, 8, 3\): give one video of a batch, such as video\[0\]"),
        ([ARRAY], r"frame 0 must have shape \(H, W, 3\), .* but it is several pictures: .* without a list around it"),
        ([list(ARRAY)], "frame 0 must have shape .* but it is several pictures"),
        ([*ARRAY, ARRAY[0, :4]], "frame 5 has 8x4 pixels, the first one 8x6"),
        ("nowhere/clip.mp4", "video nowhere/clip.mp4 does not exist"),
    ],
)
def test_open_video_rejects_values(video, message):
    with pytest.raises(ValueError, match=message):
        open_video(video)


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (ARRAY / 255, r"video must be uint8, got float64: scale it to 0..255 and convert it with .astype\(np.uint8\)"),
        (TENSOR.float(), r"got torch.float32: .* \.to\(torch.uint8\)"),
        ([ARRAY[0], ARRAY[1].astype(np.int64)], "frame 1 must be uint8, got int64"),
        (["a.jpg"], "frame 0 must be a PIL picture, an array or a tensor, got <class 'str'>"),
        (Image.fromarray(ARRAY[0]), "a video must be the path of .*, got <class 'PIL.Image.Image'>"),
        ((picture for picture in ARRAY), "got <class 'generator'>"),
        (None, "got <class 'NoneType'>"),
        ("https://example.com/clip.mp4", "got the address https://.*: download the video first"),
        ("rtsp://camera/stream", "got the address rtsp://camera/stream: .* or record it to a file"),
        ("file://elsewhere/clip.mp4", "got the address file://elsewhere/clip.mp4"),
    ],
)
def test_open_video_rejects_types(video, message):
    with pytest.raises(TypeError, match=message):
        open_video(video)


# Folders.


@pytest.fixture
def folder(tmp_path):
    """Five pictures whose alphabetical order is not their natural one, and files that are none."""
    for picture, name in zip(ARRAY, ("f1.png", "f2.PNG", "f2b.bmp", "f10.png", "g0.png")):
        Image.fromarray(picture).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "._f1.png").write_text("what other systems leave behind")
    return tmp_path


def test_folder_equals_its_pictures_in_natural_order(folder):
    for path in (folder, str(folder)):
        frames = open_video(path)
        assert isinstance(frames, PictureFolder)
        assert_frames_equal(frames, TENSOR)
    assert_frames_equal(pickle.loads(pickle.dumps(frames)), TENSOR)


def test_folder_is_found_by_its_address(folder):
    (folder / "a b%").mkdir()
    Image.fromarray(ARRAY[0]).save(folder / "a b%" / "0.tif")
    assert_frames_equal(open_video(f"file://{folder}/a%20b%25"), TENSOR[:1])
    assert_frames_equal(open_video(folder.as_uri().replace("file://", "FILE://localhost")), TENSOR)


def test_folder_rejects_a_decompression_bomb_by_name(folder, monkeypatch):
    frames = open_video(folder)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"frame 1 \(.*f2.PNG\) may be a decompression bomb"):
        frames[1]


def test_folder_turns_pictures_upright(tmp_path):
    turned = Image.fromarray(np.rot90(ARRAY[0], 1))
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    turned.save(tmp_path / "0.png", exif=exif)
    assert_frames_equal(open_video(tmp_path), TENSOR[:1])


def test_folder_rejects_damage_and_other_sizes_by_name(folder):
    frames = open_video(folder)
    content = (folder / "f10.png").read_bytes()
    (folder / "f10.png").write_bytes(content[: len(content) // 2])
    (folder / "f2.PNG").write_text("no picture")
    Image.fromarray(ARRAY[0, :3]).save(folder / "g0.png")
    with pytest.raises(ValueError, match=r"frame 1 \(.*f2.PNG\) cannot be read"):
        frames[1]
    with pytest.raises(ValueError, match=r"frame 3 \(.*f10.png\) cannot be decoded, its file is .*truncated"):
        frames[3]
    with pytest.raises(ValueError, match=r"frame 4 \(.*g0.png\) has 8x3 pixels, the first one 8x6"):
        frames[4]
    assert torch.equal(frames[2], TENSOR[2])


def test_folder_reads_pictures_whose_exif_data_are_damaged(folder, monkeypatch):
    expected = list(PictureFolder(folder))
    monkeypatch.setattr(ImageOps, "exif_transpose", lambda *_, **__: struct.pack("H", "no integer"))
    assert_frames_equal(PictureFolder(folder), expected)


def test_folder_rejects_no_pictures(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"has no pictures: expected files \.jpg"):
        open_video(tmp_path)
    (tmp_path / "clip.mp4").touch()
    with pytest.raises(ValueError, match=r"it has videos, give one of them: clip\.mp4"):
        open_video(tmp_path)


# Video files.


def encode(path, codec="libx264", num_b_frames=2, container_options=(), num_frames=NUM_FRAMES, aspect="1:1"):
    """Writes a video of moving noise with a key frame every KEY_DISTANCE frames."""
    av = pytest.importorskip("av", reason=NEEDS_AV)
    texture = rgb(1, HEIGHT, WIDTH)[0]
    with av.open(str(path), "w", options=dict(container_options)) as container:
        stream = container.add_stream(codec, rate=Fraction(30000, 1001))
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = KEY_DISTANCE, num_b_frames
        # B-frames also where noise hardly profits of them
        stream.codec_context.options = {"b_strategy": "0", "aspect": aspect}
        for idx in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 3 * idx, axis=1), "rgb24")
            frame.pts, frame.time_base = idx, Fraction(1001, 30000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode_all(path, **size):
    """All frames (3, H, W), decoded in one go."""
    av = pytest.importorskip("av", reason=NEEDS_AV)
    with av.open(str(path)) as container:
        return [
            torch.from_numpy(f.to_ndarray(format="rgb24", **size)).permute(2, 0, 1) for f in container.decode(video=0)
        ]


def num_seeks(monkeypatch):
    """A list that grows whenever decoding starts anew."""
    seeks, pictures_from = [], VideoReader._pictures_from
    monkeypatch.setattr(
        VideoReader, "_pictures_from", lambda reader, key: seeks.append(key) or pictures_from(reader, key)
    )
    return seeks


@pytest.mark.parametrize(
    ("name", "codec", "num_b_frames"),
    [
        ("clip.mp4", "libx264", 0),
        ("clip.mp4", "libx264", 2),
        ("clip.mkv", "libx264", 2),
        ("clip.ts", "libx264", 2),
        ("clip.avi", "mpeg4", 2),
    ],
)
def test_video_file_equals_eager_decoding_in_any_order(tmp_path, name, codec, num_b_frames):
    path = encode(tmp_path / name, codec, num_b_frames)
    expected = decode_all(path)
    frames = open_video(path)
    assert isinstance(frames, VideoFile) and len(frames) == NUM_FRAMES
    assert frames.frame_rate == pytest.approx(30000 / 1001, abs=0.01)
    assert_frames_equal(frames, expected)
    backwards = list(reversed(range(NUM_FRAMES)))
    for idx in [*backwards, *np.random.default_rng(0).integers(0, NUM_FRAMES, 40)]:
        assert torch.equal(frames[idx], expected[idx])


def test_video_file_has_reordered_packets(tmp_path):
    # Otherwise the test above would say nothing of B-frames
    path = encode(tmp_path / "clip.mp4")
    av = pytest.importorskip("av", reason=NEEDS_AV)
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    assert times != sorted(times)


def test_video_file_seeks_only_where_it_must(tmp_path, monkeypatch):
    frames = open_video(encode(tmp_path / "clip.mp4"))
    seeks = num_seeks(monkeypatch)
    list(frames)
    assert seeks == [0]
    frames[3], frames[3], frames[4], frames[7]
    assert seeks == [0, 0]
    frames[NUM_FRAMES - 1]
    assert seeks == [0, 0, 2 * KEY_DISTANCE]


def test_video_file_is_pickled_without_its_open_file(tmp_path, monkeypatch):
    encode(tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    frames = open_video("clip.mp4")
    expected = list(frames)
    content = pickle.dumps(frames)
    assert len(content) < 2000
    monkeypatch.chdir("/")
    copy = pickle.loads(content)
    assert torch.equal(copy[13], expected[13])
    assert_frames_equal(copy, expected)


ORIENTATIONS = {  # (a, b, c, d), which show the pixel (x, y) at (a x + c y, b x + d y), and what that does to a frame
    (1, 0, 0, 1): lambda frame: frame,
    (0, 1, -1, 0): lambda frame: frame.rot90(-1, (1, 2)),
    (-1, 0, 0, -1): lambda frame: frame.rot90(2, (1, 2)),
    (0, -1, 1, 0): lambda frame: frame.rot90(1, (1, 2)),
    (-1, 0, 0, 1): lambda frame: frame.flip(2),
    (1, 0, 0, -1): lambda frame: frame.flip(1),
    (0, 1, 1, 0): lambda frame: frame.transpose(1, 2),
    (0, -1, -1, 0): lambda frame: frame.transpose(1, 2).flip((1, 2)),
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_video_file_turns_and_mirrors_frames_upright(tmp_path, matrix):
    path = encode(tmp_path / "clip.mp4", num_frames=2)
    lying = decode_all(path)
    a, b, c, d = (number << 16 for number in matrix)
    content = path.read_bytes()
    position = content.index(display_matrix(1 << 16, 0, 0, 1 << 16), content.index(b"tkhd"))
    path.write_bytes(content[:position] + display_matrix(a, b, c, d) + content[position + 36 :])
    assert_frames_equal(open_video(path), [ORIENTATIONS[matrix](frame) for frame in lying])


def display_matrix(a, b, c, d):
    return np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()


@pytest.mark.parametrize(
    ("aspect", "height", "width"),
    [("32:27", 32, 57), ("8:9", 36, 48), ("2:1", 32, 96), ("1:1", 32, 48), ("200:201", 32, 48), ("1:11", 32, 48)],
)
def test_video_file_has_square_pixels(tmp_path, aspect, height, width):
    path = encode(tmp_path / "clip.mp4", num_frames=2, aspect=aspect)
    frames = open_video(path)
    assert frames[0].shape == (3, height, width) == (3, frames.height, frames.width)
    assert_frames_equal(frames, decode_all(path, height=height, width=width))


def test_video_file_is_readable_up_to_where_it_was_cut_off(tmp_path):
    path = encode(tmp_path / "clip.mp4", container_options={"movflags": "faststart"})
    expected = decode_all(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    frames = open_video(path)
    assert len(frames) == NUM_FRAMES
    readable = readable_frames(frames)
    assert KEY_DISTANCE < len(readable) < NUM_FRAMES and list(readable) == list(range(len(readable)))
    for idx, frame in readable.items():
        assert torch.equal(frame, expected[idx])
    for idx in (len(readable), NUM_FRAMES - 1):
        with pytest.raises(ValueError, match=rf"frame {idx} of .*clip.mp4 cannot be decoded, the file is truncated"):
            frames[idx]


def test_video_file_makes_up_no_damaged_frame(tmp_path):
    path = encode(tmp_path / "clip.avi", "mpeg4", num_b_frames=0)
    expected = decode_all(path)
    av = pytest.importorskip("av", reason=NEEDS_AV)
    with av.open(str(path)) as container:
        packet = next(packet for packet in container.demux(video=0) if packet.pts == KEY_DISTANCE + 2)
        damage = packet.pos + packet.size // 2
    content = path.read_bytes()
    path.write_bytes(content[:damage] + bytes(40) + content[damage + 40 :])
    assert not torch.equal(decode_all(path)[KEY_DISTANCE + 2], expected[KEY_DISTANCE + 2])
    readable = readable_frames(open_video(path))
    assert KEY_DISTANCE + 1 in readable and NUM_FRAMES - 1 in readable and KEY_DISTANCE + 2 not in readable
    for idx, frame in readable.items():
        assert torch.equal(frame, expected[idx])


def readable_frames(frames):
    """Frames by index, without those that raise."""
    readable = {}
    for idx in range(len(frames)):
        try:
            readable[idx] = frames[idx]
        except ValueError as error:
            assert f"frame {idx} of" in str(error)
    return readable


def test_video_file_rejects_other_files(tmp_path):
    pytest.importorskip("av", reason=NEEDS_AV)
    for name, content in {"empty.mp4": b"", "noise.mp4": rgb().tobytes()}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is no video file, or it is damaged"):
            open_video(tmp_path / name)
    (tmp_path / "notes.txt").write_text("FFmpeg would draw this text\n" * 20)
    Image.fromarray(ARRAY[0]).save(tmp_path / "picture.png")
    for name, kind in {"notes.txt": "tty", "picture.png": "a single picture"}.items():
        with pytest.raises(ValueError, match=rf"{name} is no video file: it was read as {kind}"):
            open_video(tmp_path / name)


def test_video_file_rejects_no_frames(tmp_path):
    path = encode(tmp_path / "clip.mp4", container_options={"movflags": "empty_moov+frag_keyframe"})
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moof") - 4])
    with pytest.raises(ValueError, match=r"clip.mp4 has no frames"):
        open_video(path)


def test_video_file_needs_pyav(tmp_path, monkeypatch):
    monkeypatch.setattr(video_file_edgetam, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.raises(ImportError, match="pip install av"):
        open_video(tmp_path / "clip.mp4")
