# The commands of this repository. Each says what it installs before it does, asks no questions, and
# is cheap the second time.

# What CI, `make check` and `make test` build, so that each reuses what the others built.
PROFILE := --profile ci

.DEFAULT_GOAL := help
# Everything shares one Cargo target directory: two targets at once would only wait for each other.
.NOTPARALLEL:
.PHONY: help run test check bench-check figures compare scale ui clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build everything and play the demo stream (ARGS="--hls-addr ..." goes to `weir dev`)
	@scripts/install.sh build
	@scripts/build-ui.sh
	cargo build --release --locked -p weir-server
	@cargo run --quiet --release --locked -p weir-server -- dev $(ARGS)

test: ## Run every test, with real encoders, players and a browser
	@scripts/install.sh build test
	@scripts/build-ui.sh
	cargo nextest run --workspace --locked --cargo-profile ci

check: ## Check format, lints, documentation, dependencies, layering and UI types
	@scripts/install.sh build check
	@scripts/build-ui.sh
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(PROFILE) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked $(PROFILE)
	cargo deny --locked check bans licenses sources
	cargo test --workspace --locked $(PROFILE) --test tidy
	npm --prefix web run check

bench-check: ## Count the hot path's instructions against the baseline (UPDATE=1 writes it anew)
	@scripts/install.sh build bench
	@UPDATE=$(UPDATE) scripts/bench_check.py

figures: ## Measure a release build and print the tables of docs/benchmarks.md
	@scripts/install.sh build test
	@scripts/build-ui.sh
	cargo build --release --locked -p weir-server
	@scripts/measure.py
	@scripts/latency.py

compare: ## Compare a release build with a bare write loop and with nginx (ROWS="flv-1000-0 ..." takes some, ROUNDS=1 is quick)
	@scripts/install.sh build test
	@scripts/build-ui.sh
	cargo build --release --locked -p weir-server
	@scripts/compare.py $(ROWS)

scale: ## Measure how cost grows with viewers and streams, and draw it into docs/images
	@scripts/install.sh build test
	@scripts/build-ui.sh
	cargo build --release --locked -p weir-server
	@scripts/scale.py

ui: ## Build the browser pages into web/dist
	@scripts/install.sh build
	@scripts/build-ui.sh

clean: ## Remove everything that was built (not data/, where streams and settings live)
	cargo clean
	rm -rf web/dist web/node_modules test-results .tools
