"""Smooth motions: paths across the picture and beyond it, and poses of sprites on them."""

import numpy as np

LEAVING_PACES = (0.03, 0.1)  # highest speeds of what leaves the picture and returns, in pictures per frame


def swing(rng: np.random.Generator, num_frames: int, reach: float, frequency: float, start: float = 0.0) -> np.ndarray:
    """Values (num_frames,) of a sine of amplitude `reach`, in radians per frame, from `start` on, rising or falling."""
    phase = np.arcsin(start / reach) if reach else 0.0
    if rng.random() < 0.5:
        phase = np.pi - phase
    return reach * np.sin(phase + frequency * np.arange(num_frames))


def draw_paths(
    rng: np.random.Generator, radii: list[float], num_frames: int, pace: float, tempo: float = 1.0
) -> list[np.ndarray]:
    """Paths (num_frames, 2) of centres (x, y) that swing across the picture, in pictures: 0 and 1 are its borders.

    Some lead out of the picture and soon back; some meet an earlier one, to hide it for a while.

    Args:
        radii: of the things on the paths, in pictures.
        pace: their highest speed along x or y at most, but for what leaves; in pictures per frame.
        tempo: factor on the speeds of what leaves.
    """
    paths: list[np.ndarray] = []
    for radius in radii:
        leaving = rng.choice(["x", "y"]) if rng.random() < 0.3 else None
        tempos = (tempo if axis == leaving else None for axis in "xy")
        path = np.stack([_draw_axis(rng, radius, num_frames, pace, each) for each in tempos], 1)
        if paths and leaving is None and rng.random() < 0.7:
            met, frame_idx = paths[rng.integers(len(paths))], rng.integers(num_frames)
            path = path - path[frame_idx] + met[frame_idx] + rng.normal(0, 0.4 * radius, 2)
        paths.append(path)
    return paths


def _draw_axis(
    rng: np.random.Generator, radius: float, num_frames: int, pace: float, leaving_tempo: float | None
) -> np.ndarray:
    reach, start, speed = rng.uniform(0.4, 0.55 + radius), rng.uniform(-0.4, 0.4), rng.uniform(0.1, 1) * pace
    # from near the border to just beyond it and back, unless it happens to go the other way
    if leaving_tempo is not None:
        reach, start = 0.5 + rng.uniform(1.05, 1.4) * radius, rng.choice([-1, 1]) * rng.uniform(0.3, 0.5)
        speed = max(speed, leaving_tempo * rng.uniform(*LEAVING_PACES))
    return 0.5 + swing(rng, num_frames, reach, speed / reach, start)


def draw_poses(rng: np.random.Generator, centers: np.ndarray, sprite_size: tuple[int, int], pace: float) -> np.ndarray:
    """Poses (see `pose_matrices`) of a sprite that turns and grows or shrinks on its path of `centers` (T, 2)."""
    num_frames = len(centers)
    upright = rng.normal(0, 0.15) if rng.random() < 0.7 else rng.uniform(-np.pi, np.pi)
    angles = upright + swing(rng, num_frames, rng.uniform(0, 0.8), rng.uniform(0, 3) * pace)
    scales = np.exp(swing(rng, num_frames, rng.uniform(0, 0.35), rng.uniform(0, 3) * pace))
    # as if it turned about its upright axis
    widths = scales * (1 - rng.uniform(0, 0.5) * swing(rng, num_frames, 1, rng.uniform(0, 3) * pace) ** 2)
    if rng.random() < 0.5:
        widths = -widths  # mirrored
    return pose_matrices(sprite_size, centers, angles, np.stack([widths, scales], 1))


def pose_matrices(
    sprite_size: tuple[int, int], centers: np.ndarray, angles: np.ndarray, scales: np.ndarray
) -> np.ndarray:
    """Affine matrices (T, 2, 3) from (x, y) in a sprite to (x, y) in the picture, in pixels from the outer corner.

    Args:
        sprite_size: width and height; its middle goes to the centre.
        centers: (T, 2), in pixels of the picture.
        angles: (T,), in radians.
        scales: (T, 2), along the width and the height of the sprite.
    """
    cos, sin = np.cos(angles), np.sin(angles)
    turned = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1) * scales[:, None]
    return np.concatenate([turned, (centers - turned @ (np.array(sprite_size) / 2))[..., None]], 2)
