# make test  - every test, all set-up included
# make unit  - the tests that need no cluster and take no two minutes
# make model - the failover protocol in every order of events, and 100,000 random schedules
# make model-deep - the failover protocol in larger worlds, which takes long
# make damage - every file of a vault, harmed in every way; mover and vault, killed at random
# make crash - mover and vault killed at 200 (CRASHES) random moments and at every call, and disks that fail or are full there
# make bucket - the suites of the vault once more, in a bucket of a real object store; several vaults on one bucket
# make e2e-bucket - end-to-end on two clusters with the vault in a bucket, while its replicas are killed
# make huge  - a million files, and a sparse one of 200 GiB
# make fuzz  - every parser of what a peer sent, MINUTES (10) each
# make demo  - the whole life of a data embassy on two real clusters (KEEP=1 leaves them running)
# make times - how long enabling, copies, switches take, over five runs
# make failover - every scenario of the failover suite, about an hour and a half (SCENARIOS='abort link_cut': only those)
# make three - end-to-end with two embassies, on three clusters
# make stress - CYCLES (50) times: power cut, takeover, return, back; a report with times as a distribution (REPORT=FILE)
# make bench-data - the data path against restic (BENCH='--runs 5 --delay 50'), or where its time goes (BENCH=--profile)
# make idle  - what ten idle embassies cost, over five minutes
# make lint  - formatting, clippy, generated files
.SHELLFLAGS := -euo pipefail -c
SHELL := /bin/bash
.PHONY: help setup test unit model model-deep damage crash bucket e2e-bucket fuzz admission large huge testbed e2e three failover stress times bench-data idle demo lint advisories generate

# Suites that need no cluster.
UNIT := --lib --bins --test definitions --test layers --test replay --test mover --test upgrade --test vault
TESTBED_BIN = $(shell testbed/testbed bin)

help:
	@sed -n '1,18s/^# //p' Makefile

setup:
	@scripts/setup

test: unit model damage bucket admission large testbed e2e

unit: setup
	@scripts/step "the verdict of the failover suite finds planted violations" python3 -B -m unittest discover -q -s tests/failover-suite -p 'test_*.py'
	@scripts/step "unit, schema and property tests" cargo test --locked $(UNIT)
	@scripts/step "reading and writing as the next version" cargo test --locked --features next-version --test upgrade

model: setup
	@scripts/step "model of the failover protocol" cargo test --locked --test failover_model

# What takes too long for every run: more orders, more writes, three sites to the end, mutants that survive.
model-deep: setup
	@scripts/step "model of the failover protocol, larger worlds" cargo test --locked --test failover_model -- --ignored --nocapture

# Every file of a vault, harmed in every way: found, named, and never restored wrong. Some kills at random, too.
damage: setup
	@scripts/step "damage to a vault, copies carried by hand" cargo test --locked --test damage --test crash --test carry

# Kills and failing disks at every call; what was committed is kept, and nothing else is seen.
crash: setup
	@CRASHES=$${CRASHES:-200} scripts/step "mover and vault, killed and failing" cargo test --locked --test crash -- --include-ignored --skip a_backup_in_a_process --nocapture --test-threads=2

# The suites of the vault, with its store in a bucket (BUCKET_SUITES='damage carry': the long ones). Two tests are about folders alone.
BUCKET_SUITES ?= bucket vault mover
bucket: export VAULT_STORE = bucket
bucket: export AWS_ACCESS_KEY_ID = vault
bucket: export AWS_SECRET_ACCESS_KEY = a-key-of-the-tests
bucket: setup
	@scripts/step "object store" testbed/testbed binaries versitygw
	@TESTBED_BIN=$(TESTBED_BIN) scripts/step "vaults in buckets" cargo test --locked $(BUCKET_SUITES:%=--test %) -- \
	  --skip a_folder_has_one_vault --skip a_file_that_the_disk_cannot_read

e2e-bucket: setup
	@scripts/step "end-to-end tests with the vault in a bucket" tests/e2e/bucket

# A real API server: examples accepted, bad manifests refused. Network policies, by an evaluator that is not ours.
admission: setup
	@scripts/step "programs of the test clusters" testbed/testbed binaries etcd kubernetes cyclonus helm
	@TESTBED_BIN=$(TESTBED_BIN) scripts/step "tests on an API server" cargo test --locked --test admission --test apply --test fence --test policies --test mover_objects --test hooks --test renewal -- --nocapture

# Everything that reads what a peer sent, MINUTES (10) for each; what was found of interest stays in fuzz/corpus.
fuzz: setup
	@scripts/fuzz

# A tree of gigabytes through three recovery points, exact each time.
large: setup
	@scripts/step "exact restore at size" cargo test --locked --test mover -- --ignored exact_at_size --nocapture

# A million files, and a sparse one of 200 GiB, within a mover's memory: optimised as what is shipped, or it takes an hour.
huge: export CARGO_PROFILE_DEV_OPT_LEVEL = 3
huge: setup
	@for test in a_million_small_files a_sparse_file_of_200_gib; do \
	  scripts/step "$$test" cargo test --locked --test mover -- --ignored --exact huge::$$test --nocapture || exit 1; done

# The test clusters are what the end-to-end tests take them for.
testbed: setup
	@scripts/step "self-test of the testbed" testbed/selftest

e2e: setup
	@scripts/step "end-to-end tests on two clusters" tests/e2e/run

# Two embassies that cannot reach each other.
three: setup
	@scripts/step "end-to-end tests on three clusters" tests/e2e/three

# Every bad night that we could think of, on two clusters, judged by who really wrote when.
failover: setup
	@scripts/step "failover scenarios" tests/failover-suite/run $(SCENARIOS)

stress: setup
	@scripts/step "stress" tests/failover-suite/stress $(REPORT)

# How long the whole system takes, over five runs.
times: setup
	@scripts/step "times over five runs" tests/e2e/times

# Ten embassies with nothing to do cost the API servers nothing.
idle: setup
	@scripts/step "ten idle embassies for five minutes" tests/e2e/idle

# The data path against restic on the same data, in turn: ratios of wall time, CPU and memory.
bench-data: setup
	@scripts/step "restic and its server" testbed/testbed binaries restic
	@scripts/step "data path against restic" tests/bench/run $(BENCH)

demo: setup
	@scripts/demo

lint: setup
	@scripts/step "formatting" cargo fmt --check
	@scripts/step "clippy" cargo clippy --locked --all-targets -- -D warnings
	@scripts/step "generated files" scripts/generate --check
	@command -v cargo-deny >/dev/null || scripts/step "installing cargo-deny, once" cargo install --locked --quiet cargo-deny@0.20.2
	@scripts/step "licences and sources of the dependencies" cargo deny --log-level error check bans licenses sources
	@scripts/step "helm" testbed/testbed binaries helm
	@scripts/step "chart" $(TESTBED_BIN)/helm lint charts/data-embassy --set site=tallinn

# Known defects of the dependencies; needs the way to the advisory database.
advisories:
	@scripts/step "advisories" cargo deny check advisories

generate:
	@scripts/generate
