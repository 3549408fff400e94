// Small line charts whose lines differ in their dashes, not in their colours alone.

import { cleared, colours } from "./plane.js";

const DASHES = [[], [6, 4], [2, 3]];
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 8, 6, 18];

const tick = (v) => (Math.abs(v) >= 100 ? v.toFixed(0) : v.toPrecision(2));

// xs: numbers that grow. lines: {name, colour, ys}; gaps where a number is not finite.
// mark: the x to mark.
export function drawCurves(canvas, xs, lines, mark) {
  const { picture, width, height } = cleared(canvas);
  if (!width) return;
  const all = lines.flatMap(({ ys }) => ys.filter(Number.isFinite));
  const [low, high] = all.reduce(
    ([a, b], y) => [Math.min(a, y), Math.max(b, y)], [0, 1e-6]);
  const last = Math.max(xs.at(-1) ?? 0, 1);
  const x = (v) => LEFT + (v / last) * (width - LEFT - RIGHT);
  const y = (v) => TOP + ((high - v) / (high - low)) * (height - TOP - BOTTOM);
  const { ink, ...others } = colours(canvas);
  Object.assign(picture, { strokeStyle: ink, fillStyle: ink, lineWidth: 1 });
  picture.font = "11px sans-serif";
  picture.globalAlpha = 0.5;
  picture.beginPath();
  picture.moveTo(LEFT, TOP);
  picture.lineTo(LEFT, height - BOTTOM);
  picture.moveTo(LEFT, y(0));
  picture.lineTo(width - RIGHT, y(0));
  picture.stroke();
  picture.globalAlpha = 1;
  picture.textAlign = "right";
  picture.textBaseline = "middle";
  for (const v of new Set([high, low, 0]))
    if (v === 0 || Math.abs(y(v) - y(0)) > 12)
      picture.fillText(v === 0 ? "0" : tick(v), LEFT - 5, y(v));
  picture.textBaseline = "alphabetic";
  picture.fillText(`${xs.at(-1) ?? 0} steps`, width - RIGHT, height - 4);
  picture.lineWidth = 1.8;
  lines.forEach(({ colour, ys }, place) => {
    picture.strokeStyle = others[colour];
    picture.setLineDash(DASHES[place]);
    picture.beginPath();
    let pen = false;
    ys.forEach((v, i) => {
      const known = Number.isFinite(v);
      if (known && pen) picture.lineTo(x(xs[i]), y(v));
      else if (known) picture.moveTo(x(xs[i]), y(v));
      pen = known;
    });
    picture.stroke();
  });
  picture.setLineDash([]);
  if (mark === undefined) return;
  picture.strokeStyle = ink;
  picture.lineWidth = 1;
  picture.strokeRect(x(mark) - 0.5, TOP, 1, height - TOP - BOTTOM);
}
