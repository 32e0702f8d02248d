// Command bits runs every kernel on the same inputs and prints a digest of each
// output. Its last line is a product and a sum that a compiler may fuse: it shows
// whether this build does.
package main

import (
	"crypto/sha256"
	"fmt"
	"log"
	"maps"
	"os"
	"slices"

	"understudy.dev/accel"
	"understudy.dev/accel/cpu"
)

func main() {
	dev := cpu.New()
	catalogue := accel.Catalogue()
	for _, name := range slices.Sorted(maps.Keys(catalogue)) {
		fmt.Printf("%s %x\n", name, digest(dev, catalogue[name]))
	}
	x, y, z := float64(1)/3+float64(len(os.Args)-1), float64(3)+float64(len(os.Args)-1), -float64(len(os.Args))
	fmt.Printf("fused %t\n", fusible(x, y, z) != 0)
}

//go:noinline
func fusible(x, y, z float64) float64 { return x*y + z }

// digest runs k with every size 48 and every scalar 0.3 or 3, on normal numbers.
func digest(dev *cpu.Device, k *accel.Kernel) []byte {
	const size, words = 48, 48 * 48
	check(dev.Seed(7))
	launch := &accel.Launch{Kernel: k.Name}
	for i, p := range k.Params {
		switch {
		case p.Mode.IsBuffer():
			launch.Args = append(launch.Args, accel.Arg{Mode: p.Mode, Bits: uint64(filled(dev, i, words, p.Float))})
		case p.Mode == accel.ModeF32:
			launch.Args = append(launch.Args, accel.F32(0.3))
		case p.Name == "ta" || p.Name == "tb":
			launch.Args = append(launch.Args, accel.U32(0))
		default:
			launch.Args = append(launch.Args, accel.Arg{Mode: p.Mode, Bits: size})
		}
	}
	check(dev.Launch(launch))
	sum := sha256.New()
	for _, a := range launch.Args {
		if a.Mode.IsBuffer() {
			data := make([]byte, 4*words)
			check(dev.CopyOut(data, a.Buffer(), 0))
			sum.Write(data)
		}
	}
	return sum.Sum(nil)
}

// filled returns a buffer of normal numbers, or of numbers below 256.
func filled(dev *cpu.Device, stream, words int, isFloat bool) accel.Buffer {
	b, err := dev.Alloc(4 * words)
	check(err)
	if isFloat {
		check(dev.Launch(&accel.Launch{Kernel: "fill_normal", Args: []accel.Arg{
			accel.Out(b), accel.U32(uint32(words)), accel.U64(uint64(stream)), accel.F32(0.1), accel.F32(2),
		}}))
		return b
	}
	data := make([]byte, 4*words)
	for i := range words {
		data[4*i] = byte(7 * i)
	}
	check(dev.CopyIn(b, 0, data))
	return b
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
