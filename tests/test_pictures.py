"""Reading pictures: every source and format gives the same pixels, and what is none gives one clear line."""

import base64
import functools
import http.server
import io
import threading
import warnings

import numpy as np
import pytest
import torch
from edgetam_hf.image_processing_edgetam import EdgeTamImageProcessor
from edgetam_hf.pictures_edgetam import decode_picture, read_index_picture, read_picture, to_8_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "LA", "PA", "RGBX", "RGBa", "La"]
ORIENTATION = 0x0112
modest = settings(derandomize=True, max_examples=150, deadline=None)


def rgb(height=40, width=56, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(picture, file_format="PNG", **settings):
    buffer = io.BytesIO()
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(buffer, file_format, **settings)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def processor():
    return EdgeTamImageProcessor(size={"height": 64, "width": 64})


# Sources.


def test_read_picture_reads_every_source(tmp_path, monkeypatch):
    data = encoded(rgb())
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    text = base64.b64encode(data).decode()
    monkeypatch.chdir(tmp_path)
    sources = [path, str(path), path.name, data, bytearray(data), memoryview(data), io.BytesIO(data), text]
    for source in [*sources, "data:image/png;base64," + text, base64.encodebytes(data).decode()]:
        assert (read_picture(source) == rgb()).all()
    with path.open("rb") as file:
        assert (read_picture(file) == rgb()).all()


def test_read_picture_fetches_addresses(tmp_path):
    (tmp_path / "picture.png").write_bytes(encoded(rgb()))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.func.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            assert (read_picture(f"{address}/picture.png", timeout=10) == rgb()).all()
            with pytest.raises(ValueError, match=r"none\.png' cannot be fetched, check the address"):
                read_picture(f"{address}/none.png")
        finally:
            server.shutdown()
    with pytest.raises(ValueError, match=r"picture\.png' cannot be fetched, check the address and the connection"):
        read_picture(f"{address}/picture.png", timeout=10)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "BMP", "PPM", "JPEG2000", "GIF", "WEBP", "AVIF", "JPEG", "TGA"])
def test_processor_reads_files_of_format_as_pillow_decodes_them(processor, tmp_path, file_format, recwarn):
    if file_format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / "picture"
    path.write_bytes(encoded(rgb(), file_format))
    with Image.open(path) as image:
        expected = np.array(image.convert("RGB"))
    assert (read_picture(path) == expected).all()
    ours, of_array = (processor(p, return_tensors="pt")["pixel_values"] for p in (str(path), expected))
    assert torch.equal(ours, of_array)
    assert not recwarn.list


def test_read_picture_takes_the_first_frame(processor, tmp_path):
    frames = [Image.fromarray(rgb(seed=seed)).quantize(32) for seed in range(3)]
    path = tmp_path / "moving.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert (read_picture(path) == np.array(frames[0].convert("RGB"))).all()
    assert processor([str(path)], return_tensors="pt")["pixel_values"].shape == (1, 3, 64, 64)


def test_files_are_upright_and_pil_pictures_as_their_pixels_lie(processor, tmp_path):
    image, exif = Image.fromarray(rgb()), Image.Exif()
    exif[ORIENTATION] = 6  # a quarter turn clockwise makes it upright
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    upright = np.rot90(rgb(), -1)
    assert (read_picture(path) == upright).all()
    assert processor(str(path), return_tensors="pt")["original_sizes"].tolist() == [[56, 40]]
    with Image.open(path) as opened:
        assert (decode_picture(opened, "it") == rgb()).all()
        assert processor(opened, return_tensors="pt")["original_sizes"].tolist() == [[40, 56]]
    Image.fromarray(rgb()[..., 0]).save(path, exif=exif)
    assert (read_index_picture(path) == upright[..., 0]).all()


def test_read_picture_takes_a_picture_with_damaged_exif_as_it_lies(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(encoded(rgb(), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12"))
    with Image.open(path) as image:
        assert (read_picture(path) == np.array(image)).all()


# Modes and levels.


@pytest.mark.parametrize("mode", MODES)
def test_decode_picture_reads_mode(mode, recwarn):
    base = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode, mode)
    image = Image.fromarray(rgb()).convert(base)
    image = image.convert(mode) if mode in ("La", "RGBa") else image
    if mode == "PA":
        image = image.convert("PA")
    expected = image.convert("LA").convert("RGB") if mode == "La" else image.convert("RGB")
    assert (decode_picture(image, "it") == np.array(expected)).all()
    assert not recwarn.list


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("kind", ["u2", ">u2", "i4", "i8", "u4", "f4", "f8"])
def test_processor_scales_levels_by_what_the_picture_holds(processor, bits, kind):
    grey = np.linspace(0, 255, 40 * 56).round().astype(np.uint8).reshape(40, 56)
    white = 2**bits - 1
    levels = np.round(grey * (white / 255)).astype(kind)
    expected = processor(grey, return_tensors="pt")["pixel_values"]
    pictures = [levels, np.repeat(levels[..., None], 3, -1)]
    if levels.dtype.isnative:
        pictures.append(torch.from_numpy(levels))
    if kind in ("u2", "i4", "f4"):
        pictures += [Image.fromarray(levels), encoded(levels, "TIFF")]
    for picture in pictures:
        torch.testing.assert_close(processor(picture, return_tensors="pt")["pixel_values"], expected, atol=0.02, rtol=0)


def test_processor_scales_floats_from_0_to_1_unless_told_not_to_rescale(processor):
    levels = rgb().astype(np.float32) / 255
    expected = processor(rgb(), return_tensors="pt")["pixel_values"]
    as_they_are = processor(levels, do_rescale=False, return_tensors="pt")["pixel_values"]
    for picture in (levels, torch.from_numpy(levels)):
        scaled = processor(picture, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(scaled, as_they_are, atol=1e-5, rtol=0)
        torch.testing.assert_close(scaled, expected, atol=0.02, rtol=0)
    grey = levels[..., 0]
    expected = processor(rgb()[..., 0], return_tensors="pt")["pixel_values"]
    for picture in (Image.fromarray(grey), encoded(grey, "TIFF")):
        assert torch.equal(processor(picture, return_tensors="pt")["pixel_values"], expected)


def test_to_8_bits_accepts_overshoot_of_floats_only():
    assert to_8_bits(np.array([[-0.1, 1.1]]), "it").tolist() == [[0, 255]]
    assert to_8_bits(np.array([[-20.0, 270.0]]), "it").tolist() == [[0, 255]]
    assert to_8_bits(np.array([[0, 256]]), "it").tolist() == [[0, 16]]
    with pytest.raises(ValueError, match="it has levels outside"):
        to_8_bits(np.array([[-1, 255]]), "it")


def test_16_bit_png_and_transparent_palette(tmp_path, recwarn):
    grey = rgb()[..., 0]
    assert (read_picture(encoded(grey.astype(np.uint16) * 257)) == grey[..., None]).all()
    palette = Image.fromarray(rgb()).quantize(64)
    transparent = encoded(palette, transparency=bytes(range(64)))
    assert (read_picture(transparent) == np.array(palette.convert("RGB"))).all()
    assert not recwarn.list


# Masks.


def test_read_index_picture_gives_indices():
    indices = rgb()[..., 0] % 5
    palette = Image.fromarray(indices).convert("P")
    for picture in (Image.fromarray(indices), palette, Image.fromarray(indices.astype(np.uint16))):
        assert (read_index_picture(encoded(picture)) == indices).all()
    assert read_index_picture(encoded(Image.fromarray(indices > 2))).dtype == bool


@pytest.mark.parametrize("picture", [rgb(), rgb()[..., 0].astype(np.float32)], ids=["colours", "floats"])
def test_read_index_picture_rejects(picture):
    with pytest.raises(ValueError, match="it must be a palette or grey picture of whole numbers"):
        read_index_picture(encoded(picture, "TIFF"), "it")


# What is no picture.


def unreadable(tmp_path):
    """Sources by what an error must say of them."""
    files = {
        "empty.png": b"",
        "text.jpg": b"not a picture",
        "cut.png": encoded(rgb(200, 200))[:2000],
        "cut.jpg": encoded(rgb(200, 200), "JPEG")[:2000],
        "bomb.png": encoded(Image.new("1", (20000, 20000))),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.png").mkdir()
    uri = "data:image/png;base64," + base64.b64encode(files["cut.png"]).decode()
    return {
        r"empty\.png' cannot be read, it is not a picture in a format that Pillow knows: it is empty": tmp_path
        / "empty.png",
        r"text\.jpg' cannot be read, it is not a picture in a format that Pillow knows: convert it": tmp_path
        / "text.jpg",
        r"cut\.png' cannot be decoded, its file is truncated or damaged": tmp_path / "cut.png",
        r"cut\.jpg' cannot be decoded, its file is truncated or damaged": tmp_path / "cut.jpg",
        r"bomb\.png' may be a decompression bomb: .* make it smaller, or raise": tmp_path / "bomb.png",
        r"folder\.png' cannot be read, it is a folder": tmp_path / "folder.png",
        r"none\.png' cannot be read: No such file": tmp_path / "none.png",
        "a data: URI of 22 characters, is cut off": "data:image/png;base64,",
        "a data: URI of 14 characters, is cut off or not in base64": "data:image/png",
        "is cut off or damaged: its base64 text is not valid": "data:image/png;base64,ab",
        "a data: URI of .* characters, cannot be decoded": uri,
        "of 2000 characters cannot be read: no such file, nor address": "?" * 2000,
        "the picture cannot be read, it is not a picture": b"no",
        "the picture cannot be read, it is not a picture in a format that Pillow knows: it is empty": b"",
        "cannot be read: No such file": "nul\0byte",
    }


def test_read_picture_and_processor_reject_in_one_line(processor, tmp_path):
    for message, source in unreadable(tmp_path).items():
        for read in (read_picture, read_index_picture, processor):
            with pytest.raises(ValueError, match=message) as caught:
                read(source)
            assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_read_picture_rejects_type():
    with pytest.raises(TypeError, match=r"the picture must be a path, bytes, .*, got int"):
        read_picture(3)


def test_read_picture_names_a_bomb_where_warnings_are_errors(monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 56 - 1)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="it may be a decompression bomb"):
        warnings.simplefilter("error")
        read_picture(encoded(rgb()), "it")


FILES = [encoded(rgb(9, 11), name) for name in ("PNG", "JPEG", "TIFF", "GIF", "BMP", "WEBP", "PPM")]


@modest
@given(st.sampled_from(FILES), st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), min_size=1, max_size=4))
@pytest.mark.filterwarnings("ignore")  # of Pillow, about damaged metadata
def test_read_picture_survives_changed_bytes(data, changes):
    data = bytearray(data)
    for place, difference in changes:
        data[place % len(data)] ^= difference
    try:
        picture = read_picture(bytes(data), "it")
    except ValueError as error:
        assert str(error).startswith("it ") and "\n" not in str(error)
    else:
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3
