// The picture of a game in the plane: D as shading, its level line, real and generated
// points, arrows, and G's map. Colours are those of the style sheet, for both themes.

import { asPoints } from "./points.js";

export const REACH = 1.3; // the plane shows [−REACH, REACH]²
const CELLS = 30; // of the shading, on a side
const LONGEST = 0.3; // of an arrow
const ARROW = 0.1; // its length for a slope of 1
const FEW = 50; // real points that are drawn larger

// The points at the corners of the cells, line by line from the top left.
export function lattice(cells, reach = REACH) {
  const at = (i) => reach * ((2 * i) / cells - 1);
  const places = Array.from({ length: cells + 1 }, (_, i) => at(i));
  return asPoints(places.flatMap((y) => places.map((x) => [x, -y])));
}
const CORNERS = lattice(CELLS);

// "#rrggbb" → [r, g, b].
const channels = (colour) =>
  [1, 3, 5].map((place) => parseInt(colour.slice(place, place + 2), 16));

export function colours(element) {
  const style = getComputedStyle(element);
  const names = ["ink", "halo", "real", "fake", "arrow", "map", "side-real", "side-fake"];
  return Object.fromEntries(
    names.map((name) => [name, style.getPropertyValue(`--gm-${name}`).trim()]));
}

// A canvas as sharp as the screen: its picture, cleared, in units of CSS pixels.
export function cleared(canvas) {
  const { clientWidth: width, clientHeight: height } = canvas;
  const scale = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width !== wide || canvas.height !== high)
    Object.assign(canvas, { width: wide, height: high });
  const picture = canvas.getContext("2d");
  picture.setTransform(scale, 0, 0, scale, 0, 0);
  picture.clearRect(0, 0, width, height);
  return { picture, width, height };
}

function disc(path, x, y, r) {
  path.moveTo(x + r, y);
  path.arc(x, y, r, 0, 7);
}
function cross(path, x, y, r) {
  path.moveTo(x - r, y - r);
  path.lineTo(x + r, y + r);
  path.moveTo(x - r, y + r);
  path.lineTo(x + r, y - r);
}

export class Plane {
  constructor(canvas) {
    this.canvas = canvas;
    this.shade = document.createElement("canvas");
    this.shade.width = this.shade.height = CELLS + 1;
  }

  // What is left out is not drawn.
  //   share: the share of "real" at points, x → numbers in [0, 1]; shade, level: whether
  //   it is shown so.
  //   real, fake: points. arrows: [points, slopes]. map: G's images of a lattice.
  //   marker: [x, y] where keys would put a point.
  draw({ share, shade, level, real, fake, arrows, map, marker }) {
    const { picture, width } = cleared(this.canvas);
    if (!width) return; // it is not shown
    this.width = width;
    this.colours = colours(this.canvas);
    this.picture = picture;
    const shares = (shade || level) && share(CORNERS);
    if (shade) this.#shading(shares);
    if (level) this.#level(shares);
    if (map) this.#map(map);
    const few = real?.rows <= FEW; // few lie on top, many below
    if (real && !few) this.#marks(real, "real", disc);
    if (fake) this.#marks(fake, "fake", cross);
    if (few) this.#marks(real, "real", disc);
    if (arrows) this.#arrows(...arrows);
    if (marker) this.#marker(marker);
  }

  at(x, y) {
    return [((x / REACH + 1) / 2) * this.width, ((1 - y / REACH) / 2) * this.width];
  }

  #shading(shares) {
    const [real, fake] = ["side-real", "side-fake"].map((n) => channels(this.colours[n]));
    const context = this.shade.getContext("2d");
    const image = context.createImageData(CELLS + 1, CELLS + 1);
    shares.forEach((share, place) => {
      for (let c = 0; c < 3; c++)
        image.data[4 * place + c] = share * real[c] + (1 - share) * fake[c];
      image.data[4 * place + 3] = 255;
    });
    context.putImageData(image, 0, 0);
    this.picture.imageSmoothingEnabled = true;
    // The lattice's points are the middles of the shade's pixels.
    const half = this.width / CELLS / 2;
    const whole = this.width + 2 * half;
    this.picture.drawImage(this.shade, -half, -half, whole, whole);
  }

  // The line on which the share is ½, cell by cell: it crosses a side whose ends lie on
  // different sides of ½, in proportion.
  #level(shares) {
    const path = new Path2D();
    const unit = this.width / CELLS;
    const over = (i, j) => shares[j * (CELLS + 1) + i] - 0.5;
    for (let j = 0; j < CELLS; j++)
      for (let i = 0; i < CELLS; i++) {
        const corners = [[i, j], [i + 1, j], [i + 1, j + 1], [i, j + 1]];
        const crossings = [];
        corners.forEach(([a, b], side) => {
          const [c, d] = corners[(side + 1) % 4];
          const [here, there] = [over(a, b), over(c, d)];
          if (here < 0 === there < 0) return;
          const part = here / (here - there);
          crossings.push([unit * (a + part * (c - a)), unit * (b + part * (d - b))]);
        });
        for (let k = 0; k + 1 < crossings.length; k += 2) {
          path.moveTo(...crossings[k]);
          path.lineTo(...crossings[k + 1]);
        }
      }
    this.#line(path, this.colours.ink, 1.5);
  }

  #line(path, colour, width, dash = []) {
    const { picture } = this;
    Object.assign(picture, { strokeStyle: colour, lineWidth: width, lineCap: "round" });
    this.picture.setLineDash(dash);
    this.picture.stroke(path);
    this.picture.setLineDash([]);
  }

  // Every mark has a ring of the ground's lightness, so that it stands on any shade.
  #marks({ data, rows }, name, add) {
    const path = new Path2D();
    const size = name === "real" && rows <= FEW
      ? Math.max(this.width / 90, 3.5)
      : Math.min(this.width / 130, rows > 200 ? 2.4 : 3.4);
    for (let i = 0; i < data.length; i += 2)
      add(path, ...this.at(data[i], data[i + 1]), size);
    if (name === "real") {
      this.#line(path, this.colours.halo, 2);
      this.picture.fillStyle = this.colours.real;
      this.picture.fill(path);
    } else {
      this.#line(path, this.colours.halo, 3.5);
      this.#line(path, this.colours.fake, 1.7);
    }
  }

  #arrows({ data }, slopes) {
    const path = new Path2D();
    for (let i = 0; i < data.length; i += 2) {
      const steep = Math.hypot(slopes[i], slopes[i + 1]);
      if (!(steep > 0.02)) continue;
      const factor = Math.min(ARROW, LONGEST / steep);
      const [x, y] = this.at(data[i], data[i + 1]);
      const [u, v] = this.at(
        data[i] + factor * slopes[i], data[i + 1] + factor * slopes[i + 1]);
      path.moveTo(x, y);
      path.lineTo(u, v);
      const length = Math.hypot(u - x, v - y);
      if (length < 4) continue; // too short for a head
      const angle = Math.atan2(v - y, u - x);
      const head = Math.min(5, length);
      for (const turn of [2.6, -2.6]) {
        path.moveTo(u, v);
        path.lineTo(u + head * Math.cos(angle + turn), v + head * Math.sin(angle + turn));
      }
    }
    this.#line(path, this.colours.halo, 3);
    this.#line(path, this.colours.arrow, 1.2);
  }

  // The images of a square lattice's lines: where they are dense, so are G's samples.
  #map({ data }) {
    const side = Math.round(Math.sqrt(data.length / 2));
    const path = new Path2D();
    const place = (i, j) => {
      const k = 2 * (j * side + i);
      return this.at(data[k], data[k + 1]);
    };
    for (let j = 0; j < side; j++) {
      path.moveTo(...place(0, j));
      for (let i = 1; i < side; i++) path.lineTo(...place(i, j));
      path.moveTo(...place(j, 0));
      for (let i = 1; i < side; i++) path.lineTo(...place(j, i));
    }
    this.#line(path, this.colours.map, 1);
  }

  #marker([px, py]) {
    const [x, y] = this.at(px, py);
    const path = new Path2D();
    path.rect(x - 7, y - 7, 14, 14);
    this.#line(path, this.colours.halo, 4);
    this.#line(path, this.colours.ink, 2, [3, 3]);
  }
}
