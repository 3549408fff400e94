// A game's settings and the points drawn by hand, as the part of an address after #.

import { REACH } from "./plane.js";

const LEVELS = 255; // a coordinate is one byte

const byteOf = (v) =>
  Math.round((Math.min(Math.max(v / REACH, -1), 1) * 0.5 + 0.5) * LEVELS);
const numberOf = (byte) => REACH * ((2 * byte) / LEVELS - 1);

// The nearest number that a link can hold, so that a shared run is the same run.
export const snap = (v) => numberOf(byteOf(v));

export function encodeGame(settings, drawn) {
  const bytes = drawn.flat().map(byteOf);
  const text = btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
  const marks = text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return `game&${new URLSearchParams(marks ? { ...settings, marks } : settings)}`;
}

// → {settings, drawn}; an Error where the points are damaged.
export function decodeGame(text) {
  const { game, marks = "", ...settings } = Object.fromEntries(new URLSearchParams(text));
  const letters = atob(marks.replaceAll("-", "+").replaceAll("_", "/"));
  if (letters.length % 2) throw new Error("its points are cut off or damaged");
  const values = [...letters].map((letter) => numberOf(letter.charCodeAt(0)));
  const drawn = [];
  for (let i = 0; i < values.length; i += 2) drawn.push([values[i], values[i + 1]]);
  return { settings, drawn };
}
