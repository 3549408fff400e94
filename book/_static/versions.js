// Offers the other versions of the book, where the site has some (tools/versions.py).
const content_root = document.documentElement.dataset.content_root;
const footer = document.querySelector("footer.bd-footer-content");
if (footer && location.protocol.startsWith("http")) {
  fetch(`${content_root}versions.json`)
    .then((answer) => answer.json())
    .then((versions) => {
      if (versions.length < 2) return;
      const here = versions.find((version) => version.here);
      const root = new URL(content_root, location).pathname;
      const site = root.slice(0, root.length - here.folder.length);
      const page = location.pathname.slice(root.length);
      const select = document.createElement("select");
      select.ariaLabel = "Version";
      for (const version of versions)
        select.add(new Option(version.name, version.folder, version.here, version.here));
      select.addEventListener("change", async () => {
        const same = `${site}${select.value}${page}`;
        // A page may be missing from another version: then its first page.
        const found = (await fetch(same, { method: "HEAD" })).ok;
        location.href = found ? same : `${site}${select.value}index.html`;
      });
      footer.append(select);
    });
}
