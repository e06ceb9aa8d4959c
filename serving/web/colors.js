/** Draw arrays of bytes as images. */

// 17 equally spaced colors of matplotlib's colormap magma (CC0), dark to bright.
const MAGMA = ["000004", "0a0822", "1d1147", "36106b", "51127c", "6a1c81", "832681", "9c2e7f", "b73779", "d0416f", "e75263",
  "f56b5c", "fc8961", "fea772", "fec488", "fde2a3", "fcfdbf"];
const OVERLAY_COLOR = [74, 240, 208]; // contrasts with all colors of magma

/** RGB values of the 256 byte values. */
const COLORMAP = new Uint8ClampedArray(256 * 3);
{
  const stops = MAGMA.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  for (let level = 0; level < 256; level += 1) {
    const position = (level / 255) * (stops.length - 1);
    const index = Math.min(Math.floor(position), stops.length - 2);
    for (let channel = 0; channel < 3; channel += 1) {
      const [low, high] = [stops[index][channel], stops[index + 1][channel]];
      COLORMAP[3 * level + channel] = low + (position - index) * (high - low);
    }
  }
}

/** Return the bytes of a base64 text. */
function decode(base64) {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

/** Draw values of shape (height, width), row 0 at the bottom, in the colors of magma. One pixel each. */
export function drawMap(canvas, { shape: [height, width], values }) {
  draw(canvas, height, width, decode(values), setColor);
}

/** Draw the 256 colors as a column, dark at the bottom. */
export function drawScale(canvas) {
  draw(canvas, 256, 1, Uint8Array.from({ length: 256 }, (_, level) => level), setColor);
}

function setColor(pixels, at, value) {
  pixels.set(COLORMAP.subarray(3 * value, 3 * value + 3), at);
  pixels[at + 3] = 255;
}

/** Draw values as an overlay of one color, whose opacity grows with the value. The power keeps weak responses transparent. */
export function drawOverlay(canvas, { shape: [height, width], min, max, values }) {
  // Only a response above 0 makes the class more probable.
  const zero = max > min ? Math.max(0, (-255 * min) / (max - min)) : 255;
  draw(canvas, height, width, decode(values), (pixels, at, value) => {
    pixels.set(OVERLAY_COLOR, at);
    pixels[at + 3] = value > zero ? 255 * ((value - zero) / (255 - zero)) ** 1.5 : 0;
  });
}

function draw(canvas, height, width, bytes, setPixel) {
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      setPixel(image.data, 4 * ((height - 1 - row) * width + column), bytes[row * width + column]);
    }
  }
  context.putImageData(image, 0, 0);
}
