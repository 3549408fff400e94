// Makes buttons of the options in a chapter's self-check. Without this script the page
// has the questions with their options, and answers to unfold.
for (const options of document.querySelectorAll("section#self-check > ul")) {
  const question = options.previousElementSibling;
  const answer = options.nextElementSibling;
  if (answer?.localName !== "details") continue;

  const right = answer.querySelector("strong").textContent.trim()[0];
  const explanation = [...answer.children].filter((e) => e.localName !== "summary");
  const said = document.createElement("div");
  said.className = "self-check-said";
  said.setAttribute("role", "status"); // a screen reader reads what comes into it
  answer.before(said);

  question.id ||= `self-check-${question.textContent.trim()[0]}`;
  options.className = "self-check-options";
  options.setAttribute("role", "group");
  options.setAttribute("aria-labelledby", question.id);

  const buttons = [...options.children].map((item) => {
    const button = document.createElement("button");
    const text = item.querySelector("p") ?? item;
    button.type = "button";
    button.value = text.textContent.trim()[0];
    button.append(...text.childNodes);
    item.replaceChildren(button);
    item.setAttribute("role", "none");
    button.addEventListener("click", () => choose(button));
    return button;
  });

  function choose(chosen) {
    const verdict = document.createElement("p");
    const isRight = chosen.value === right;
    verdict.textContent = isRight
      ? `✓ ${chosen.value} is right.`
      : `✗ ${chosen.value} is not right.`;
    for (const button of buttons) {
      button.setAttribute("aria-pressed", button === chosen);
      button.dataset.verdict = button === chosen ? (isRight ? "right" : "wrong") : "";
    }
    // Moved, not copied: formulas may not be typeset yet.
    said.replaceChildren(verdict, ...explanation);
    answer.hidden = true;
  }
}
