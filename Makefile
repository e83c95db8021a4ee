# Lookout's tasks; `make` alone lists them. Everything they need beyond Rust, Node.js and Python is
# fetched, pinned, into .cache/tools.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
LOOKOUT := $(TARGET)/debug/lookout
# Recorded blocks, which are not the project's own; see CONTRIBUTING.md.
export LOOKOUT_TEST_DATA ?= $(abspath ../shared/data)
# In CI a missing part is a failure, elsewhere a loud skip.
ifdef CI
export LOOKOUT_TEST_REQUIRE ?= all
endif

.PHONY: help
help: ## list the tasks
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: ## a real node, Lookout on it, and a tour of its answers; ctrl-C ends all of it
	@dev/get-anvil >/dev/null
	@[ -x $(TARGET)/debug/demo ] || echo "building Lookout: some minutes the first time, seconds afterwards" >&2
	@$(CARGO) build -p lookout -p lookout-test --bin lookout --bin demo
	@exec $(TARGET)/debug/demo --lookout $(LOOKOUT) $(ARGS)

.PHONY: run
run: ## serve with your own lookout.toml, or public Ethereum and Polygon endpoints without one
	@$(CARGO) run -p lookout -- serve

.PHONY: test
test: tools ## all tests, against real parts
	@$(CARGO) test --workspace $(ARGS)

.PHONY: soak
soak: tools ## the random tests of reorgs, crashes and faults with 2,000 seeds: about an hour; SEEDS=… for others
	@LOOKOUT_TEST_SEEDS="$${SEEDS:-2000}" $(CARGO) test -p lookout-ingest tests::property $(ARGS)
	@LOOKOUT_TEST_SEEDS="$${SEEDS:-2000}" $(CARGO) test -p lookout --test it watching::property $(ARGS)

.PHONY: lint
lint: ## format, clippy, documentation, dependencies
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items
	@dev/check-dependencies

.PHONY: services
services: ## an anvil node by hand, on http://127.0.0.1:8545
	@anvil=$$(dev/get-anvil); \
	echo "anvil, chain id 31337: http://127.0.0.1:$${PORT:-8545} (another port: make services PORT=…)"; \
	exec "$$anvil" --port "$${PORT:-8545}"

.PHONY: bench
bench: ## measure, with the targets beside the figures
	@$(CARGO) build --release -p lookout -p lookout-test -p lookout-api -p lookout-chain -p lookout-warehouse \
	  -p lookout-rules --bin lookout --bin bench --bin replay \
	  --example bare --example decode_rate --example insert_rate --example match_cost
	@$(TARGET)/release/bench $(ARGS)

.PHONY: tools
tools: ## fetch what the tests need: anvil, solc, ethers, web3.py, schemathesis
	@dev/get-anvil >/dev/null
	@dev/get-solc >/dev/null
	@dev/get-clients
	@dev/get-schemathesis >/dev/null
