/** The same picture as frames of all kinds, in a browser. */
import { readFrame } from "/web/frames.js";

const [WIDTH, HEIGHT] = [40, 30];

/** Kinds of frames, their size, and how far their pixels are from those of the first on average, in levels. */
export async function framesOfAllKinds() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [WIDTH, HEIGHT];
  const context = canvas.getContext("2d");
  const colours = context.createLinearGradient(0, 0, WIDTH, HEIGHT);
  colours.addColorStop(0, "rgb(200 30 60)");
  colours.addColorStop(1, "rgb(20 90 220)");
  context.fillStyle = colours;
  context.fillRect(0, 0, WIDTH, HEIGHT);
  const imageData = context.getImageData(0, 0, WIDTH, HEIGHT);
  const offscreen = new OffscreenCanvas(WIDTH, HEIGHT);
  offscreen.getContext("2d").drawImage(canvas, 0, 0);
  const image = new Image();
  image.src = canvas.toDataURL("image/png");
  await image.decode();
  const frames = {
    ImageData: imageData,
    RGB: { data: imageData.data.filter((_, i) => i % 4 < 3), width: WIDTH, height: HEIGHT },
    canvas,
    OffscreenCanvas: offscreen,
    ImageBitmap: await createImageBitmap(canvas),
    image,
    video: await playStream(canvas, context),
  };
  const read = Object.values(frames).map(readFrame);
  const differences = read.map((one) => differenceOf(one, read[0]));
  return { kinds: Object.keys(frames), size: [read.at(-1).width, read.at(-1).height], differences };
}

/** A video element that shows the stream of a canvas, as it would that of a camera. */
async function playStream(canvas, context) {
  const video = document.createElement("video");
  video.muted = true;
  video.srcObject = canvas.captureStream();
  const isPlaying = new Promise((resolve) => (video.onloadeddata = resolve));
  context.fillRect(0, 0, WIDTH, HEIGHT); // a stream sends what is drawn after it began
  await video.play();
  await isPlaying;
  return video;
}

function differenceOf(one, other) {
  let sum = 0;
  for (let i = 0; i < WIDTH * HEIGHT; i++) {
    for (let channel = 0; channel < 3; channel++) {
      sum += Math.abs(one.data[i * one.channels + channel] - other.data[i * other.channels + channel]);
    }
  }
  return sum / (WIDTH * HEIGHT * 3);
}
