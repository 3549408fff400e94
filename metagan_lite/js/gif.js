// Pictures in grey as an animated GIF (the CompuServe specification of 1989).

const BITS = 7; // 128 greys
const MOST_CODES = 4096;

// frames: for each the grey 0…255 of each pixel, width · height of them.
// delays: for each the hundredths of a second that it stays. → bytes
export function gif(frames, width, height, delays) {
  const short = (value) => [value & 255, value >> 8];
  const letters = (text) => [...text].map((letter) => letter.charCodeAt(0));
  const palette = Array.from({ length: 3 << BITS }, (_, i) =>
    Math.round((Math.floor(i / 3) * 255) / ((1 << BITS) - 1)));
  const parts = [
    letters("GIF89a"), short(width), short(height), [0x80 | (BITS - 1), 0, 0], palette,
    [0x21, 0xff, 11], letters("NETSCAPE2.0"), [3, 1, 0, 0, 0], // again and again
  ];
  frames.forEach((grey, place) => {
    parts.push(
      [0x21, 0xf9, 4, 0], short(delays[place]), [0, 0],
      [0x2c, 0, 0, 0, 0], short(width), short(height), [0], [BITS]);
    const data = compress(Uint8Array.from(grey, (value) => value >> (8 - BITS)));
    for (let from = 0; from < data.length; from += 255) {
      const block = data.slice(from, from + 255);
      parts.push([block.length], block);
    }
    parts.push([0]);
  });
  parts.push([0x3b]);
  return Uint8Array.from(parts.flat());
}

// LZW: a code stands for the longest string of pixels that was met before.
function compress(pixels) {
  const clear = 1 << BITS;
  const bytes = [];
  let held = 0, count = 0; // bits that do not fill a byte yet
  let known, size;
  const forget = () => {
    known = new Map(); // (code of a string, next pixel) → code
    size = BITS + 1;
  };
  const put = (code) => {
    held |= code << count;
    for (count += size; count >= 8; count -= 8) {
      bytes.push(held & 255);
      held >>>= 8;
    }
  };
  forget();
  put(clear);
  let string = pixels[0];
  for (let i = 1; i < pixels.length; i++) {
    const key = (string << 8) | pixels[i];
    if (known.has(key)) {
      string = known.get(key);
      continue;
    }
    put(string);
    const code = clear + 2 + known.size;
    if (code < MOST_CODES) {
      if (code === 1 << size) size++; // the reader's table is one code behind
      known.set(key, code);
    } else {
      put(clear);
      forget();
    }
    string = pixels[i];
  }
  put(string);
  put(clear + 1); // the end
  if (count) bytes.push(held & 255);
  return bytes;
}
