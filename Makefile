# make train   one tracked run; ARGS="model=relu training.epochs=3" changes it
# make test    all tests; ARGS="-k data" picks some
# make lint    ruff and mypy
# make lock    pin requirements.txt anew from pyproject.toml (needs uv)

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: train test lint lock

train: $(READY)
	$(BIN)/python train.py $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest $(ARGS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(READY): requirements.txt
	@if command -v uv > /dev/null; then \
	  uv venv --seed --allow-existing .venv && \
	  uv pip install --python $(BIN)/python -r requirements.txt; \
	else \
	  $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with PYTHON=")' && \
	  $(PYTHON) -m venv .venv && \
	  $(BIN)/python -m pip install --disable-pip-version-check -r requirements.txt; \
	fi
	@touch $@

lock:
	uv pip compile pyproject.toml --group dev --universal --no-emit-index-url --no-annotate \
	  --no-header --quiet -o requirements.txt
