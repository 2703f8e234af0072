# make test  - every test, all set-up included
# make unit  - the tests that need no cluster
# make demo  - the whole life of a data embassy on two real clusters (KEEP=1 leaves them running)
# make lint  - formatting, clippy, generated files
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash
.PHONY: help setup test unit admission testbed e2e demo lint generate

# Suites that need no cluster.
UNIT := --lib --bins --test definitions --test layers --test failover_model --test mover --test vault
TESTBED_BIN = $(shell testbed/testbed bin)

help:
	@sed -n '1,4s/^# //p' Makefile

setup:
	@scripts/setup

test: unit admission testbed e2e

unit: setup
	@scripts/step "unit, schema and property tests" cargo test --locked $(UNIT)

# A real API server: examples accepted, bad manifests refused.
admission: setup
	@scripts/step "programs of the test clusters" testbed/testbed binaries etcd kubernetes
	@TESTBED_BIN=$(TESTBED_BIN) scripts/step "tests on an API server" cargo test --locked --test admission --test apply --test mover_objects -- --nocapture

# The test clusters are what the end-to-end tests take them for.
testbed: setup
	@scripts/step "self-test of the testbed" testbed/selftest

e2e: setup
	@scripts/step "end-to-end tests on two clusters" tests/e2e/run

demo: setup
	@scripts/demo

lint: setup
	@scripts/step "formatting" cargo fmt --check
	@scripts/step "clippy" cargo clippy --locked --all-targets -- -D warnings
	@scripts/step "generated files" scripts/generate --check

generate:
	@scripts/generate
