# make test  - every test, all set-up included
# make unit  - the tests that need no cluster
# make lint  - formatting, clippy, generated files
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash
.PHONY: help setup test unit admission lint generate

# Suites that need no cluster.
UNIT := --lib --bins --test definitions --test layers --test failover_model --test mover --test vault
TESTBED_BIN = $(shell testbed/testbed bin)

help:
	@sed -n '1,3s/^# //p' Makefile

setup:
	@scripts/setup

test: unit admission

unit: setup
	@scripts/step "unit, schema and property tests" cargo test --locked $(UNIT)

# A real API server: examples accepted, bad manifests refused.
admission: setup
	@scripts/step "programs of the test clusters" testbed/testbed binaries etcd kubernetes
	@TESTBED_BIN=$(TESTBED_BIN) scripts/step "tests on an API server" cargo test --locked --test admission --test apply --test mover_objects -- --nocapture

lint: setup
	@scripts/step "formatting" cargo fmt --check
	@scripts/step "clippy" cargo clippy --locked --all-targets -- -D warnings
	@scripts/step "generated files" scripts/generate --check

generate:
	@scripts/generate
