package main

import (
	"errors"
	"fmt"

	"understudy.dev/accel"
	"understudy.dev/harness"
)

// A plant is a difference made on purpose in a replay.
type plant struct {
	kind  string
	epoch int
}

// The kinds of plants.
const (
	plantNone  = ""
	plantSeed  = "seed"  // the dropout seed is one more
	plantBatch = "batch" // the batch size is one more
	plantBit   = "bit"   // a bit of the last layer's bias is flipped
)

// check refuses what would plant nothing in a run of so many epochs: its replay
// would agree as if the difference had not been found.
func (p plant) check(epochs int) error {
	switch p.kind {
	case plantNone:
		return nil
	case plantSeed, plantBatch, plantBit:
		if p.epoch < 1 || p.epoch > epochs {
			return fmt.Errorf("--plant-epoch %d: there are epochs 1 to %d", p.epoch, epochs)
		}
		return nil
	}
	return fmt.Errorf("unknown plant %q, want %s, %s or %s", p.kind, plantSeed, plantBatch, plantBit)
}

// at returns what is planted in an epoch.
func (p plant) at(epoch int) string {
	if epoch == p.epoch {
		return p.kind
	}
	return plantNone
}

// flipBit flips the highest bit of a fraction, as a failing memory would: beneath
// the recorder, which numbers its buffers as the CPU device does.
func flipBit(raw accel.Device, l *layer) error {
	word := make([]byte, 4)
	if err := raw.CopyOut(word, l.bias, 0); err != nil {
		return fmt.Errorf("plant a bit: %w", err)
	}
	word[2] ^= 0x40
	if err := raw.CopyIn(l.bias, 0, word); err != nil {
		return fmt.Errorf("plant a bit: %w", err)
	}
	return nil
}

// A witness is the recorder of a replay that may go on after the first difference,
// so that it can be drawn: it keeps the difference and leaves the record.
type witness struct {
	harness.Recorder
	leave func() error
	found *harness.Difference
}

// see takes in the error of a call and returns what the program is told.
func (w *witness) see(err error) error {
	if w.leave == nil || w.found != nil || !errors.As(err, &w.found) {
		return err
	}
	return w.leave()
}

func (w *witness) DeviceCmd(name string, payload []byte) error {
	return w.see(w.Recorder.DeviceCmd(name, payload))
}

func (w *witness) KernelCmd(kind string, payload []byte) error {
	return w.see(w.Recorder.KernelCmd(kind, payload))
}

func (w *witness) Output(name string, data []byte) error {
	return w.see(w.Recorder.Output(name, data))
}

func (w *witness) RNGSeed(path string, fresh uint64) (uint64, error) {
	seed, err := w.Recorder.RNGSeed(path, fresh)
	return seed, w.see(err)
}

func (w *witness) BatchSize(path string, fresh int) (int, error) {
	n, err := w.Recorder.BatchSize(path, fresh)
	return n, w.see(err)
}

func (w *witness) Value(path string, fresh []byte) ([]byte, error) {
	v, err := w.Recorder.Value(path, fresh)
	return v, w.see(err)
}
