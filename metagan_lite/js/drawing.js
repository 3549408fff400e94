// The drawing pad of metagan_lite.drawing: a pad, and shelves of what is kept.
//
// The model holds `names`, `goal` and `drawings`: name -> list of drawings, each a list
// of strokes, each a list of [x, y] in the unit square with y downwards. What is being
// drawn is kept here until it is kept for good.

import { Pad, SIDE, inkStrokes } from "./pad.js";

const WIDTH = 240; // CSS pixels of the pad
const SMALL = 36; // of a drawing that is kept
const BROAD = 0.036 * SIDE; // half a pen's width: of the images, where a drawing fills the side

// --- pure functions, tested without a page ---------------------------------------

/** Strokes of the pad in the unit square, rounded: what is sent to Python. */
export function inUnits(strokes) {
  const unit = (value) => Math.round(((value + 0.5) / SIDE) * 1000) / 1000;
  return strokes.map((stroke) => stroke.map(([x, y]) => [unit(x), unit(y)]));
}

/** Whether there is a line in it: a lone dot cannot be scaled to an image. */
export function drawn(strokes) {
  const points = strokes.flat();
  return points.some(([x, y]) => x !== points[0][0] || y !== points[0][1]);
}

/** The drawings with one more of `name`; nothing is changed in place. */
export function keep(drawings, name, strokes) {
  return { ...drawings, [name]: [...(drawings[name] || []), strokes] };
}

/** The drawings without the last `count` of `name`. */
export function drop(drawings, name, count) {
  const own = drawings[name] || [];
  return { ...drawings, [name]: own.slice(0, Math.max(0, own.length - count)) };
}

/** How many drawings there are, in words for the status line. */
export function count(drawings, name, goal) {
  return `${(drawings[name] || []).length} of ${goal} drawings of ${name}`;
}

// --- the widget ---------------------------------------------------------------------

function canvasOf(side, label) {
  const element = document.createElement("canvas");
  element.style.cssText =
    `width:${side}px;height:${side}px;background:#fff;border:1px solid #767676;`;
  element.setAttribute("aria-label", label);
  return element;
}

/** A drawing that is kept, as a small picture. */
function picture(strokes, label) {
  const element = canvasOf(SMALL, label);
  element.setAttribute("role", "img");
  const scale = SMALL * (globalThis.devicePixelRatio || 1);
  element.width = element.height = scale;
  const context = element.getContext("2d");
  context.scale(scale / SIDE, scale / SIDE);
  const places = strokes.map((s) => s.map(([x, y]) => [x * SIDE - 0.5, y * SIDE - 0.5]));
  inkStrokes(context, places, 2 * BROAD);
  return element;
}

export function render({ model, el }) {
  const make = (tag, text) => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    return element;
  };
  const button = (text, act) => {
    const element = make("button", text);
    element.type = "button";
    element.style.cssText = "margin:2px;padding:4px 8px;font:inherit;";
    element.addEventListener("click", act);
    return element;
  };

  const label = make("label", "Character: ");
  const chooser = make("select");
  chooser.style.font = "inherit";
  label.append(chooser);
  const paper = canvasOf(WIDTH, "");
  paper.tabIndex = 0;
  paper.setAttribute("role", "application"); // arrow keys are the pen's
  paper.style.touchAction = "none"; // a finger draws, and does not scroll
  paper.style.cursor = "crosshair";
  paper.style.display = "block";
  paper.style.margin = "4px 0";
  const status = make("div");
  status.setAttribute("role", "status");
  const shelf = make("div");
  shelf.style.cssText = "display:flex;flex-wrap:wrap;gap:2px;max-width:480px;";
  const help = make(
    "div",
    "Draw with a mouse, a finger or a pen. Keys on the pad: arrows move the pen (with " +
      "Shift a little), Space sets it down or lifts it, Enter keeps the drawing, " +
      "Backspace takes a stroke back.",
  );
  help.style.cssText = "font-size:0.85em;max-width:480px;";

  const name = () => chooser.value;
  const store = (drawings) => {
    model.set("drawings", drawings);
    model.save_changes();
  };
  const say = (text) => {
    status.textContent = text;
  };

  const pad = new Pad(paper, (text) => say(text || standing()), { pen: BROAD });

  function standing() {
    return `${count(model.get("drawings"), name(), model.get("goal"))} are kept.`;
  }

  function show() {
    const drawings = model.get("drawings");
    const chosen = name() || model.get("names")[0];
    chooser.replaceChildren(
      ...model.get("names").map((option) => {
        const element = make(
          "option",
          `${option} (${(drawings[option] || []).length})`,
        );
        element.value = option;
        return element;
      }),
    );
    chooser.value = chosen;
    paper.setAttribute("aria-label", `Pad for a drawing of ${chosen}`);
    shelf.replaceChildren(
      ...(drawings[chosen] || []).map((kept, i) =>
        picture(kept, `drawing ${i + 1} of ${chosen}`),
      ),
    );
    say(standing());
  }

  function keepDrawing() {
    const strokes = inUnits(pad.strokes);
    if (!drawn(strokes)) {
      say("Draw a line first.");
      return;
    }
    pad.clear();
    store(keep(model.get("drawings"), name(), strokes));
  }

  paper.addEventListener("keydown", (event) => {
    if (event.key === "Enter") keepDrawing();
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) pad.undo();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  chooser.addEventListener("change", () => {
    pad.clear();
    show();
  });

  const tools = make("div");
  tools.append(
    button("Undo stroke", () => pad.undo()),
    button("Clear", () => pad.clear()),
    button("Keep drawing", keepDrawing),
    button("Remove last kept", () => store(drop(model.get("drawings"), name(), 1))),
    button("Remove all kept", () =>
      store(drop(model.get("drawings"), name(), Infinity)),
    ),
  );
  el.append(label, paper, tools, status, shelf, help);
  show();
  model.on("change:drawings", show);
  model.on("change:names", show);
  return () => {
    model.off("change:drawings", show);
    model.off("change:names", show);
  };
}
