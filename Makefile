# Every habit of the project, by name. `make` alone prints this list.
# DEMO_DIR, DEMO_RING (demo), FUZZTIME (fuzz), TESTFLAGS (test, lab) and, for image, BUILDROOT (a Buildroot tree), BOARD and
# IMAGEFLAGS (-check, -debug, -o DIR) may be set on the command line.

.DEFAULT_GOAL := help
.PHONY: help demo test check lab soak arm image bench fuzz

FUZZTIME ?= 10s
BOARD ?= qemu-aarch64

help: ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

demo: ## a clinic and a terminal on this machine; prints the addresses, Ctrl-C stops both
	@scripts/setup build
	@go run ./scripts/demo

test: ## every test there is, the lab too, with one closing summary
	@scripts/setup build test arm lab
	@scripts/check
	@go run ./scripts/testrun $(TESTFLAGS) ./...

check: ## formatting, vet, shell and TypeScript
	@scripts/setup build test
	@scripts/check

lab: ## boot the emulated arm64 terminal and call it with a real browser
	@scripts/setup build test arm lab
	@go run ./scripts/testrun $(TESTFLAGS) ./scripts/lab/...

soak: ## the long sizes: an hour of 200 terminals with faults, an hour of one with calls, power cuts, resets, noise on the panel; two hours
	@scripts/setup build test arm lab
	@go run ./scripts/soak

arm: ## cross-compile the agent for arm64 and armv7 into build/, reproducibly, with bills of materials
	@scripts/setup build arm
	@scripts/arm

image: ## the terminal's image for BOARD, by your Buildroot tree: BUILDROOT=path (buildroot/README.md)
	@go run ./scripts/image -buildroot "$(BUILDROOT)" -board "$(BOARD)" $(IMAGEFLAGS)

bench: ## measure the terminal beside GStreamer and print one table
	@scripts/setup build test arm bench
	@go run ./scripts/bench

fuzz: ## run each fuzz target for FUZZTIME
	@scripts/setup build
	@scripts/fuzz $(FUZZTIME)
