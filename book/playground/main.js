// The page's two tabs. Each is built when it is first shown.

import { startGame } from "./gametab.js";
import { start } from "./page.js";

const GAME = "#game"; // in the address, it opens the second tab; settings may follow
const asksForGame = () => location.hash.split("&")[0] === GAME;

export function startTabs(root, { model, game }) {
  const tabs = [
    { title: "Draw a symbol", build: (panel) => start(panel, model) },
    {
      title: "Game in two dimensions",
      build: (panel) => startGame(panel, game),
      hash: GAME,
    },
  ];
  const list = document.createElement("div");
  list.className = "pg-tabs";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "The playground");
  root.replaceChildren(list);
  tabs.forEach((tab, place) => {
    const [button, panel] = ["button", "div"].map((name) => document.createElement(name));
    Object.assign(button, { type: "button", id: `pg-tab-${place}` });
    button.textContent = tab.title;
    button.setAttribute("role", "tab");
    button.setAttribute("aria-controls", `pg-panel-${place}`);
    panel.id = `pg-panel-${place}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", button.id);
    // Whoever waits for the samples listens at the root, where one tab used to be.
    panel.addEventListener("adapted", ({ detail }) =>
      root.dispatchEvent(new CustomEvent("adapted", { detail })));
    button.addEventListener("click", () => choose(place));
    Object.assign(tab, { button, panel });
    list.append(button);
    root.append(panel);
  });

  let current = null;
  function show(place) {
    tabs.forEach(({ button, panel }, other) => {
      button.setAttribute("aria-selected", other === place);
      button.tabIndex = other === place ? 0 : -1; // Tab leads on to the panel
      panel.hidden = other !== place;
    });
    const tab = tabs[place];
    if (current !== tab) current?.view?.pause();
    current = tab;
    if (!tab.built) {
      tab.built = true;
      tab.view = tab.build(tab.panel);
    }
  }

  // A tab keeps its part of the address while the other is shown: a shared link.
  function choose(place) {
    const tab = tabs[place];
    if (tab === current) return;
    current.kept = location.hash;
    const address = new URL(location.href);
    address.hash = tab.kept ?? tab.hash ?? "";
    history.replaceState(null, "", address);
    show(place);
  }

  list.addEventListener("keydown", ({ key }) => {
    const place = tabs.indexOf(current);
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: -1 }[key];
    if (next === undefined) return;
    const there = (next + tabs.length) % tabs.length;
    choose(there);
    tabs[there].button.focus();
  });
  window.addEventListener("hashchange", () => {
    if (asksForGame()) show(1);
  });
  show(asksForGame() ? 1 : 0);
}
