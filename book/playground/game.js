// The rules of the game in two dimensions: what each player minimises, with a penalty on
// D's slope if one is chosen, and how it moves. Pure: a step takes its noise as given.

import { playerLoss } from "./adapt.js";
import { LOSS_NAMES, PAIRED, generatorLoss } from "./losses.js";
import { mlp, mlpAlong } from "./nets.js";
import { normal } from "./random.js";
import { Tensor, add, affine, backward, mean } from "./tensor.js";

export const GAME_LOSSES = [...LOSS_NAMES, PAIRED];
export const REGULARISERS = ["none", "R1", "R2", "WGAN-GP", "weight clipping"];
export const OPTIMISERS = ["Adam", "SGD"];
const BETA2 = 0.99; // of Adam, as metagan_lite/gan.py has it
const EPSILON = 1e-8;
const GAIN = 1.4; // of the hidden layers' weights, as metagan_lite/nets.py has it

export const planeNets = { G: (own, z) => mlp(z, own), D: (own, x) => mlp(x, own) };

// Weights N(0, g²/inputs) and biases 0 of nets with these widths.
export function freshPlayers(random, widths) {
  const player = (sizes) => {
    const own = {};
    sizes.slice(1).forEach((outside, place) => {
      const inside = sizes[place];
      const gain = place < sizes.length - 2 ? GAIN : 1;
      const weight = normal(random, outside, inside);
      own[`${place}.weight`] = affine(weight, gain / Math.sqrt(inside), 0);
      own[`${place}.bias`] = new Tensor(1, outside);
    });
    return own;
  };
  return { D: player(widths.D), G: player(widths.G) };
}

// ∇ₓd at each row of x, [n, 2].
export function slopesOf(own, x) {
  const leaf = x.asParameter();
  const sum = affine(mean(planeNets.D(own, leaf)), x.rows, 0);
  backward(sum);
  return leaf.grad;
}

// A penalty on ∇ₓd, and a term whose gradient in D's weights φ is the penalty's.
//
// P depends on φ through the slopes s = ∇ₓd alone, so ∂P/∂φ = v · ∂s/∂φ with v = ∂P/∂s
// held constant. And v · ∇ₓd is d's rate of change in the direction v, which one forward
// pass computes beside d. Backward through that pass: no slope of a slope is needed.
export function slopePenalty(regulariser, weight, own, fixed, x) {
  const s = slopesOf(fixed, x);
  const v = new Tensor(x.rows, x.cols);
  let value = 0;
  for (let i = 0; i < s.length; i += 2) {
    const norm = Math.hypot(s[i], s[i + 1]);
    const beyond = norm - 1;
    const gp = regulariser === "WGAN-GP"; // λ(‖s‖ − 1)², else γ/2 ‖s‖²
    value += (gp ? weight * beyond ** 2 : (weight / 2) * norm ** 2) / x.rows;
    const factor = gp ? (2 * weight * beyond) / Math.max(norm, 1e-6) : weight;
    v.data[i] = factor * s[i];
    v.data[i + 1] = factor * s[i + 1];
  }
  return { value, term: mean(mlpAlong(x, v, own)) };
}

// u·x + (1 − u)·y, row by row.
function between(x, y, u) {
  const rows = x.data.map((value, i) => {
    const share = u.data[Math.floor(i / x.cols)];
    return share * value + (1 - share) * y.data[i];
  });
  return new Tensor(x.rows, x.cols, rows);
}

// Where a regulariser measures D's slope; null where it does not.
function measuredAt(regulariser, params, { real, z, mix }) {
  if (regulariser === "R1") return real;
  if (regulariser === "R2") return planeNets.G(params.G, z);
  if (regulariser === "WGAN-GP") return between(real, planeNets.G(params.G, z), mix);
  return null;
}

// The gradient of what `player` minimises: {name → leaf with its gradient}, and the loss.
export function slopesOfLoss(player, params, batch, { kind, regulariser, weight }) {
  const own = Object.fromEntries(
    Object.entries(params[player]).map(([name, value]) => [name, value.asParameter()]),
  );
  const seen = { ...params, [player]: own };
  let loss = playerLoss(player, planeNets, seen, batch.real, batch.z, kind);
  let [value] = loss.data;
  const x = player === "D" ? measuredAt(regulariser, params, batch) : null;
  if (x) {
    const penalty = slopePenalty(regulariser, weight, own, params.D, x);
    loss = add(loss, penalty.term);
    value += penalty.value;
  }
  backward(loss);
  return { own, value };
}

// One move of a player down its gradient. `memory` is what its Adam remembers.
export function move(own, memory, rate, { optimiser, beta1 = 0.5 }) {
  const after = {};
  const count = (memory?.count ?? 0) + 1;
  const kept = optimiser === "Adam" ? { count, first: {}, second: {} } : null;
  for (const [name, { rows, cols, data, grad }] of Object.entries(own)) {
    const next = new Float32Array(data.length);
    if (kept) {
      const first = memory?.first[name] ?? new Float32Array(data.length);
      const second = memory?.second[name] ?? new Float32Array(data.length);
      const step = rate / (1 - beta1 ** count);
      const correction = Math.sqrt(1 - BETA2 ** count);
      kept.first[name] = first.map((m, i) => beta1 * m + (1 - beta1) * grad[i]);
      kept.second[name] = second.map((q, i) => BETA2 * q + (1 - BETA2) * grad[i] ** 2);
      for (let i = 0; i < next.length; i++) {
        const root = Math.sqrt(kept.second[name][i]) / correction + EPSILON;
        next[i] = data[i] - (step * kept.first[name][i]) / root;
      }
    } else
      for (let i = 0; i < next.length; i++) next[i] = data[i] - rate * grad[i];
    after[name] = new Tensor(rows, cols, next);
  }
  return { after, memory: kept };
}

// Weight clipping (Arjovsky et al. 2017): every number of D within ±bound.
const clipped = (own, bound) =>
  Object.fromEntries(
    Object.entries(own).map(([name, { rows, cols, data }]) => [
      name,
      new Tensor(rows, cols, data.map((v) => Math.min(Math.max(v, -bound), bound))),
    ]),
  );

// One step of the game: D moves once for each batch of `batches.D`, then G once if
// there is a batch `batches.G`. Alternating, G sees D's last move; at once, both move
// from the same point.
//   state: {params, memory: player → what its optimiser remembers}. The new one also has
//   the losses and the lengths of their gradients, `slopes`, at the players' last moves.
//   a batch: {real [n, 2], z [n, 2]}, for WGAN-GP also mix [n, 1] in [0, 1].
export function gameStep(state, batches, settings) {
  let { params, memory } = state;
  const before = params.D;
  const [losses, slopes] = [{ ...state.losses }, { ...state.slopes }];
  const turns = { D: batches.D, G: batches.G ? [batches.G] : [] };
  for (const player of ["D", "G"])
    for (const batch of turns[player]) {
      const apart = player === "G" && settings.simultaneous;
      const seen = apart ? { ...params, D: before } : params;
      const { own, value } = slopesOfLoss(player, seen, batch, settings);
      losses[player] = value;
      slopes[player] = lengthOf(own);
      const rate = settings.rates[player];
      const moved = move(own, memory?.[player], rate, settings);
      if (player === "D" && settings.regulariser === "weight clipping")
        moved.after = clipped(moved.after, settings.weight);
      params = { ...params, [player]: moved.after };
      memory = { ...memory, [player]: moved.memory };
    }
  return { params, memory, losses, slopes };
}

const lengthOf = (own) =>
  Math.hypot(...Object.values(own).map(({ grad }) => Math.hypot(...grad)));

// Where G's loss would push points: −∂L_G/∂x of each, as if it were alone.
export function pushes(own, points, real, kind) {
  const leaf = points.asParameter();
  const paired = kind === PAIRED ? planeNets.D(own, real) : null;
  backward(generatorLoss(planeNets.D(own, leaf), kind, paired));
  return leaf.grad.map((slope) => -slope * points.rows);
}

// D's output as a share of "real" in [0, 1], whose ½ is the line between the two sets.
// Where the loss knows differences of d alone, the middle between both means is ½.
export function shareOfReal(kind, own, real, fake) {
  if (kind === "least-squares") return (d) => Math.min(Math.max(d, 0), 1);
  const level = (x) => mean(planeNets.D(own, x)).data[0];
  const differences = kind === "wasserstein" || kind === PAIRED;
  const middle = differences ? (level(real) + level(fake)) / 2 : 0;
  return (d) => 1 / (1 + Math.exp(middle - d));
}
