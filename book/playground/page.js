// The page: a pad, the examples, the settings, and three rows of samples.

import { adaptationSteps } from "./adapt.js";
import { SIDE, normalise, rasterise, stack } from "./drawing.js";
import { gif } from "./gif.js";
import { decode, encode } from "./link.js";
import { LOSS_NAMES } from "./losses.js";
import { initialisation, nets, readWeights } from "./nets.js";
import { Pad, inkImage } from "./pad.js";
import { normal, uniform } from "./random.js";

const MOST = 10; // examples
const SHOWN = 10; // samples of a row
const ROWS = { meta: "Meta-GAN", pooled: "Pooled GAN", random: "Random start" };

const BODY = `
  <section class="pg-draw" aria-labelledby="pg-draw">
    <h2 id="pg-draw">Your examples</h2>
    <div class="pg-columns">
      <div>
        <canvas class="pg-pad" tabindex="0" role="application" aria-describedby="pg-keys"
          aria-label="Drawing pad"></canvas>
        <p id="pg-keys">Draw with a mouse, a finger or a pen. With keys: the arrows move
          the pen (with Shift by a pixel), Space lowers and lifts it, Backspace takes the
          last stroke back.</p>
        <div class="pg-buttons">
          <button type="button" data-do="add">Add the drawing</button>
          <button type="button" data-do="undo">Undo</button>
          <button type="button" data-do="clear">Clear</button>
        </div>
      </div>
      <div>
        <ol class="pg-examples" aria-label="Examples"></ol>
        <p class="pg-none">No example yet. Draw a symbol, add it, draw it again; or take
          the drawings of a character that no training has seen.</p>
        <div class="pg-buttons">
          <label>Character <select name="character"></select></label>
          <button type="button" data-do="take">Take its drawings</button>
          <button type="button" data-do="empty">Remove all</button>
        </div>
      </div>
    </div>
  </section>
  <form>
    <h2>The inner loop</h2>
    <div class="pg-settings">
      <label>Examples used, at most
        <input type="number" name="shots" min="1" max="${MOST}" required></label>
      <label>Inner steps <input type="number" name="steps" min="1" max="50" required></label>
      <label>Inner rate of <i>G</i>
        <input type="number" name="rateG" min="0.001" max="5" step="any" required></label>
      <label>Inner rate of <i>D</i>
        <input type="number" name="rateD" min="0.001" max="5" step="any" required></label>
      <label>Samples per step
        <input type="number" name="fakes" min="1" max="100" required></label>
      <label>Noise, a number
        <input type="number" name="seed" min="0" max="999999" required></label>
      <label>Loss <select name="loss"></select></label>
      <label>Players move
        <select name="order"><option>alternating</option><option>simultaneous</option>
        </select></label>
    </div>
    <div class="pg-buttons">
      <button class="pg-main">Adapt</button>
      <button type="button" data-do="noise">Other noise</button>
      <button type="button" data-do="reset">Settings of the recipe</button>
    </div>
  </form>
  <p class="pg-said" role="status"></p>
  <section class="pg-results" aria-labelledby="pg-results" hidden>
    <h2 id="pg-results">What they draw</h2>
    <label class="pg-step">After step <output></output>
      <input type="range" name="step" min="0" value="0"></label>
    <label><input type="checkbox" name="nearest"> Below each sample, the nearest
      example</label>
    <div class="pg-rows"></div>
    <div class="pg-buttons">
      <button type="button" data-do="link">Share as a link</button>
      <button type="button" data-do="png">Save as PNG</button>
      <button type="button" data-do="gif">Save the steps as GIF</button>
    </div>
    <label class="pg-link" hidden>Link to these examples and settings
      <input type="text" readonly></label>
  </section>`;

// Build the page into `root`. `buffer` is the file of tools/playground.py.
export function start(root, buffer) {
  const { tensors, about } = readWeights(buffer);
  const players = nets(tensors);
  const starts = Object.fromEntries(
    Object.keys(ROWS).map((name) => [name, initialisation(tensors, name)]),
  );
  const { size } = about;

  root.innerHTML = BODY;
  const find = (css) => root.querySelector(css);
  const form = find("form");
  const say = (text) => (find(".pg-said").textContent = text);
  const defaults = {
    shots: MOST,
    steps: 10,
    rateG: about.rates.G,
    rateD: about.rates.D,
    fakes: about.fakes,
    seed: 1,
    loss: LOSS_NAMES[0],
    order: "alternating",
  };
  form.elements.loss.append(...LOSS_NAMES.map((name) => new Option(name)));
  find("[name=character]").append(
    ...about.characters.map((name, place) => new Option(name.replaceAll("_", " "), place)),
  );

  const set = (settings) => {
    for (const [name, value] of Object.entries(settings)) {
      if (!(name in defaults)) continue;
      const field = form.elements[name];
      const before = field.value;
      field.value = value;
      field.value ||= before; // a select has no such option
    }
  };
  const settings = () =>
    Object.fromEntries(Object.keys(defaults).map((name) => [name, form.elements[name].value]));
  set(defaults);

  // --- the examples ----------------------------------------------------------

  let drawings = []; // {strokes} or {stored: [character, number]}
  const pad = new Pad(find(".pg-pad"), say);

  const prepared = ({ strokes, stored }) => {
    if (!stored) return normalise(rasterise(strokes), SIDE, size);
    const [character, number] = stored;
    const pixels = tensors[`drawings.${character}`].data;
    return pixels.subarray(number * size ** 2, (number + 1) * size ** 2);
  };

  function showExamples() {
    find(".pg-none").hidden = drawings.length > 0;
    find(".pg-examples").replaceChildren(
      ...drawings.map((drawing, place) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        button.type = "button";
        button.title = "Remove";
        button.setAttribute("aria-label", `Remove example ${place + 1}`);
        const canvas = document.createElement("canvas");
        paint(canvas, [prepared(drawing)], size);
        button.append(canvas);
        button.addEventListener("click", () => {
          drawings = drawings.filter((other) => other !== drawing);
          showExamples();
          say(`Example ${place + 1} is removed; ${drawings.length} left.`);
          (find(".pg-examples button") ?? pad.canvas).focus();
        });
        item.append(button);
        return item;
      }),
    );
  }

  function add() {
    if (pad.empty) return say("The pad is empty: draw something first.");
    if (drawings.length >= MOST) return say(`There are ${MOST} examples: remove one first.`);
    drawings.push({ strokes: pad.strokes });
    pad.clear();
    showExamples();
    say(`Example ${drawings.length} of at most ${MOST}.`);
  }

  // --- the inner loop --------------------------------------------------------

  let run = 0; // the number of the latest; an older one stops
  let results = null; // {support, rows: name → [{samples, losses}, …]}

  async function adapt() {
    const mine = ++run;
    if (!pad.empty && drawings.length < MOST) add();
    if (!drawings.length) return say("Give at least one example: draw it, or take a character's.");
    const chosen = settings();
    const [steps, fakes] = [Number(chosen.steps), Number(chosen.fakes)];
    const random = uniform(Number(chosen.seed));
    const z = normal(random, SHOWN, about.latent);
    const noise = Array.from({ length: steps }, () => ({
      D: normal(random, fakes, about.latent),
      G: normal(random, fakes, about.latent),
    }));
    const support = drawings.slice(0, chosen.shots).map(prepared);
    const loops = Object.keys(ROWS).map((name) => {
      const factor = about.factors[name];
      return adaptationSteps(players, starts[name], stack(support), {
        noise,
        rates: { D: factor * chosen.rateD, G: factor * chosen.rateG },
        decay: about.decay,
        trainedSteps: about.trainedSteps,
        simultaneous: chosen.order === "simultaneous",
        kind: chosen.loss,
      });
    });
    results = { support, rows: Object.fromEntries(Object.keys(ROWS).map((name) => [name, []])) };
    find(".pg-results").hidden = false;
    find(".pg-link").hidden = true;
    for (let step = 0; step <= steps; step++) {
      Object.keys(ROWS).forEach((name, place) => {
        const { params, losses } = loops[place].next().value;
        results.rows[name].push({ samples: players.G(params.G, z).data, losses });
      });
      slider.max = step; // before the value, which may not be above it
      slider.value = step;
      showResults();
      await new Promise((done) => setTimeout(done)); // the browser shows the step
      if (mine !== run) return;
    }
    say(`Adapted to ${support.length} example${support.length > 1 ? "s" : ""} in ${steps} steps.`);
    root.dispatchEvent(new CustomEvent("adapted", { detail: results }));
  }

  // --- the results -----------------------------------------------------------

  const slider = find("[name=step]");
  const nearest = find("[name=nearest]");
  const rows = Object.fromEntries(
    Object.entries(ROWS).map(([name, title]) => {
      const figure = document.createElement("figure");
      const factor = about.factors[name];
      figure.innerHTML = `<figcaption><b>${title}</b><span></span></figcaption>
        <canvas role="img"></canvas>`;
      figure.querySelector("b").textContent += factor === 1 ? "" : ` (rates × ${factor})`;
      find(".pg-rows").append(figure);
      return [name, figure];
    }),
  );

  function showResults() {
    const step = Number(slider.value);
    find(".pg-step output").textContent = `${step} of ${slider.max}`;
    for (const [name, figure] of Object.entries(rows)) {
      const { samples, losses } = results.rows[name][step];
      const images = split(samples, size ** 2);
      const finite = samples.every(Number.isFinite);
      const below = nearest.checked && finite ? images.map((x) => closest(x, results.support)) : [];
      const canvas = figure.querySelector("canvas");
      const columns = root.clientWidth < 500 ? SHOWN / 2 : SHOWN; // on a phone, two lines
      const lines = [];
      for (let from = 0; from < SHOWN; from += columns)
        for (const shown of [images, below]) lines.push(...shown.slice(from, from + columns));
      paint(canvas, lines, size, columns);
      canvas.setAttribute(
        "aria-label",
        `${SHOWN} samples of ${ROWS[name]} after step ${step}` +
          (below.length ? ", and the nearest example of each" : ""),
      );
      figure.querySelector("span").textContent = !finite
        ? "diverged: lower the rates"
        : losses
          ? `loss of D ${losses.D.toFixed(3)}, of G ${losses.G.toFixed(3)}`
          : "before the first step";
    }
  }

  // The three rows as they are shown, on one canvas.
  function picture(scale) {
    const canvases = Object.values(rows).map((figure) => figure.querySelector("canvas"));
    const label = 7 * scale;
    const whole = document.createElement("canvas");
    whole.width = canvases[0].width * scale;
    whole.height = canvases.reduce((sum, { height }) => sum + height * scale + label, 0);
    const context = whole.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.fillStyle = "white";
    context.fillRect(0, 0, whole.width, whole.height);
    context.fillStyle = "black";
    context.font = `${5 * scale}px sans-serif`;
    let top = 0;
    Object.values(ROWS).forEach((title, place) => {
      const { width, height } = canvases[place];
      context.fillText(`${title}, step ${slider.value}`, scale, top + 5 * scale);
      context.drawImage(canvases[place], 0, top + label, width * scale, height * scale);
      top += label + height * scale;
    });
    return whole;
  }

  function save(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    URL.revokeObjectURL(link.href);
  }

  function animation() {
    const shown = slider.value;
    const frames = [];
    let whole;
    for (let step = 0; step <= slider.max; step++) {
      slider.value = step;
      showResults();
      whole = picture(3);
      const { width, height } = whole;
      const { data } = whole.getContext("2d").getImageData(0, 0, width, height);
      frames.push(data.filter((_, place) => place % 4 === 0));
    }
    slider.value = shown;
    showResults();
    const delays = frames.map((_, step) => (step < frames.length - 1 ? 50 : 200));
    const bytes = gif(frames, whole.width, whole.height, delays);
    save(new Blob([bytes], { type: "image/gif" }), "meta-gan.gif");
  }

  function share() {
    const address = new URL(location.href);
    address.hash = encode(drawings, settings());
    history.replaceState(null, "", address);
    const field = find(".pg-link");
    field.hidden = false;
    field.querySelector("input").value = address.href;
    field.querySelector("input").select();
    say("The link is in the field below, and in the address of this page.");
  }

  // --- what is pressed -------------------------------------------------------

  const actions = {
    add,
    undo: () => pad.undo(),
    clear: () => pad.clear(),
    empty() {
      drawings = [];
      showExamples();
      say("No example.");
    },
    take() {
      const character = Number(find("[name=character]").value);
      const count = tensors[`drawings.${character}`].rows;
      drawings = Array.from({ length: count }, (_, number) => ({ stored: [character, number] }));
      showExamples();
      say(`${count} drawings of ${about.characters[character]}.`);
    },
    noise() {
      form.elements.seed.value = Math.floor(Math.random() * 1e6);
      form.requestSubmit();
    },
    reset: () => set(defaults),
    link: share,
    png: () => picture(4).toBlob((blob) => save(blob, "meta-gan.png")),
    gif: animation,
  };
  for (const button of root.querySelectorAll("[data-do]"))
    button.addEventListener("click", () => actions[button.dataset.do]());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    adapt();
  });
  slider.addEventListener("input", showResults);
  nearest.addEventListener("change", showResults);

  if (location.hash.includes("drawn=")) {
    try {
      const counts = about.characters.map((_, i) => tensors[`drawings.${i}`].rows);
      const shared = decode(location.hash.slice(1), counts);
      drawings = shared.drawings;
      set(shared.settings);
      form.requestSubmit();
    } catch (error) {
      say(`This link cannot be read: ${error.message}. Ask for it again, or draw.`);
    }
  }
  showExamples();
}

const split = (pixels, length) =>
  Array.from({ length: pixels.length / length }, (_, i) =>
    pixels.subarray(i * length, (i + 1) * length));

const distance = (a, b) => a.reduce((sum, value, i) => sum + (value - b[i]) ** 2, 0);

function closest(image, others) {
  return others.reduce((best, other) =>
    distance(image, other) < distance(image, best) ? other : best);
}

// Images in [−1, 1], side by side, a pixel apart.
function paint(canvas, images, size, columns = images.length) {
  canvas.width = columns * (size + 1) - 1;
  canvas.height = Math.ceil(images.length / columns) * (size + 1) - 1;
  const context = canvas.getContext("2d");
  images.forEach((image, place) => {
    const ink = Float32Array.from(image, (value) => (value + 1) / 2);
    const [row, column] = [Math.floor(place / columns), place % columns];
    context.putImageData(inkImage(ink, size), column * (size + 1), row * (size + 1));
  });
}
