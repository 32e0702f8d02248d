package main

import (
	"os"
	"testing"
)

// asBinary makes the test binary act as understudy.
const asBinary = "UNDERSTUDYTEST_AS_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asBinary) != "" {
		main()
		return
	}
	os.Setenv(asBinary, "1")
	os.Exit(m.Run())
}
