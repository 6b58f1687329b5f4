"""Small video files with frames at given times, sound and colours, and what is read back from such files."""

from fractions import Fraction

import numpy as np
import pytest

av = pytest.importorskip("av", reason="writing and reading video files needs PyAV")

MILLISECONDS = Fraction(1, 1000)
SAMPLE_RATE = 48000


def write_video(path, frames, seconds=None, sound=None, container_options=None):
    """Writes frames (T, H, W, 3), shown at given seconds or 10 per second, with sound if any (codec, float32 (N,))."""
    seconds = np.arange(len(frames)) / 10 if seconds is None else seconds
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "5", "bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.codec_context.time_base = MILLISECONDS
        audio = container.add_stream(sound[0], rate=SAMPLE_RATE, layout="mono") if sound else None
        for frame, second in zip(frames, seconds):
            picture = av.VideoFrame.from_ndarray(frame, "rgb24")
            picture.pts, picture.time_base = round(second * 1000), MILLISECONDS
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        if audio:
            write_sound(container, audio, sound[1])


def write_sound(container, stream, samples):
    """Writes float32 samples (N,) to a stream."""
    for start in range(0, len(samples), 1000):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1000], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = SAMPLE_RATE, start, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def beep(start, end, length):
    """float32 samples (N,) of so many seconds, silent but for a tone from start to end."""
    seconds = np.arange(round(length * SAMPLE_RATE)) / SAMPLE_RATE
    return np.where((seconds >= start) & (seconds < end), 0.5 * np.sin(2000 * seconds), 0).astype(np.float32)


def read_times(path):
    """Seconds at which the frames of a file are shown."""
    with av.open(str(path)) as container:
        return [frame.time for frame in container.decode(video=0)]


def read_beep(path):
    """(start, end, length) in seconds of the tone in a file and of its sound; None without sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        loudness, times = [], []
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray()).reshape(-1)[: frame.samples]
            loudness.append(samples)
            times.append(frame.time + np.arange(frame.samples) / frame.sample_rate)
    loudness, times = np.concatenate(loudness), np.concatenate(times)
    is_loud = times[loudness > 0.2]
    return is_loud[0], is_loud[-1], times[-1]
