"""Masks in the run lengths of Label Studio's brush.

The format is `rle-pack` of the JavaScript library umbrella, which packs bits, the highest of each byte first:

    number of values: 32 bits
    bits of a value, less 1: 5 bits
    bits of the four sizes of run lengths, less 1: 4 bits each
    for every run: whether one value repeats: 1 bit, which size: 2 bits, its length less 1: so many bits, the value

The values are the bytes red, green, blue and alpha of each pixel, row by row. Label Studio shows where alpha is not 0.
"""

import numpy as np

VALUE_BITS = 8
LENGTH_BITS = (3, 4, 8, 16)  # the sizes that Label Studio itself writes
NUM_CHANNELS = 4
INSIDE = 255


def encode_brush(mask: np.ndarray) -> list[int]:
    """Bytes of a boolean mask (H, W), as numbers."""
    pixels = mask.ravel()
    ends = np.append(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1, pixels.size)
    lengths = np.diff(ends, prepend=0) * NUM_CHANNELS
    values = np.where(pixels[ends - 1], INSIDE, 0)
    header = [(pixels.size * NUM_CHANNELS, 32), (VALUE_BITS - 1, 5), *((size - 1, 4) for size in LENGTH_BITS)]
    bits = "".join(f"{number:0{size}b}" for number, size in header)
    bits += "".join(_run(length, value) for length, value in zip(lengths.tolist(), values.tolist()))
    return np.packbits(np.frombuffer(bits.encode(), np.uint8) - ord("0")).tolist()


def _run(length: int, value: int) -> str:
    """The bits of one run, which is written as several where no size holds its length."""
    longest = 2 ** LENGTH_BITS[-1]
    parts = [longest] * (length // longest) + [length % longest] * bool(length % longest)
    bits = ""
    for part in parts:
        size_idx = next(idx for idx, size in enumerate(LENGTH_BITS) if part <= 2**size)
        bits += f"1{size_idx:02b}{part - 1:0{LENGTH_BITS[size_idx]}b}{value:0{VALUE_BITS}b}"
    return bits
