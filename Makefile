# The commands of this project. A Python from 3.11 to 3.13 is found automatically; PYTHON=... names another.
.PHONY: install run test test-random coverage check lint lock sdl readme web image-check bench clean
.DEFAULT_GOAL := install

BIN := .venv/bin
WORKERS ?= 2
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.12 python3.13 python3.11 python3 python)

install: .venv/.installed ## .venv with the locked dependencies and the embedded database

.venv/.installed: requirements.lock pyproject.toml
	@found=; for p in $(CANDIDATES); do \
	  if "$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; then found=$$p; break; fi; done; \
	if [ -z "$$found" ]; then \
	  echo "Python 3.11, 3.12 or 3.13 is needed and none was found: install one, or name it with 'make PYTHON=/path/to/python'." >&2; exit 1; fi; \
	if [ ! -x $(BIN)/python ] || ! $(BIN)/python -c 'import pip' >/dev/null 2>&1; then \
	  "$$found" -m venv --clear .venv || { echo "'$$found -m venv' failed: install the venv module of that Python (Debian: python3-venv)." >&2; exit 1; }; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: install ## the gateway on the embedded database, with a demo workspace
	$(BIN)/gateway dev $(ARGS)

test: install ## every test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(ARGS)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/gateway export-schema --check schema/schema.graphql
	$(BIN)/python .ci/readme_settings.py --check
	$(BIN)/python .ci/web_bundle.py --check

# What draws its examples at random.
AT_RANDOM := $(wildcard tests/*/test_*_at_random.py tests/*/test_*_model.py) tests/api/test_files.py \
  tests/process/test_live.py tests/unit/test_bus.py tests/unit/test_document_passes.py
ROUNDS ?= 20
EXAMPLES ?= 3

test-random: install ## what draws its examples at random: ROUNDS times, each with EXAMPLES times as many as `make test`
	for round in $$(seq $(ROUNDS)); do \
	  EXAMPLES=$(EXAMPLES) LIVE_SEEDS="$$(shuf -i 1-999999 -n 1)" $(MAKE) test ARGS="$(AT_RANDOM) $(ARGS)" || exit; done

check: lint test ## what CI runs: lint, types, import contracts, SDL, and every test

coverage: install ## branch coverage of the tests that run in one process
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup --cov --cov-report=term tests/unit tests/api tests/integration $(ARGS)

sdl: install ## write the exported schema
	$(BIN)/gateway export-schema > schema/schema.graphql

COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-strip-extras --quiet

lock: ## write the lock files, with hashes and the same pins: to develop, to build the wheel, and to run it
	$(COMPILE) --extra embedded --extra tracing --extra dev --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra tracing --constraint requirements.lock --output-file requirements-serve.lock pyproject.toml
	$(COMPILE) --group build --constraint requirements.lock --output-file requirements-build.lock

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*

image-check: install ## lint Dockerfile and compose.yaml, run the builder's steps, and serve with what they made; needs no Docker
	PYTHON="$(PYTHON)" $(BIN)/python .ci/prove_image.py

readme: install ## write the settings table of the README
	$(BIN)/python .ci/readme_settings.py

web: install ## build the bundle of GraphiQL from the locked packages of web/ (needs npm)
	cd web && npm ci && npm run build
	$(BIN)/python .ci/web_bundle.py

bench: install ## compare the costs of the gateway and its peers: a table, JSON and a chart in bench/results
	$(BIN)/python -m bench.run $(ARGS)
