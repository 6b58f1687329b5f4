"""Finds and follows everything in a video, and writes the video with its masks. Needs PyAV: pip install ".[video]"

python examples/track_everything.py clip.mp4 --model yonigozlan/EdgeTAM-hf --points-per-side 32
"""

import argparse

import av
import numpy as np

from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint

COLOURS = np.random.default_rng(2).integers(60, 256, (1000, 3))  # an object keeps its own through the video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", default="examples/rolling.mp4")
    parser.add_argument("--model", default=nano_checkpoint(), help="folder or Hub id")
    parser.add_argument("--every", type=int, default=5, help="look for new objects on every Nth frame")
    parser.add_argument("--points-per-side", type=int, default=8, help="search with so many clicks along each side")
    parser.add_argument("--frames", type=int, help="how many frames to track (default: all)")
    parser.add_argument("--output", default="everything.mp4")
    options = parser.parse_args()

    model = EdgeTamVideoModel.from_pretrained(options.model, device_map="auto")
    processor = EdgeTamVideoProcessor.from_pretrained(options.model)
    session = processor.init_video_session(options.video, inference_device=model.device, max_memory_frames=1)
    num_frames = min(options.frames or session.num_frames, session.num_frames)
    size = [[session.video_height, session.video_width]]
    search = {"every": options.every, "points_per_crop": options.points_per_side}
    known: set[int] = set()
    with av.open(options.output, "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.height, stream.width = (side // 2 * 2 for side in size[0])  # H.264 wants even sides
        for output in model.track_everything(session, max_frame_num_to_track=num_frames - 1, **search):
            masks = processor.post_process_masks([output.pred_masks], original_sizes=size)[0][:, 0].cpu().numpy()
            picture = session.frames[output.frame_idx].permute(1, 2, 0).cpu().numpy().copy()
            for object_id, mask in zip(output.object_ids, masks):
                picture[mask] = (picture[mask] + COLOURS[object_id % len(COLOURS)]) // 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture[: stream.height, : stream.width].copy())))
            if new := set(output.object_ids) - known:
                print(f"frame {output.frame_idx}: new {sorted(new)}")
                known |= new
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
