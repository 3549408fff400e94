// The nets of metagan_lite/nets.py with a basis, and the file that holds their weights.

import { Tensor, linear, multiply, resize, silu, siluSlope, tanh } from "./tensor.js";

// A safetensors file of tools/playground.py → {tensors: name → Tensor, about}. A tensor
// of more than two dimensions is [first, product of the others].
export function readWeights(buffer) {
  const length = Number(new DataView(buffer).getBigUint64(0, true));
  const text = new TextDecoder().decode(new Uint8Array(buffer, 8, length));
  const { __metadata__, ...entries } = JSON.parse(text);
  const about = Object.fromEntries(
    Object.entries(__metadata__).map(([key, value]) => [key, JSON.parse(value)]),
  );
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(entries)) {
    const bytes = buffer.slice(8 + length + from, 8 + length + to);
    const data =
      dtype === "U8"
        ? Float32Array.from(new Uint8Array(bytes), (v) => v / 127.5 - 1) // an image
        : new Float32Array(bytes);
    const cols = shape.length > 1 ? data.length / shape[0] : data.length;
    tensors[name] = new Tensor(data.length / cols, cols, data);
  }
  return { tensors, about };
}

// {player → parameter → Tensor} of the tensors that are named "start.player.parameter".
export function initialisation(tensors, start) {
  const params = { D: {}, G: {} };
  for (const [name, tensor] of Object.entries(tensors)) {
    const [first, player, ...rest] = name.split(".");
    if (first === start) params[player][rest.join(".")] = tensor;
  }
  return params;
}

const layersOf = (own) =>
  Object.keys(own)
    .filter((name) => name.endsWith(".weight"))
    .map((name) => name.slice(0, -".weight".length))
    .sort((a, b) => a - b);

export function mlp(x, own) {
  const layers = layersOf(own);
  layers.forEach((layer, place) => {
    x = linear(x, own[`${layer}.weight`], own[`${layer}.bias`]);
    if (place < layers.length - 1) x = silu(x);
  });
  return x;
}

// How fast the mlp changes at x [n, in] in the directions v [n, in]: each layer hands on
// its value and its rate of change. Of plain operations, so `backward` goes through it.
export function mlpAlong(x, v, own) {
  const layers = layersOf(own);
  layers.forEach((layer, place) => {
    const weight = own[`${layer}.weight`];
    v = linear(v, weight, new Tensor(1, weight.rows));
    if (place === layers.length - 1) return; // the value itself is not asked for
    x = linear(x, weight, own[`${layer}.bias`]);
    v = multiply(v, siluSlope(x));
    x = silu(x);
  });
  return v;
}

// The players as functions: G from z [n, latent] to images [n, pixels] in [−1, 1], drawn
// on a coarse grid and enlarged; D from images to logits [n, 1], seen reduced.
export const nets = ({ enlarge, reduce }) => ({
  G: (own, z) => tanh(resize(mlp(z, own), enlarge)),
  D: (own, x) => mlp(resize(x, reduce), own),
});
