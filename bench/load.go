package main

import (
	"context"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// closedLoop calls submit from n goroutines, each one after the other, for a
// while after warming up a quarter as long.
func closedLoop(n int, length time.Duration, submit func(data []byte) error) (figure, error) {
	if _, err := loops(n, length/4, submit); err != nil {
		return figure{}, err
	}
	began := time.Now()
	h, err := loops(n, length, submit)
	if err != nil {
		return figure{}, err
	}
	return figureOf(h, time.Since(began)), nil
}

func figureOf(h *hdrhistogram.Histogram, took time.Duration) figure {
	return figure{
		rate: float64(h.TotalCount()) / took.Seconds(),
		p50:  time.Duration(h.ValueAtQuantile(50)), p99: time.Duration(h.ValueAtQuantile(99)),
	}
}

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1000, int64(time.Minute), 3)
}

func loops(n int, length time.Duration, submit func(data []byte) error) (*hdrhistogram.Histogram, error) {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var mu sync.Mutex
	var failed error
	total := newHistogram()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			h, data := newHistogram(), make([]byte, commandBytes)
			var err error
			for err == nil && ctx.Err() == nil {
				began := time.Now()
				if err = submit(data); err == nil {
					h.RecordValue(int64(time.Since(began))) //nolint:errcheck // a minute is never reached
				}
			}
			mu.Lock()
			defer mu.Unlock()
			total.Merge(h)
			if err != nil {
				failed = err
			}
		})
	}
	wg.Wait()
	return total, failed
}
