package cli

import (
	"path/filepath"
	"testing"
)

// What bench prints: commands per second, and three quantiles that grow.
func TestBenchPrintsCommandsAndQuantiles(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"append", []string{"bench", "append", "--submitters", "4", "--duration", "50ms"}, "4 submitters, 1 outstanding each"},
		{"follow", []string{"bench", "follow", "--records", "20000"}, "from one batch applied to the next"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url := func(name string) string { return fileURL(filepath.Join(t.TempDir(), name)) }
			run(t.Context(), url("words"), tt.args...).want(t, 0, " commands/s   ", "p50 ", "p99 ", "p99.9 ", " commands a batch   "+tt.want)
			var r benchResult
			run(t.Context(), url("json"), append(tt.args, "--json")...).decode(t, &r)
			if r.P50 <= 0 || r.P99 < r.P50 || r.P999 < r.P99 || r.PerSecond <= 0 || r.RecordsBatch < 1 {
				t.Errorf("measured %+v", r)
			}
			if tt.name == "follow" && r.Records != 20000 {
				t.Errorf("%d commands followed, want 20000", r.Records)
			}
		})
	}
}
