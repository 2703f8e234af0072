# make demo  - two real clusters, a register, its home lost, the embassy serving: all set-up included
# make test  - every test, all set-up included
# make unit  - the tests that need no cluster
# make lint  - formatting, clippy, licences, generated files
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash
.PHONY: test unit lint generate setup help

help:
	@sed -n '1,5s/^# //p' Makefile

setup:
	@scripts/setup

test: unit

unit: setup
	@scripts/step "unit, schema and property tests" cargo test --locked

lint: setup
	@scripts/step "formatting" cargo fmt --check
	@scripts/step "clippy" cargo clippy --locked --all-targets -- -D warnings
	@scripts/step "generated files" scripts/generate --check

generate:
	@scripts/generate
