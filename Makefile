# Needs GNU make and Python 3.10 or newer. `make` lists the targets.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
NOTEBOOKS ?= notebooks
BIN = $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help book test serve pdf epub dist colab-test audit lab notebooks bench results mutations lint repoint clean distclean

help: ## List the targets
	@grep -hE '^[a-z-]+:.* ## ' $(MAKEFILE_LIST) | \
	  awk -F ':.* ## ' '{printf "  make %-10s %s\n", $$1, $$2}'

# One stamp for each extra of pyproject.toml. A set-up runs again only when
# pyproject.toml has changed.
$(VENV)/.ready-%: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

# For a class, SOLUTIONS=no: pages of an earlier build go too.
ifeq ($(SOLUTIONS),no)
TOC = --toc _build/toc.yml
endif

book: $(VENV)/.ready-book ## Build the book into _build/html (SOLUTIONS=no: without them)
	$(BIN)/python tools/vendor.py
ifeq ($(SOLUTIONS),no)
	rm -rf _build/html _build/.doctrees && mkdir -p _build
	grep -v '_solutions$$' _toc.yml > _build/toc.yml
endif
	$(BIN)/jupyter-book build . $(TOC) --warningiserror --nitpick --keep-going --quiet

# The extra `test` contains `book`. The nets are small: more threads only wait.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/.ready-test ## Set up .venv, build the book, run all tests and notebooks
	@touch $(VENV)/.ready-book
	$(MAKE) book
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=600 tests notebooks

serve: book ## Build the book and serve it on http://localhost:8000
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html $(PORT)

pdf: book $(VENV)/.ready-pdf ## Print the whole book into dist/metagan.pdf
	$(BIN)/python tools/pdf.py

epub: book $(VENV)/.ready-epub ## Make dist/metagan.epub of the whole book, checked
	$(BIN)/python tools/epub.py

# TAG=v1.2.3: what a release holds. Without it, the same with the notes left out.
dist: book $(VENV)/.ready-release ## Make wheel, sdist, PDF and ZIP of the book in dist/
	rm -rf dist
	$(BIN)/python tools/release.py $(TAG)
	$(BIN)/python -m build --outdir dist
	$(BIN)/python -m twine check --strict dist/*.whl dist/*.tar.gz
	$(BIN)/python tools/pdf.py
	$(BIN)/python tools/epub.py
	cp _build/html/metagan-book.zip dist/

colab-test: $(VENV)/.ready-book ## Run the notebooks as Colab does: alone, from a wheel
	$(BIN)/python tools/colab.py $(COLAB)

audit: book $(VENV)/.ready-pdf ## Measure pages and the playground (AUDIT="--runs 1 intro")
	$(BIN)/python tools/audit.py $(AUDIT)

lab: $(VENV)/.ready-notebook ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir=notebooks

notebooks: $(VENV)/.ready-book ## Make the exercises' notebooks, execute all in place
	$(BIN)/python tools/exercises.py
	$(BIN)/python tools/notebooks.py $(NOTEBOOKS)

# Without a compiler or a network the benchmark runs, and says what is missing.
$(VENV)/.ready-learn2learn: benchmarks/install_learn2learn.sh $(VENV)/.ready-bench
	sh $< $(BIN)/python && touch $@ || echo "bench: going on without learn2learn"

bench: $(VENV)/.ready-learn2learn ## Time the meta-step against other libraries
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python benchmarks/meta_step.py $(BENCH)

results: $(VENV)/.ready-notebook ## Measure a recipe again: make results RECIPE=omniglot-20
	$(BIN)/python experiments/evidence.py $(RECIPE) $(RESULTS)

mutations: $(VENV)/.ready-test ## Break the library on purpose: who notices? (MUTATE=--resume)
	$(BIN)/python tools/mutate.py $(MUTATE)

lint: $(VENV)/.ready-lint ## Check the Python files with ruff, the scripts with Biome
	$(BIN)/ruff check .
	npx --yes @biomejs/biome@2.6.8 lint --error-on-warnings

repoint: ## Move every link to a fork: make repoint URL=https://github.com/you/fork
	@$(PYTHON) tools/repoint.py "$(URL)"

clean: ## Remove the built book
	rm -rf _build

distclean: clean ## Remove the built book and .venv
	rm -rf $(VENV)
