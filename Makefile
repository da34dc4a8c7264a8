# make help shows what there is.

# Recordings, real blocks and vectors that the tests compare with, where they are at hand.
KES_SHARED_DIR ?= $(if $(wildcard ../shared/vectors),$(abspath ../shared),)
export KES_SHARED_DIR

PREFIX ?= /usr/local
DESTDIR ?=
CARGO ?= cargo

.PHONY: help build check test soak headers model demo bench install clean

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

test: ## Run all tests
	$(CARGO) build --workspace --bins --locked
	$(CARGO) test --workspace --locked

soak: ## Longer runs: peers (KES_PEERS_STEPS, KES_PEERS_SEED), hot key (KES_HOT_KEY_SIGNATURES)
	$(CARGO) build --workspace --bins --locked
	KES_PEERS_STEPS=$${KES_PEERS_STEPS:-2000} $(CARGO) test --locked -p integration-tests --test peers
	KES_HOT_KEY_SIGNATURES=$${KES_HOT_KEY_SIGNATURES:-3000000} \
	 $(CARGO) test --locked --release -p integration-tests --test hot_key_swaps -- --nocapture

headers: ## Forge block headers and have Amaru's header validation accept them (builds 80 crates)
	CARGO_TARGET_DIR=$(CURDIR)/target $(CARGO) test --locked \
	 --manifest-path integration-tests/header-validation/Cargo.toml

model: ## Check every interleaving of the hot key's swaps, turns and wipes (tests check most)
	KES_MODEL=whole $(CARGO) test --locked -p kes-wire --lib -- hot_key::model --nocapture

demo: ## Watch a rotation: agent, cold key, node
	$(CARGO) build --release --locked --bins
	$(CARGO) build --release --locked -p kes-wire --example forging_node
	sh integration-tests/demo.sh target/release

bench: ## Measure; figures go to target/bench/report.json
	$(CARGO) build --release --locked --bins
	$(CARGO) bench --locked -p integration-tests

install: build ## Install the programs below $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 target/release/kes-agent target/release/kes-cli $(DESTDIR)$(PREFIX)/bin/
	ln -sf kes-cli $(DESTDIR)$(PREFIX)/bin/kes-agent-control

clean: ## Remove what was built
	$(CARGO) clean
