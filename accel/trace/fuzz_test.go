package trace_test

import (
	"errors"
	"strings"
	"testing"

	"understudy.dev/accel/trace"
)

// Whatever comes in, a command that comes out makes a record that decodes, and an
// error names a line.
func FuzzRead(f *testing.F) {
	f.Add(linesTrace)
	f.Add(kinetoTrace)
	f.Add(`[{"ph":"X","cat":"kernel","name":"k","ts":1,"args":{"correlation":1}}]`)
	f.Fuzz(func(t *testing.T, text string) {
		for c, err := range trace.Read(strings.NewReader(text)) {
			if err != nil {
				var bad *trace.LineError
				if !errors.As(err, &bad) || bad.Line < 1 || bad.Line > 1+strings.Count(text, "\n") {
					if !strings.HasPrefix(text, "\x1f\x8b") && !strings.HasPrefix(text, "\x28\xb5\x2f\xfd") {
						t.Errorf("Read = %v, of %d lines", err, 1+strings.Count(text, "\n"))
					}
				}
				return
			}
			_, _, payload := c.Record()
			if _, err := trace.Decode(payload); err != nil {
				t.Errorf("Decode of %s: %v", payload, err)
			}
		}
	})
}
