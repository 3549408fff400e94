"""What this book adds to Jupyter Book: its own copies of scripts, and repairs."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

# Environments that number their lines themselves and must not stand in another.
NUMBERED = re.compile(r"\\begin\{(align|alignat|equation|gather|multline)\*?\}")
# What the writers leave that a screen reader or a keyboard stumbles over.
REPAIRS = (
    (r'<div class="pst-scrollable-table-container"', r'\g<0> tabindex="0"'),
    (r'<div role="list" class="citation-list"', '<div class="citation-list"'),
    # The lines of a long signature are a <dl> of <dd> without <dt>.
    (r'<dl>\s*(?=<dd><em class="sig-param)', '<dl role="none">'),
    (r'<dd>(?=<em class="sig-param)', '<dd role="none">'),
)
ICON_SCRIPT = re.compile(r'<script src="[^"]*/fontawesome/[^"]*\.js[^"]*"></script>\s*')
SCROLL = """<script>
(() => {
  const contents = document.querySelector("div.bd-sidebar");
  const here = [...(contents?.querySelectorAll(".bd-docs-nav .active") ?? [])].pop();
  const kept = parseInt(sessionStorage.getItem("sidebar-scroll-top"), 10);
  if (!here) return;
  const top = here.getBoundingClientRect().y - contents.getBoundingClientRect().y;
  if (!isNaN(kept)) contents.scrollTop = kept;
  else if (top > innerHeight / 2) contents.scrollTop = top - contents.clientHeight / 4;
})();
</script>
"""
# In a docstring: what is code already, a shape such as [T, K, *S], a lone *S.
CODE_OR_SHAPE = re.compile(
    r"``.*?``|(?<![`\w\]])\[[^\[\]`]*\*[A-Z][^\[\]`]*\]|\*[A-Z]\b"
)
# `name: text` or `name, name: text`, as an argument is described in a docstring.
ARGUMENT = re.compile(r"[a-z_]\w*(, [a-z_]\w*)*: ")


def choose_scripts(app: Sphinx, config: Config) -> None:
    """Load MathJax and the widget manager from the book, where tools/vendor.py ran."""
    vendor = Path(app.confdir) / "_build" / "vendor"
    if (vendor / "pins.json").exists():
        # html_extra_path, because Jupyter Book links every script below a root
        # folder `_static` into every page.
        config.html_extra_path = [*config.html_extra_path, str(vendor / "html")]
        config.mathjax_path = "vendor/mathjax/es5/tex-mml-chtml.js"
        config.nb_ipywidgets_js = {
            "vendor/requirejs/require.js": {},
            "vendor/html-manager/dist/embed-amd.js": {},
        }
    # In _config.yml it would replace all options that Jupyter Book makes.
    config.html_theme_options["logo"] = {"text": config.html_title}
    # widgets.js loads them when the first widget is near.
    scripts = [{"src": path, **own} for path, own in config.nb_ipywidgets_js.items()]
    config.nb_ipywidgets_js = {
        "widgets.js": {"defer": "defer", "data-scripts": json.dumps(scripts)}
    }


def repair_content(app: Sphinx, doctree: nodes.document) -> None:
    """Keep numbers of formulas of several lines, and pictures off other hosts."""
    for formula in doctree.findall(nodes.math_block):
        # Sphinx puts a formula with `\\` into `split`, where MathJax refuses \tag.
        tex = formula.astext()
        if r"\tag" in tex and not formula.get("nowrap"):
            if not NUMBERED.search(tex):
                tex = f"\\begin{{equation*}}\n{tex}\n\\end{{equation*}}"
            formula["nowrap"] = True
            formula.children = [nodes.Text(tex)]
    for image in list(doctree.findall(nodes.image)):
        # Badges, mostly: their link stays, with the alternative text as its text.
        if "://" in image["uri"]:
            image.replace_self(nodes.Text(image.get("alt") or image["uri"]))


def drop_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Leave out the scripts of a live-code service that this book does not use."""
    context["script_files"][:] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes}".lower()
    ]


def name_summaries(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Name the arrows that unfold the contents: the theme gives them no text."""
    make: Callable[..., Any] | None = context.get("generate_toctree_html")
    if make is None:
        return

    def with_names(*args: Any, **kwargs: Any) -> Any:
        tree = make(*args, **kwargs)
        for summary in tree.find_all("summary") if hasattr(tree, "find_all") else ():
            link = summary.find_parent("li").find("a")
            summary["aria-label"] = f"Pages of {link.get_text().strip()}"
        return tree

    context["generate_toctree_html"] = with_names


def finish_body(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Repair the body; move pictures out of its text, and say their sizes.

    A figure of a notebook is a data URI. As a file that is loaded when it comes near
    the screen it does not hold up the text, and as its size is said nothing jumps.
    """
    folder = Path(app.outdir) / app.builder.imagedir
    up = "../" * page.count("/")

    def placed(match: re.Match[str]) -> str:
        tag = match[0]
        data = re.search(r'src="data:image/png;base64,([^"]+)"', tag)
        if data:
            png = base64.b64decode(data[1])
            name = f"{hashlib.sha256(png).hexdigest()[:20]}.png"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(png)
            tag = tag.replace(data[0], f'src="{up}{app.builder.imagedir}/{name}"')
        elif local := re.search(r'src="(?:\.\./)*_images/([^"]+\.png)"', tag):
            image = app.builder.images  # source → name, copied at the end
            source = next((s for s, name in image.items() if name == local[1]), None)
            if source is None:
                return tag
            png = (Path(app.srcdir) / source).read_bytes()
        else:
            return tag
        width, height = struct.unpack(">II", png[16:24])  # the header of every PNG
        if not re.search(r"\swidth=", tag):
            tag = tag.replace("<img ", f'<img width="{width}" height="{height}" ')
        return tag.replace("<img ", '<img loading="lazy" decoding="async" ')

    if context.get("body"):
        body = context["body"]
        for old, new in REPAIRS:
            body = re.sub(old, new, body)
        context["body"] = re.sub(r"<img [^>]*>", placed, body)


def add_comments(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """End each page with its discussion on GitHub, where _config.yml names a giscus."""
    giscus = app.config.html_context.get("giscus")
    if giscus and context.get("body"):
        data = "".join(f' data-{k}="{html.escape(v)}"' for k, v in giscus.items())
        context["body"] += (
            f'<script src="https://giscus.app/client.js"{data} data-mapping="pathname"'
            ' data-theme="preferred_color_scheme" crossorigin="anonymous" async>'
            "</script>"
        )


def add_self_check(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load the script of the self-check where a page has one."""
    sections = doctree.findall(nodes.section) if doctree else ()
    if any("self-check" in section["ids"] for section in sections):
        app.add_js_file("self_check.js", loading_method="defer")


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Make pages appear at once, and stay where they are.

    The theme links a script of the icons, 1.5 MB, beside the style sheet and the fonts
    that show the same icons. And it scrolls the contents to the page in them after the
    page has been seen; here that is done before.
    """
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    for path in site.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        light = ICON_SCRIPT.sub("", text)
        if SCROLL not in light:
            light = light.replace(
                '<main id="main-content"', f'{SCROLL}<main id="main-content"', 1
            )
        if light != text:
            path.write_text(light, encoding="utf-8")
    for script in site.glob("_static/vendor/fontawesome/*/js/*"):
        script.unlink()


def pack(app: Sphinx, exception: Exception | None) -> None:
    """Say that this is the only version, and put the whole book into one ZIP."""
    if exception is not None or app.builder.format != "html":
        return
    site = Path(app.outdir)
    alone = [{"name": "development", "folder": "", "here": True}]
    (site / "versions.json").write_text(json.dumps(alone), encoding="utf-8")
    new = site / "metagan-book.zip.new"
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(site.rglob("*")):
            if path.is_file() and path.name not in ("metagan-book.zip", new.name):
                archive.write(path, Path("metagan-book") / path.relative_to(site))
    new.replace(site / "metagan-book.zip")


def read_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Make reStructuredText of the two short forms that our docstrings use.

    A shape, `[T, K, *S]`, becomes code: its asterisk would begin an emphasis. A
    paragraph of `name: text` lines becomes an `Args:` section, which napoleon reads.
    """

    def as_code(match: re.Match[str]) -> str:
        return match[0] if match[0].startswith("`") else f"``{match[0]}``"

    found, inside = [], False
    for line in lines:
        line = CODE_OR_SHAPE.sub(as_code, line)
        if not inside and ARGUMENT.match(line) and not (found and found[-1]):
            found.append("Args:")
            inside = True
        elif inside and not (ARGUMENT.match(line) or line.startswith(" ")):
            if line:
                found.append("")
            inside = False
        found.append(f"    {line}" if inside else line)
    lines[:] = found


def setup(app: Sphinx) -> dict[str, bool]:
    # Before myst-nb reads its configuration, at priority 500.
    app.connect("config-inited", choose_scripts, priority=100)
    app.connect("autodoc-process-docstring", read_docstring, priority=100)
    app.connect("doctree-read", repair_content)
    app.connect("html-page-context", add_self_check)
    app.connect("html-page-context", drop_thebe, priority=100)
    app.connect("html-page-context", finish_body)
    app.connect("html-page-context", add_comments)
    # After the theme's, at priority 500, which brings the function.
    app.connect("html-page-context", name_summaries, priority=900)
    app.connect("build-finished", lighten, priority=300)
    app.connect("build-finished", pack)
    app.add_js_file("versions.js", loading_method="defer")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
