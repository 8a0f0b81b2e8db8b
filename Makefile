# Each target does its own set-up. PYTHON may name another interpreter (3.11 to 3.14).
PYTHON ?= python3
UV_VERSION := 0.13.9
BIN := .venv/bin
# What is imported is compiled once, beside the checkout's caches: uv compiles nothing of what it installs.
export PYTHONPYCACHEPREFIX := $(CURDIR)/.cache/bytecode
unexport PYTHONDONTWRITEBYTECODE
# Trust what the machine trusts: company networks have their own authorities.
export UV_SYSTEM_CERTS := 1

.PHONY: setup demo test test-parts test-clients test-computing test-commands test-services test-histories test-indexes test-rows check lint types layers docs compose verify-compose up-local chaos test-ui audit env lock clean

setup: .venv/.ready .venv-milvus/.ready

# The lock has hashes and no addresses; --no-deps because it is complete. Without Debian's python3-venv, `venv` leaves
# a folder with a Python and no pip: the next run completes it.
.venv/.ready: requirements/dev.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(None if (3, 11) <= sys.version_info[:2] < (3, 15) else '$(PYTHON) is Python %d.%d; \
	3.11 to 3.14 is needed: make setup PYTHON=python3.13, for example' % sys.version_info[:2])"
	$(BIN)/python -c "import pip" 2>/dev/null || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --no-deps -r requirements/dev.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

# Milvus server 2.3.5 (for tests alone) cannot share an environment with current pymilvus.
.venv-milvus/.ready: requirements/milvus-server.lock .venv/.ready
	test -x .venv-milvus/bin/python || $(PYTHON) -m venv .venv-milvus
	$(BIN)/uv pip install --quiet --python .venv-milvus/bin/python --require-hashes --no-deps -r requirements/milvus-server.lock
	touch $@

demo: .venv/.ready
	$(BIN)/searchanything demo

# Eight runs side by side: three compute, most of the others waits for servers. Each test is in one of them. Those that
# compute give way: so the others, which take as long as they wait, end with them and not after them.
test: check .venv-milvus/.ready
	$(MAKE) --jobs=8 --keep-going --output-sync=target \
		test-services test-histories test-commands test-indexes test-rows test-clients test-parts test-computing

# The parts that compute, which take as long as all the rest together; and who asks and is asked, as long as what is left.
COMPUTING := $(addprefix tests/unit/,drawing encode evaluation explain features hash_training images ingest models prompts search training)
CLIENTS := tests/unit/client tests/unit/serve

test-parts: .venv/.ready
	nice $(BIN)/pytest tests/unit $(COMPUTING:%=--ignore=%) $(CLIENTS:%=--ignore=%)

test-clients: .venv/.ready
	nice $(BIN)/pytest -o cache_dir=.pytest_cache/clients $(CLIENTS)

# Folders of their own for what pytest remembers of failures: the other runs write one, too.
test-computing: .venv/.ready
	nice $(BIN)/pytest -o cache_dir=.pytest_cache/computing $(COMPUTING)

# What people run: the command line, the demo, the pages' examples. With the rest of the folder it took longest of all.
COMMANDS := $(patsubst %,tests/integration/test_%.py,command_line demo examples explain front_pages index_kill \
	killed_verbs layer_meanwhile light_install programs serve sync_commands)

test-commands: .venv/.ready
	$(BIN)/pytest -o cache_dir=.pytest_cache/commands $(COMMANDS)

test-services: .venv/.ready .venv-milvus/.ready
	$(BIN)/pytest -o cache_dir=.pytest_cache/services tests/integration $(COMMANDS:%=--ignore=%)

# Random histories: their pauses, and those of the service's recoveries, take most of the time.
test-histories: .venv/.ready .venv-milvus/.ready
	$(BIN)/pytest -o cache_dir=.pytest_cache/histories tests/chaos

# Indexes made, changed, restored and dropped: a server takes seconds for each collection, with nothing to compute.
LIVES := $(patsubst %,tests/contracts/test_%.py,index_store milvus_rights milvus_server rehashed released restored \
	words_codes)

test-indexes: .venv/.ready .venv-milvus/.ready
	$(BIN)/pytest -o cache_dir=.pytest_cache/indexes $(LIVES)

test-rows: .venv/.ready .venv-milvus/.ready
	$(BIN)/pytest -o cache_dir=.pytest_cache/rows tests/contracts $(LIVES:%=--ignore=%)

# Two at a time: types and the site take nearly all of it.
check: .venv/.ready
	$(MAKE) --jobs=2 --output-sync=target types docs lint layers compose

lint: .venv/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# What is checked: `packages` in pyproject.toml; CONTRIBUTING.md says what is not, and why.
types: .venv/.ready
	$(BIN)/mypy

layers: .venv/.ready
	$(BIN)/lint-imports

docs: .venv/.ready
	$(BIN)/python docs/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# docker-compose.yml, checked without a docker engine.
compose: .venv/.ready
	$(BIN)/python -m deploy.validate

# docker-compose.yml, built, started, tried and removed again: for whoever has a docker engine.
verify-compose: .venv/.ready
	$(BIN)/python -m deploy.verify

# The same topology from PyPI's real servers, on loopback, until Ctrl-C. ARGS="--milvus server --workers 2"
up-local: .venv/.ready .venv-milvus/.ready
	$(BIN)/python -m deploy.local $(ARGS)

# Random histories with kill -9 of everything; SEEDS=17,18 for others.
SEEDS ?= 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20
chaos: .venv/.ready .venv-milvus/.ready
	SEARCHANYTHING_CHAOS_SEEDS=$(SEEDS) $(BIN)/pytest tests/chaos -m server -s

# Prefect's UI in Debian's chromium; screenshots in build/ui/.
test-ui: .venv/.ready
	$(BIN)/pytest tests/ui -m ui

# Known vulnerabilities of the locked libraries, as far as a source of them is reached.
audit: .venv/.ready
	$(BIN)/python -m deploy.audit

# Random secrets for docker-compose.yml. What .env has already is kept, what it lacks is added.
env:
	$(PYTHON) deploy/environment.py

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--all-extras --group dev pyproject.toml -o requirements/dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--all-extras --group dev --group training pyproject.toml -o requirements/training.lock
	$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		requirements/milvus-server.in -o requirements/milvus-server.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra service --extra serve --extra onnx --extra pandas --extra parquet -c requirements/dev.lock \
		pyproject.toml -o requirements/service.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
		--extra serve -c requirements/dev.lock pyproject.toml -o requirements/serve.lock
	printf 'hatchling>=1.27\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header - -o requirements/build.lock

clean:
	rm -rf .venv .venv-milvus .cache demo site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
