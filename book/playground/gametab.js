// The second tab: a GAN in the plane, step by step.

import { Brush } from "./brush.js";
import { drawCurves } from "./chart.js";
import {
  GAME_LOSSES, OPTIMISERS, REGULARISERS, freshPlayers, gameStep, planeNets, pushes,
  shareOfReal,
} from "./game.js";
import { buildFlow } from "./flow.js";
import { decodeGame, encodeGame, snap } from "./gamelink.js";
import { readWeights } from "./nets.js";
import { Plane, lattice } from "./plane.js";
import {
  DISTRIBUTIONS, FAMILY, HAND, asPoints, drawPoints, energyDistance, pick,
} from "./points.js";
import { normal, uniform } from "./random.js";
import { PICTURED, STARTS, buildStarts, number, short, storedStarts } from "./starts.js";
import { Tensor, mean } from "./tensor.js";

const HIDDEN = [32, 32]; // widths, as in the file's nets
const WIDTHS = { D: [2, ...HIDDEN, 1], G: [2, ...HIDDEN, 2] };
const POINTS = 512; // of a distribution
const JUDGED = 256; // unseen points, and as many samples, for the distance
const MOST_DRAWN = 1000; // points drawn by hand; the distance compares all pairs
const SPRAY = 4; // points for each place of the brush
const KEPT = 300; // rows of the history; then every second one goes
const GRID = lattice(12);
const LATENT = lattice(12, 2); // z from −2 to 2, for G's map
// What a regulariser's number is at first, and called.
const WEIGHTS = {
  none: [0, "Weight"],
  R1: [1, "Weight γ"],
  R2: [1, "Weight γ"],
  "WGAN-GP": [0.1, "Weight λ"],
  "weight clipping": [0.3, "Bound"],
};
const SPEEDS = { "a step each frame": 1, "5 steps a second": 0, "as fast as it can": 50 };

const options = (names) => [...names].map((name) => `<option>${name}</option>`).join("");
const GAME_BODY = `
  <div class="gm-board">
    <div class="gm-left">
      <canvas class="gm-plane" tabindex="0" role="application" aria-label="The plane"
        aria-describedby="gm-keys"></canvas>
      <ul class="gm-legend">
        <li><svg viewBox="-6 -6 12 12" aria-hidden="true"><circle r="4" class="gm-r"/>
          </svg> real point</li>
        <li><svg viewBox="-6 -6 12 12" aria-hidden="true"><path d="M-4-4 4 4M-4 4 4-4"
          class="gm-f"/></svg> generated point</li>
        <li><svg viewBox="-6 -6 12 12" aria-hidden="true"><path d="M-6 0H5M1-4 5 0 1 4"
          class="gm-a"/></svg> where <i>G</i>’s loss pushes it</li>
        <li><svg viewBox="-6 -6 12 12" aria-hidden="true"><path d="M-6 3 6-3"
          class="gm-l"/></svg> level ½ of <i>D</i></li>
        <li class="gm-scale"><span><i>D</i> says generated</span><b></b>
          <span>real</span></li>
      </ul>
    </div>
    <div class="gm-right">
      <div class="pg-buttons">
        <button type="button" class="pg-main" data-do="run">Run</button>
        <button type="button" data-do="step">One step</button>
        <button type="button" data-do="onlyD">Only <i>D</i></button>
        <button type="button" data-do="onlyG">Only <i>G</i></button>
        <button type="button" data-do="reset">Reset</button>
        <label>Speed <select name="speed">${options(Object.keys(SPEEDS))}</select></label>
      </div>
      <dl class="gm-numbers">
        <div><dt>Step</dt><dd data-number="step"></dd></div>
        <div><dt>Loss of <i>D</i></dt><dd data-number="D"></dd></div>
        <div><dt>Loss of <i>G</i></dt><dd data-number="G"></dd></div>
        <div><dt>Energy distance</dt><dd data-number="distance"></dd></div>
      </dl>
      <figure>
        <canvas class="gm-curve" role="img" data-curve="losses"></canvas>
        <figcaption>Losses: of <i>D</i> (solid), of <i>G</i> (dashed)</figcaption>
      </figure>
      <figure>
        <canvas class="gm-curve" role="img" data-curve="distance"></canvas>
        <figcaption>Energy distance between generated and real points</figcaption>
      </figure>
    </div>
  </div>
  <p class="gm-said" role="status"></p>
  <figure class="gm-flow" tabindex="0" aria-label="What flows where, scrolls sideways">
    <svg role="img"></svg>
    <figcaption>Forward, solid: points and losses. Back, dashed: the slope of each
      player’s loss, with its length. Who moved last has a heavy frame.</figcaption>
  </figure>
  <form class="gm-form">
    <fieldset>
      <legend>The real points</legend>
      <div class="pg-settings">
        <label>Distribution <select name="points">
          ${options([...Object.keys(DISTRIBUTIONS), HAND])}</select></label>
        ${number("Points of an arc", "shots", 10, 1, 200, 1)}
        <button type="button" data-do="other">Other points</button>
        <button type="button" data-do="back">Undo a stroke</button>
        <button type="button" data-do="empty">Clear the plane</button>
      </div>
      <p id="gm-keys">Draw on the plane with a mouse, a finger or a pen: your points then
        are the real ones. With keys: the arrows move the brush (with Shift a little),
        Space puts points, Backspace takes the last ones back.</p>
    </fieldset>
    <fieldset>
      <legend>The game</legend>
      <div class="pg-settings">
        <label>Loss <select name="kind">${options(GAME_LOSSES)}</select></label>
        <label>Penalty on <i>D</i> <select name="regulariser">${options(REGULARISERS)}
          </select></label>
        ${number('<span data-label="weight"></span>', "weight", 0, 0, 100)}
        <label>Players move <select name="order">
          <option>alternating</option><option>simultaneous</option></select></label>
        ${number("Steps of <i>D</i> for one of <i>G</i>", "moves", 1, 1, 20, 1)}
        <label>Optimiser <select name="optimiser">${options(OPTIMISERS)}</select></label>
        ${number("β₁ of Adam", "beta1", 0.5, 0, 0.999)}
        ${number("Rate of <i>D</i>", "rateD", 0.005, 0, 10)}
        ${number("Rate of <i>G</i>", "rateG", 0.002, 0, 10)}
        ${number("Batch", "batch", 64, 1, 512, 1)}
        <label>Start from <select name="start">
          ${Object.entries(STARTS).map(([value, text]) =>
            `<option value="${value}">${text.toLowerCase()}</option>`).join("")}
          </select></label>
        ${number("Seed", "seed", 1, 0, 999999, 1)}
      </div>
    </fieldset>
    <fieldset>
      <legend>The picture</legend>
      <div class="pg-settings">
        <label>Arrows <select name="arrows"><option value="samples">at generated points
          </option><option value="grid">on a grid</option><option value="none">none
          </option></select></label>
        <label><input type="checkbox" name="real" checked> Real points</label>
        <label><input type="checkbox" name="fake" checked> Generated points</label>
        <label><input type="checkbox" name="shade" checked> <i>D</i> as shading</label>
        <label><input type="checkbox" name="level" checked> Level ½ of <i>D</i></label>
        <label><input type="checkbox" name="map"> <i>G</i>’s map of a square grid</label>
      </div>
    </fieldset>
    <div class="pg-buttons">
      <button type="button" data-do="link">Share as a link</button>
    </div>
    <label class="pg-link" hidden>Link to these points and settings
      <input type="text" readonly></label>
  </form>
  <section class="gm-starts" aria-labelledby="gm-starts"></section>`;

// Build the tab into `root`. `buffer` is the file of starts of tools/playground.py.
export function startGame(root, buffer) {
  const { tensors, about } = readWeights(buffer);
  const stored = storedStarts(tensors);
  root.innerHTML = GAME_BODY;
  const find = (css) => root.querySelector(css);
  const form = find(".gm-form").elements;
  const value = (name) => Number(form[name].value);
  const say = (text) => (find(".gm-said").textContent = text);
  const plane = new Plane(find(".gm-plane"));
  const showFlow = buildFlow(find(".gm-flow svg"));

  // --- the real points -------------------------------------------------------

  let points; // [n, 2], of which the batches are
  let judged; // points of the same distribution, for the distance
  let strokes = []; // numbers of points before each stroke, while drawn by hand
  let drawn = []; // [x, y], …
  let turns = 0; // how often other points were asked for

  function choosePoints() {
    const name = form.points.value;
    if (name === HAND) points = judged = asPoints(drawn);
    else {
      const random = uniform(1000 * value("seed") + turns);
      const distribution = DISTRIBUTIONS[name](random);
      points = drawPoints(distribution, name === FAMILY ? value("shots") : POINTS);
      judged = drawPoints(distribution, JUDGED);
    }
    describePlane();
  }

  const spray = uniform(5);
  function put(x, y, first) {
    if (form.points.value !== HAND) {
      form.points.value = HAND;
      [drawn, strokes] = [[], []];
    }
    if (drawn.length + SPRAY > MOST_DRAWN)
      return say("The plane is full: undo, or clear it.");
    if (first) strokes.push(drawn.length);
    const around = normal(spray, SPRAY, 2).data;
    for (let i = 0; i < around.length; i += 2)
      drawn.push([x + 0.03 * around[i], y + 0.03 * around[i + 1]].map(snap));
    choosePoints();
    if (first) say(`${drawn.length} points.`);
    show();
  }
  function back() {
    if (form.points.value !== HAND || !strokes.length)
      return say("There is no stroke to undo.");
    drawn.length = strokes.pop();
    choosePoints();
    show();
    say(`${drawn.length} points left.`);
  }
  const brush = new Brush(plane.canvas, {
    put,
    back,
    moved(said) {
      if (said) say(said);
      show();
    },
  });

  // --- the game --------------------------------------------------------------

  let random; // source of batches and noise
  let state; // {params, memory, losses}
  let step;
  let history; // {every, steps, D, G, distance}
  let lastMoved = []; // players
  let shownNoise; // z of the points in the picture, and of the distance
  let running = 0; // the number of the run; 0 while paused

  function reset() {
    pause();
    random = uniform(value("seed"));
    const start = form.start.value;
    const fresh = freshPlayers(random, WIDTHS);
    state = { params: start === "random" ? fresh : stored[start], memory: null };
    shownNoise = normal(random, JUDGED, 2);
    step = 0;
    lastMoved = [];
    history = { every: 1, steps: [], D: [], G: [], distance: [] };
    record();
  }

  const settings = () => ({
    kind: form.kind.value,
    regulariser: form.regulariser.value,
    weight: value("weight"),
    simultaneous: form.order.value === "simultaneous",
    optimiser: form.optimiser.value,
    beta1: value("beta1"),
    rates: { D: value("rateD"), G: value("rateG") },
  });

  function batch(n) {
    return {
      real: pick(points, n, random),
      z: normal(random, n, 2),
      mix: new Tensor(n, 1, new Float32Array(n).map(random)),
    };
  }

  // One step of the game, or of one player; false where it cannot be.
  function advance(only) {
    if (!points.rows) return refuse("Put some real points on the plane first.");
    if (!find(".gm-form").checkValidity()) {
      find(".gm-form").reportValidity();
      return refuse("A setting is out of its range.");
    }
    const n = value("batch");
    const moves = { D: 1, G: 0 }[only] ?? value("moves");
    const batches = {
      D: Array.from({ length: moves }, () => batch(n)),
      G: only === "D" ? null : batch(n),
    };
    state = gameStep(state, batches, settings());
    lastMoved = only ? [only] : ["D", "G"];
    step++;
    if (!Object.values(state.losses).every(Number.isFinite))
      return refuse(
        `It diverged at step ${step}: lower the rates, or add a penalty; then Reset.`);
    if (step % history.every === 0) record();
    return true;
  }
  function refuse(text) {
    pause();
    say(text);
    return false;
  }

  const generated = () => planeNets.G(state.params.G, shownNoise);

  function record() {
    const { steps, D, G, distance } = history;
    const finite = judged.rows > 1;
    steps.push(step);
    D.push(state.losses?.D ?? NaN);
    G.push(state.losses?.G ?? NaN);
    distance.push(finite ? energyDistance(generated(), judged) : NaN);
    if (steps.length < KEPT) return;
    history.every *= 2;
    const stays = steps.map((at) => at % history.every === 0);
    for (const name of ["steps", "D", "G", "distance"])
      history[name] = history[name].filter((_, i) => stays[i]);
  }

  function run() {
    const mine = ++runs;
    running = mine;
    find("[data-do=run]").textContent = "Pause";
    let [told, last] = [performance.now(), 0];
    const frame = (now) => {
      if (running !== mine || !root.isConnected) return;
      const speed = SPEEDS[find("[name=speed]").value];
      const until = performance.now() + 14;
      if (speed || now - last > 200) {
        last = now;
        let count = 0;
        do if (!advance()) break;
        while (++count < speed && performance.now() < until);
        show();
      }
      if (now - told > 10000) { // rarely: a screen reader says all of it
        told = now;
        say(summary());
        describe();
      }
      if (running === mine) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }
  let runs = 0;
  function pause() {
    running = 0;
    find("[data-do=run]").textContent = "Run";
  }

  // --- what is shown ---------------------------------------------------------

  const distanceNow = () => history.distance.at(-1);

  function summary() {
    const { losses } = state;
    const far = `energy distance ${short(distanceNow())}`;
    if (!losses) return `Before the first step: ${far}.`;
    const [D, G] = [short(losses.D), short(losses.G)];
    return `After step ${step}: loss of D ${D}, of G ${G}; ${far}.`;
  }

  function arrowsAt(x) {
    const real = points.rows ? pick(points, x.rows, uniform(3)) : x;
    return [x, pushes(state.params.D, x, real, form.kind.value)];
  }

  function show() {
    const { params, losses } = state;
    const fake = generated();
    const few = new Tensor(PICTURED, 2, fake.data.subarray(0, 2 * PICTURED));
    const real = points.rows ? points : few;
    const share = shareOfReal(form.kind.value, params.D, real, fake);
    plane.draw({
      share: (x) => planeNets.D(params.D, x).data.map(share),
      shade: form.shade.checked,
      level: form.level.checked,
      map: form.map.checked && planeNets.G(params.G, LATENT),
      real: form.real.checked && points,
      fake: form.fake.checked && few,
      arrows: { samples: () => arrowsAt(few), grid: () => arrowsAt(GRID) }[
        form.arrows.value]?.(),
      marker: brush.shown && brush.place,
    });
    const write = (name, text) => (find(`[data-number=${name}]`).textContent = text);
    write("step", step);
    write("D", short(losses?.D));
    write("G", short(losses?.G));
    write("distance", short(distanceNow()));
    const meanOf = (x) => short(mean(planeNets.D(params.D, x)).data[0]);
    const slope = (player) => `slope ${short(state.slopes?.[player])}`;
    showFlow({
      numbers: {
        z: "2 numbers",
        G: HIDDEN.join(", "),
        D: HIDDEN.join(", "),
        fake: `d: ${meanOf(fake)}`,
        real: points.rows ? `d: ${meanOf(real)}` : "none",
        lossG: short(losses?.G),
        lossD: short(losses?.D),
        toD: slope("D"),
        toG: slope("G"),
      },
      moved: lastMoved,
    });
    const { steps, D, G, distance } = history;
    drawCurves(find("[data-curve=losses]"), steps,
      [{ colour: "real", ys: D }, { colour: "fake", ys: G }]);
    drawCurves(find("[data-curve=distance]"), steps, [{ colour: "arrow", ys: distance }]);
  }

  // In words what the pictures show; not at every step.
  function describe() {
    const { steps, D, G, distance } = history;
    const course = (ys) => {
      const known = ys.filter(Number.isFinite);
      if (!known.length) return "not yet";
      return `from ${short(known[0])} to ${short(known.at(-1))}`;
    };
    const { losses, slopes } = state;
    find(".gm-flow svg").setAttribute("aria-label",
      "Noise goes through G to samples; D sees samples and real points. The loss of D" +
      ` is ${short(losses?.D)}, the slope on its way back to D ${short(slopes?.D)}; the` +
      ` loss of G is ${short(losses?.G)}, its slope back through D to G` +
      ` ${short(slopes?.G)}.`);
    const until = `, until step ${steps.at(-1)}`;
    find("[data-curve=losses]").setAttribute("aria-label",
      `Loss of D ${course(D)}, of G ${course(G)}${until}`);
    find("[data-curve=distance]").setAttribute("aria-label",
      `Energy distance ${course(distance)}${until}`);
  }
  function describePlane() {
    plane.canvas.setAttribute("aria-label",
      `The plane, with ${points.rows} real points: ${form.points.value}`);
  }

  const starts = buildStarts(find(".gm-starts"), {
    stored,
    about,
    say,
    // The points to learn from, in an order that chance made, and those to measure by.
    given: () => {
      const chance = uniform(value("seed") + 7);
      // The first points of a stroke are one place.
      const shuffled = form.points.value === HAND && points.rows
        ? pick(points, points.rows, chance) : points;
      return { points: shuffled, judged, random: chance };
    },
    another() {
      form.points.value = FAMILY;
      other();
    },
  });

  // --- what is pressed -------------------------------------------------------

  function again(said) {
    choosePoints();
    reset();
    show();
    describe();
    if (said) say(said);
  }
  function other(said) {
    turns++;
    again(said);
  }
  function stepOnce(only) {
    pause();
    if (!advance(only)) return;
    show();
    describe();
    say(summary());
  }
  // --- a link ------------------------------------------------------------------

  const fields = [...find(".gm-form").querySelectorAll("[name]")];
  function share() {
    const chosen = Object.fromEntries(fields.map((field) =>
      [field.name, field.type === "checkbox" ? Number(field.checked) : field.value]));
    const address = new URL(location.href);
    const byHand = form.points.value === HAND;
    address.hash = encodeGame({ ...chosen, turns }, byHand ? drawn : []);
    window.history.replaceState(null, "", address);
    find(".pg-link").hidden = false;
    find(".pg-link input").value = address.href;
    find(".pg-link input").select();
    say("The link is in the field above, and in the address of this page.");
  }
  function follow(text) {
    const shared = decodeGame(text);
    for (const field of fields) {
      const [before, wanted] = [field.value, shared.settings[field.name]];
      if (wanted === undefined) continue;
      if (field.type === "checkbox") field.checked = wanted === "1";
      else field.value = wanted;
      // A select may have no such option, a number be out of its range.
      if (!field.value || !field.checkValidity()) field.value = before;
    }
    turns = Number(shared.settings.turns) || 0;
    drawn = shared.drawn.slice(0, MOST_DRAWN);
    strokes = drawn.length ? [0] : [];
  }

  const actions = {
    link: share,
    run() {
      if (running) {
        pause();
        say(summary());
        describe();
      } else {
        say("Running.");
        run();
      }
    },
    step: () => stepOnce(),
    onlyD: () => stepOnce("D"),
    onlyG: () => stepOnce("G"),
    reset() {
      reset();
      show();
      describe();
      say(summary());
    },
    other() {
      if (form.points.value === HAND) return say("Draw them on the plane.");
      other("Other points of the same kind.");
    },
    back,
    empty() {
      form.points.value = HAND;
      [drawn, strokes] = [[], []];
      again("The plane is empty: draw the real points.");
    },
  };
  for (const button of root.querySelectorAll("[data-do]"))
    button.addEventListener("click", () => actions[button.dataset.do]());

  function nameWeight(change) {
    const [first, label] = WEIGHTS[form.regulariser.value];
    if (change) form.weight.value = first;
    form.weight.disabled = form.regulariser.value === "none";
    find("[data-label=weight]").textContent = label;
  }
  const summaryOf = () => `${points.rows} real points: ${form.points.value}.`;
  const restarts = ["points", "shots", "start", "seed"];
  find(".gm-form").addEventListener("change", ({ target }) => {
    if (target.name === "regulariser") nameWeight(true);
    if (target.name === "points") [drawn, strokes] = [[], []];
    if (!restarts.includes(target.name) || !target.checkValidity()) return show();
    const byHand = form.points.value === HAND && !drawn.length;
    again(byHand ? "Draw the real points on the plane." : summaryOf());
  });
  find(".gm-form").addEventListener("submit", (event) => event.preventDefault());

  nameWeight(true);
  if (location.hash.startsWith("#game&")) {
    try {
      follow(location.hash.slice(1));
    } catch (error) {
      say(`This link cannot be read: ${error.message}. Ask for it again, or draw.`);
    }
    nameWeight(false);
  }
  choosePoints();
  reset();
  describe();
  const redraw = () => {
    show();
    starts.show();
  };
  new ResizeObserver(redraw).observe(plane.canvas); // also when the tab is shown
  new MutationObserver(redraw).observe(document.documentElement, {
    attributes: true, attributeFilter: ["data-theme"],
  });
  return { pause };
}
