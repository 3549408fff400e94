// The explorer: a pad, the examples, the settings, and rows of samples that adapt to them.
//
// An engine computes. It has
//   about: {size, channels} of an image; rows, each {name, title, factor} with the factor
//     of its inner rates; characters, each {name, count} with the number of its drawings;
//     losses, their names; defaults, a value for each field of the form; relative, whether
//     the inner rates are factors of each row's own;
//   prepare(drawings): the images of drawings, each {strokes} or {stored: [character,
//     number]}; an image is channels · size² numbers in [−1, 1];
//   run(support, settings, shown): yields at the start and after each step
//     {row → {samples: of `shown` images, losses: {D, G}, null at the start}};
//   link: {encode, decode}, if an address can hold drawings and settings.
// What prepare returns and run yields may be promised.

import { drawLosses, lossRange } from "./curves.js";
import { gif } from "./gif.js";
import { Pad } from "./pad.js";

const MOST = 10; // examples
const SHOWN = 10; // samples of a row
const NARROW = 500; // CSS pixels: on a phone, two lines of samples

let explorers = 0; // in this document, so that no two share an id

const body = (id, rates) => `
  <section class="pg-draw" aria-labelledby="${id}-draw">
    <h2 id="${id}-draw">Your examples</h2>
    <div class="pg-columns">
      <div>
        <canvas class="pg-pad" tabindex="0" role="application" aria-describedby="${id}-keys"
          aria-label="Drawing pad"></canvas>
        <p id="${id}-keys">Draw with a mouse, a finger or a pen. With keys: the arrows move
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
      <label>${rates} of <i>G</i>
        <input type="number" name="rateG" min="0.001" max="5" step="any" required></label>
      <label>${rates} of <i>D</i>
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
      <button type="button" data-do="reset">First settings</button>
    </div>
  </form>
  <p class="pg-said" role="status"></p>
  <section class="pg-results" aria-labelledby="${id}-results" hidden>
    <h2 id="${id}-results">What they draw</h2>
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

// Build it into `root`. When a run is complete, `root` gets the event "adapted", with
// {support, rows: name → [{samples, losses}, …]}.
export function explore(root, engine) {
  const { size, channels, characters, defaults, losses, relative } = engine.about;
  const pixels = channels * size ** 2;

  root.classList.add("pg");
  root.classList.toggle("pg-colour", channels > 1);
  root.innerHTML = body(`pg-${++explorers}`, relative ? "Factor of the rates" : "Inner rate");
  const find = (css) => root.querySelector(css);
  const form = find("form");
  const say = (text) => (find(".pg-said").textContent = text);
  // What goes wrong in `act` is said, whether at once or later.
  const attempt = (act) => async (...given) => {
    try {
      await act(...given);
    } catch (error) {
      say(error.message);
    }
  };
  form.elements.loss.append(...losses.map((name) => new Option(name)));
  find("[name=character]").append(...characters.map(({ name }, place) => new Option(name, place)));
  find("[data-do=link]").hidden = !engine.link;

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

  let examples = []; // {drawing, image}
  const pad = new Pad(find(".pg-pad"), say);

  async function prepare(drawings) {
    const images = await engine.prepare(drawings);
    return drawings.map((drawing, place) => ({ drawing, image: images[place] }));
  }

  function showExamples() {
    find(".pg-none").hidden = examples.length > 0;
    find(".pg-examples").replaceChildren(
      ...examples.map((example, place) => {
        const item = document.createElement("li");
        const button = document.createElement("button");
        button.type = "button";
        button.title = "Remove";
        button.setAttribute("aria-label", `Remove example ${place + 1}`);
        const canvas = document.createElement("canvas");
        paint(canvas, [example.image], size);
        button.append(canvas);
        button.addEventListener("click", () => {
          examples = examples.filter((other) => other !== example);
          showExamples();
          say(`Example ${place + 1} is removed; ${examples.length} left.`);
          (find(".pg-examples button") ?? pad.canvas).focus();
        });
        item.append(button);
        return item;
      }),
    );
  }

  async function add() {
    if (pad.empty) return say("The pad is empty: draw something first.");
    if (examples.length >= MOST) return say(`There are ${MOST} examples: remove one first.`);
    const { strokes } = pad;
    pad.clear(); // before it is prepared, or a second press would add it again
    examples.push(...(await prepare([{ strokes }])));
    showExamples();
    say(`Example ${examples.length} of at most ${MOST}.`);
  }

  // --- the inner loop --------------------------------------------------------

  let run = 0; // the number of the latest; an older one stops
  let results = null; // {support, steps, rows: name → [{samples, losses}, …]}

  async function adapt() {
    const mine = ++run;
    if (!pad.empty && examples.length < MOST) await add();
    if (!examples.length) return say("Give at least one example: draw it, or take a character's.");
    const chosen = settings();
    const steps = Number(chosen.steps);
    const support = examples.slice(0, chosen.shots).map(({ image }) => image);
    say("Adapting …");
    let fresh = null; // shown once there is something to show
    for await (const states of engine.run(support, chosen, SHOWN)) {
      if (mine !== run) return;
      fresh ??= { support, steps, rows: Object.fromEntries(names.map((name) => [name, []])) };
      for (const name of names) fresh.rows[name].push(states[name]);
      results = fresh;
      find(".pg-results").hidden = false;
      find(".pg-link").hidden = true;
      const step = fresh.rows[names[0]].length - 1;
      slider.max = step; // before the value, which may not be above it
      slider.value = step;
      showResults();
      await new Promise((done) => setTimeout(done)); // the browser shows the step
      if (mine !== run) return;
    }
    say(`Adapted to ${support.length} example${support.length > 1 ? "s" : ""} in ${steps} steps.`);
    root.dispatchEvent(new CustomEvent("adapted", { detail: results, bubbles: true }));
  }

  // --- the results -----------------------------------------------------------

  const slider = find("[name=step]");
  const nearest = find("[name=nearest]");
  const names = engine.about.rows.map(({ name }) => name);
  const figures = engine.about.rows.map(({ name, title, factor }) => {
    const figure = document.createElement("figure");
    figure.innerHTML = `<figcaption><b></b><span></span></figcaption>
      <canvas role="img"></canvas><svg class="pg-losses"></svg>`;
    figure.querySelector("b").textContent = title + (factor === 1 ? "" : ` (rates × ${factor})`);
    find(".pg-rows").append(figure);
    return { name, title, figure };
  });

  function showResults() {
    const step = Number(slider.value);
    find(".pg-step output").textContent = `${step} of ${slider.max}`;
    const range = lossRange(Object.values(results.rows));
    for (const { name, title, figure } of figures) {
      const { samples, losses } = results.rows[name][step];
      const images = split(samples, pixels);
      const finite = samples.every(Number.isFinite);
      const below = nearest.checked && finite ? images.map((x) => closest(x, results.support)) : [];
      const canvas = figure.querySelector("canvas");
      const columns = root.clientWidth < NARROW ? SHOWN / 2 : SHOWN;
      const lines = [];
      for (let from = 0; from < SHOWN; from += columns)
        for (const shown of [images, below]) lines.push(...shown.slice(from, from + columns));
      paint(canvas, lines, size, columns);
      canvas.setAttribute(
        "aria-label",
        `${SHOWN} samples of ${title} after step ${step}` +
          (below.length ? ", and the nearest example of each" : ""),
      );
      figure.querySelector("span").textContent = !finite
        ? "diverged: lower the rates"
        : losses
          ? `loss of D ${losses.D.toFixed(3)}, of G ${losses.G.toFixed(3)}`
          : "before the first step";
      drawLosses(figure.querySelector("svg"), results.rows[name], {
        step, range, title, steps: results.steps,
      });
    }
  }

  // The rows as they are shown, on one canvas.
  function picture(scale) {
    const canvases = figures.map(({ figure }) => figure.querySelector("canvas"));
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
    figures.forEach(({ title }, place) => {
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
    address.hash = engine.link.encode(examples.map(({ drawing }) => drawing), settings());
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
      examples = [];
      showExamples();
      say("No example.");
    },
    async take() {
      const character = Number(find("[name=character]").value);
      const { name, count } = characters[character];
      examples = await prepare(
        Array.from({ length: count }, (_, number) => ({ stored: [character, number] })));
      showExamples();
      say(`${count} drawings of ${name}.`);
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
    button.addEventListener("click", attempt(actions[button.dataset.do]));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(adapt)();
  });
  slider.addEventListener("input", showResults);
  nearest.addEventListener("change", showResults);

  async function open(text) {
    try {
      const shared = engine.link.decode(text);
      examples = await prepare(shared.drawings);
      set(shared.settings);
      showExamples();
    } catch (error) {
      return say(`This link cannot be read: ${error.message}. Ask for it again, or draw.`);
    }
    form.requestSubmit();
  }

  showExamples();
  if (engine.link && location.hash.includes("drawn=")) open(location.hash.slice(1));
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
    const [row, column] = [Math.floor(place / columns), place % columns];
    context.putImageData(pixelsOf(image, size), column * (size + 1), row * (size + 1));
  });
}

// One image, grey or in three channels one after another: paper −1 is white, ink 1 black.
function pixelsOf(image, size) {
  const shown = new ImageData(size, size);
  const next = image.length > size ** 2 ? size ** 2 : 0; // from channel to channel
  for (let place = 0; place < size ** 2; place++)
    for (let c = 0; c < 4; c++)
      shown.data[4 * place + c] = c < 3 ? 255 * (1 - image[place + c * next]) / 2 : 255;
  return shown;
}
