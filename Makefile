# make train      one tracked run; ARGS="model=relu training.epochs=3" changes it
# make test       the tests, but for those marked slow: five minutes on two cores; ARGS="-k data" picks some
# make test-all   all tests, the slow ones too: cluster, team server, deployment, databases, environments
# make lint       ruff, mypy and the import contract of pyproject.toml
# make figures    the pictures of README and docs anew, from the latest run, study and decision here
# make lock       pin both requirements.txt anew from pyproject.toml (needs uv)

# PYTHON=python3.12 names the interpreter of .venv; another name makes .venv anew.
PYTHON ?=
BIN := .venv/bin
MADE := .venv/made-by # holds PYTHON
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

ifneq ($(PYTHON),)
ifneq ($(PYTHON),$(shell cat $(MADE) 2> /dev/null))
.PHONY: $(READY)
endif
endif

# An environment that is not ready may have been made by an interpreter that does not do.
$(READY): requirements.txt
	@if [ -f $(MADE) ] && { [ ! -f $@ ] || [ "$(or $(PYTHON),$$(cat $(MADE)))" != "$$(cat $(MADE))" ]; }; then \
	  rm -rf .venv; \
	fi
	@if command -v uv > /dev/null; then \
	  uv venv --seed --allow-existing $(if $(PYTHON),--python $(PYTHON)) .venv; \
	else \
	  $(or $(PYTHON),python3) -m venv .venv; \
	fi
	@echo "$(PYTHON)" > $(MADE)
	@$(BIN)/python -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; name one with PYTHON=")'
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
