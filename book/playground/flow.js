// What flows where in the game: who sees what, the losses, and the slopes on their way back.

const BOX = { height: 44, width: 96 };
const BOXES = {
  z: [4, 20, "noise z"],
  G: [144, 20, "G"],
  fake: [284, 20, "samples"],
  real: [284, 104, "real points"],
  D: [424, 62, "D"],
  lossG: [574, 20, "loss of G"],
  lossD: [574, 104, "loss of D"],
};
const FLOW_VIEW = { width: 680, height: 196 };

// From the right of one box to the left of another.
function flowArrow(from, to) {
  const [x, y] = [BOXES[from][0] + BOX.width, BOXES[from][1] + BOX.height / 2];
  const [u, v] = [BOXES[to][0], BOXES[to][1] + BOX.height / 2];
  return `<path d="M${x} ${y}L${u - 2} ${v}" marker-end="url(#gm-head)"/>`;
}

// The slopes' ways back: each player's, from its own loss.
const BACK = {
  D: "M622 148V168H472V108", // below, to D
  G: "M670 42H676V190H192V66", // around the loss of D, to G
};

function flowBox(name) {
  const [x, y, text] = BOXES[name];
  const middle = x + BOX.width / 2;
  return `<g data-box="${name}"><rect x="${x}" y="${y}" width="${BOX.width}" height="${
    BOX.height}" rx="4"/><text x="${middle}" y="${y + 18}">${text}</text>
    <text x="${middle}" y="${y + 36}" data-flow="${name}"></text></g>`;
}

// Build the diagram into `svg`; returns what shows the state of the game in it.
//   numbers: text for boxes, by their names, and for the slopes `toD` and `toG`.
//   moved: the players that moved in the last step, framed heavily.
export function buildFlow(svg) {
  svg.setAttribute("viewBox", `0 0 ${FLOW_VIEW.width} ${FLOW_VIEW.height}`);
  svg.innerHTML = `
    <defs><marker id="gm-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7"
      markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8Z"/></marker></defs>
    ${flowArrow("z", "G")}${flowArrow("G", "fake")}${flowArrow("fake", "D")}${flowArrow("real", "D")}
    ${flowArrow("D", "lossG")}${flowArrow("D", "lossD")}
    ${Object.values(BACK).map((way) =>
      `<path class="gm-back" d="${way}" marker-end="url(#gm-head)"/>`).join("")}
    ${Object.keys(BOXES).map(flowBox).join("")}
    <text x="548" y="163" data-flow="toD"></text>
    <text x="330" y="185" data-flow="toG"></text>`;
  return ({ numbers, moved }) => {
    for (const [name, text] of Object.entries(numbers))
      svg.querySelector(`[data-flow=${name}]`).textContent = text;
    for (const player of ["D", "G"])
      svg.querySelector(`[data-box=${player}]`).classList.toggle(
        "gm-moved", moved.includes(player));
  };
}
