package main

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"math/bits"
	"time"

	"understudy.dev/accel"
	"understudy.dev/harness"
)

// A trainer is one run of the program: the same code in every mode.
type trainer struct {
	world  harness.Recorder // seeds, batch sizes and the clock come from here
	dev    accel.Device     // records what it is asked
	raw    accel.Device     // beneath it, for the plant of a bit
	plant  plant
	epochs int
	count  int // points
	out    io.Writer
	flush  func() error    // what was recorded is stored when it returns
	onStep func(v float32) // told of each loss

	net    *network
	labels []byte
	step   uint64
}

// train runs all epochs and returns a digest of the weights.
func (t *trainer) train() ([]byte, error) {
	points, labels := spirals(t.count)
	t.labels = labels
	began, err := harness.ValueOf(t.world, "clock", time.Now().Unix())
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(t.out, "%d points, run of %s\n", t.count, time.Unix(began, 0).UTC().Format(time.RFC3339))
	t.net = newNetwork(t.dev, points, labels)
	if err := t.prepare(); err != nil {
		return nil, err
	}
	var digest []byte
	for epoch := 1; epoch <= t.epochs; epoch++ {
		if digest, err = t.epoch(epoch); err != nil {
			return nil, fmt.Errorf("epoch %d: %w", epoch, err)
		}
	}
	right, err := t.test()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(t.out, "%d of %d right, weights %x\n", right, t.count, digest)
	return digest, nil
}

// prepare makes the noise in the data and the initial weights.
func (t *trainer) prepare() error {
	noise, err := t.seed("noise")
	if err != nil {
		return err
	}
	t.net.scatter(noise, t.count, 0.05)
	weights, err := t.seed("weights")
	if err != nil {
		return err
	}
	t.net.initialize(weights)
	return t.net.err
}

// epoch trains on every point once, in an order and in batches that are its own.
func (t *trainer) epoch(epoch int) ([]byte, error) {
	shuffle, err := t.seed("shuffle")
	if err != nil {
		return nil, err
	}
	drop, err := t.seed("dropout")
	if err != nil {
		return nil, err
	}
	rows, err := t.world.BatchSize("trainer", tune(epoch))
	if err != nil {
		return nil, err
	}
	planted := t.plant.at(epoch)
	if planted == plantSeed {
		drop++
	}
	if planted == plantBatch {
		rows++
	}
	t.net.seed(drop)
	if planted == plantBit {
		if err := flipBit(t.raw, t.net.last()); err != nil {
			return nil, err
		}
	}
	var total float32
	order := permutation(t.count, shuffle)
	for left := order; len(left) > 0 && t.net.err == nil; {
		n := min(4*rows, len(left))
		loss := t.net.step(left[:n], t.count, t.step)
		if t.net.err != nil {
			break
		}
		if err := t.world.Output("loss", appendFloat(nil, loss)); err != nil {
			return nil, err
		}
		t.onStep(loss)
		total += float32(loss * float32(n/4))
		left, t.step = left[n:], t.step+1
	}
	digest := t.net.digest()
	if t.net.err != nil {
		return nil, t.net.err
	}
	if err := t.world.Output("weights", digest); err != nil {
		return nil, err
	}
	if err := t.flush(); err != nil {
		return nil, err
	}
	fmt.Fprintf(t.out, "epoch %d, batches of %d, loss %.4f, weights %s\n", epoch, rows, total/float32(t.count), shortDigest(digest))
	return digest, nil
}

// test counts what is right without dropout, in the order of the set.
func (t *trainer) test() (right int, err error) {
	var index []byte
	for i := range t.count {
		index = binary.LittleEndian.AppendUint32(index, uint32(i))
	}
	for len(index) > 0 {
		n := min(4*maxBatch, len(index))
		right += t.net.right(index[:n], t.count, t.labels)
		index = index[n:]
	}
	if t.net.err != nil {
		return 0, t.net.err
	}
	return right, t.world.Output("right", binary.LittleEndian.AppendUint32(nil, uint32(right)))
}

// seed asks for a seed, freshly drawn from the system.
func (t *trainer) seed(path string) (uint64, error) {
	var fresh [8]byte
	if _, err := rand.Read(fresh[:]); err != nil {
		return 0, err
	}
	return t.world.RNGSeed(path, binary.LittleEndian.Uint64(fresh[:]))
}

// tune chooses a batch size that grows, by chance and not by rule: it stands for a
// tuner that looks at the memory that is free and the time that steps take.
func tune(epoch int) int {
	jitter, err := rand.Int(rand.Reader, big.NewInt(9))
	if err != nil {
		return 16
	}
	return min(16+epoch/4+int(jitter.Int64()), maxBatch-1)
}

// permutation returns the numbers below n in an order made of seed alone (splitmix64
// and Fisher and Yates), as words for the device.
func permutation(n int, seed uint64) []byte {
	order := make([]uint32, n)
	for i := range order {
		order[i] = uint32(i)
	}
	for i := n - 1; i > 0; i-- {
		seed += 0x9e3779b97f4a7c15
		z := (seed ^ seed>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		j, _ := bits.Mul64(z^z>>31, uint64(i+1))
		order[i], order[j] = order[j], order[i]
	}
	var words []byte
	for _, v := range order {
		words = binary.LittleEndian.AppendUint32(words, v)
	}
	return words
}
