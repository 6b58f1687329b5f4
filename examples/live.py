"""Tracks an object frame by frame as a camera delivers them: nothing is stored, and memory stays constant.

python examples/live.py                                     frames of examples/coins.mp4, as if they came from a camera
python examples/live.py /dev/video0 --format v4l2 --box 100 80 420 390     a camera on Linux, until Ctrl-C
"""

import argparse
import itertools

import av

from edgetam_hf import EdgeTamVideoModel, EdgeTamVideoProcessor, nano_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", nargs="?", default="examples/coins.mp4", help="file, address or device")
    parser.add_argument("--format", help="FFmpeg's input format: v4l2, avfoundation, dshow, … (default: by the source)")
    parser.add_argument("--box", nargs=4, type=float, default=[13, 58, 117, 162], metavar=("X0", "Y0", "X1", "Y1"))
    parser.add_argument("--frames", type=int, help="stop after so many (default: at the end of the source)")
    parser.add_argument("--model", default=nano_checkpoint(), help="folder or Hub id")
    options = parser.parse_args()

    model = EdgeTamVideoModel.from_pretrained(options.model, device_map="auto")
    processor = EdgeTamVideoProcessor.from_pretrained(options.model)
    session = processor.init_video_session(inference_device=model.device)  # without a video: a stream
    with av.open(options.source, format=options.format) as container:
        for frame in itertools.islice(container.decode(video=0), options.frames):
            inputs = processor(images=frame.to_image(), return_tensors="pt").to(model.device)
            if not session.obj_ids:  # the box is for the first frame
                processor.add_inputs_to_inference_session(
                    session, 0, 1, input_boxes=[[options.box]], original_size=inputs["original_sizes"][0]
                )
            output = model(session, frame=inputs["pixel_values"][0])
            mask = processor.post_process_masks([output.pred_masks], inputs["original_sizes"])[0][0, 0]
            if mask.any():
                centre = mask.nonzero().float().mean(dim=0).round().int().tolist()
                print(f"frame {output.frame_idx}: centre x {centre[1]}, y {centre[0]}")
            else:
                print(f"frame {output.frame_idx}: not visible")


if __name__ == "__main__":
    main()
