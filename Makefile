.DEFAULT_GOAL := help
.PHONY: help run test test-sqlite test-cancelled test-clients test-contract test-docs chaos faults frozen compare-text bench-documents bench-load docs-steps lint fmt doc deny advisories ci

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Start the server with a demo; settings: MILLRACE_SERVER__PORT=8080 and so on
	cargo run --quiet -- serve --demo

test: ## Run every test, with a Postgres of its own, and the pages in a browser
	scripts/test
	scripts/browser

test-sqlite: ## Run the tests that need no Postgres
	scripts/test sqlite

test-cancelled: ## Cancel 10,000 requests at random moments, on both databases
	CANCELLED=10000 scripts/postgres with cargo nextest run --no-capture -E 'test(/cancelled_requests/)'

test-clients: ## Drive a server with Unstract's published client (part of make test)
	scripts/clients unstract

test-contract: ## Hold a server's answers against its OpenAPI document, for some minutes
	scripts/clients contract

test-docs: ## Open the documentation pages in a browser and run their examples
	scripts/browser

chaos: export KILLS ?= 200
chaos: export RESTARTS ?= 100
chaos: CHAOS ?= chaos_of_
chaos: ## Kill, pause and restart servers and Postgres under load; SEED=… repeats a run
	scripts/cargo-tool nextest
	scripts/postgres with cargo nextest run --test it --run-ignored only --no-fail-fast --no-capture -E 'test(/::$(CHAOS)/)'

faults: ## Make servers panic, abort, fail and wait at every commit; all ends within 10 s
	scripts/cargo-tool nextest
	LIMIT_SECONDS=10 scripts/postgres with cargo nextest run --test it --no-fail-fast --test-threads 2 -E 'test(/faults::matrix/)'

frozen: export RUNS ?= 100
frozen: ## Freeze a node past its lease RUNS times; each of its late writes must be refused
	scripts/cargo-tool nextest
	scripts/postgres with cargo nextest run --test it --run-ignored only --no-capture -E 'test(/faults::frozen/)'

compare-text: ## Compare the text of ../shared's PDFs with poppler's, by the debug build
	tests/compare_text.py

bench-documents: ## Measure text extraction beside pdftotext; more PDFs: DOCUMENTS=folder
	cargo bench --bench documents

bench-load: ## Measure how many rows a second load_sql brings into Postgres (release build)
	scripts/postgres with cargo bench --bench load

docs-steps: ## Write docs/steps.md anew, from the step kinds
	UPDATE_DOCS=1 cargo test --quiet --test it -- --exact reference::the_page_is_made_from_the_kinds

lint: ## Check format and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

fmt: ## Format the code
	cargo fmt --all

doc: ## Build the documentation of the code
	cargo doc --workspace --no-deps

deny: ## Check licences, banned crates and sources of the dependencies
	scripts/cargo-tool deny
	cargo deny --locked check --hide-inclusion-graph licenses bans sources

advisories: ## Check the dependencies for known vulnerabilities (needs the network)
	scripts/cargo-tool deny
	cargo deny check advisories

ci: ## Run what CI runs
	bash .ci/run
