// Puts points on a plane with mouse, touch, pen or keys: a few around each place, as a
// spray does.

import { REACH } from "./plane.js";

const SPACING = 0.05; // between two places of a stroke, at least
const PACE = 0.1; // that an arrow key moves the brush
const ARROWS = {
  ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1],
};
const inPlane = (v) => Math.min(Math.max(v, -REACH), REACH);

export class Brush {
  // put(x, y, first) puts points, `first` of a stroke; back() takes the last stroke away.
  // moved(said) is called when the brush has moved by keys.
  constructor(canvas, { put, back, moved }) {
    this.place = [0, 0];
    this.shown = false; // keys alone need to see where the brush is
    const placeOf = ({ clientX, clientY }) => {
      const box = canvas.getBoundingClientRect();
      return [
        inPlane(REACH * ((2 * (clientX - box.left)) / box.width - 1)),
        inPlane(REACH * (1 - (2 * (clientY - box.top)) / box.height)),
      ];
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault(); // no scrolling, no selection
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      this.shown = false;
      this.place = placeOf(event);
      put(...this.place, true);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId)) return;
      const between = event.getCoalescedEvents?.() ?? [];
      for (const one of between.length ? between : [event]) {
        const [x, y] = placeOf(one);
        if (Math.hypot(x - this.place[0], y - this.place[1]) < SPACING) continue;
        this.place = [x, y];
        put(x, y, false);
      }
    });
    canvas.addEventListener("keydown", (event) => {
      const step = ARROWS[event.key];
      if (step) {
        const far = event.shiftKey ? PACE / 5 : PACE;
        this.place = this.place.map((v, i) => inPlane(v + far * step[i]));
        this.shown = true;
        moved(`At ${this.place.map((v) => v.toFixed(2)).join(", ")}.`);
      } else if (event.key === " ") put(...this.place, true);
      else if (event.key === "Backspace") back();
      else return;
      event.preventDefault();
    });
    canvas.addEventListener("blur", () => {
      this.shown = false;
      moved("");
    });
  }
}
