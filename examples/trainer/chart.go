package main

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"strings"
)

// A chart draws the loss of two runs over their steps, and where they part.
type chart struct {
	recorded []float32
	replayed []float32 // of this run, whatever its mode
	parted   int       // the step where they part; matters if there is a reason
	reason   string
}

// The picture, in pixels.
const (
	width, height = 900, 420
	left, right   = 60, 20
	top, bottom   = 50, 50
	plotWidth     = width - left - right
	plotHeight    = height - top - bottom
)

// svg returns the picture.
func (c *chart) svg() []byte {
	var b bytes.Buffer
	steps := max(len(c.recorded), len(c.replayed), 2)
	highest := max(slices.Max(append(c.recorded, 0.1)), slices.Max(append(c.replayed, 0.1)))
	x := func(step int) float64 { return left + plotWidth*float64(step)/float64(steps-1) }
	y := func(v float32) float64 { return top + plotHeight*float64(1-v/highest) }

	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for i := range 5 {
		v := highest * float32(i) / 4
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.2f</text>`+"\n", left, y(v), width-right, left-6, y(v)+4, v)
		step := (steps - 1) * i / 4
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%d</text>`+"\n", x(step), height-bottom+18, step)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">step</text><text x="%d" y="20">loss, mean of %d steps</text>`+"\n", left+plotWidth/2, height-12, left-50, window)
	curve(&b, "recorded", c.recorded, `stroke="#bbb" stroke-width="4"`, x, y)
	curve(&b, "replayed", c.replayed, `stroke="#06c" stroke-width="1.2"`, x, y)
	c.legend(&b)
	if c.reason != "" {
		fmt.Fprintf(&b, `<path id="parted" d="M%.1f %dV%d" stroke="#c00" stroke-dasharray="4 3"/>`+"\n", x(c.parted), top, height-bottom)
		fmt.Fprintf(&b, `<text x="%d" y="38" fill="#c00">step %d: %s</text>`+"\n", left, c.parted, escape(c.reason))
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// window is how many steps each point is the mean of: a step and those before it, so
// that curves are equal until the runs part.
const window = 10

func mean(losses []float32) float32 {
	var sum float32
	for _, v := range losses {
		sum += v
	}
	return sum / float32(len(losses))
}

// curve draws one run.
func curve(b *bytes.Buffer, id string, losses []float32, style string, x func(int) float64, y func(float32) float64) {
	if len(losses) == 0 {
		return
	}
	fmt.Fprintf(b, `<polyline id="%s" fill="none" %s points="`, id, style)
	for i := range losses {
		fmt.Fprintf(b, "%.1f,%.1f ", x(i), y(mean(losses[max(0, i+1-window):i+1])))
	}
	b.WriteString(`"/>` + "\n")
}

func (c *chart) legend(b *bytes.Buffer) {
	this := "this run"
	if len(c.recorded) > 0 {
		this = "replayed"
		fmt.Fprintf(b, `<path d="M%d 16h24" stroke="#bbb" stroke-width="4"/><text x="%d" y="20">recorded</text>`+"\n", left+110, left+140)
	}
	fmt.Fprintf(b, `<path d="M%d 16h24" stroke="#06c" stroke-width="1.2"/><text x="%d" y="20">%s</text>`+"\n", left+220, left+250, this)
}

// escape makes text of a message that may hold anything.
func escape(s string) string {
	var b strings.Builder
	if err := xml.EscapeText(&b, []byte(s)); err != nil {
		panic("chart: " + err.Error()) // a strings.Builder takes everything
	}
	return b.String()
}
