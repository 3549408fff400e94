// What a reader drew and chose, as the part of an address after #, and back.

import { MOST_POINTS, SIDE } from "../../metagan_lite/js/pad.js";

const STORED = 255; // instead of a number of strokes: one of the stored drawings

// A drawing, {strokes} or {stored: [character, number]}, is a few bytes: the number of
// its strokes, and for each the number of its points and x, y of each.
export function encode(drawings, settings) {
  const bytes = [];
  for (const { strokes, stored } of drawings) {
    if (stored) bytes.push(STORED, ...stored);
    else
      bytes.push(strokes.length, ...strokes.flatMap((s) => [s.length, ...s.flat()]));
  }
  const text = btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
  const drawn = text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return new URLSearchParams({ ...settings, drawn }).toString();
}

// → {drawings, settings}; an Error where a link is not one that `encode` made.
// `counts` says how many stored drawings each character has.
export function decode(text, counts) {
  const { drawn = "", ...settings } = Object.fromEntries(new URLSearchParams(text));
  const bytes = [...atob(drawn.replaceAll("-", "+").replaceAll("_", "/"))].map(
    (letter) => letter.charCodeAt(0),
  );
  const next = (most) => {
    const byte = bytes.shift();
    if (!(byte <= most)) throw new Error("its drawings are cut off or damaged");
    return byte;
  };
  const drawings = [];
  while (bytes.length && drawings.length < 10) {
    const strokes = next(255);
    if (strokes === STORED) {
      const character = next(counts.length - 1);
      drawings.push({ stored: [character, next(counts[character] - 1)] });
      continue;
    }
    const point = () => [next(SIDE - 1), next(SIDE - 1)];
    const stroke = () => Array.from({ length: next(MOST_POINTS) }, point);
    drawings.push({ strokes: Array.from({ length: strokes }, stroke) });
  }
  return { drawings, settings };
}
