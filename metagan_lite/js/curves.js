// Small curves of both players' losses over the inner steps, as SVG.

const VIEW = { width: 320, height: 96 };
const FRAME = { left: 40, right: 302, top: 8, bottom: 78 };
const FAR = 10; // a loss beyond this, of either sign, is drawn at the edge
const LABEL = 11; // height of a letter: names of curves are kept so far apart

const rounded = (numbers) => numbers.map((number) => number.toFixed(1)).join(",");
const clip = (value) => Math.min(Math.max(value, -FAR), FAR);

// The smallest and the largest loss of some rows' states, for a common scale.
export function lossRange(rows) {
  const values = rows
    .flatMap((states) => states.map(({ losses }) => losses ?? {}))
    .flatMap(({ D, G }) => [D, G])
    .filter(Number.isFinite)
    .map(clip);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  if (high - low > 0.01) return [low, high];
  return values.length ? [low - 0.5, high + 0.5] : [0, 1];
}

// Draw into `svg` the losses of `states`, one for each step so far, of `steps` to come;
// `step` is marked. `title` says whose they are.
export function drawLosses(svg, states, { step, steps, range: [low, high], title }) {
  const { left, right, top, bottom } = FRAME;
  const x = (place) => left + ((right - left) * (place - 1)) / Math.max(steps - 1, 1);
  const y = (loss) => bottom - ((bottom - top) * (clip(loss) - low)) / (high - low);
  const at = (place, player) => states[place].losses[player];
  const places = states.map((_, place) => place).slice(1);

  const curve = (player) => {
    const known = places.filter((place) => Number.isFinite(at(place, player)));
    const points = known.map((place) => [x(place), y(at(place, player))]);
    return { points: points.map(rounded).join(" "), end: points.at(-1) };
  };
  const found = { D: curve("D"), G: curve("G") };
  const names = Object.entries(found).flatMap(([player, { end }]) =>
    end ? [{ player, x: end[0] + 6, y: end[1] + 4 }] : []);
  if (names.length === 2) {
    const [upper, lower] = [...names].sort((a, b) => a.y - b.y);
    const push = Math.max(0, LABEL - (lower.y - upper.y)) / 2;
    upper.y = Math.max(upper.y - push, LABEL);
    lower.y = Math.max(lower.y + push, upper.y + LABEL);
  }

  const marks = [];
  if (step > 0) {
    marks.push(`<path class="pg-now" d="M${x(step)} ${top - 4}V${bottom + 4}"/>`);
    const [d, g] = [at(step, "D"), at(step, "G")];
    if (Number.isFinite(d))
      marks.push(`<circle class="pg-D" cx="${x(step)}" cy="${y(d)}" r="4"/>`);
    if (Number.isFinite(g))
      marks.push(
        `<rect class="pg-G" x="${x(step) - 3.5}" y="${y(g) - 3.5}" width="7" height="7"/>`);
  }
  const most = `${high < FAR ? "" : "≥ "}${high.toFixed(1)}`;
  const least = `${low > -FAR ? "" : "≤ "}${low.toFixed(1)}`;
  svg.setAttribute("viewBox", `0 0 ${VIEW.width} ${VIEW.height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", inWords(states, steps, title));
  svg.innerHTML = `
    <path class="pg-frame" d="M${left} ${top}V${bottom}H${right}"/>
    <text x="${left - 4}" y="${top + 4}" text-anchor="end">${most}</text>
    <text x="${left - 4}" y="${bottom + 4}" text-anchor="end">${least}</text>
    <text x="${left}" y="${VIEW.height - 4}" text-anchor="middle">1</text>
    <text x="${(left + right) / 2}" y="${VIEW.height - 4}" text-anchor="middle">step</text>
    <text x="${right}" y="${VIEW.height - 4}" text-anchor="middle">${steps}</text>
    <polyline class="pg-D" points="${found.D.points}"/>
    <polyline class="pg-G" points="${found.G.points}"/>
    ${marks.join("")}
    ${names.map(({ player, x, y }) =>
      `<text class="pg-${player}" x="${x}" y="${y}">${player}</text>`).join("")}`;
}

function inWords(states, steps, title) {
  const last = states.length - 1;
  if (last < 1) return `Losses of ${title}: before the first of ${steps} steps`;
  const say = (value) => (Number.isFinite(value) ? value.toFixed(2) : "no number");
  const way = (player) =>
    `of ${player} from ${say(states[1].losses[player])} to ${say(states[last].losses[player])}`;
  return `Losses of ${title} at steps 1 to ${last}: ${way("D")}, ${way("G")}`;
}
