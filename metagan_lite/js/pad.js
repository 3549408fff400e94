// A pad to draw on, with mouse, touch, pen or keys. A drawing is a list of strokes, a
// stroke a list of points [x, y], whole numbers from 0 to SIDE − 1.

export const SIDE = 105; // pixels of an Omniglot drawing
export const PEN = 2; // half its width, which makes strokes as wide as Omniglot's
const FINE = 4; // pixels of the canvas for each of SIDE
const APART = 2; // pixels between points of a stroke, at least
const STRIDE = 5; // pixels that an arrow key moves the pen
export const MOST_POINTS = 250; // of a stroke; a longer one goes on as the next
const MOST_STROKES = 250; // as link.js has a byte for each number
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

const within = (v) => Math.min(Math.max(Math.round(v), 0), SIDE - 1);

export class Pad {
  #pointer = null; // the finger, mouse or pen that draws

  // `changed` is called after each change with what a screen reader should say. `pen` is
  // half the width of the strokes that are shown.
  constructor(canvas, changed, { pen = PEN } = {}) {
    Object.assign(this, { canvas, changed, width: 2 * pen, strokes: [], down: false });
    this.pen = [Math.floor(SIDE / 2), Math.floor(SIDE / 2)];
    canvas.width = canvas.height = SIDE * FINE;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.#pointer !== null) return;
      event.preventDefault(); // no scrolling, no selection
      canvas.focus({ preventScroll: true });
      this.#pointer = event.pointerId;
      canvas.setPointerCapture(this.#pointer);
      this.down = false; // if the keys' pen was down, no line leads here
      this.moveTo(this.#place(event));
      this.#lower();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerId !== this.#pointer || !this.down) return;
      const between = event.getCoalescedEvents?.() ?? [];
      for (const one of between.length ? between : [event]) this.moveTo(this.#place(one));
    });
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, (event) => {
        if (event.pointerId !== this.#pointer) return;
        this.#pointer = null;
        this.#lift();
      });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const turn of ["focus", "blur"]) canvas.addEventListener(turn, () => this.draw());
    this.draw();
  }

  get empty() {
    return this.strokes.length === 0;
  }

  undo() {
    this.strokes.pop();
    this.#lift("The last stroke is gone.");
  }

  clear() {
    this.strokes = [];
    this.#lift("The pad is empty.");
  }

  // Move the pen; while it is down it draws.
  moveTo([x, y]) {
    this.pen = [x, y];
    const stroke = this.strokes.at(-1);
    if (this.down) {
      const [lastX, lastY] = stroke.at(-1);
      if (Math.hypot(x - lastX, y - lastY) < APART) return;
      stroke.push([x, y]);
      if (stroke.length >= MOST_POINTS) this.#lower();
    }
    this.draw();
  }

  draw() {
    const picture = this.canvas.getContext("2d");
    picture.setTransform(FINE, 0, 0, FINE, 0, 0);
    picture.fillStyle = "white";
    picture.fillRect(0, 0, SIDE, SIDE);
    inkStrokes(picture, this.strokes, this.width);
    if (this.canvas.getRootNode().activeElement !== this.canvas) return;
    picture.lineWidth = 1;
    const [x, y] = this.pen;
    picture.strokeStyle = this.down ? "#b00020" : "#1a5fb4";
    picture.strokeRect(x - 3.5, y - 3.5, 8, 8);
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [
      within(((event.clientX - box.left) / box.width) * SIDE - 0.5),
      within(((event.clientY - box.top) / box.height) * SIDE - 0.5),
    ];
  }

  #lower() {
    this.down = this.strokes.length < MOST_STROKES;
    if (this.down) this.strokes.push([this.pen]);
    this.draw();
    this.changed(this.down ? "Pen down." : "The drawing is full: add it, or undo a stroke.");
  }

  #lift(said = "") {
    this.down = false;
    this.draw();
    this.changed(said);
  }

  #key(event) {
    const move = MOVES[event.key];
    if (move) {
      const far = event.shiftKey ? 1 : STRIDE;
      this.moveTo([within(this.pen[0] + far * move[0]), within(this.pen[1] + far * move[1])]);
      this.changed(`Pen ${this.down ? "down" : "up"} at ${this.pen.join(", ")}.`);
    } else if (event.key === " ") {
      if (this.down) this.#lift("Pen up.");
      else this.#lower();
    } else if (event.key === "Backspace") this.undo();
    else return;
    event.preventDefault();
    event.stopPropagation(); // a notebook has shortcuts of its own on these keys
  }
}

// Strokes as round lines of that width, in the units of their points.
export function inkStrokes(picture, strokes, width) {
  picture.lineWidth = width;
  picture.lineCap = picture.lineJoin = "round";
  picture.strokeStyle = "black";
  for (const stroke of strokes) {
    picture.beginPath();
    for (const [x, y] of [stroke[0], ...stroke]) picture.lineTo(x + 0.5, y + 0.5);
    picture.stroke();
  }
}
