// From strokes to the images that the nets were trained on: metagan_lite/data.py,
// `normalize_characters`.

import { PEN, SIDE } from "../../metagan_lite/js/pad.js";

// Strokes, lists of points [x, y] in pixels, as ink: 0 or 1 for each of SIDE² pixels.
export function rasterise(strokes) {
  const ink = new Float32Array(SIDE * SIDE);
  for (const stroke of strokes)
    for (let p = 0; p < stroke.length; p++) {
      const [x0, y0] = stroke[Math.max(p - 1, 0)];
      const [x1, y1] = stroke[p];
      const [dx, dy] = [x1 - x0, y1 - y0];
      const reach = Math.ceil(PEN);
      const [left, right] = [Math.min(x0, x1) - reach, Math.max(x0, x1) + reach];
      const [top, bottom] = [Math.min(y0, y1) - reach, Math.max(y0, y1) + reach];
      for (let y = Math.max(top, 0); y <= Math.min(bottom, SIDE - 1); y++)
        for (let x = Math.max(left, 0); x <= Math.min(right, SIDE - 1); x++) {
          const along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy || 1);
          const nearest = Math.min(Math.max(along, 0), 1);
          const far = Math.hypot(x - x0 - nearest * dx, y - y0 - nearest * dy);
          if (far <= PEN) ink[y * SIDE + x] = 1;
        }
    }
  return ink;
}

// Thicken, crop and centre ink [side²], so that the character fills size² pixels in
// [−1, 1]; an empty image stays empty.
export function normalise(ink, side, size) {
  const reach = Math.floor(side / 28);
  const wide = side + 2 * reach; // strokes that touch the edge grow as well
  const grown = new Float32Array(wide * wide);
  for (let y = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      for (let dy = 0; ink[y * side + x] && dy <= 2 * reach; dy++)
        for (let dx = 0; dx <= 2 * reach; dx++) {
          const place = (y + dy) * wide + x + dx;
          grown[place] = Math.max(grown[place], ink[y * side + x]);
        }
  const rows = [], columns = [];
  grown.forEach((value, place) => {
    if (value > 0.3) {
      rows.push(Math.floor(place / wide));
      columns.push(place % wide);
    }
  });
  const [top, bottom] = extent(rows, wide);
  const [left, right] = extent(columns, wide);
  const span = Math.max(bottom - top, right - left);
  const down = areaWeights((top + bottom - span) / 2, span, wide, size);
  const across = areaWeights((left + right - span) / 2, span, wide, size);
  const image = new Float32Array(size * size);
  for (let i = 0; i < size; i++)
    for (let j = 0; j < size; j++) {
      let sum = 0;
      for (const [y, weight] of down[i])
        for (const [x, other] of across[j]) sum += weight * other * grown[y * wide + x];
      image[i * size + j] = Math.min(Math.max(sum, 0), 1) * 2 - 1;
    }
  return image;
}

function extent(places, length) {
  if (!places.length) return [0, length];
  return places.reduce(([a, b], p) => [Math.min(a, p), Math.max(b, p + 1)], [length, 0]);
}

// For each of `size` pixels that [start, start + span) is resampled to: the pixels
// [place, weight] under it, weighted by overlap; at least one pixel's width of them.
function areaWeights(start, span, length, size) {
  const step = span / size;
  const width = Math.max(step, 1);
  return Array.from({ length: size }, (_, i) => {
    const low = start + (i + 0.5) * step - width / 2;
    const found = [];
    for (let p = 0; p < length; p++) {
      const overlap = Math.min(low + width, p + 1) - Math.max(low, p);
      if (overlap > 0) found.push([p, overlap / width]);
    }
    return found;
  });
}
