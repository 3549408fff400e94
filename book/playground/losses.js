// What each player minimises, from logits [n, 1]: metagan_lite/losses.py, which names
// the papers.

import { add, affine, mean, relu, softplus, square } from "./tensor.js";

const minus = (x) => affine(x, -1, 0);
const standard = (real, fake) =>
  add(mean(softplus(minus(real))), mean(softplus(fake))); // −V(D, G)

// Both players see differences d(x) − d(G(z)) alone; as many fakes as reals.
const paired = (higher, lower) => mean(softplus(add(lower, higher, -1)));

// kind → [L_D(real, fake), L_G(fake, real)]
const LOSSES = {
  "non-saturating": [standard, (fake) => mean(softplus(minus(fake)))],
  saturating: [standard, (fake) => minus(mean(softplus(fake)))],
  hinge: [
    (real, fake) =>
      add(mean(relu(affine(real, -1, 1))), mean(relu(affine(fake, 1, 1)))),
    (fake) => minus(mean(fake)),
  ],
  "least-squares": [
    (real, fake) =>
      affine(add(mean(square(affine(real, 1, -1))), mean(square(fake))), 0.5, 0),
    (fake) => affine(mean(square(affine(fake, 1, -1))), 0.5, 0),
  ],
  wasserstein: [
    (real, fake) => add(mean(fake), mean(real), -1),
    (fake) => minus(mean(fake)),
  ],
  relativistic: [(real, fake) => paired(real, fake), (fake, real) => paired(fake, real)],
};

export const PAIRED = "relativistic";
export const LOSS_NAMES = Object.keys(LOSSES).filter((kind) => kind !== PAIRED);

export const discriminatorLoss = (real, fake, kind) => LOSSES[kind][0](real, fake);
export const generatorLoss = (fake, kind, real) => LOSSES[kind][1](fake, real);
