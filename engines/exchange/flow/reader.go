package flow

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"understudy.dev/engines/exchange"
)

// maxLine is the longest line that is read: seven numbers need a fifth of it.
const maxLine = 1 << 10

// A Reader reads operations from a file. One goroutine uses it.
type Reader struct {
	name  string
	lines *bufio.Scanner
	line  int
	last  uint64 // n of the operation before
	close func() error
}

// Open opens a file of operations and checks its header. A name that ends in .zst
// is decompressed.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open operations: %w", err)
	}
	r, err := open(path, f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func open(path string, f *os.File) (*Reader, error) {
	if !strings.HasSuffix(path, ".zst") {
		return newReader(path, f, f.Close)
	}
	z, err := zstd.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("open operations %s: %w", path, err)
	}
	r, err := newReader(path, z, func() error {
		z.Close()
		return f.Close()
	})
	if err != nil {
		z.Close()
	}
	return r, err
}

// NewReader reads operations from in; name is for errors.
func NewReader(name string, in io.Reader) (*Reader, error) {
	return newReader(name, in, func() error { return nil })
}

func newReader(name string, in io.Reader, closeInput func() error) (*Reader, error) {
	r := &Reader{name: name, lines: bufio.NewScanner(in), close: closeInput}
	r.lines.Buffer(make([]byte, 0, maxLine), maxLine)
	header, err := r.next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read %s: empty, want the header %q", name, Header)
	case err != nil:
		return nil, err
	case header != Header:
		return nil, r.fault(fmt.Errorf("header %s: want %q", quote(header), Header))
	}
	return r, nil
}

// Close closes the file.
func (r *Reader) Close() error { return r.close() }

// Next returns the next operation, and io.EOF after the last. Any other error names
// the file, the line and what was expected there.
func (r *Reader) Next() (Op, error) {
	line, err := r.next()
	if err != nil {
		return Op{}, err
	}
	op, err := parseOp(line)
	if err == nil && op.N <= r.last {
		err = fmt.Errorf("n %d: want more than the %d of the operation before", op.N, r.last)
	}
	if err != nil {
		return Op{}, r.fault(err)
	}
	r.last = op.N
	return op, nil
}

// next returns the next line, without its end.
func (r *Reader) next() (string, error) {
	r.line++
	if r.lines.Scan() {
		return r.lines.Text(), nil
	}
	switch err := r.lines.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return "", r.fault(fmt.Errorf("longer than %d bytes: want %q", maxLine, Header))
	case err != nil:
		return "", r.fault(err)
	}
	return "", io.EOF
}

// fault says where err is.
func (r *Reader) fault(err error) error {
	return fmt.Errorf("read %s: line %d: %w", r.name, r.line, err)
}

func parseOp(line string) (Op, error) {
	var fields [7]string
	n := 0
	for field := range strings.SplitSeq(line, ",") {
		if n < len(fields) {
			fields[n] = field
		}
		n++
	}
	if n != len(fields) {
		return Op{}, fmt.Errorf("%d fields in %s: want 7, %s", n, quote(line), Header)
	}
	var p fieldParser
	op := Op{
		N:    p.number("n", fields[0], 1, math.MaxUint64),
		TS:   int64(p.number("ts", fields[1], 0, math.MaxInt64)),
		Kind: p.kind(fields[2]),
		ID:   p.number("id", fields[3], 1, math.MaxUint64),
		Side: p.side(fields[4]),
	}
	price, qty := uint64(1), uint64(1)
	switch op.Kind { // where they only describe the order, 0 will do
	case Cancel:
		price, qty = 0, 0
	case Reduce:
		price = 0
	}
	op.Price = int64(p.number("price", fields[5], price, math.MaxInt64))
	op.Qty = p.number("qty", fields[6], qty, exchange.MaxQty)
	return op, p.err
}

// A fieldParser keeps the first fault.
type fieldParser struct{ err error }

func (p *fieldParser) number(field, text string, low, high uint64) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n < low || n > high {
		p.fault(field, text, fmt.Sprintf("a whole number from %d to %d", low, high))
	}
	return n
}

func (p *fieldParser) kind(text string) Kind {
	switch text {
	case "N", "I", "X", "R":
		return Kind(text[0])
	}
	p.fault("op", text, "N, I, X or R")
	return 0
}

func (p *fieldParser) side(text string) exchange.Side {
	switch text {
	case "B":
		return exchange.Buy
	case "S":
		return exchange.Sell
	}
	p.fault("side", text, "B or S")
	return 0
}

func (p *fieldParser) fault(field, text, want string) {
	if p.err == nil {
		p.err = fmt.Errorf("%s %s: want %s", field, quote(text), want)
	}
}

// quote shows what a file holds, which may be anything, in a few printable bytes.
func quote(text string) string {
	const most = 64
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "..."
	}
	return strconv.QuoteToASCII(text)
}
