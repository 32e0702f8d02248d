package cpu

import "math"

// kernels returns the implementation of each definition in accel's catalogue; the
// rules stand there. Arguments come in the order of the signature, checked.
func kernels() map[string]func(args) {
	return map[string]func(args){
		"fill_uniform": fillUniform, "fill_normal": fillNormal, "dropout": dropout,
		"saxpy": saxpy, "sgd": sgd, "sgemm": sgemm, "reduce_sum": reduceSum,
		"softmax": softmax, "relu": relu, "relu_grad": reluGrad,
		"bias_add": biasAdd, "bias_grad": biasGrad,
		"cross_entropy": crossEntropy, "cross_entropy_grad": crossEntropyGrad,
		"gather": gather,
	}
}

func fillUniform(a args) {
	out, stream, lo, hi := a.words(0)[:a.n(1)], a.u64(2), a.f32(3), a.f32(4)
	width := add(hi, -lo)
	for i := 0; i < len(out); i += 4 {
		w := block(a.dev.seed, stream, uint32(i/4))
		for j := range min(4, len(out)-i) {
			out[i+j] = add(lo, mul(width, uniform(w[j])))
		}
	}
}

func fillNormal(a args) {
	out, stream, mean, std := a.words(0)[:a.n(1)], a.u64(2), float64(a.f32(3)), float64(a.f32(4))
	for i := 0; i < len(out); i += 4 {
		w := block(a.dev.seed, stream, uint32(i/4))
		var z [4]float64
		z[0], z[1] = boxMuller(w[0], w[1])
		z[2], z[3] = boxMuller(w[2], w[3])
		for j := range min(4, len(out)-i) {
			out[i+j] = float32(add64(mean, mul64(std, z[j])))
		}
	}
}

// boxMuller turns two random words into two independent normal numbers.
func boxMuller(a, b uint32) (float64, float64) {
	u := mul64(float64(a>>8+1), 1.0/(1<<24)) // in (0, 1]
	r := math.Sqrt(mul64(-2, ln(u)))
	sin, cos := sincos(b)
	return mul64(r, cos), mul64(r, sin)
}

func dropout(a args) {
	out, x, stream, p, scale := a.words(0)[:a.n(2)], a.words(1), a.u64(3), a.f32(4), a.f32(5)
	for i := 0; i < len(out); i += 4 {
		w := block(a.dev.seed, stream, uint32(i/4))
		for j := range min(4, len(out)-i) {
			if uniform(w[j]) < p {
				out[i+j] = 0
			} else {
				out[i+j] = mul(x[i+j], scale)
			}
		}
	}
}

func saxpy(a args) {
	y, x, f := a.words(0)[:a.n(2)], a.words(1), a.f32(3)
	for i := range y {
		y[i] = add(y[i], mul(f, x[i]))
	}
}

func sgd(a args) {
	w, g, rate := a.words(0)[:a.n(2)], a.words(1), a.f32(3)
	for i := range w {
		w[i] = add(w[i], -mul(rate, g[i]))
	}
}

// sgemm adds to a whole row of c at a time: each element still takes its products
// by ascending l, and B is read along its rows where it is not transposed.
func sgemm(a args) {
	m, n, k := a.n(3), a.n(4), a.n(5)
	c, x, y := a.words(0)[:m*n], a.words(1), a.words(2)
	rowA, colA := k, 1
	if a.n(6) != 0 {
		rowA, colA = 1, m
	}
	transposed := a.n(7) != 0
	clear(c)
	for i := range m {
		row := c[i*n:][:n]
		for l := range k {
			f := x[i*rowA+l*colA]
			if transposed {
				for j := range row {
					row[j] = add(row[j], mul(f, y[j*k+l]))
				}
				continue
			}
			for j, v := range y[l*n:][:n] {
				row[j] = add(row[j], mul(f, v))
			}
		}
	}
}

func reduceSum(a args) {
	out, x := a.words(0), a.words(1)[:a.n(2)]
	var v [256]float32
	for i, e := range x {
		v[i%256] = add(v[i%256], e)
	}
	for s := 128; s > 0; s /= 2 {
		for t := range s {
			v[t] = add(v[t], v[t+s])
		}
	}
	out[0] = v[0]
}

func softmax(a args) {
	rows, cols := a.n(2), a.n(3)
	for i := range rows {
		out, x := a.words(0)[i*cols:][:cols], a.words(1)[i*cols:][:cols]
		largest := float32(math.Inf(-1))
		for _, v := range x {
			if v > largest {
				largest = v
			}
		}
		var sum float32
		for j, v := range x {
			out[j] = exp(add(v, -largest))
			sum = add(sum, out[j])
		}
		for j := range out {
			out[j] = float32(out[j] / sum)
		}
	}
}

func relu(a args) {
	out, x := a.words(0)[:a.n(2)], a.words(1)
	for i := range out {
		out[i] = 0
		if x[i] > 0 {
			out[i] = x[i]
		}
	}
}

func reluGrad(a args) {
	dx, dy, x := a.words(0)[:a.n(3)], a.words(1), a.words(2)
	for i := range dx {
		dx[i] = 0
		if x[i] > 0 {
			dx[i] = dy[i]
		}
	}
}

func biasAdd(a args) {
	rows, cols := a.n(2), a.n(3)
	b := a.words(1)[:cols]
	for i := range rows {
		row := a.words(0)[i*cols:]
		for j, v := range b {
			row[j] = add(row[j], v)
		}
	}
}

func biasGrad(a args) {
	rows, cols := a.n(2), a.n(3)
	db := a.words(0)[:cols]
	clear(db)
	for i := range rows {
		for j, v := range a.words(1)[i*cols:][:cols] {
			db[j] = add(db[j], v)
		}
	}
}

func crossEntropy(a args) {
	loss, p, label, cols := a.words(0)[:a.n(3)], a.words(1), a.words(2), a.n(4)
	for i := range loss {
		loss[i] = 0
		if l := int(math.Float32bits(label[i])); l < cols {
			q := float32(0x1p-100)
			if v := p[i*cols+l]; v > q {
				q = v
			}
			loss[i] = float32(-ln(float64(q)))
		}
	}
}

func crossEntropyGrad(a args) {
	rows, cols, scale := a.n(3), a.n(4), a.f32(5)
	dx, p, label := a.words(0), a.words(1), a.words(2)
	for i := range rows {
		for j := range cols {
			v := p[i*cols+j]
			if int(math.Float32bits(label[i])) == j {
				v = add(v, -1)
			}
			dx[i*cols+j] = mul(v, scale)
		}
	}
}

func gather(a args) {
	total, rows, cols := a.n(3), a.n(4), a.n(5)
	out, x, index := a.words(0), a.words(1), a.words(2)
	for i := range rows {
		row := out[i*cols:][:cols]
		if at := int(math.Float32bits(index[i])); at < total {
			copy(row, x[at*cols:])
		} else {
			clear(row)
		}
	}
}
