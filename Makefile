# make demo        the main job on drawn images, or on your own: make demo DATA=folder (with images/ and masks/)
# make check       lint, types and the quick tests
# make test        lint, types and all tests
# make bench       how fast this machine mines and trains, against the plain SamPredictor loop and a plain training loop; on a GPU with the large SAMs
# make test-all    the same, and once more with the lowest versions of the libraries
# make faults      kill -9, full disks, damaged and hostile files, tried on every command: half an hour (KILLS=20: a fifth of it)
# make lint, make format
# make reference   docs/options.md, from the options themselves
# make constraints newest versions of the libraries into constraints.txt, from which everything here installs

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= $(if $(DATA),$(DATA:%/=%).samsemi,demo)
EXTRAS := dev,hf,medical,onnx,track
INSTALL := pip install --quiet --disable-pip-version-check
KILLS ?= 100
BENCH ?= $(if $(shell command -v nvidia-smi),--sam tiny --sam vit_b --sam vit_h --images 32 --image-size 512)
TRAINING ?= $(if $(shell command -v nvidia-smi),--batch-size 8 --steps 64)
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
LOWEST := import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["dependencies"], *(part for extra in project["optional-dependencies"].values() for part in extra), sep="\n")

.PHONY: demo bench check test test-lowest test-all faults lint format reference constraints clean

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(INSTALL) --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash examples/demo.sh $(OUT) $(DATA)

bench: $(VENV)/installed
	$(BIN)/samsemi bench $(BENCH)
	$(BIN)/python examples/plain_training.py $(TRAINING)

check: lint
	$(TEST) -m "not slow"

test: lint
	$(TEST)

test-lowest:
	$(PYTHON) -m venv --clear .venv-lowest
	$(PYTHON) -c '$(LOWEST)' | sed 's/>=/==/' > .venv-lowest/lowest.txt
	.venv-lowest/bin/$(INSTALL) --constraint .venv-lowest/lowest.txt --editable '.[$(EXTRAS)]'
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -W default

test-all: test test-lowest

faults: $(VENV)/installed
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m faults --kills $(KILLS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

reference: $(VENV)/installed
	PYTHONPATH=tests $(BIN)/python -m reference

constraints:
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/$(INSTALL) --editable '.[$(EXTRAS)]'
	.venv-newest/bin/pip freeze --exclude-editable | grep -viE '^(nvidia-|cuda-|triton)' > constraints.txt
	rm -rf .venv-newest

clean:
	rm -rf demo .venv-lowest .venv-newest
