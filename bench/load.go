package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// closedLoop calls submit from n goroutines, each one after the other, for a
// while after warming up a quarter as long.
func closedLoop(n int, length time.Duration, submit func(data []byte) error) (figure, error) {
	if _, err := loops(n, length/4, submit); err != nil {
		return figure{}, err
	}
	began := time.Now()
	took, err := loops(n, length, submit)
	if err != nil {
		return figure{}, err
	}
	return figureOf(took, time.Since(began)), nil
}

// figureOf sorts took.
func figureOf(took []time.Duration, length time.Duration) figure {
	slices.Sort(took)
	return figure{
		rate: float64(len(took)) / length.Seconds(),
		p50:  took[len(took)/2], p99: took[len(took)*99/100],
	}
}

// loops returns how long each call of submit took, in no order. Each submitter
// notes its own in a list: hundreds of histograms do not fit a processor's cache,
// and filling them took a tenth of the time of what they measured.
func loops(n int, length time.Duration, submit func(data []byte) error) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var failed atomic.Pointer[error]
	all := make([][]time.Duration, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			took := make([]time.Duration, 0, 1<<13) // for seconds of hundreds of submitters, so that none grows
			data := make([]byte, commandBytes)
			for ctx.Err() == nil {
				began := time.Now()
				if err := submit(data); err != nil {
					failed.Store(&err)
					return
				}
				took = append(took, time.Since(began))
			}
			all[i] = took
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	return slices.Concat(all...), nil
}
