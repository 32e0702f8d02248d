package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// grouped writes a number with a comma after each three digits.
func grouped[N ~uint64 | ~int](n N) string {
	s := strconv.FormatUint(uint64(n), 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// counted is a number of things, in the singular where it is one.
func counted[N ~uint64 | ~int](n N, thing string) string {
	switch {
	case n == 1:
		return "1 " + thing
	case strings.HasSuffix(thing, "batch"):
		thing += "e"
	}
	return grouped(n) + " " + thing + "s"
}

// perSecond writes a rate with two digits that count: 4.9k/s, 23k/s.
func perSecond(r float64) string {
	switch {
	case r >= 9.95e6:
		return fmt.Sprintf("%.0fM/s", r/1e6)
	case r >= 999.5e3:
		return fmt.Sprintf("%.1fM/s", r/1e6)
	case r >= 9.95e3:
		return fmt.Sprintf("%.0fk/s", r/1e3)
	case r >= 999.5:
		return fmt.Sprintf("%.1fk/s", r/1e3)
	}
	return fmt.Sprintf("%.0f/s", r)
}

// sized writes a number of bytes in IEC units.
func sized(bytes uint64) string {
	const units = "KMGTPE"
	if bytes < 1024 {
		return fmt.Sprintf("%d B", bytes)
	}
	v, unit := float64(bytes)/1024, 0
	for v >= 1024 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", v, units[unit])
}

// short writes a duration as people say it: 41ms, 2.3s, 14m, 5h, 2 days.
func short(d time.Duration) string {
	switch {
	case d == math.MinInt64: // it has no opposite
		return short(d + 1)
	case d < 0:
		return "-" + short(-d)
	case d < time.Millisecond:
		return fmt.Sprintf("%.1fms", float64(d)/float64(time.Millisecond))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// shortSeconds is short of a number of seconds.
func shortSeconds(s float64) string { return short(time.Duration(s * float64(time.Second))) }

// shortMillis is short of a number of milliseconds.
func shortMillis(ms float64) string { return short(time.Duration(ms * float64(time.Millisecond))) }
