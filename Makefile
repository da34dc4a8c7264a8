# make help shows what there is.

# Recordings, real blocks and vectors that the tests compare with, where they are at hand.
KES_SHARED_DIR ?= $(if $(wildcard ../shared/vectors),$(abspath ../shared),)
export KES_SHARED_DIR

PREFIX ?= /usr/local
DESTDIR ?=
# Debian releases with systemd 257 and 252.
SUITES ?= trixie bookworm
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
# Packages have the time of the last commit. Only what makes them is told: C compilers heed it too, and
# crates with C in them would be built anew.
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null)
unexport SOURCE_DATE_EPOCH
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

.PHONY: help build check test test-programs test-ansible soak headers model fuzz coverage sanitize faults conformance demo bench man dist reproducible test-packages test-systemd test-newcomer install clean

help: ## Show the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

build: ## Build the programs as they are shipped (target/release)
	CARGO='$(CARGO)' sh deploy/packages/programs.sh

check: ## Format, lints, documentation, licences, specification
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p kes-wire --locked --no-default-features -- -D warnings
	$(CARGO) clippy -p kes-wire --locked --no-default-features --features hot-key -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) test --locked -p integration-tests --test dependencies --test specification
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --offline check; \
	 else echo 'cargo-deny is not installed: advisories were not checked'; fi

test: test-programs ## Run all tests
	$(CARGO) test --workspace --locked

# The agent with a clock that tests turn is built first and put aside, so that the programs that are
# tested otherwise, and those that are shipped, do not have it.
test-programs:
	$(CARGO) build -p kes-agent --features for-tests --locked
	cd $(TARGET)/debug && cp -f kes-agent kes-agent-for-tests
	$(CARGO) build --workspace --bins --locked

test-systemd: test-programs ## The agent under real systemds in containers (root, debootstrap, systemd-nspawn)
	for suite in $(SUITES); do \
	    bash integration-tests/systemd/run.sh $$suite target/debug || exit 1; \
	    bash integration-tests/systemd/peers.sh $$suite target/debug || exit 1; done

soak: test-programs ## Longer runs: a pool (KES_SOAK_SECONDS, KES_SOAK_SEED), peers (KES_PEERS_STEPS, KES_PEERS_SEED), hot key (KES_HOT_KEY_SIGNATURES)
	KES_SOAK_SECONDS=$${KES_SOAK_SECONDS:-3600} $(CARGO) test --locked -p integration-tests --test soak -- --nocapture
	KES_PEERS_STEPS=$${KES_PEERS_STEPS:-500} $(CARGO) test --locked -p integration-tests --test networks -- --nocapture
	KES_HOT_KEY_SIGNATURES=$${KES_HOT_KEY_SIGNATURES:-3000000} \
	 $(CARGO) test --locked --release -p integration-tests --test hot_key_swaps -- --nocapture

headers: ## Forge block headers and have Amaru's header validation accept them (builds 80 crates)
	CARGO_TARGET_DIR=$(CURDIR)/target $(CARGO) test --locked \
	 --manifest-path integration-tests/header-validation/Cargo.toml

conformance: test-programs ## Try the specification's requirements on our agent, node and commands
	$(CARGO) build --locked -p kes-wire --example forging_node
	sh integration-tests/conformance.sh $(TARGET)/debug

model: ## Check every interleaving of the hot key, and every state of agents and operators, within wide bounds
	KES_MODEL=whole $(CARGO) test --locked -p kes-wire --lib -- hot_key::model --nocapture
	KES_MODEL=whole $(CARGO) test --locked --release -p integration-tests --test agents_model -- --nocapture --test-threads=1

sanitize: ## The unsafe module and its users under AddressSanitizer, leaks under valgrind
	CARGO='$(CARGO)' sh integration-tests/sanitize.sh

faults: test-programs ## Make every system call of the agent fail in turn (root, strace; KES_FAULTS_PATHS, KES_FAULTS_CALLS)
	$(CARGO) test --locked -p integration-tests --test failing_calls -- --ignored --nocapture

fuzz: ## Feed mutated input to every decoder and to a live agent's state, for TIME seconds in all
	sh integration-tests/fuzz/run.sh $(or $(TIME),600)

coverage: ## Which lines of the parsing code the fuzzing inputs reach (needs cargo install llvm_profparser)
	sh integration-tests/fuzz/coverage.sh

# Ansible comes into a virtualenv of its own. Where it or containers cannot be had, a line says so.
ANSIBLE := $(CURDIR)/target/ansible-venv
test-ansible: test-programs ## Run the playbooks: lint, on this host, in containers (as root)
	@[ -x $(ANSIBLE)/bin/ansible-lint ] || { rm -rf $(ANSIBLE); python3 -m venv $(ANSIBLE) && \
	 $(ANSIBLE)/bin/pip install --quiet ansible-core ansible-lint; } || rm -rf $(ANSIBLE)
	@if [ -x $(ANSIBLE)/bin/ansible-lint ]; then PATH=$(ANSIBLE)/bin:$$PATH; export PATH; set -e; \
	 (cd deploy/ansible && ansible-lint --offline); \
	 $(CARGO) test --locked -p integration-tests --test ansible -- --include-ignored; \
	 bash integration-tests/systemd/ansible.sh trixie target/debug || [ $$? -eq 77 ]; \
	 else echo 'SKIPPED: the Ansible tests: Ansible cannot be installed (python3-venv, and PyPI within reach)'; fi

demo: build ## Watch a rotation: agent, cold key, node
	$(CARGO) build --release --locked -p kes-wire --example forging_node
	sh integration-tests/demo.sh target/release

bench: build ## Measure; figures go to target/bench/report.json
	$(CARGO) bench --locked -p integration-tests

man: ## Make the manual pages, shell completions and the bill of materials (target/share)
	$(CARGO) build -p manuals --bins --locked
	$(TARGET)/debug/manuals $(TARGET)/share
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(TARGET)/debug/bill-of-materials $(TARGET)/share/kes-agent.cdx.json

dist: build man ## Make packages, a tarball and a bill of materials, with checksums (target/dist)
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) sh deploy/packages/build.sh $(TARGET)/release $(TARGET)/share $(TARGET)/dist $(VERSION)

reproducible: dist ## Make the packages once more, in other folders, and compare them byte for byte
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) sh integration-tests/reproducible.sh $(TARGET)

test-packages: build man ## The packages under real systemds in containers (root, debootstrap, systemd-nspawn)
	for suite in $(SUITES); do \
	    bash integration-tests/systemd/package.sh $$suite $(TARGET)/release $(TARGET)/share || exit 1; \
	    bash integration-tests/systemd/newcomer.sh $$suite $(TARGET)/release $(TARGET)/share || exit 1; done

test-newcomer: build man ## From the packages to a forging stand-in node by the guide's commands (as test-packages)
	for suite in $(SUITES); do \
	    bash integration-tests/systemd/newcomer.sh $$suite $(TARGET)/release $(TARGET)/share || exit 1; done

install: build man ## Install programs, units, manual pages and completions below $(DESTDIR)$(PREFIX)
	sh deploy/packages/stage.sh kes-cli $(TARGET)/release $(TARGET)/share '$(DESTDIR)' '$(PREFIX)'
	sh deploy/packages/stage.sh kes-agent $(TARGET)/release $(TARGET)/share '$(DESTDIR)' '$(PREFIX)'

clean: ## Remove what was built
	$(CARGO) clean
