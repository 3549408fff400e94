"""What a release and the site around it are made of."""

import json
import subprocess
import sys
from pathlib import Path

import colab
import epub
import oldest
import pdf
import pytest
import release
import versions

CHANGELOG = """\
# Changelog

## [Unreleased]

- Later.

## [1.2.0] – 2027-01-31

### Added

- A thing.

## [1.1.0] – 2026-12-01

- Another.
"""


def test_the_notes_are_the_section_of_the_version():
    found = release.notes("v1.2.0", "1.2.0", CHANGELOG)
    assert found == "### Added\n\n- A thing.\n"
    assert release.notes("v1.1.0", "1.1.0", CHANGELOG) == "- Another.\n"


@pytest.mark.parametrize(
    "tag, version, changelog, error",
    [
        ("v1.2.1", "1.2.0", CHANGELOG, "expected the tag v1.2.0"),
        ("1.2.0", "1.2.0", CHANGELOG, "expected the tag v1.2.0"),
        ("v1.3.0", "1.3.0", CHANGELOG, "got no such section"),
        ("v1.2.0", "1.2.0", "## [1.2.0] – unreleased\n\n- x\n", "got unreleased"),
    ],
)
def test_a_wrong_tag_says_what_is_wrong(tag, version, changelog, error):
    with pytest.raises(ValueError, match=error):
        release.notes(tag, version, changelog)


def test_versions_are_listed_newest_first_in_every_version(tmp_path):
    for folder in ("", "v0.9.0", "v0.10.0", "notebooks"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "index.html").touch()
    (tmp_path / "v0.1.0").mkdir()  # a folder without a book
    assert versions.write(tmp_path) == 3
    for folder in ("", "v0.10.0", "v0.9.0"):
        listed = json.loads((tmp_path / folder / "versions.json").read_text())
        assert [v["name"] for v in listed] == ["development", "v0.10.0", "v0.9.0"]
        (here,) = [v["folder"].rstrip("/") for v in listed if v["here"]]
        assert here == folder


def test_the_pages_of_the_pdf_follow_the_table_of_contents():
    toc = """\
root: book/intro
parts:
  - caption: Part I
    chapters:
      - file: notebooks/01_a
        sections:
          - file: notebooks/exercises/01_student
  - caption: Part II
    chapters:
      - file: notebooks/02_b
"""
    assert pdf.pages(toc) == [
        ("book/intro", "Meta-GAN from Scratch"),
        ("notebooks/01_a", "Part I"),
        ("notebooks/exercises/01_student", ""),
        ("notebooks/02_b", "Part II"),
    ]


PAGE = r"""<article class="bd-article"><section id="x">
<h1>One <span class="math">\(G\)</span>
<a class="headerlink" href="#x">#</a></h1>
<p>So <span class="math">\(a\tag{1.2}\)</span>,
as <a href="../book/b.html#place">B</a>, <a href="../c.html">C</a>, <a href="#x">x</a>,
<a href="https://example.org/">far</a>.</p>
<div class="highlight-ipython3"><div class="highlight"><pre><span>a</span> = 1</pre>
</div></div>
<script type="application/vnd.jupyter.widget-view+json">{}</script>
<script>bad()</script>
<img class="y" alt="A dot." src="../_images/a.png"><ul id="list"><li>1</li></ul>
<details><summary>Answer</summary><p>B.</p></details><button>Copy</button>
</section></article>
"""


def test_a_page_becomes_part_of_the_e_book(tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.html").write_text(PAGE)
    still = {"text/html": "<img alt='still' src='data:,'>", epub.WIDGET: {}}
    cell = {"outputs": [{"data": still}, {"data": {"text/html": "other"}}]}
    (tmp_path / "notebooks" / "a.ipynb").write_text(json.dumps({"cells": [cell]}))
    monkeypatch.setattr(epub, "ROOT", tmp_path)
    names = {"notebooks/a", "book/b"}
    text = str(epub.Page(tmp_path, "notebooks/a", names))
    for kept in [
        '<h1 id="notebooks-a">One <em>G</em>',
        r'<script type="math/tex">a\qquad\text{(1.2)}</script>',
        '<a href="#book-b--place">B</a>, C, <a href="#notebooks-a--x">x</a>',
        '<a href="https://example.org/">far</a>',
        '<pre class="python">a = 1',
        '<img alt="still" src="data:,"/>',
        f'<img alt="A dot." src="{tmp_path}/notebooks/../_images/a.png"/>',
        '<span id="notebooks-a--list"></span><ul>',
        "<p><strong>Answer</strong></p>",
    ]:
        assert kept in text
    for gone in ["bad()", "Copy", "headerlink", "section", "view+json"]:
        assert gone not in text
    (tmp_path / "notebooks" / "a.ipynb").write_text('{"cells": []}')
    with pytest.raises(ValueError, match="expected 1 widgets"):
        epub.Page(tmp_path, "notebooks/a", names)


def test_the_set_up_cell_is_pointed_at_the_wheel():
    cell = {"cell_type": "code", "source": ["if colab:\n", f"    {colab.SET_UP}http"]}
    notebook = {"cells": [{"cell_type": "markdown", "source": "x"}, dict(cell)]}
    changed = colab.pointed_at(notebook, "%pip install a.whl")
    assert changed["cells"][1]["source"] == "if colab:\n    %pip install a.whl"
    with pytest.raises(ValueError, match="expected one set-up cell"):
        colab.pointed_at({"cells": [dict(cell), dict(cell)]}, "")


def test_the_oldest_versions_are_the_lower_bounds():
    text = 'x = ["no>=1"]\ndependencies = [\n    "torch>=2.3",\n    "a-b>=0.4.3",\n]\n'
    assert oldest.oldest(text + 'y = ["no>=1"]\n') == ["torch==2.3", "a-b==0.4.3"]


def test_a_notebook_runs_as_colab_runs_it():
    """From a wheel, alone in a folder; torch is there already, as it is in Colab."""
    root = Path(colab.__file__).parents[1]
    command = [sys.executable, "tools/colab.py", "--torch", "inherit"]
    notebook = "notebooks/05_tasks_shots_episodes.ipynb"
    done = subprocess.run(
        [*command, notebook], cwd=root, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("05_tasks_shots_episodes.ipynb: ")
