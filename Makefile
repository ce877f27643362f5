# Two commands matter: `make demo` and `make test`. Both set up what they need in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
endif
# PyTorch's own index has small CPU wheels; PyPI's bring several GB of CUDA. Where it cannot be
# reached, pip's usual index serves.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
ASK_TORCH_INDEX = import urllib.request as u; u.urlopen('$(TORCH_INDEX)/torch/', timeout=10)
CPU_WHEELS = $$($(PYTHON) -c "$(ASK_TORCH_INDEX)" 2>/dev/null && echo --extra-index-url $(TORCH_INDEX))
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: pins sbom audit demo test lint format install bench clean screenshots
.DELETE_ON_ERROR:

demo: $(VENV)/.analysis
	$(BIN)/bitewing demo $(DEMO_OPTIONS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

screenshots: $(VENV)/.dev
	DOC_IMAGES=1 $(BIN)/python -m pytest -q tests/browser

install: $(VENV)/.analysis

$(VENV)/bin/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Bitewing needs Python 3.11 or newer; set PYTHON=python3.12 (or similar)"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@mkdir -p $(@D) && touch $@

$(VENV)/.analysis: $(VENV)/bin/.made pyproject.toml constraints-cpu.txt
	$(PIP) --constraint constraints-cpu.txt $(CPU_WHEELS) torch torchvision
	$(PIP) --constraint constraints-cpu.txt --editable '.[analysis]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/.made pyproject.toml constraints-cpu.txt
	$(PIP) --constraint constraints-cpu.txt $(CPU_WHEELS) torch torchvision
	$(PIP) --constraint constraints-cpu.txt --editable '.[dev]'
	@touch $@ $(VENV)/.analysis

# The versions that the tests ran with, for whoever installs the same again.
pins: $(VENV)/.dev
	@head -2 constraints-release.txt > pins.part
	$(BIN)/python -m pip list --format=freeze --exclude-editable | grep -vE '^(pip|setuptools|wheel)==' >> pins.part
	mv pins.part constraints-release.txt

# What is installed, as CycloneDX; and whether any of it has a known weakness (asks the internet).
sbom: $(VENV)/.dev
	$(PIP) --constraint constraints-cpu.txt --editable '.[release]'
	$(BIN)/cyclonedx-py environment --output-format JSON --output-file sbom.json $(BIN)/python

# Without the record pip-audit would audit nothing and be content: one release of pip is asked for first.
WEAKNESSES := https://pypi.org/pypi/pip/24.0/json
ASK_WEAKNESSES = import requests as r; r.get('$(WEAKNESSES)', timeout=20).json()['vulnerabilities']
audit: $(VENV)/.dev
	$(PIP) --constraint constraints-cpu.txt --editable '.[release]'
	@$(BIN)/python -c "$(ASK_WEAKNESSES)" 2>/dev/null \
	  || { echo "Nothing was audited: the public record of weaknesses ($(WEAKNESSES)) cannot be read from here."; exit 2; }
	$(BIN)/python -m pip list --format=freeze --exclude-editable | sed 's/+.*//' > audit.part
	$(BIN)/pip-audit --strict --no-deps --disable-pip --requirement audit.part
	@rm audit.part

clean:
	rm -rf $(VENV) .demo .demo.key
