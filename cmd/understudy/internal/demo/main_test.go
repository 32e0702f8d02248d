package demo

import (
	"os"
	"testing"

	"understudy.dev/cli"
	"understudy.dev/engines/exchange"
)

// asBinary makes the test binary act as understudy: tests start it as journal
// and nodes.
const asBinary = "UNDERSTUDYTEST_AS_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asBinary) != "" {
		cli.Main(cli.App{Name: "understudy", Machine: exchange.Definition()})
	}
	os.Setenv(asBinary, "1")
	os.Exit(m.Run())
}
