// Command bench measures understudy beside its peers, in one run on one machine,
// and prints a table with ratios: absolute figures do not travel, ratios do.
//
//	cd bench && go run . [-rounds 3] [-for 2s] [-dir DIR] [-only write,read,jetstream] [-match TITLE]
//
// The contestants of a comparison take turns, round by round, and the median of
// each is shown. -dir says which disk is measured.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// commandBytes is the size of a command everywhere.
const commandBytes = 128

// settings are the flags.
type settings struct {
	dir    string
	rounds int
	length time.Duration
}

// A figure is what one turn of a contestant measured.
type figure struct {
	rate float64       // per second; 0 if only the median counts
	p50  time.Duration // 0 if only the rate counts
	p99  time.Duration
}

// A contestant measures one turn. It gets an empty directory.
type contestant struct {
	name string
	turn func(ctx context.Context, s settings, dir string) (figure, error)
}

// A comparison is a line-up; the others are held against the first.
type comparison struct {
	group, title string
	unit         string // of rate; "" compares medians
	all          []contestant
}

func main() {
	var s settings
	only := flag.String("only", "write,read,jetstream", "which groups")
	match := flag.String("match", "", "of those, the comparisons whose title contains this")
	flag.StringVar(&s.dir, "dir", os.TempDir(), "where the journals lie")
	flag.IntVar(&s.rounds, "rounds", 3, "turns of each contestant")
	flag.DurationVar(&s.length, "for", 2*time.Second, "length of a turn")
	flag.Parse()
	fmt.Printf("%s, %d CPUs, %s/%s, commands of %d bytes, medians of %d turns of %v\n\n",
		runtime.Version(), runtime.GOMAXPROCS(0), runtime.GOOS, runtime.GOARCH, commandBytes, s.rounds, s.length)
	for _, c := range slices.Concat(writing(), reading(), jetstreaming()) {
		if !slices.Contains(strings.Split(*only, ","), c.group) || !strings.Contains(c.title, *match) {
			continue
		}
		if err := c.run(context.Background(), s); err != nil {
			fmt.Fprintf(os.Stderr, "bench: %s: %v\n", c.title, err)
			os.Exit(1)
		}
	}
}

// run takes turns and prints the table. Where latencies are compared the turns are
// short and many, since disks have better and worse seconds.
func (c comparison) run(ctx context.Context, s settings) error {
	if c.unit == "" {
		s.rounds, s.length = 8*s.rounds, s.length/8
	}
	figures := make([][]figure, len(c.all))
	for round := range s.rounds {
		for i, one := range c.all {
			fmt.Fprintf(os.Stderr, "\r%s: round %d of %d, %s\x1b[K", c.title, round+1, s.rounds, one.name)
			f, err := turn(ctx, s, one)
			if err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
			figures[i] = append(figures[i], f)
		}
	}
	fmt.Fprint(os.Stderr, "\r\x1b[K")
	fmt.Printf("### %s\n\n| contestant | %s | p50 | p99 | against it |\n|---|---:|---:|---:|---:|\n", c.title, c.unit)
	base := median(figures[0], c.key)
	for i, one := range c.all {
		rate := median(figures[i], func(f figure) float64 { return f.rate })
		p50 := time.Duration(median(figures[i], func(f figure) float64 { return float64(f.p50) }))
		p99 := time.Duration(median(figures[i], func(f figure) float64 { return float64(f.p99) }))
		ratio := base / median(figures[i], c.key)
		fmt.Printf("| %s | %s | %s | %s | %.2f |\n", one.name, count(rate), micros(p50), micros(p99), ratio)
	}
	fmt.Println()
	return nil
}

// key is what is compared.
func (c comparison) key(f figure) float64 {
	if c.unit == "" {
		return float64(f.p50)
	}
	return f.rate
}

func turn(ctx context.Context, s settings, c contestant) (figure, error) {
	dir, err := os.MkdirTemp(s.dir, "understudy-bench-*")
	if err != nil {
		return figure{}, err
	}
	defer os.RemoveAll(dir)
	return c.turn(ctx, s, dir)
}

func median(fs []figure, key func(figure) float64) float64 {
	v := make([]float64, len(fs))
	for i, f := range fs {
		v[i] = key(f)
	}
	slices.Sort(v)
	return v[len(v)/2]
}

func count(v float64) string {
	if v == 0 {
		return "–"
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func micros(d time.Duration) string {
	if d == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
}
