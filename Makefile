# Two commands do all the set-up: `make demo` and `make test`. CI calls `make check` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
RUST := $(shell find matcher_rs -name '*.rs' -o -name Cargo.toml) Cargo.toml $(wildcard Cargo.lock)
PLUGINS := $(wildcard plugins/*/pyproject.toml)
READY := .venv/ready
NODE_READY := tests/sdk/node/node_modules/.ready

.PHONY: demo test check bench crash simulate build clean

demo: $(READY)                     ## a small shop's week, from a real SDK to two destinations
	$(BIN)/python demo/shop_week.py $(DEMO)

test: $(READY) $(NODE_READY)       ## every test; about ten minutes on two cores
	cargo test --quiet --workspace --exclude matcher
	$(BIN)/python -m pytest -q $(PYTEST)

check: $(READY)                    ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest cdp._matcher
	$(BIN)/lint-imports
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings

bench: $(READY)                    ## figures of every hot path: make bench SCENARIO="ingest_batch"
	$(BIN)/python -m bench $(SCENARIO)

crash: $(READY)                    ## 100 x kill -9 under load
	CDP_KILL_CYCLES=100 $(BIN)/python -m pytest -q tests/crash $(PYTEST)

simulate: $(READY)                 ## one simulated world, by its seed: make simulate SEED=7
	$(BIN)/python tests/simulation/run.py --seed $(SEED)

build: $(READY)                    ## a wheel in target/wheels
	$(BIN)/maturin build --release

# The Rust toolchain, where it is missing, is fetched by the build backend itself.
$(READY): pyproject.toml $(PLUGINS) $(RUST)
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-e plugins/cdp-destination-webhook -e 'plugins/cdp-destination-file[parquet]'
	touch $@

# The Node SDK of the end-to-end tests. Without Node those tests say that they were skipped, and why.
$(NODE_READY): tests/sdk/node/package.json
	if command -v npm >/dev/null; then \
		cd tests/sdk/node && npm install --silent --no-audit --no-fund --no-package-lock; fi
	mkdir -p $(@D) && touch $@

clean:
	rm -rf .venv target demo-data tests/sdk/node/node_modules
