// The modules of book/playground by themselves: node --test tests/playground/

import assert from "node:assert/strict";
import { test } from "node:test";
import * as adapt from "../../book/playground/adapt.js";
import { decodeGame, encodeGame, snap } from "../../book/playground/gamelink.js";
import { decode, encode } from "../../book/playground/link.js";
import * as plane from "../../book/playground/game.js";
import { discriminatorLoss, generatorLoss, LOSS_NAMES, PAIRED } from "../../book/playground/losses.js";
import { mlp, mlpAlong, readWeights } from "../../book/playground/nets.js";
import { normal, uniform } from "../../book/playground/random.js";
import * as ops from "../../book/playground/tensor.js";
import { drawLosses, lossRange } from "../../metagan_lite/js/curves.js";

const random = uniform(3);
const matrix = (rows, cols) => normal(random, rows, cols);

// A loss of some tensors: their gradients against central differences.
function checkGradients(loss, ...tensors) {
  const leaves = tensors.map((tensor) => tensor.asParameter());
  ops.backward(loss(...leaves));
  leaves.forEach((leaf, which) => {
    for (let i = 0; i < leaf.data.length; i++) {
      const moved = (by) => {
        const others = tensors.map(({ rows, cols, data }) =>
          new ops.Tensor(rows, cols, Float32Array.from(data)));
        others[which].data[i] += by;
        return loss(...others).data[0];
      };
      const slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
      assert.ok(
        Math.abs(leaf.grad[i] - slope) < 2e-3 * (1 + Math.abs(slope)),
        `input ${which}, number ${i}: ${leaf.grad[i]}, expected ${slope}`,
      );
    }
  });
}

// Squared, so that every number's gradient differs.
const total = (x) => ops.mean(ops.square(x));

test("gradients of every operation", () => {
  for (const name of ["silu", "siluSlope", "tanh", "softplus", "square"])
    checkGradients((x) => total(ops[name](x)), matrix(2, 5));
  checkGradients((x) => total(ops.relu(x)), new ops.Tensor(1, 3, Float32Array.of(-1, 0.5, 2)));
  checkGradients((x) => total(ops.affine(x, -3, 0.5)), matrix(2, 3));
  checkGradients((a, b) => total(ops.add(a, b, -1)), matrix(2, 3), matrix(2, 3));
  checkGradients((a, b) => total(ops.multiply(a, b)), matrix(2, 3), matrix(2, 3));
  checkGradients((x, w, b) => total(ops.linear(x, w, b)),
    matrix(3, 7), matrix(6, 7), matrix(1, 6));
  const R = matrix(3, 5);
  R.data[4] = 0;
  checkGradients((x) => total(ops.resize(x, R)), matrix(2, 9));
});

test("resize is RᵀXR", () => {
  const R = matrix(2, 3), X = matrix(1, 4);
  const r = (i, j) => R.data[3 * i + j];
  for (let i = 0; i < 3; i++)
    for (let j = 0; j < 3; j++) {
      let sum = 0;
      for (let k = 0; k < 2; k++)
        for (let l = 0; l < 2; l++) sum += r(k, i) * X.data[2 * k + l] * r(l, j);
      assert.ok(Math.abs(ops.resize(X, R).data[3 * i + j] - sum) < 1e-5);
    }
});

test("gradients of every loss", () => {
  for (const kind of LOSS_NAMES) {
    const [real, fake] = [matrix(3, 1), matrix(4, 1)];
    for (const x of [real, fake]) // away from the kinks of the hinge
      x.data.forEach((v, i) => { if (Math.abs(Math.abs(v) - 1) < 0.05) x.data[i] += 0.1; });
    checkGradients((r, f) => discriminatorLoss(r, f, kind), real, fake);
    checkGradients((f) => generatorLoss(f, kind), fake);
  }
  const [real, fake] = [matrix(4, 1), matrix(4, 1)];
  checkGradients((r, f) => discriminatorLoss(r, f, PAIRED), real, fake);
  checkGradients((f, r) => generatorLoss(f, PAIRED, r), fake, real);
});

test("the rate of change along a direction, and its gradients", () => {
  const own = plane.freshPlayers(random, { D: [2, 5, 4, 1], G: [2, 3, 2] }).D;
  const [x, v] = [matrix(3, 2), matrix(3, 2)];
  const along = mlpAlong(x, v, own);
  const at = (by) => mlp(ops.add(x, ops.affine(v, by, 0)), own).data;
  const [up, down] = [at(1e-2), at(-1e-2)];
  const slopes = plane.slopesOf(own, x);
  along.data.forEach((slope, i) => {
    assert.ok(Math.abs(slope - (up[i] - down[i]) / 2e-2) < 2e-3);
    const product = slopes[2 * i] * v.data[2 * i] + slopes[2 * i + 1] * v.data[2 * i + 1];
    assert.ok(Math.abs(slope - product) < 1e-5);
  });
  const names = Object.keys(own).filter((name) => name !== "2.bias"); // it has no part
  const named = (values) => Object.fromEntries(names.map((name, i) => [name, values[i]]));
  checkGradients(
    (...values) => total(mlpAlong(x, v, { ...own, ...named(values) })),
    ...names.map((name) => own[name]));
});

test("a tensor that is used twice gets both gradients", () => {
  const x = new ops.Tensor(1, 1, Float32Array.of(3)).asParameter();
  ops.backward(ops.mean(ops.add(ops.square(x), x)));
  assert.equal(x.grad[0], 7);
});

// The Dirac-GAN, d = φ·x and G = θ: the real sample is at 0.
const dirac = { D: ({ w }, x) => ops.linear(x, w, zero), G: ({ w }, z) => ops.linear(z, w, zero) };
const zero = new ops.Tensor(1, 1);
const number = (v) => new ops.Tensor(1, 1, Float32Array.of(v));
const players = { D: { w: number(0.5) }, G: { w: number(2) } };
const game = (options) => ({
  noise: [{ D: number(1), G: number(1) }, { D: number(1), G: number(1) }],
  rates: { D: 0.1, G: 0.2 }, kind: "wasserstein", ...options,
});

test("players move alternately or at once", () => {
  for (const [simultaneous, φ] of [[false, 0.3], [true, 0.5]]) {
    // L_D = φθ, so φ falls by 0.1·2; L_G = −φθ, so θ grows by 0.2·φ.
    const [before, after] = adapt.adaptationSteps(
      dirac, players, number(0), game({ simultaneous }));
    assert.equal(before.params, players);
    assert.ok(Math.abs(after.params.D.w.data[0] - 0.3) < 1e-6);
    assert.ok(Math.abs(after.params.G.w.data[0] - (2 + 0.2 * φ)) < 1e-6);
  }
  assert.deepEqual([players.D.w.data[0], players.G.w.data[0]], [0.5, 2]); // unchanged
});

test("rates fall past the trained steps", () => {
  const run = (options) => [...adapt.adaptationSteps(dirac, players, number(0), game(options))];
  const moved = (states, step) =>
    states[step - 1].params.D.w.data[0] - states[step].params.D.w.data[0];
  const [steady, falling] = [run({}), run({ decay: 0.5, trainedSteps: 1 })];
  assert.equal(moved(falling, 1), moved(steady, 1));
  assert.ok(Math.abs(moved(falling, 2) - moved(steady, 2) / 2) < 1e-6);
});

test("a link gives back what it was made of", () => {
  const drawings = [
    { strokes: [[[0, 104], [50, 3]], [[7, 7]]] },
    { stored: [2, 9] },
    { strokes: [[[1, 2]]] },
  ];
  const text = encode(drawings, { steps: "7", loss: "hinge" });
  assert.match(text, /^[\w=&.-]+$/);
  assert.deepEqual(decode(text, [10, 10, 10]),
    { drawings, settings: { steps: "7", loss: "hinge" } });
});

test("a damaged link is refused", () => {
  const good = encode([{ strokes: [[[3, 4], [5, 6]]] }], {});
  assert.throws(() => decode(good.slice(0, -2), [10]), /cut off or damaged/);
  assert.throws(() => decode(encode([{ stored: [1, 0] }], {}), [10]), /damaged/);
  assert.throws(() => decode(encode([{ stored: [0, 10] }], {}), [10]), /damaged/);
  assert.throws(() => decode(encode([{ strokes: [[[105, 0]]] }], {}), [10]), /damaged/);
});

test("a game's link gives back what it was made of", () => {
  const drawn = [[-1.3, 1.3], [0.2, -0.71], [0, 5]].map((point) => point.map(snap));
  assert.ok(Math.abs(drawn[1][0] - 0.2) < 0.01 && drawn[2][1] === 1.3);
  const text = encodeGame({ kind: "hinge", seed: 3 }, drawn);
  assert.match(text, /^game&[\w=&-]+$/);
  assert.deepEqual(decodeGame(text), { settings: { kind: "hinge", seed: "3" }, drawn });
  assert.deepEqual(decodeGame("game"), { settings: {}, drawn: [] });
  assert.throws(() => decodeGame(text.slice(0, -1)), /cut off or damaged/);
});

test("a file of weights is read", () => {
  const header = new TextEncoder().encode(JSON.stringify({
    __metadata__: { size: "20", names: '["a"]' },
    w: { dtype: "F32", shape: [2, 1], data_offsets: [0, 8] },
    image: { dtype: "U8", shape: [1, 2, 1], data_offsets: [8, 10] },
  }));
  const bytes = new Uint8Array(8 + header.length + 10);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(header.length), true);
  bytes.set(header, 8);
  view.setFloat32(8 + header.length, 1.5, true);
  view.setFloat32(12 + header.length, -2, true);
  bytes.set([0, 255], 16 + header.length);
  const { tensors, about } = readWeights(bytes.buffer);
  assert.deepEqual(about, { size: 20, names: ["a"] });
  assert.deepEqual([...tensors.w.data, tensors.w.rows, tensors.w.cols], [1.5, -2, 2, 1]);
  assert.deepEqual([...tensors.image.data, tensors.image.rows], [-1, 1, 1]);
});

// As much of an SVG element as the curves need.
const drawn = (states, options) => {
  const svg = { attributes: {}, setAttribute(name, value) { this.attributes[name] = value; } };
  drawLosses(svg, states, { steps: 3, range: [0, 2], title: "A", ...options });
  const points = (player) => svg.innerHTML
    .match(new RegExp(`polyline class="pg-${player}" points="(.*?)"`))[1]
    .split(" ").map((point) => point.split(",").map(Number));
  return { svg, points, label: svg.attributes["aria-label"] };
};
const start = { losses: null };
const after = (D, G) => ({ losses: { D, G } });

test("curves go through the losses of the steps, and the current one is marked", () => {
  const { svg, points, label } = drawn([start, after(2, 0), after(1, 0.5)], { step: 2 });
  const [[x1, top], [x2, middle]] = points("D");
  const [[, bottom], [, low]] = points("G");
  assert.ok(x2 > x1 && top < middle && middle < low && low < bottom);
  assert.ok(Math.abs((top + bottom) / 2 - middle) < 0.1); // 1 lies halfway from 0 to 2
  assert.match(svg.innerHTML, new RegExp(`circle class="pg-D" cx="${x2}" cy="${middle}"`));
  assert.match(svg.innerHTML, /rect class="pg-G"/); // told apart by more than a colour
  assert.equal(label, "Losses of A at steps 1 to 2: of D from 2.00 to 1.00, of G from 0.00 to 0.50");
});

test("curves leave out what is no number, and keep to their frame", () => {
  const { svg, points, label } = drawn([start, after(1, 99), after(NaN, 1e30)], { step: 2, range: [1, 10] });
  assert.equal(points("D").length, 1);
  assert.equal(points("G")[0][1], points("G")[1][1]);
  assert.doesNotMatch(svg.innerHTML, /NaN/);
  assert.match(label, /of D from 1.00 to no number/);
  assert.match(drawn([start], { step: 0 }).label, /before the first of 3 steps/);
});

test("rows have one scale", () => {
  const [a, b] = [[start, after(1, 2)], [start, after(-3, Infinity)]];
  assert.deepEqual(lossRange([a, b]), [-3, 2]);
  assert.deepEqual(lossRange([[start, after(500, 1)]]), [1, 10]);
  assert.deepEqual(lossRange([[start, after(1, 1)]]), [0.5, 1.5]);
  assert.deepEqual(lossRange([[start]]), [0, 1]);
});
