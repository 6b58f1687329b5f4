"""Draws examples/coins.mp4, runs the commands of the README, and puts what they make into this folder.

Run from the root of a checkout after `pip install ".[video]"`: python docs/make_pictures.py
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

ROOT = Path(__file__).parents[1]
CLIP = ROOT / "examples" / "coins.mp4"
WIDTH, HEIGHT, NUM_FRAMES, FRAME_RATE = 480, 320, 48, 12
# of the bundled photograph: the box of a coin, its colour, its diameter in the clip
COINS = (
    ((315, 156, 380, 219), (1.0, 0.86, 0.55), 104),
    ((17, 232, 77, 293), (0.95, 0.95, 1.0), 92),
    ((144, 235, 202, 290), (1.0, 0.72, 0.52), 88),
)
BOXES = ("13,58,117,162", "160,111,252,203", "38,202,126,290")  # where the coins are on the first frame


def paths(angle: float) -> tuple[tuple[float, float], ...]:
    """Centres (x, y) of the three coins; an angle of 2 pi is the whole loop."""
    return (
        (165 - 100 * np.cos(angle), 110 + 45 * np.sin(angle)),
        (272 - 75 * np.cos(angle - 0.5), 125 + 45 * np.sin(2 * angle + 0.8)),
        (240 + 170 * np.sin(angle - 1.2), 234 + 12 * np.cos(2 * angle)),
    )


def cut_coin(photograph: Image.Image, box: tuple[int, ...], colour: tuple[float, ...], diameter: int) -> Image.Image:
    """The coin as a coloured RGBA picture, twice as large as in the clip."""
    size = (2 * diameter, 2 * diameter)
    grey = np.asarray(photograph.crop(box).resize(size, Image.Resampling.LANCZOS), dtype=float)
    coin = Image.fromarray(((grey - grey.mean() + 165) * colour).clip(0, 255).astype(np.uint8))
    disc = Image.new("L", (4 * diameter, 4 * diameter), 0)
    ImageDraw.Draw(disc).ellipse((6, 6, 4 * diameter - 7, 4 * diameter - 7), fill=255)
    coin.putalpha(disc.resize(size, Image.Resampling.LANCZOS))
    return coin


def draw_cloth() -> Image.Image:
    """A blue cloth with a little grain."""
    grain = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    grain = np.asarray(Image.fromarray(grain).filter(ImageFilter.GaussianBlur(1.5)), dtype=float)[..., None] - 127
    light = np.linspace(0, 40, WIDTH)[None, :, None] + np.linspace(0, 30, HEIGHT)[:, None, None]
    cloth = np.array([58, 78, 96]) + light * np.array([0.7, 0.8, 0.9]) + 0.2 * grain
    return Image.fromarray(cloth.clip(0, 255).astype(np.uint8))


def draw_frames() -> Iterator[Image.Image]:
    """The frames of the clip: three coins roll over a cloth, hide each other in part, and end where they began."""
    photograph = Image.open(ROOT / "edgetam_hf" / "samples" / "coins.jpg").convert("RGB")
    coins, cloth = [cut_coin(photograph, *coin) for coin in COINS], draw_cloth()
    for frame_idx in range(NUM_FRAMES):
        frame, centres = cloth.copy(), paths(2 * np.pi * frame_idx / NUM_FRAMES)
        for i in (2, 1, 0):  # the first one lies on top
            diameter, turn = COINS[i][2], 360 * frame_idx / NUM_FRAMES * (-1) ** i
            coin = (
                coins[i].rotate(turn, Image.Resampling.BICUBIC).resize((diameter, diameter), Image.Resampling.LANCZOS)
            )
            x, y = (round(centre - diameter / 2) for centre in centres[i])
            shadow = Image.new("L", frame.size, 0)
            shadow.paste(coin.getchannel("A"), (x + 5, y + 7))
            shadow = shadow.filter(ImageFilter.GaussianBlur(6)).point(lambda level: level // 2)
            frame.paste((10, 14, 20), (0, 0), shadow)
            frame.paste(coin, (x, y), coin)
        yield frame


def write_clip() -> None:
    """Writes the frames into CLIP as H.264."""
    with av.open(CLIP, "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", {"crf": "20"}
        for frame in draw_frames():
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def write_moving_picture(video: Path, path: Path) -> None:
    """Writes the frames of a video as an animated WebP, which web pages show."""
    with av.open(video) as container:
        first, *others = (frame.to_image() for frame in container.decode(video=0))
    first.save(path, save_all=True, append_images=others, duration=1000 // FRAME_RATE, loop=0, quality=60, method=6)


def main() -> None:
    """Makes the clip, and the pictures of the README from it and from the samples."""
    write_clip()
    prompts = [word for box in BOXES for word in ("--box", box)]
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (["segment"], ["masks"], ["track", CLIP, "--model", "nano", *prompts, "--output", "track"]):
            subprocess.run([sys.executable, "-m", "edgetam_hf", *map(str, arguments)], cwd=folder, check=True)
        shutil.copy(Path(folder, "cat_segment.png"), ROOT / "docs" / "segment.png")
        shutil.copy(Path(folder, "coins_masks.png"), ROOT / "docs" / "masks.png")
        write_moving_picture(Path(folder, "track", "overlay.mp4"), ROOT / "docs" / "track.webp")


if __name__ == "__main__":
    main()
