// The same steps from three starts: what an initialisation is worth, on few points.

import { adaptationSteps } from "./adapt.js";
import { drawCurves } from "./chart.js";
import { planeNets, shareOfReal } from "./game.js";
import { initialisation } from "./nets.js";
import { Plane } from "./plane.js";
import { energyDistance } from "./points.js";
import { normal } from "./random.js";
import { Tensor } from "./tensor.js";

export const STARTS = { random: "Random", pooled: "Pooled", meta: "Meta-learned" };
export const PICTURED = 128; // generated points in a picture
const MEASURED = 256; // generated points of which the distance is measured

export const storedStarts = (tensors) =>
  Object.fromEntries(
    Object.keys(STARTS).map((name) => [name, initialisation(tensors, name)]));

export const short = (v) => (Number.isFinite(v) ? v.toFixed(3) : "–");

export const number = (label, name, value, least, most, step = "any") =>
  `<label>${label} <input type="number" name="${name}" value="${value}" min="${least}"
    max="${most}" step="${step}" required></label>`;

const STARTS_BODY = `
  <h2 id="gm-starts">The same steps from three starts</h2>
  <p>The same few points of the plane above, the same noise, a few steps of SGD in
    alternation down the non-saturating loss: only the start differs. The distance is
    to points that no step has seen, unless you drew them.</p>
  <form>
    <div class="pg-settings">
      ${number("Points used, at most", "used", 10, 1, 200, 1)}
      ${number("Steps", "steps", 10, 1, 200, 1)}
      ${number("Rate of <i>D</i>", "rateD", 0.1, 0, 10)}
      ${number("Rate of <i>G</i>", "rateG", 0.1, 0, 10)}
    </div>
    <div class="pg-buttons">
      <button class="pg-main">Compare</button>
      <button type="button">Another arc of the family</button>
    </div>
  </form>
  <div class="gm-results" hidden>
    <label class="pg-step">After step <output></output>
      <input type="range" name="step" min="0" value="0"></label>
    <div class="gm-three"></div>
    <figure>
      <canvas class="gm-curve" role="img"></canvas>
      <figcaption>Energy distance from each start: random (solid), pooled (dashed),
        meta-learned (dotted)</figcaption>
    </figure>
  </div>
  <p class="gm-known"></p>`;

// Build the section into `root`.
//   stored: start → parameters. about: what their file says of itself.
//   say(text). given() → {points, judged, random}: points to learn from, points to
//   measure by, and a source of random numbers. another(): choose another arc.
export function buildStarts(root, { stored, about, say, given, another }) {
  root.innerHTML = STARTS_BODY;
  const find = (css) => root.querySelector(css);
  const form = find("form").elements;
  form.used.value = about.shots;
  form.steps.value = about.steps;
  form.rateD.value = about.rates.D;
  form.rateG.value = about.rates.G;
  const known = Object.entries(STARTS).map(([name, title]) => {
    const [mean, error] = about.heldOut[name];
    return `${title.toLowerCase()} ${short(mean)} ± ${short(error)}`;
  });
  find(".gm-known").textContent =
    `One set of points is one chance. Over ${about.heldOut.tasks} arcs of the family` +
    ` that no training saw, the mean energy distance after ${about.steps} steps on` +
    ` ${about.shots} points, with its standard error, is: ${known.join("; ")}.`;

  const rows = Object.entries(STARTS).map(([name, title]) => {
    const figure = document.createElement("figure");
    const factor = about.factors[name];
    figure.innerHTML = `<canvas class="gm-small" role="img"></canvas>
      <figcaption><b>${title}${factor === 1 ? "" : ` (rates × ${factor})`}</b>
      <span></span></figcaption>`;
    find(".gm-three").append(figure);
    const plane = new Plane(figure.querySelector("canvas"));
    return { name, title, factor, plane, said: figure.querySelector("span") };
  });
  const slider = find("[name=step]");
  let compared = null; // {support, states: start → [{params, samples, distance}, …]}

  function compare() {
    if (!find("form").reportValidity()) return;
    const { points, judged, random } = given();
    if (!points.rows) return say("Put some real points on the plane first.");
    const [used, steps, rateD, rateG] = ["used", "steps", "rateD", "rateG"].map((name) =>
      Number(form[name].value));
    const count = Math.min(used, points.rows);
    const support = new Tensor(count, 2, points.data.slice(0, 2 * count));
    const z = normal(random, MEASURED, 2);
    const noise = Array.from({ length: steps }, () => ({
      D: normal(random, about.fakes, 2),
      G: normal(random, about.fakes, 2),
    }));
    const states = {};
    for (const { name, factor } of rows) {
      const rates = { D: factor * rateD, G: factor * rateG };
      const loop = adaptationSteps(planeNets, stored[name], support, { noise, rates });
      states[name] = [...loop].map(({ params }) => {
        const samples = planeNets.G(params.G, z);
        return { params, samples, distance: energyDistance(samples, judged) };
      });
    }
    compared = { support, states };
    find(".gm-results").hidden = false;
    slider.max = steps; // before the value, which may not be above it
    slider.value = steps;
    show();
    const ends = rows.map(({ name, title }) =>
      `${title.toLowerCase()} ${short(states[name].at(-1).distance)}`);
    say(`Energy distance after ${steps} steps on ${count} points: ${ends.join(", ")}.`);
  }

  function show() {
    if (!compared) return;
    const { support, states } = compared;
    const step = Number(slider.value);
    find("output").textContent = `${step} of ${slider.max}`;
    for (const { name, title, plane, said } of rows) {
      const { params, samples, distance } = states[name][step];
      const share = shareOfReal("non-saturating");
      plane.draw({
        share: (x) => planeNets.D(params.D, x).data.map(share),
        shade: true,
        level: true,
        fake: new Tensor(PICTURED, 2, samples.data.subarray(0, 2 * PICTURED)),
        real: support,
      });
      said.textContent = Number.isFinite(distance)
        ? `distance ${short(distance)}` : "diverged";
      plane.canvas.setAttribute("aria-label",
        `${title} start after step ${step}: ${support.rows} real points,` +
        ` ${PICTURED} generated, energy distance ${short(distance)}`);
    }
    const steps = states.random.map((_, i) => i);
    const of = (name) => states[name].map(({ distance }) => distance);
    const colour = { random: "fake", pooled: "arrow", meta: "real" };
    const curve = find(".gm-curve");
    drawCurves(curve, steps,
      rows.map(({ name }) => ({ colour: colour[name], ys: of(name) })), step);
    curve.setAttribute("aria-label", rows.map(({ name, title }) =>
      `${title}: energy distance from ${short(of(name)[0])} to ${short(of(name).at(-1))}`,
    ).join("; "));
  }

  find("form").addEventListener("submit", (event) => {
    event.preventDefault();
    compare();
  });
  find("[type=button]").addEventListener("click", () => {
    another();
    compare();
  });
  slider.addEventListener("input", show);
  return { show };
}
