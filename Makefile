# make train      one tracked run; ARGS="model=relu training.epochs=3" changes it
# make test       the tests, but for those marked slow: five minutes on two cores; ARGS="-k data" picks some
# make test-all   all tests, the slow ones too: cluster, team server, deployment, databases, environments
# make lint       ruff, mypy and the import contract of pyproject.toml
# make figures    the pictures of README and docs anew, from the latest run, study and decision here
# make lock       pin both requirements.txt anew from pyproject.toml (needs uv)

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
TESTABLE := .venv/testable

.PHONY: train test test-all lint figures lock

train: $(READY)
	$(BIN)/python train.py $(ARGS)

test: $(TESTABLE)
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

test-all: $(TESTABLE)
	$(BIN)/python -m pytest $(ARGS)

lint: $(TESTABLE)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

figures: $(TESTABLE)
	$(BIN)/python bench/figures.py

$(READY): requirements.txt
	@if command -v uv > /dev/null; then \
	  uv venv --seed --allow-existing .venv; \
	else \
	  $(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with PYTHON=")' && \
	  $(PYTHON) -m venv .venv; \
	fi
	@$(call install,$<)
	@touch $@

$(TESTABLE): tests/requirements.txt $(READY)
	@$(call install,$<)
	@touch $@

define install
if command -v uv > /dev/null; then uv pip install --python $(BIN)/python -r $(1); \
else $(BIN)/python -m pip install --disable-pip-version-check -r $(1); fi
endef

# What both have is of one version: who adds the extras changes nothing of what is there.
LOCK := uv pip compile pyproject.toml --universal --no-emit-index-url --no-annotate --no-header --quiet
lock:
	$(LOCK) --group dev --extra cluster -o tests/requirements.txt
	$(LOCK) -c tests/requirements.txt -o requirements.txt
