"""Draws the clips of examples/, runs the commands of the README, and puts what they make into this folder.

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
CLIP, ROLLING_CLIP = ROOT / "examples" / "coins.mp4", ROOT / "examples" / "rolling.mp4"
WIDTH, HEIGHT, NUM_FRAMES, FRAME_RATE = 480, 320, 48, 12
# of the bundled photograph: the box of a coin, its colour, its diameter in the clip
COINS = (
    ((315, 156, 380, 219), (1.0, 0.86, 0.55), 104),
    ((17, 232, 77, 293), (0.95, 0.95, 1.0), 92),
    ((144, 235, 202, 290), (1.0, 0.72, 0.52), 88),
)
# coins that roll through the second clip: which one, y of its centre, the frame that it is on already, its direction
ROLLING = ((0, 66, 30, 1), (2, 66, 6, 1), (1, 164, 20, -1), (0, 258, 40, 1), (1, 258, 14, 1))
ROLLING_SIZE, MARGIN = 0.85, 60  # of the diameters in the first clip; pixels beside the picture
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


def draw_frame(cloth: Image.Image, coins: list[tuple[Image.Image, tuple[float, float], int, float]]) -> Image.Image:
    """A cloth with coins on it: for each its picture, centre (x, y), diameter, and turn in degrees."""
    frame = cloth.copy()
    for coin, centre, diameter, turn in coins:
        size = (diameter, diameter)
        coin = coin.rotate(turn, Image.Resampling.BICUBIC).resize(size, Image.Resampling.LANCZOS)
        x, y = (round(place - diameter / 2) for place in centre)
        shadow = Image.new("L", frame.size, 0)
        shadow.paste(coin.getchannel("A"), (x + 5, y + 7))
        shadow = shadow.filter(ImageFilter.GaussianBlur(6)).point(lambda level: level // 2)
        frame.paste((10, 14, 20), (0, 0), shadow)
        frame.paste(coin, (x, y), coin)
    return frame


def draw_meeting(coins: list[Image.Image]) -> Iterator[Image.Image]:
    """The frames of the first clip: three coins roll, hide each other in part, and end where they began."""
    cloth = draw_cloth()
    for frame_idx in range(NUM_FRAMES):
        centres, turn = paths(2 * np.pi * frame_idx / NUM_FRAMES), 360 * frame_idx / NUM_FRAMES
        # the first one lies on top
        yield draw_frame(cloth, [(coins[i], centres[i], COINS[i][2], turn * (-1) ** i) for i in (2, 1, 0)])


def draw_rolling(coins: list[Image.Image]) -> Iterator[Image.Image]:
    """The frames of the second clip: coins roll into the picture and out of it, and end where they began."""
    cloth, length = draw_cloth(), WIDTH + 2 * MARGIN
    for frame_idx in range(NUM_FRAMES):
        drawn = []
        for i, y, ahead, direction in ROLLING:
            x, diameter = length * ((frame_idx + ahead) % NUM_FRAMES) / NUM_FRAMES - MARGIN, ROLLING_SIZE * COINS[i][2]
            x = x if direction > 0 else WIDTH - x
            drawn.append((coins[i], (x, y), round(diameter), -np.degrees(2 * x / diameter)))
        yield draw_frame(cloth, drawn)


def write_clip(frames: Iterator[Image.Image], path: Path, crf: int) -> None:
    """Writes frames as H.264; the larger crf, the smaller the file."""
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=FRAME_RATE)
        stream.width, stream.height, stream.pix_fmt, stream.options = WIDTH, HEIGHT, "yuv420p", {"crf": str(crf)}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode())


def write_moving_picture(video: Path, path: Path) -> None:
    """Writes the frames of a video as an animated WebP, which web pages show."""
    with av.open(video) as container:
        first, *others = (frame.to_image() for frame in container.decode(video=0))
    first.save(path, save_all=True, append_images=others, duration=1000 // FRAME_RATE, loop=0, quality=60, method=6)


def main() -> None:
    """Makes the clips, and the pictures of the README from them and from the samples."""
    photograph = Image.open(ROOT / "edgetam_hf" / "samples" / "coins.jpg").convert("RGB")
    coins = [cut_coin(photograph, *coin) for coin in COINS]
    write_clip(draw_meeting(coins), CLIP, crf=20)
    write_clip(draw_rolling(coins), ROLLING_CLIP, crf=26)
    prompts = [word for box in BOXES for word in ("--box", box)]
    everything = ["--everything", "--points-per-side", "12"]
    commands = (
        ["segment"],
        ["masks"],
        ["track", CLIP, "--model", "nano", *prompts, "--output", "track"],
        ["track", ROLLING_CLIP, "--model", "nano", *everything, "--output", "everything"],
    )
    with tempfile.TemporaryDirectory() as folder:
        for arguments in commands:
            subprocess.run([sys.executable, "-m", "edgetam_hf", *map(str, arguments)], cwd=folder, check=True)
        shutil.copy(Path(folder, "cat_segment.png"), ROOT / "docs" / "segment.png")
        shutil.copy(Path(folder, "coins_masks.png"), ROOT / "docs" / "masks.png")
        for name in ("track", "everything"):
            write_moving_picture(Path(folder, name, "overlay.mp4"), ROOT / "docs" / f"{name}.webp")


if __name__ == "__main__":
    main()
