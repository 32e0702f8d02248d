.PHONY: test ci demo lint format fuzz

# The one command of the README; without make: go build ./... && go test ./...
test:
	go build ./... && go test ./...

ci:
	.ci/run

demo:
	go run ./cmd/understudy demo

lint:
	go vet ./...
	go tool -modfile=tools/go.mod golangci-lint run ./...

format:
	go tool -modfile=tools/go.mod gofumpt -w .

# FUZZTIME=60s per target, FUZZBUDGET=1200 seconds for all
fuzz:
	.ci/fuzz
