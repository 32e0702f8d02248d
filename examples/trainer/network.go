package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"

	"understudy.dev/accel"
)

// The network: two inputs, two hidden layers with ReLU and dropout, two classes.
const (
	inputs   = 2
	hidden   = 32
	classes  = 2
	maxBatch = 96 // rows of the buffers

	rate     = 0.1
	momentum = 0.9
	dropped  = 0.05
)

// A layer is out = in * weights + bias, with what training it takes.
type layer struct {
	in, out        int
	weights, bias  accel.Buffer
	dw, db         accel.Buffer // gradients, then velocities
	vw, vb         accel.Buffer // velocities of the step before
	sum, act, back accel.Buffer // before and after ReLU and dropout; gradient of sum
	mask           accel.Buffer // ReLU's output, or gradient of act
}

// A network is on a device. The first error stays, and later calls do nothing.
type network struct {
	dev    accel.Device
	err    error
	layers []*layer
	points accel.Buffer // the whole set
	labels accel.Buffer
	index  accel.Buffer // of the batch
	x, y   accel.Buffer // the batch
	p      accel.Buffer // of each class
	losses accel.Buffer
	loss   accel.Buffer // their sum
}

func newNetwork(dev accel.Device, points, labels []byte) *network {
	n := &network{dev: dev}
	n.points, n.labels = n.filled(points), n.filled(labels)
	n.index, n.x, n.y = n.alloc(maxBatch), n.alloc(maxBatch*inputs), n.alloc(maxBatch)
	n.p, n.losses, n.loss = n.alloc(maxBatch*classes), n.alloc(maxBatch), n.alloc(1)
	in := inputs
	for _, out := range []int{hidden, hidden, classes} {
		n.layers = append(n.layers, &layer{
			in: in, out: out, weights: n.alloc(in * out), bias: n.alloc(out),
			dw: n.alloc(in * out), db: n.alloc(out), vw: n.alloc(in * out), vb: n.alloc(out),
			sum: n.alloc(maxBatch * out), act: n.alloc(maxBatch * out), back: n.alloc(maxBatch * out), mask: n.alloc(maxBatch * out),
		})
		in = out
	}
	return n
}

// initialize draws the weights from the device's seed.
func (n *network) initialize(seed uint64) {
	n.seed(seed)
	for i, l := range n.layers {
		n.launch("fill_normal", accel.Out(l.weights), size(l.in*l.out), accel.U64(uint64(i)), accel.F32(0), accel.F32(float32(math.Sqrt(2/float64(l.in)))))
	}
}

// scatter moves the points by noise from the device's seed.
func (n *network) scatter(seed uint64, count int, deviation float32) {
	n.seed(seed)
	noise := n.alloc(count * inputs)
	n.launch("fill_normal", accel.Out(noise), size(count*inputs), accel.U64(0), accel.F32(0), accel.F32(deviation))
	n.launch("saxpy", accel.InOut(n.points), accel.In(noise), size(count*inputs), accel.F32(1))
	n.free(noise)
}

// step trains on the points with these numbers and returns their mean loss.
func (n *network) step(index []byte, total int, stream uint64) float32 {
	rows := len(index) / 4
	n.load(index, total)
	n.forward(rows, stream, dropped)
	n.launch("cross_entropy", accel.Out(n.losses), accel.In(n.p), accel.In(n.y), size(rows), size(classes))
	n.launch("reduce_sum", accel.Out(n.loss), accel.In(n.losses), size(rows))
	n.backward(rows, stream)
	n.update()
	return n.word(n.loss) / float32(rows)
}

// load gathers a batch.
func (n *network) load(index []byte, total int) {
	rows := len(index) / 4
	n.copyIn(n.index, index)
	n.launch("gather", accel.Out(n.x), accel.In(n.points), accel.In(n.index), size(total), size(rows), size(inputs))
	n.launch("gather", accel.Out(n.y), accel.In(n.labels), accel.In(n.index), size(total), size(rows), size(1))
}

// forward computes the probabilities of a batch. Masks of dropout come from the
// stream, so that backward can draw the same ones again.
func (n *network) forward(rows int, stream uint64, drop float32) {
	in := n.x
	for i, l := range n.layers {
		n.gemm(l.sum, in, l.weights, rows, l.out, l.in, 0, 0)
		n.launch("bias_add", accel.InOut(l.sum), accel.In(l.bias), size(rows), size(l.out))
		if i < len(n.layers)-1 {
			n.launch("relu", accel.Out(l.mask), accel.In(l.sum), size(rows*l.out))
			n.drop(l.act, l.mask, rows*l.out, maskStream(stream, i), drop)
		}
		in = l.act
	}
	n.launch("softmax", accel.Out(n.p), accel.In(n.last().sum), size(rows), size(classes))
}

func (n *network) last() *layer { return n.layers[len(n.layers)-1] }

// maskStream gives each layer of each step a stream of random words.
func maskStream(step uint64, layer int) uint64 { return step<<8 | uint64(layer) }

func (n *network) drop(out, in accel.Buffer, count int, stream uint64, p float32) {
	n.launch("dropout", accel.Out(out), accel.In(in), size(count), accel.U64(stream), accel.F32(p), accel.F32(1/(1-p)))
}

// backward computes the gradients of the batch that forward took.
func (n *network) backward(rows int, stream uint64) {
	n.launch("cross_entropy_grad", accel.Out(n.last().back), accel.In(n.p), accel.In(n.y), size(rows), size(classes), accel.F32(1/float32(rows)))
	for i := len(n.layers) - 1; i >= 0; i-- {
		l, in := n.layers[i], n.x
		if i > 0 {
			in = n.layers[i-1].act
		}
		n.gemm(l.dw, in, l.back, l.in, l.out, rows, 1, 0)
		n.launch("bias_grad", accel.Out(l.db), accel.In(l.back), size(rows), size(l.out))
		if i > 0 {
			below := n.layers[i-1]
			n.gemm(below.act, l.back, l.weights, rows, l.in, l.out, 0, 1)
			n.drop(below.mask, below.act, rows*l.in, maskStream(stream, i-1), dropped)
			n.launch("relu_grad", accel.Out(below.back), accel.In(below.mask), accel.In(below.sum), size(rows*l.in))
		}
	}
}

// update makes a velocity of each gradient and takes the step.
func (n *network) update() {
	for _, l := range n.layers {
		n.launch("saxpy", accel.InOut(l.dw), accel.In(l.vw), size(l.in*l.out), accel.F32(momentum))
		n.launch("sgd", accel.InOut(l.weights), accel.In(l.dw), size(l.in*l.out), accel.F32(rate))
		n.launch("saxpy", accel.InOut(l.db), accel.In(l.vb), size(l.out), accel.F32(momentum))
		n.launch("sgd", accel.InOut(l.bias), accel.In(l.db), size(l.out), accel.F32(rate))
		l.dw, l.vw, l.db, l.vb = l.vw, l.dw, l.vb, l.db
	}
}

// right counts the points of a batch that are classified as labelled.
func (n *network) right(index []byte, total int, labels []byte) int {
	n.load(index, total)
	n.forward(len(index)/4, 0, 0)
	p := n.copyOut(n.p, 4*classes*len(index)/4)
	count := 0
	for i := 0; n.err == nil && i < len(index); i += 4 {
		second := float(p[2*i+4:]) > float(p[2*i:])
		if second == (labels[4*binary.LittleEndian.Uint32(index[i:])] == 1) {
			count++
		}
	}
	return count
}

// digest is over all weights and biases.
func (n *network) digest() []byte {
	sum := sha256.New()
	for _, l := range n.layers {
		sum.Write(n.copyOut(l.weights, 4*l.in*l.out))
		sum.Write(n.copyOut(l.bias, 4*l.out))
	}
	return sum.Sum(nil)
}

func shortDigest(d []byte) string { return hex.EncodeToString(d[:8]) }

func size(n int) accel.Arg { return accel.U32(uint32(n)) }

func float(b []byte) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(b)) }

func (n *network) gemm(c, a, b accel.Buffer, rows, cols, inner int, ta, tb uint32) {
	n.launch("sgemm", accel.Out(c), accel.In(a), accel.In(b), size(rows), size(cols), size(inner), accel.U32(ta), accel.U32(tb))
}

// do keeps the first error.
func (n *network) do(what string, command func() error) {
	if n.err == nil {
		if err := command(); err != nil {
			n.err = fmt.Errorf("%s: %w", what, err)
		}
	}
}

func (n *network) launch(kernel string, args ...accel.Arg) {
	n.do("launch "+kernel, func() error { return n.dev.Launch(&accel.Launch{Kernel: kernel, Args: args}) })
}

func (n *network) seed(seed uint64) {
	n.do("seed device", func() error { return n.dev.Seed(seed) })
}

func (n *network) alloc(words int) (b accel.Buffer) {
	n.do("allocate", func() (err error) { b, err = n.dev.Alloc(4 * words); return err })
	return b
}

func (n *network) free(b accel.Buffer) {
	n.do("free", func() error { return n.dev.Free(b) })
}

func (n *network) filled(data []byte) accel.Buffer {
	b := n.alloc(len(data) / 4)
	n.copyIn(b, data)
	return b
}

func (n *network) copyIn(b accel.Buffer, data []byte) {
	n.do("copy in", func() error { return n.dev.CopyIn(b, 0, data) })
}

func (n *network) copyOut(b accel.Buffer, bytes int) []byte {
	data := make([]byte, bytes)
	n.do("copy out", func() error { return n.dev.CopyOut(data, b, 0) })
	return data
}

func (n *network) word(b accel.Buffer) float32 { return float(n.copyOut(b, 4)) }
