// Sets of points in the plane: distributions to draw them from, and how far two sets are
// from each other. A distribution is a function () → [x, y].

import { normal } from "./random.js";
import { Tensor } from "./tensor.js";

export const HAND = "drawn by hand";
export const FAMILY = "arc of the family";

const bell = (random, deviation) => normal(random, 1, 2).data.map((v) => deviation * v);
const near = (random, x, y, deviation) => {
  const [dx, dy] = bell(random, deviation);
  return [x + dx, y + dy];
};
const onCircle = (random, [x, y], radius, angle, deviation) =>
  near(random, x + radius * Math.cos(angle), y + radius * Math.sin(angle), deviation);

// name → (source of random numbers) → distribution.
export const DISTRIBUTIONS = {
  "ring of 8 Gaussians": (random) => () =>
    onCircle(random, [0, 0], 0.8, (Math.PI / 4) * Math.floor(8 * random()), 0.04),
  "one small Gaussian": (random) => () => near(random, 0.5, 0.3, 0.1),
  "two Gaussians": (random) => () =>
    near(random, random() < 0.5 ? -0.6 : 0.6, 0.1, 0.12),
  "two moons": (random) => () => {
    const angle = Math.PI * random();
    return random() < 0.5
      ? onCircle(random, [-0.3, -0.15], 0.6, angle, 0.05)
      : onCircle(random, [0.3, 0.15], 0.6, -angle, 0.05);
  },
  line: (random) => () => {
    const along = 2 * random() - 1;
    return near(random, 0.8 * along, 0.5 * along, 0.03);
  },
  spiral: (random) => () => {
    const turn = Math.sqrt(random());
    return onCircle(random, [0, 0], 0.9 * turn, 3.5 * Math.PI * turn, 0.02);
  },
  "grid of 5 × 5 Gaussians": (random) => () => {
    const place = () => 0.4 * (Math.floor(5 * random()) - 2);
    return near(random, place(), place(), 0.03);
  },
  [FAMILY]: (random) => {
    // An arc, as `ArcTasks` in tools/playground.py draws it.
    const within = (low, high) => low + (high - low) * random();
    const centre = [within(-0.3, 0.3), within(-0.3, 0.3)];
    const radius = within(0.4, 0.7);
    const first = within(0, 2 * Math.PI);
    const span = within(0.6 * Math.PI, 1.4 * Math.PI);
    return () => onCircle(random, centre, radius, first + span * random(), 0.03);
  },
};

// n points of a distribution, [n, 2].
export const drawPoints = (distribution, n) =>
  asPoints(Array.from({ length: n }, distribution));

export const asPoints = (pairs) =>
  new Tensor(pairs.length, 2, Float32Array.from(pairs.flat()));

// n of the points x, each drawn by itself.
export function pick(x, n, random) {
  const chosen = new Tensor(n, 2);
  for (let i = 0; i < n; i++) {
    const place = Math.floor(random() * x.rows);
    chosen.data[2 * i] = x.data[2 * place];
    chosen.data[2 * i + 1] = x.data[2 * place + 1];
  }
  return chosen;
}

// The mean distance between a point of x and one of y; within one set, of two points.
function meanDistance(x, y) {
  let sum = 0;
  for (let i = 0; i < x.data.length; i += 2)
    for (let j = 0; j < y.data.length; j += 2) {
      const [a, b] = [x.data[i] - y.data[j], x.data[i + 1] - y.data[j + 1]];
      sum += Math.sqrt(a * a + b * b);
    }
  return sum / (x.rows * (x === y ? Math.max(x.rows - 1, 1) : y.rows));
}

// Energy distance (Székely & Rizzo 2013): 2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖, 0 for equal
// distributions only. No point is compared with itself, so chance may take it below 0.
export const energyDistance = (x, y) =>
  2 * meanDistance(x, y) - meanDistance(x, x) - meanDistance(y, y);
