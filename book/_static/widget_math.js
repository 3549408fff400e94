// The widget manager asks MathJax 2 to typeset its labels; the book has MathJax 3.
if (window.MathJax && window.MathJax.startup) {
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
