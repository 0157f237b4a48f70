# Everything is done from here. Needed beforehand: Go 1.26, Node 20, make and bash.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

export GOTOOLCHAIN := local

VERSION = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# How long each fuzz target of fuzz-short runs.
FUZZTIME ?= 20s

# How long relay-soak lasts.
SOAK ?= 1h

npm := npm --prefix web
packages := web/node_modules/.package-lock.json
site := web/app/dist/site/index.html
lint := bin/golangci-lint

# Directories are listed, too: a file that was removed changes its directory.
site_sources = web/package-lock.json web/tsconfig.base.json $(shell find web/sdk web/app \
	\( -name dist -o -name node_modules \) -prune -o ! -name '*.test.ts*' ! -name '.*' -print)

.PHONY: help run build web test licenses fmt lint types test-go test-web test-e2e matrix test-faults fuzz-short relay-cycles relay-soak bench bench-signaling bench-relay bench-call bench-far bench-attack faults clean needs

help: ## print the targets
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/\1\t\2/p' Makefile | expand -t 18

## To use it

run: build ## build everything and start the server; ARGS="..." are added to "visavis serve"
	bin/visavis serve $(ARGS)

build: web ## build bin/visavis with the web app in it
	CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/visavis ./cmd/visavis

web: $(site) ## build the web app alone

$(site): $(packages) $(site_sources)
	$(npm) run build

$(packages): web/package-lock.json
	$(npm) ci
	@touch $@

## To work on it

steps := lint types test-go fuzz-short test-web test-e2e test-faults

test: needs ## install what tests need, then lint, types, test-go, fuzz-short, test-web, test-e2e, test-faults
	@for step in $(steps); do \
		echo "== $$step"; begin=$$SECONDS; \
		$(MAKE) --no-print-directory $$step; \
		took+="$$(printf '%6d s  %s' $$((SECONDS - begin)) $$step)"$$'\n'; \
	done; \
	printf '== passed\n%s' "$$took"

needs:
	@tools/need.sh gcc='gcc libc6-dev' nft=nftables ip=iproute2 turnutils_uclient=coturn /usr/sbin/nginx=nginx-light /usr/sbin/haproxy=haproxy caddy=caddy chromium=chromium firefox-esr=firefox-esr

licenses: $(packages) ## write the licenses of all that is in the program to cmd/visavis/licenses.txt
	go mod download
	go run -C tools ./licenses ..

fmt: $(lint) $(packages) ## format the sources, Go and TypeScript
	$(lint) fmt
	$(npm) run fmt

lint: $(lint) $(packages) ## check format and style, Go and TypeScript
	go vet ./...
	$(lint) run
	$(npm) run lint

# Takes some minutes the first time; after that it lies in Go's build cache.
$(lint): tools/go.mod tools/go.sum
	go build -C tools -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

types: $(packages) ## check the types of the TypeScript sources
	$(npm) run types

test-go: ## go test -race ./...
	go test -race ./...

test-web: $(packages) ## the tests of SDK and app, without a browser
	$(npm) test

test-e2e: build ## the tests in real browsers
	$(npm) run e2e

matrix: build ## restarts and reloads with every pair of browsers, codec and time of accept: twenty minutes
	MATRIX=all $(npm) run e2e -- restart.test.ts

test-faults: build ## break a call in every way we know, once or twice each; as root
	$(npm) run faults --workspace=e2e

faults: build ## break a call in every way we know, often, and print how long it took to heal; needs root
	FAULTS=all $(npm) run faults --workspace=e2e

fuzz-short: ## run every fuzz target for FUZZTIME each
	tools/fuzz.sh $(FUZZTIME)

relay-cycles: ## 100,000 cycles of the relay's allocations, after which nothing may be left
	RELAY_CYCLES=100000 go test -count=1 -v -run='^TestCyclesLeaveNothing$$' ./internal/relay

relay-soak: build ## calls come and go at the relay for SOAK (1h), and its memory is told all the while
	go run ./bench/soak -visavis bin/visavis -for $(SOAK)

bench: bench-signaling bench-relay bench-call ## measure against peers, as bench/README.md tells: three quarters of an hour

peer := bench/peer/node_modules/.package-lock.json

$(peer): bench/peer/package-lock.json
	npm --prefix bench/peer ci
	@touch $@

bench-signaling: build $(peer) ## memory of an idle connection, CPU of a relayed message, whole calls: a quarter of an hour
	go run ./bench/signaling -visavis bin/visavis

bench-relay: build ## the relay beside coturn (apt-get install coturn): CPU a packet, latency, memory
	go run ./bench/relay -visavis bin/visavis

bench-call: build $(peer) ## click to ringing, accept to the first picture
	node bench/call/call.mjs

bench-far: build $(peer) ## the same between two machines with RTT=100 ms between them; needs root
	bench/call/far.sh

bench-attack: build ## what strangers do to a server, and how long an honest newcomer waits meanwhile: four minutes
	go run ./bench/attack -visavis bin/visavis

clean: ## remove what was built; packages and data stay
	rm -rf bin web/app/dist/site web/sdk/dist web/e2e/out
