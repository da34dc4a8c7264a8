# make help shows what there is.

# Recordings, real blocks and vectors that the tests compare with, where they are at hand.
KES_SHARED_DIR ?= $(if $(wildcard ../shared/vectors),$(abspath ../shared),)
export KES_SHARED_DIR

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: help build check test test-programs soak model fuzz demo bench man dist install clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

build: ## Build the programs (target/release)
	$(CARGO) build --release --locked --bins

check: ## Format, lints, documentation, licences
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p kes-wire --locked --no-default-features -- -D warnings
	$(CARGO) clippy -p kes-wire --locked --no-default-features --features hot-key -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) test --locked -p integration-tests --test dependencies
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check; \
	 else echo 'cargo-deny is not installed: advisories were not checked'; fi

test: test-programs ## Run all tests
	$(CARGO) test --workspace --locked

# The agent with a clock that tests turn is built first and put aside, so that the programs that are
# tested otherwise, and those that are shipped, do not have it.
test-programs:
	$(CARGO) build -p kes-agent --features for-tests --locked
	cp -f target/debug/kes-agent target/debug/kes-agent-for-tests
	$(CARGO) build --workspace --bins --locked

soak: test-programs ## Longer runs: peers (KES_PEERS_STEPS, KES_PEERS_SEED), hot key (KES_HOT_KEY_SIGNATURES)
	KES_PEERS_STEPS=$${KES_PEERS_STEPS:-500} $(CARGO) test --locked -p integration-tests --test networks -- --nocapture
	KES_HOT_KEY_SIGNATURES=$${KES_HOT_KEY_SIGNATURES:-3000000} \
	 $(CARGO) test --locked --release -p integration-tests --test hot_key_swaps -- --nocapture

model: ## Check every interleaving of the hot key, and every state of agents and operators, within wide bounds
	KES_MODEL=whole $(CARGO) test --locked -p kes-wire --lib -- hot_key::model --nocapture
	KES_MODEL=whole $(CARGO) test --locked --release -p integration-tests --test agents_model -- --nocapture --test-threads=1

fuzz: ## Feed mutated input to every decoder and to a live agent's state, for TIME seconds in all
	sh integration-tests/fuzz/run.sh $(or $(TIME),600)

demo: ## Watch a rotation: agent, cold key, node
	$(CARGO) build --release --locked --bins
	$(CARGO) build --release --locked -p kes-wire --example forging_node
	sh integration-tests/demo.sh target/release

bench: ## Measure; figures go to target/bench/report.json
	$(CARGO) build --release --locked --bins
	$(CARGO) bench --locked -p integration-tests

man: ## Make the manual pages and shell completions (target/share)
	$(CARGO) build --workspace --bins --locked
	target/debug/manuals target/share

dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
dist: build man ## Make packages and a tarball with checksums (target/dist)
	sh deploy/packages/build.sh target/release target/share target/dist $(VERSION)

install: build man ## Install programs, units, manual pages and completions below $(DESTDIR)$(PREFIX)
	sh deploy/packages/stage.sh kes-cli target/release target/share '$(DESTDIR)' '$(PREFIX)'
	sh deploy/packages/stage.sh kes-agent target/release target/share '$(DESTDIR)' '$(PREFIX)'

clean: ## Remove what was built
	$(CARGO) clean
