// The inner loop: θ, φ → θ′, φ′, a few SGD steps on the drawings; metagan_lite/adapt.py.

import { Tensor, backward } from "./tensor.js";
import { PAIRED, discriminatorLoss, generatorLoss } from "./losses.js";

// What `player` minimises. The other player's parameters are constants, also where they
// depend on where this one started: the partial derivative.
export function playerLoss(player, { G, D }, params, support, z, kind) {
  const fake = G(params.G, z);
  if (player === "D")
    return discriminatorLoss(D(params.D, support), D(params.D, fake), kind);
  const real = kind === PAIRED ? D(params.D, support) : null;
  return generatorLoss(D(params.D, fake), kind, real);
}

// One step of both players: θ ← θ − α ∂L. Alternating: G sees D's move.
export function innerStep(nets, params, support, z, rates, { simultaneous, kind }) {
  let moved = params;
  const losses = {};
  for (const player of ["D", "G"]) {
    const seen = simultaneous ? params : moved;
    const own = Object.fromEntries(
      Object.entries(seen[player]).map(([name, value]) => [name, value.asParameter()]),
    );
    const loss = playerLoss(
      player, nets, { ...seen, [player]: own }, support, z[player], kind);
    backward(loss);
    losses[player] = loss.data[0];
    const after = {};
    for (const [name, { rows, cols, data, grad }] of Object.entries(own))
      after[name] = new Tensor(
        rows, cols, data.map((value, i) => value - rates[player] * grad[i]));
    moved = { ...moved, [player]: after };
  }
  return { params: moved, losses };
}

// Yields {params, losses} at the start and after each step.
//   noise: one {D, G} of z [n, latent] for each step; its length is the number of steps.
//   rates: {D, G}. decay: their factor from one step to the next, from the first step
//   past `trainedSteps` on.
export function* adaptationSteps(nets, params, support, options) {
  const { noise, rates, decay = 1, trainedSteps = Infinity } = options;
  const mode = { simultaneous: false, kind: "non-saturating", ...options };
  let state = { params, losses: null };
  yield state;
  for (const [step, z] of noise.entries()) {
    const factor = decay ** Math.max(0, step - trainedSteps + 1);
    const now = { D: rates.D * factor, G: rates.G * factor };
    state = innerStep(nets, state.params, support, z, now, mode);
    yield state;
  }
}
