package cli

import (
	"math"
	"testing"
	"time"
)

func TestShort(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0.0ms", 41 * time.Millisecond: "41ms", 2300 * time.Millisecond: "2.3s", 14 * time.Minute: "14m", 5 * time.Hour: "5h",
		48 * time.Hour: "2 days", -time.Second: "-1.0s", math.MinInt64: "-106751 days",
	} {
		if got := short(d); got != want {
			t.Errorf("short(%d) = %q, want %q", d, got, want)
		}
	}
}
