// Matrices of 32-bit floats that remember how they were made: reverse-mode
// differentiation, with as many operations as the nets and their losses need.

export class Tensor {
  // `inputs` are what it was made of; `pull` adds its gradient to theirs.
  constructor(rows, cols, data, inputs = [], pull = null) {
    this.rows = rows;
    this.cols = cols;
    this.data = data ?? new Float32Array(rows * cols);
    this.wanted = inputs.some((input) => input.wanted); // is a gradient asked for?
    this.inputs = this.wanted ? inputs : [];
    this.pull = this.wanted ? pull : null;
    this.grad = null;
  }

  // The same numbers as a leaf, of which a gradient is asked for.
  asParameter() {
    const leaf = new Tensor(this.rows, this.cols, this.data);
    leaf.wanted = true;
    return leaf;
  }
}

// Fill `grad` of every wanted tensor that the scalar `loss` depends on.
export function backward(loss) {
  const order = [];
  const seen = new Set();
  const visit = (tensor) => {
    if (!tensor.wanted || seen.has(tensor)) return;
    seen.add(tensor);
    tensor.inputs.forEach(visit);
    tensor.grad = new Float32Array(tensor.data.length);
    order.push(tensor);
  };
  visit(loss);
  if (loss.wanted) loss.grad.fill(1);
  for (const tensor of order.reverse()) tensor.pull?.(tensor.grad);
}

// to[at…] += Σ scales[first + r·stride] · (row r of `from`), for `count` rows of `length`.
// Four rows at once: to read and write `to` costs more than to multiply.
function addRows(to, at, from, length, scales, first, stride, count) {
  let r = 0;
  for (; r + 3 < count; r += 4) {
    const place = first + r * stride;
    const a = scales[place], b = scales[place + stride];
    const c = scales[place + 2 * stride], d = scales[place + 3 * stride];
    let i = r * length, j = i + length, k = j + length, l = k + length;
    for (let t = at, end = at + length; t < end; t++)
      to[t] += a * from[i++] + b * from[j++] + c * from[k++] + d * from[l++];
  }
  for (; r < count; r++)
    for (let k = 0; k < length; k++)
      to[at + k] += scales[first + r * stride] * from[r * length + k];
}

// The numbers of a matrix by columns.
function transpose({ rows, cols, data }) {
  const turned = new Float32Array(data.length);
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < cols; j++) turned[j * rows + i] = data[i * cols + j];
  return turned;
}

// y = x Wᵀ + b, as torch.nn.Linear: x [n, in], weight [out, in], bias [1, out].
export function linear(x, weight, bias) {
  const [n, inside, outside] = [x.rows, x.cols, weight.rows];
  const y = new Tensor(n, outside, null, [x, weight, bias], (slope) => {
    if (bias.wanted)
      for (let place = 0; place < n * outside; place++)
        bias.grad[place % outside] += slope[place];
    if (weight.wanted)
      for (let o = 0; o < outside; o++)
        addRows(weight.grad, o * inside, x.data, inside, slope, o, outside, n);
    if (x.wanted)
      for (let i = 0; i < n; i++)
        addRows(x.grad, i * inside, weight.data, inside, slope, i * outside, 1, outside);
  });
  for (let i = 0; i < n; i++)
    for (let o = 0; o < outside; o++) y.data[i * outside + o] = bias.data[o];
  const turned = transpose(weight);
  for (let i = 0; i < n; i++)
    addRows(y.data, i * outside, turned, outside, x.data, i * inside, 1, inside);
  return y;
}

// Each row of x is a square image X; it becomes Rᵀ X R, with R [side in, side out].
export function resize(x, R) {
  const [s, t] = [R.rows, R.cols];
  const turned = transpose(R);
  const y = new Tensor(x.rows, t * t, null, [x], (slope) =>
    sandwich(slope, x.grad, turned, t, s, x.rows));
  sandwich(x.data, y.data, R.data, s, t, x.rows);
  return y;
}

// to += Mᵀ X M for each of n images X of `from`, M [s, t].
function sandwich(from, to, M, s, t, n) {
  const half = new Float32Array(s * t); // (Mᵀ X)ᵀ
  for (let image = 0; image < n; image++) {
    half.fill(0);
    addTurned(from, image * s * s, half, 0, M, s, t, s);
    addTurned(half, 0, to, image * t * t, M, s, t, t);
  }
}

// to += (Mᵀ X)ᵀ for the matrix X [s, width] that begins at `start`. Most of M is 0.
function addTurned(from, start, to, place, M, s, t, width) {
  for (let i = 0; i < t; i++)
    for (let k = 0; k < s; k++) {
      const weight = M[k * t + i];
      if (weight === 0) continue;
      for (let j = 0; j < width; j++)
        to[place + j * t + i] += weight * from[start + k * width + j];
    }
}

// f of each number; `slope` is f′ from (x, f(x)).
function each(f, slope) {
  return (x) => {
    const y = new Tensor(x.rows, x.cols, null, [x], (dy) => {
      for (let i = 0; i < dy.length; i++)
        x.grad[i] += dy[i] * slope(x.data[i], y.data[i]);
    });
    for (let i = 0; i < x.data.length; i++) y.data[i] = f(x.data[i]);
    return y;
  };
}

const sigmoid = (v) => 1 / (1 + Math.exp(-v));

const slopeOfSilu = (v) => {
  const s = sigmoid(v);
  return s * (1 + v * (1 - s));
};

export const silu = each((v) => v * sigmoid(v), slopeOfSilu);
// The slope as a function with a slope of its own: a penalty on slopes needs it.
export const siluSlope = each(
  slopeOfSilu,
  (v) => {
    const s = sigmoid(v);
    return s * (1 - s) * (2 + v * (1 - 2 * s));
  },
);
export const tanh = each(Math.tanh, (_v, y) => 1 - y * y);
export const softplus = each(
  (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v))),
  sigmoid,
);
export const relu = each((v) => Math.max(v, 0), (v) => (v > 0 ? 1 : 0));
export const square = each((v) => v * v, (v) => 2 * v);
export const affine = (x, scale, shift) =>
  each((v) => scale * v + shift, () => scale)(x);

// a + sign · b, of one shape.
export function add(a, b, sign = 1) {
  const y = new Tensor(a.rows, a.cols, null, [a, b], (dy) => {
    for (let i = 0; i < dy.length; i++) {
      if (a.wanted) a.grad[i] += dy[i];
      if (b.wanted) b.grad[i] += sign * dy[i];
    }
  });
  for (let i = 0; i < y.data.length; i++) y.data[i] = a.data[i] + sign * b.data[i];
  return y;
}

// a · b number by number, of one shape.
export function multiply(a, b) {
  const y = new Tensor(a.rows, a.cols, null, [a, b], (dy) => {
    for (let i = 0; i < dy.length; i++) {
      if (a.wanted) a.grad[i] += dy[i] * b.data[i];
      if (b.wanted) b.grad[i] += dy[i] * a.data[i];
    }
  });
  for (let i = 0; i < y.data.length; i++) y.data[i] = a.data[i] * b.data[i];
  return y;
}

// The mean of all numbers, [1, 1].
export function mean(x) {
  const count = x.data.length;
  const y = new Tensor(1, 1, null, [x], ([dy]) => {
    for (let i = 0; i < count; i++) x.grad[i] += dy / count;
  });
  y.data[0] = x.data.reduce((sum, v) => sum + v, 0) / count;
  return y;
}
