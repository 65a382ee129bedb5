# `make demo` and `make test` set themselves up on a machine with Python 3.11, make and a C compiler.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
OUTPUT := outputs

.PHONY: demo app test test-slow lint docs reproduce clean

demo: $(VENV)/ready
	@mkdir -p $(OUTPUT)
	$(BIN)/eat-hf generate --image examples/astronaut.jpg --audio examples/speech.wav --paste-back --seed 0 \
		--timeline 0:happy,2.5:neutral -o $(OUTPUT)/demo.mp4
	@echo "The video is $(OUTPUT)/demo.mp4"

app: $(VENV)/ready-app
	$(BIN)/python app.py

# a process a core, each on one thread: together they are faster than one process on all cores; files in the order that
# tests/conftest.py gives them
test: $(VENV)/ready-test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# what takes minutes each: whole chains, two processes, thousands of mutations
test-slow: $(VENV)/ready-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m slow

lint: $(VENV)/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# the pages of docs/ as a site; a warning is an error
docs: $(VENV)/ready-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(OUTPUT)/site
	@echo "The first page is $(OUTPUT)/site/index.html"

# measures the bundled checkpoint on the corpus' test split and refreshes its card: about an hour on two cores
reproduce: $(VENV)/ready-test
	$(BIN)/python -m training.experiments.reproduce --model checkpoints_card/eat-demo --corpus corpus_test

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/ready: requirements.txt constraints.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/ready-app: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[app,voice]'
	@touch $@

$(VENV)/ready-test: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[training,test]'
	@touch $@

$(VENV)/ready-docs: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) $(OUTPUT)
