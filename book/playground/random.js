// Random numbers with a seed, so that a link shows everyone the same run.

import { Tensor } from "./tensor.js";

// Uniform on [0, 1), 32 bits: Mulberry32, a counter and a mixing function.
export function uniform(seed) {
  let counter = seed >>> 0;
  return () => {
    counter = (counter + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(counter ^ (counter >>> 15), counter | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

// z ~ N(0, I), [n, width], by the polar form of Box and Muller.
export function normal(random, n, width) {
  const data = new Float32Array(n * width).map(() => {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    return radius * Math.cos(2 * Math.PI * random());
  });
  return new Tensor(n, width, data);
}
