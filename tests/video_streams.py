"""Video files of every kind, made without an encoder or by PyAV, and what decoding them in one go gives."""

from fractions import Fraction

import av
import numpy as np
import torch

HEIGHT, WIDTH = 48, 64


def encode_file(path, codec, options=(), num_frames=20, pix_fmt="yuv420p", num_b_frames=0, times=None, title=None):
    """Writes a video of moving noise with a key frame every 8 frames; `times` are milliseconds."""
    texture = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    unit = Fraction(1, 25) if times is None else Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        container.metadata.update({} if title is None else {"title": title})
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pix_fmt
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 8, num_b_frames
        stream.codec_context.options = dict(options)
        if times is not None:
            stream.codec_context.time_base = unit
        for idx, time in enumerate(times or range(num_frames)):
            frame = av.VideoFrame.from_ndarray(np.roll(texture, 3 * idx, axis=1), "rgb24")
            frame.pts, frame.time_base = time, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remux(source, path, is_dropped=lambda number, packet: False, damage=None):
    """Writes the packets of a file into another container, without some of them, one with zeros in its second half."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if not packet.size or is_dropped(number, packet):
                continue
            if number == damage:
                content = bytes(packet)
                packet = _like(packet, content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
            packet.stream = stream
            new.mux(packet)
    return path


def _like(packet, content):
    """A packet with other content."""
    other = av.Packet(content)
    other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
    other.is_keyframe = packet.is_keyframe
    return other


def write_packets(template, packets, path):
    """Writes packets of bytes 20 milliseconds apart, into a stream like that of a file."""
    with av.open(str(template)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, content in enumerate(packets):
            packet = av.Packet(content)
            packet.pts = packet.dts = 20 * number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 1000), stream, True
            new.mux(packet)
    return path


def decode_plainly(path):
    """All frames (3, H, W) that PyAV decodes in one go."""
    with av.open(str(path), metadata_errors="replace") as container:
        return [torch.from_numpy(f.to_ndarray(format="rgb24")).permute(2, 0, 1) for f in container.decode(video=0)]


# H.264 whose pictures are two fields of uncompressed blocks of one colour.


def _bits(*fields):
    """Bits of (value, number of bits) and of values in Exp-Golomb code."""
    text = ""
    for field in fields:
        if isinstance(field, tuple):
            text += format(field[0], f"0{field[1]}b")
        else:
            digits = format(field + 1, "b")
            text += "0" * (len(digits) - 1) + digits
    return text


def _unit(kind, bits, content=b""):
    """A unit of the stream: start code, kind, bits, content that begins with a whole byte, and the bit that ends it."""
    bits += "" if content else "1"
    bits += "0" * (-len(bits) % 8)
    payload = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)) + (content and content + b"\x80")
    escaped = bytearray()
    for byte in payload:
        if byte <= 3 and escaped[-2:] == b"\0\0":
            escaped.append(3)
        escaped.append(byte)
    return b"\0\0\0\1" + bytes([kind]) + bytes(escaped)


def field_packets(num_pictures):
    """For each picture of 16 x 32 pixels its two fields, as bytes; the parameters of the stream are in the first."""
    sequence = _bits((77, 8), (0, 8), (30, 8), 0, 0, 0, 4, 1, (0, 1), 0, 0, (0, 1), (0, 1), (1, 1), (0, 1), (0, 1))
    picture = _bits(0, 0, (0, 1), (0, 1), 0, 0, 0, (0, 1), (0, 2), 0, 0, 0, (1, 1), (0, 1), (0, 1))
    head = _unit(0x67, sequence) + _unit(0x68, picture)
    packets = []
    for idx in range(num_pictures):
        fields = []
        for is_bottom in (0, 1):
            # slice of intra blocks; both fields of a picture are fields of frame 0, since each picture is a key frame
            bits = _bits(0, 7, 0, (0, 4), (1, 1), (is_bottom, 1))
            bits += _bits((is_bottom, 8), (0, 1), 0, 1) if is_bottom else _bits(idx % 2, (0, 8), (0, 2), 0, 1)
            block = bytes([16 + (5 * idx + 90 * is_bottom) % 220]) * 256 + bytes([128 + 3 * idx % 90]) * 128
            fields.append(_unit(0x61 if is_bottom else 0x65, bits + _bits(25), block))
        packets.append((head + fields[0], fields[1]))
    return packets
