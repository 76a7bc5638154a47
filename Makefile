# The commands of the project. `make test` is the one test command; .ci/run is everything that has to pass.

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: build test bench check tools check-format check-vet check-lint check-tidy

build:
	go build -trimpath -o bin/ ./cmd/...

# The e2e tests run a program that their test cache does not know of, hence -count=1.
test: tools
	go test -vet=off -race ./...
	go test -vet=off -race -tags openssl ./internal/hsm/...
	cd e2e && go test -vet=off -count=1 ./...

# About ten minutes on a quiet machine; the results go into the page.
bench:
	go run ./bench -out docs/benchmarks.md

# Pinned clients of other languages and Azurite, into .tools; nothing to do and no network needed once they are there.
tools:
	e2e/tools.sh

check: check-format check-vet check-lint check-tidy

check-format:
	@files=$$(git ls-files --cached --others --exclude-standard '*.go' | xargs ls -d 2>/dev/null | xargs gofmt -l); \
	if [ -n "$$files" ]; then echo "gofmt -w is needed for:"; echo "$$files"; exit 1; fi

# The tags client and azurite are those of programs which the e2e tests compile by themselves.
check-vet:
	go vet ./...
	go vet -tags openssl ./internal/hsm/...
	go vet -tags azurite ./internal/backup
	cd e2e && go vet -tags client ./...

check-lint:
	go run $(STATICCHECK) ./...
	go run $(STATICCHECK) -tags openssl ./internal/hsm/...
	go run $(STATICCHECK) -tags azurite ./internal/backup
	cd e2e && go run $(STATICCHECK) -tags client ./...

check-tidy:
	go mod tidy -diff
	cd e2e && go mod tidy -diff
