package harness_test

import (
	"errors"
	"strings"
	"testing"

	"understudy.dev/harness"
	"understudy.dev/journal"
	"understudy.dev/journal/memjournal"
)

// A name or path that is not UTF-8 is refused and burns no number.
func TestNamesAreUTF8(t *testing.T) {
	j := memjournal.New()
	h := start(t, j, harness.Config{Mode: harness.Record})
	_, seedErr := h.RNGSeed("a\xff", 1)
	_, sizeErr := h.Actor("b").BatchSize("\xc3", 1)
	_, valueErr := h.Value("\xff", nil)
	for call, err := range map[string]error{
		"DeviceCmd": h.DeviceCmd("a\xff", nil), "KernelCmd on a path": h.Actor("a\xff").KernelCmd("b", nil), "Output": h.Output("\xff", nil),
		"RNGSeed": seedErr, "BatchSize": sizeErr, "Value": valueErr,
	} {
		if !errors.Is(err, harness.ErrName) || journal.OutcomeOf(err) != journal.NotDone {
			t.Errorf("%s = %v (%v), want ErrName, not done", call, err, journal.OutcomeOf(err))
		}
	}
	if err := h.DeviceCmd("größe", nil); err != nil {
		t.Errorf("DeviceCmd = %v", err)
	}
	if snap, err := h.Snapshot(t.Context()); err != nil || len(snap) != 1 || snap[0].Number != 1 || snap[0].Name != "größe" {
		t.Errorf("Snapshot = %v, %v; want one entry", snap, err)
	}
	for _, cfg := range []harness.Config{{Name: "\xff"}, {Pin: map[string]string{"driver": "\xff"}}} {
		if _, err := harness.New(t.Context(), nil, cfg); !errors.Is(err, harness.ErrName) {
			t.Errorf("New = %v, want ErrName", err)
		}
	}
}

// An old record with such a name replays all the same.
func TestOldNamesReplay(t *testing.T) {
	j := recorded(t, func(r harness.Recorder) { r.DeviceCmd("one", nil) })
	appendRaw(t, j, &journal.Record{Kind: journal.KindDevice, Request: 2, Name: "a\xff"})
	h := start(t, j, harness.Config{Mode: harness.Replay})
	if err := errors.Join(h.DeviceCmd("one", nil), h.DeviceCmd("a\xff", nil), h.Close()); err != nil {
		t.Error(err)
	}
}

// An error shows the beginning of a name that is too large.
func TestLargeNamesAreShownShort(t *testing.T) {
	large := strings.Repeat("n", 2<<20)
	record := start(t, nil, harness.Config{Mode: harness.Record})
	_, valueErr := record.Value(large, nil)
	_, jsonErr := harness.ValueOf(record, large, make(chan int))
	_, sizeErr := record.BatchSize(large, -1)
	replay := start(t, recorded(t, tenSteps), harness.Config{Mode: harness.Replay})
	for call, err := range map[string]error{
		"DeviceCmd": record.DeviceCmd(large, nil), "on a path": record.Actor(large).DeviceCmd("x", nil),
		"on a bad path": record.Actor(large+": ").DeviceCmd("x", nil),
		"Value":         valueErr, "ValueOf": jsonErr, "BatchSize": sizeErr, "in Replay": replay.DeviceCmd(large, nil),
	} {
		if err == nil || len(err.Error()) > 1000 || !strings.Contains(err.Error(), "nnn") {
			t.Errorf("%s failed with %d bytes that begin with %.80v", call, len(err.Error()), err)
		}
	}
}
