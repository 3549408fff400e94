// The widget manager is over a megabyte of script. It comes when the first widget is near.
const own = document.currentScript;

const addScript = ({ src, ...attributes }) =>
  new Promise((done, failed) => {
    const script = document.createElement("script");
    Object.assign(script, { src: new URL(src, own.src), onload: done, onerror: failed });
    for (const [name, value] of Object.entries(attributes)) script.setAttribute(name, value);
    document.head.append(script);
  });

// It asks MathJax 2 to typeset its labels; the book has MathJax 3.
function answerAsMathJax2() {
  if (!window.MathJax?.startup) return;
  window.MathJax.Hub = {
    Queue(...calls) {
      for (const [action, , element] of calls) {
        if (action !== "Typeset") continue;
        MathJax.startup.promise = MathJax.startup.promise.then(() =>
          MathJax.typesetPromise([element])
        );
      }
    },
  };
}

let loading;
window.loadWidgets = () => {
  loading ??= JSON.parse(own.dataset.scripts).reduce(
    (before, script) => before.then(() => addScript(script)),
    Promise.resolve().then(answerAsMathJax2)
  );
  return loading;
};

const near = new IntersectionObserver(
  (entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    near.disconnect();
    window.loadWidgets();
  },
  { rootMargin: "1000px" }
);
document
  .querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')
  .forEach((view) => {
    near.observe(view.parentElement);
  });
window.addEventListener("beforeprint", window.loadWidgets);

// The handle of a slider has no name, and says an index where the reader sees a step.
// This gives it the text beside it as name, and the text behind it as value.
const describe = (handle) => {
  const slider = handle.closest(".jupyter-widgets");
  const name = slider?.querySelector(".widget-label")?.textContent;
  const value = slider?.querySelector(".widget-readout")?.textContent;
  if (name && handle.ariaLabel !== name) handle.ariaLabel = name;
  if (value && handle.ariaValueText !== value) handle.ariaValueText = value;
};

new MutationObserver(() =>
  document.querySelectorAll(".noUi-handle").forEach(describe)
).observe(document.querySelector(".bd-article"), {
  childList: true,
  subtree: true,
  attributeFilter: ["aria-valuetext"],
});
