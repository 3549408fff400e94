// The drawing pad of metagan_lite.drawing, an anywidget without dependencies.
//
// The model holds `names`, `goal` and `drawings`: name -> list of drawings, each a list
// of strokes, each a list of [x, y] in the unit square with y downwards. What is being
// drawn is kept here until it is kept for good.

const SIDE = 240; // CSS pixels of the pad
const STEP = 1 / 24; // what an arrow key moves the pen by
const NEAR = 0.01; // points closer than this to the one before are left out

// --- pure functions, tested without a page ---------------------------------------

/** A place on the pad in the unit square, rounded: what is sent to Python. */
export function place(x, y, box) {
  const unit = (value, start, length) =>
    Math.round(Math.min(1, Math.max(0, (value - start) / length)) * 1000) / 1000;
  return [unit(x, box.left, box.width), unit(y, box.top, box.height)];
}

/** The stroke with one more point, unless the pen has hardly moved. */
export function extend(stroke, point) {
  const last = stroke[stroke.length - 1];
  if (last && Math.hypot(point[0] - last[0], point[1] - last[1]) < NEAR) return stroke;
  return [...stroke, point];
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

/** Where the pen is after an arrow key. */
export function move(pen, key) {
  const [dx, dy] = {
    ArrowLeft: [-STEP, 0],
    ArrowRight: [STEP, 0],
    ArrowUp: [0, -STEP],
    ArrowDown: [0, STEP],
  }[key];
  const inside = (value) => Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;
  return [inside(pen[0] + dx), inside(pen[1] + dy)];
}

/** How many drawings there are, in words for the status line. */
export function count(drawings, name, goal) {
  return `${(drawings[name] || []).length} of ${goal} drawings of ${name}`;
}

// --- the pad ------------------------------------------------------------------------

function ink(context, strokes, side, width) {
  context.lineWidth = width;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = "#111";
  for (const stroke of strokes) {
    context.beginPath();
    context.moveTo(stroke[0][0] * side, stroke[0][1] * side);
    for (const [x, y] of stroke.slice(1)) context.lineTo(x * side, y * side);
    if (stroke.length === 1) context.lineTo(stroke[0][0] * side, stroke[0][1] * side);
    context.stroke();
  }
}

function canvas(side, label) {
  const element = document.createElement("canvas");
  const scale = globalThis.devicePixelRatio || 1;
  element.width = element.height = side * scale;
  element.style.cssText =
    `width:${side}px;height:${side}px;background:#fff;border:1px solid #767676;`;
  element.setAttribute("aria-label", label);
  const context = element.getContext("2d");
  context.scale(scale, scale);
  return [element, context];
}

function render({ model, el }) {
  let strokes = []; // of the drawing that is not kept yet
  let pen = [0.5, 0.5]; // of the keyboard
  let down = false; // whether the keyboard's pen touches the paper
  let pointer = null; // the finger, mouse or pen that draws

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
  const [paper, context] = canvas(SIDE, "");
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
    "Draw with a mouse, a finger or a pen. Keys on the pad: arrows move the pen, Space " +
      "sets it down or lifts it, Enter keeps the drawing, Backspace takes a stroke back.",
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

  function draw() {
    context.clearRect(0, 0, SIDE, SIDE);
    ink(context, strokes, SIDE, 0.12 * SIDE * 0.6);
    if (document.activeElement === paper || el.getRootNode().activeElement === paper) {
      const [x, y] = [pen[0] * SIDE, pen[1] * SIDE];
      context.lineWidth = 2;
      context.strokeStyle = down ? "#D55E00" : "#0072B2";
      context.beginPath();
      context.arc(x, y, down ? 5 : 8, 0, 2 * Math.PI);
      context.stroke();
    }
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
      ...(drawings[chosen] || []).map((kept, i) => {
        const [small, pencil] = canvas(36, `drawing ${i + 1} of ${chosen}`);
        small.setAttribute("role", "img");
        ink(pencil, kept, 36, 3);
        return small;
      }),
    );
    say(`${count(drawings, chosen, model.get("goal"))} are kept.`);
    draw();
  }

  function undo() {
    strokes = strokes.slice(0, -1);
    down = false;
    draw();
  }
  function clear() {
    strokes = [];
    down = false;
    draw();
  }
  function keepDrawing() {
    if (!drawn(strokes)) {
      say("Draw a line first.");
      return;
    }
    const finished = strokes;
    clear();
    store(keep(model.get("drawings"), name(), finished));
  }

  paper.addEventListener("pointerdown", (event) => {
    if (pointer !== null || event.button !== 0) return;
    pointer = event.pointerId;
    down = false;
    paper.focus();
    paper.setPointerCapture(pointer);
    strokes = [
      ...strokes,
      [place(event.clientX, event.clientY, paper.getBoundingClientRect())],
    ];
    draw();
    event.preventDefault();
  });
  paper.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const box = paper.getBoundingClientRect();
    // A pen reports more often than the page draws.
    const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
    for (const { clientX, clientY } of all.length ? all : [event]) {
      const last = strokes[strokes.length - 1];
      strokes[strokes.length - 1] = extend(last, place(clientX, clientY, box));
    }
    draw();
  });
  const lift = (event) => {
    if (event.pointerId === pointer) pointer = null;
  };
  paper.addEventListener("pointerup", lift);
  paper.addEventListener("pointercancel", lift);

  paper.addEventListener("keydown", (event) => {
    const { key } = event;
    if (key.startsWith("Arrow")) {
      pen = move(pen, key);
      if (down) {
        const last = strokes[strokes.length - 1];
        strokes[strokes.length - 1] = extend(last, pen);
      }
    } else if (key === " ") {
      down = !down;
      if (down) strokes = [...strokes, [pen]];
    } else if (key === "Enter") keepDrawing();
    else if (key === "Backspace" || (key === "z" && (event.ctrlKey || event.metaKey)))
      undo();
    else return;
    // The notebook has shortcuts of its own on these keys.
    event.preventDefault();
    event.stopPropagation();
    draw();
  });
  paper.addEventListener("focus", draw);
  paper.addEventListener("blur", draw);
  chooser.addEventListener("change", () => {
    clear();
    show();
  });

  const tools = make("div");
  tools.append(
    button("Undo stroke", undo),
    button("Clear", clear),
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

export default { render };
