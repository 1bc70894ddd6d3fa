# The verbs of this repository. CI (.ci/run) calls these and `go test -timeout 30m ./...`, nothing else.
# `make help` lists them. Go is the only thing that has to be there: tools are built on first use from the
# versions pinned in tools/*/go.mod, into a cache outside the repository.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO ?= go
# The modules that are kept tidy. Not tools/minio: it pins one program and what that is built from, and go mod tidy
# would add what the tests of all its dependencies need.
MODULES := . tools/lint

# Tools live in a directory named for the pins and the toolchain, so that a changed version is a new binary.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stepwell/tools
PINS := $(shell cat tools/lint/go.mod tools/lint/go.sum | cksum | cut -d' ' -f1)
TOOLS := $(CACHE)/lint-$(PINS)-$(shell $(GO) env GOVERSION)-$(shell $(GO) env GOOS)-$(shell $(GO) env GOARCH)
GOLANGCI_LINT := $(TOOLS)/golangci-lint
WORKFLOWCHECK := $(TOOLS)/workflowcheck

# Packages that the race detector leaves out, as a regular expression over import paths. The conformance suite goes the same
# ways as package tests. Empty: none.
RACE_SKIP ?= /tests/conformance$$
# Tests that it leaves out: programs that it slows down tenfold take longer than those wait or may take; and those about memory, of
# which the detector takes many times what a program needs.
RACE_SKIP_TESTS ?= ^(TestHerd.*|TestKilledFanOut|TestKilledPrediction.*|TestOutage|TestPredictionsOutliveAnOutage|TestWorkersShareA.*|TestIsolatedStepsOverMemory|TestFailures|TestMemory)$$
# How long each fuzz target runs.
FUZZTIME ?= 5s

.PHONY: help
help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: ## run every test, as the README says
	$(GO) test -timeout 30m ./...

.PHONY: test/race
test/race: ## run the tests under the race detector (needs a C compiler)
	@packages=$$($(GO) list ./... | { if [ -n '$(RACE_SKIP)' ]; then grep -Ev '$(RACE_SKIP)'; else cat; fi; }); \
	server=$$(mktemp -d) && trap 'rm -rf "$$server"' EXIT && $(GO) test -c -o "$$server/telemetry.test" ./tests/telemetry && \
	STEPWELL_TEST_SERVER="$$server/telemetry.test" \
	CGO_ENABLED=1 $(GO) test -race -timeout 30m -skip '$(RACE_SKIP_TESTS)' $$packages

.PHONY: test/fuzz
test/fuzz: ## run every fuzz target for FUZZTIME (5s): a smoke test, not a hunt
	@dirs=$$(grep -rlE --include='*_test.go' '^func Fuzz[A-Z]' . | xargs -r -n1 dirname | sort -u); \
	for dir in $$dirs; do \
		for target in $$(grep -hoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go | cut -d' ' -f2); do \
			echo "fuzz $$dir $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime '$(FUZZTIME)' "$$dir"; \
		done; \
	done

.PHONY: lint
lint: $(GOLANGCI_LINT) $(WORKFLOWCHECK) ## gofmt, go vet, golangci-lint, and determinism of the workflow code
	@unformatted=$$(gofmt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted (run gofmt -w):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GOLANGCI_LINT) run ./...
	$(WORKFLOWCHECK) -config .workflowcheck.yaml ./workflows/...

.PHONY: generate
generate: ## write generated files again
	$(GO) generate ./...

.PHONY: verify
verify: ## check that modules are tidy and generated files are current
	@for module in $(MODULES); do echo "go mod tidy -diff ($$module)"; (cd "$$module" && $(GO) mod tidy -diff); done
	@state() { find . \( -name .git -o -name .stepwell \) -prune -o -type f -print0 | sort -z | xargs -0 cksum | cksum; }; \
	before=$$(state); \
	$(MAKE) --no-print-directory generate; \
	if [ "$$(state)" != "$$before" ]; then echo "generated files were not current (commit what make generate wrote)"; exit 1; fi

.PHONY: bench
bench: ## print the ratios of docs/decisions.md: a step against a bare activity, a File against a bare upload
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 30m ./bench/...

$(GOLANGCI_LINT):
	cd tools/lint && CGO_ENABLED=0 $(GO) build -trimpath -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(WORKFLOWCHECK):
	cd tools/lint && CGO_ENABLED=0 $(GO) build -trimpath -o $@ go.temporal.io/sdk/contrib/tools/workflowcheck
