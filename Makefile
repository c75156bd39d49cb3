# make demo        the main job on drawn images, or on your own: make demo DATA=folder (with images/ and masks/)
# make test        lint and tests
# make lint, make format

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= $(if $(DATA),$(DATA:%/=%).samsemi,demo)

.PHONY: demo test lint format clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh $(OUT) $(DATA)

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf demo
