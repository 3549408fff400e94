// The widget manager asks MathJax 2 to typeset its labels; the book has MathJax 3.
if (window.MathJax?.startup) {
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
