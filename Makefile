# Two commands do all the set-up: `make demo` and `make test`. CI calls `make check` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
RUST := $(shell find matcher_rs -name '*.rs' -o -name Cargo.toml) Cargo.toml $(wildcard Cargo.lock)
PLUGINS := $(wildcard plugins/*/pyproject.toml)
READY := .venv/ready
# Where the machine has no Rust, one is fetched into .venv/rust (see the last rule).
RUST_ENV := $(if $(shell command -v cargo),,.venv/rust.env)
CARGO := $(if $(RUST_ENV),. ./$(RUST_ENV) && )cargo
NODE_READY := tests/sdk/node/node_modules/.ready

.PHONY: demo test check bench crash simulate build clean

demo: $(READY)                     ## a small shop's week, from a real SDK to two destinations
	$(BIN)/python demo/shop_week.py $(DEMO)

test: $(READY) $(NODE_READY)       ## every test; about ten minutes on two cores
	$(CARGO) test --quiet --workspace --exclude matcher
	$(BIN)/python -m pytest -q $(PYTEST)

check: $(READY)                    ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest cdp._matcher
	$(BIN)/lint-imports
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets -- -D warnings

bench: $(READY)                    ## figures of every hot path: make bench SCENARIO="ingest_batch"
	$(BIN)/python -m bench $(SCENARIO)

crash: $(READY)                    ## 100 x kill -9 under load
	CDP_KILL_CYCLES=100 $(BIN)/python -m pytest -q tests/crash $(PYTEST)

simulate: $(READY)                 ## one simulated world, by its seed: make simulate SEED=7
	$(BIN)/python tests/simulation/run.py --seed $(SEED)

build: $(READY)                    ## a wheel in target/wheels
	$(BIN)/maturin build --release

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(PIP) --upgrade pip

$(READY): pyproject.toml $(PLUGINS) $(RUST) $(RUST_ENV) | .venv/bin/python
	$(if $(RUST_ENV),. ./$(RUST_ENV) && )$(PIP) -e '.[dev]'
	$(PIP) -e plugins/cdp-destination-webhook -e plugins/cdp-destination-opendsr \
		-e 'plugins/cdp-destination-file[parquet]'
	touch $@

.venv/rust.env: | .venv/bin/python
	$(PIP) puccinialin
	$(BIN)/python -m puccinialin --location .venv/rust --info-json .venv/rust.json
	$(BIN)/python -c "import json; env = json.load(open('.venv/rust.json'))['env']; \
		print('\n'.join(f'export {name}=\"{value}\"' for name, value in env.items()))" > $@

# The Node SDK of the end-to-end tests. Without Node those tests say that they were skipped, and why.
$(NODE_READY): tests/sdk/node/package.json
	if command -v npm >/dev/null; then \
		cd tests/sdk/node && npm install --silent --no-audit --no-fund --no-package-lock; fi
	mkdir -p $(@D) && touch $@

clean:
	rm -rf .venv target demo-data tests/sdk/node/node_modules
