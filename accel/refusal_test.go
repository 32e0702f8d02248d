package accel_test

import (
	"errors"
	"testing"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
)

// What the device beneath refuses is told to the program and not recorded.
func TestDeviceRefuses(t *testing.T) {
	dev, h := &refusing{Device: cpu.New()}, &tape{}
	r, err := accel.NewRecorder(dev, h, accel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	x, err1 := r.Alloc(16)
	y, err2 := r.Alloc(16)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	relu := &accel.Launch{Kernel: "relu", Args: []accel.Arg{accel.Out(y), accel.In(x), accel.U32(4)}}
	commands := []struct {
		op accel.Op
		do func() error
	}{
		{accel.OpAlloc, func() error { _, err := r.Alloc(16); return err }},
		{accel.OpFree, func() error { return r.Free(x) }},
		{accel.OpCopyIn, func() error { return r.CopyIn(x, 0, make([]byte, 16)) }},
		{accel.OpCopyOut, func() error { return r.CopyOut(make([]byte, 16), x, 0) }},
		{accel.OpSeed, func() error { return r.Seed(1) }},
		{accel.OpLaunch, func() error { return r.Launch(relu) }},
	}
	for _, c := range commands {
		dev.refuse, h.records = c.op, nil
		if err := c.do(); !errors.Is(err, accel.ErrDevice) || len(h.records) != 0 {
			t.Errorf("%v = %v and %d records, want %v and none", c.op, err, len(h.records), accel.ErrDevice)
		}
	}
	dev.refuse = accel.OpCopyOut // with which the recorder reads what went in and came out
	if err := r.Launch(relu); !errors.Is(err, accel.ErrDevice) || len(h.records) != 0 {
		t.Errorf("launch = %v and %d records, want %v and none", err, len(h.records), accel.ErrDevice)
	}
	dev.refuse = 0
	if err := r.Launch(relu); err != nil || len(h.records) != 1 {
		t.Errorf("launch = %v and %d records, want one", err, len(h.records))
	}
}

// refusing is a device that fails at one op.
type refusing struct {
	*cpu.Device
	refuse accel.Op
}

func (d *refusing) do(op accel.Op, f func() error) error {
	if op == d.refuse {
		return accel.ErrDevice
	}
	return f()
}

func (d *refusing) Alloc(n int) (b accel.Buffer, err error) {
	err = d.do(accel.OpAlloc, func() (err error) { b, err = d.Device.Alloc(n); return err })
	return b, err
}

func (d *refusing) Free(b accel.Buffer) error {
	return d.do(accel.OpFree, func() error { return d.Device.Free(b) })
}

func (d *refusing) CopyIn(dst accel.Buffer, offset int, src []byte) error {
	return d.do(accel.OpCopyIn, func() error { return d.Device.CopyIn(dst, offset, src) })
}

func (d *refusing) CopyOut(dst []byte, src accel.Buffer, offset int) error {
	return d.do(accel.OpCopyOut, func() error { return d.Device.CopyOut(dst, src, offset) })
}

func (d *refusing) Seed(seed uint64) error {
	return d.do(accel.OpSeed, func() error { return d.Device.Seed(seed) })
}

func (d *refusing) Launch(l *accel.Launch) error {
	return d.do(accel.OpLaunch, func() error { return d.Device.Launch(l) })
}
