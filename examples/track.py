"""Tracks an object through a video file and writes the video with its mask. Needs PyAV: pip install ".[video]"

python examples/track.py clip.mp4 --model yonigozlan/EdgeTAM-hf --box 100 80 420 390
"""

import argparse

import av
import numpy as np

from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint

GREEN = np.array([60, 220, 40])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", nargs="?", default="examples/coins.mp4")
    parser.add_argument("--box", nargs=4, type=float, default=[13, 58, 117, 162], metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--model", default=nano_checkpoint(), help="folder or Hub id")
    parser.add_argument("--frames", type=int, help="how many frames to track (default: all)")
    parser.add_argument("--output", default="tracked.mp4")
    options = parser.parse_args()

    model = EdgeTamVideoModel.from_pretrained(options.model, device_map="auto")
    processor = EdgeTamVideoProcessor.from_pretrained(options.model)
    # frames are read when they are needed, and with max_memory_frames results do not pile up
    session = processor.init_video_session(options.video, inference_device=model.device, max_memory_frames=1)
    processor.add_inputs_to_inference_session(session, frame_idx=0, obj_ids=1, input_boxes=[[options.box]])

    num_frames = min(options.frames or session.num_frames, session.num_frames)
    size = [[session.video_height, session.video_width]]
    with av.open(options.output, "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = (side // 2 * 2 for side in size[0])  # H.264 wants even sides
        for output in model.propagate_in_video_iterator(session, max_frame_num_to_track=num_frames - 1):
            mask = processor.post_process_masks([output.pred_masks], original_sizes=size)[0][0, 0].cpu().numpy()
            picture = session.frames[output.frame_idx].permute(1, 2, 0).cpu().numpy().copy()
            picture[mask] = (picture[mask] + GREEN) // 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture[: stream.height, : stream.width].copy())))
            if output.frame_idx % 10 == 0:
                print(f"frame {output.frame_idx}: {mask.mean():.1%} of the picture")
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
