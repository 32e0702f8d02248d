package node_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"understudy.dev/journal/journaltest"
	"understudy.dev/journal/memjournal"
	"understudy.dev/machine"
	"understudy.dev/node"
)

// registers holds a number under each of a few keys.
type registers struct{ value [registerCount]uint64 }

const registerCount = 3

func (r *registers) Apply(_ *machine.Context, c machine.Command) ([]byte, error) {
	key := c.Data[0]
	was := r.value[key]
	if c.Name == "swap" {
		r.value[key] = binary.BigEndian.Uint64(c.Data[1:])
	}
	return binary.BigEndian.AppendUint64(nil, was), nil
}

func (r *registers) Snapshot(w io.Writer) error { return binary.Write(w, binary.BigEndian, r.value) }

func (r *registers) Restore(in io.Reader) error { return binary.Read(in, binary.BigEndian, &r.value) }

// An operation on a register: get it, or swap in a value and get the old one.
type operation struct {
	key   int
	swap  bool
	value uint64
}

// registerModel is what one register does. Keys are checked apart.
var registerModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, registerCount)
		for _, op := range history {
			key := op.Input.(operation).key
			parts[key] = append(parts[key], op)
		}
		return parts
	},
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		op := input.(operation)
		next := state
		if op.swap {
			next = op.value
		}
		return output == nil || output.(uint64) == state.(uint64), next // nil: nobody learned what it was
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v = %v", input, output) },
}

// RULES 1, 2, 25, 26: clients see one register each, through failovers, faults and
// retries: commands with sessions, and reads, are linearizable.
func TestLinearizable(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { checkLinearizable(t, seed+1) })
		})
	}
}

func checkLinearizable(t *testing.T, seed uint64) {
	store := memjournal.New()
	var group []*member
	for i := range 3 {
		f := journaltest.NewFaulty(t, store.Handle(), seed+uint64(i)<<32)
		f.Hold = 30 * time.Millisecond
		group = append(group, join(t, f, string(rune('a'+i)), nil, func(c *node.Config) {
			c.Machine = machine.Definition{
				Name: "registers", New: func() machine.Machine { return &registers{} },
				Commands: []machine.CommandType{{Name: "swap"}, {Name: "get"}},
			}
		}))
		if i == 0 {
			group[0].lead(t)
		}
		disturb(f)
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var mu sync.Mutex
	var history []porcupine.Operation
	var wg sync.WaitGroup
	for id := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(id)))
			c := &caller{nodes: group}
			if !c.open(t.Context(), false) {
				return
			}
			for n := uint64(1); ctx.Err() == nil; n++ {
				op := operation{key: rng.IntN(registerCount), swap: rng.IntN(2) == 0, value: uint64(id)<<32 + n}
				call := time.Since(began)
				out, known := c.operate(t.Context(), op, n, rng.IntN(2) == 0)
				o := porcupine.Operation{ClientId: id, Input: op, Call: int64(call), Return: int64(time.Since(began))}
				if known {
					o.Output = out
				} else {
					t.Errorf("client %d, %+v: no answer", id, op)
				}
				mu.Lock()
				history = append(history, o)
				mu.Unlock()
				time.Sleep(time.Duration(rng.IntN(5)) * time.Millisecond)
			}
		})
	}
	rng := rand.New(rand.NewPCG(seed, 9))
	for ctx.Err() == nil {
		time.Sleep(time.Duration(rng.IntN(150)) * time.Millisecond)
		pctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		group[rng.IntN(3)].Promote(pctx, node.PromoteRequest{})
		cancel()
	}
	for _, m := range group { // so that all get their answers
		if _, err := m.Promote(t.Context(), node.PromoteRequest{}); err == nil {
			break
		}
	}
	wg.Wait()
	switch porcupine.CheckOperationsTimeout(registerModel, history, 20*time.Second) {
	case porcupine.Illegal:
		t.Errorf("%d operations are not linearizable", len(history))
	case porcupine.Unknown:
		t.Logf("%d operations: not decided in time", len(history))
	}
}

// operate carries an operation out, a get as a Read or as a command.
func (c *caller) operate(ctx context.Context, op operation, number uint64, read bool) (uint64, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if !op.swap && read {
		return c.read(ctx, op.key)
	}
	r := command("get")
	r.Data = append(r.Data, byte(op.key))
	if op.swap {
		r.Name, r.Data = "swap", binary.BigEndian.AppendUint64(r.Data, op.value)
	}
	r.Client, r.Number, r.Low = c.session, number, number
	out, ok := c.try(ctx, r)
	if !ok || out.Code != machine.OK {
		return 0, false
	}
	return binary.BigEndian.Uint64(out.Reply), true
}

// read reads a register at whichever node proves to be the primary.
func (c *caller) read(ctx context.Context, key int) (value uint64, ok bool) {
	for ctx.Err() == nil {
		rctx, cancel := context.WithTimeout(ctx, time.Second)
		err := c.nodes[c.at].Read(rctx, func(m machine.Machine) { value = m.(*registers).value[key] })
		cancel()
		if err == nil {
			return value, true
		}
		c.at = (c.at + 1) % len(c.nodes)
		time.Sleep(2 * time.Millisecond)
	}
	return 0, false
}

// The check itself must be able to fail.
func TestLinearizabilityModelCatchesAStaleRead(t *testing.T) {
	history := []porcupine.Operation{
		{ClientId: 1, Input: operation{swap: true, value: 7}, Output: uint64(0), Call: 0, Return: 1},
		{ClientId: 2, Input: operation{}, Output: uint64(0), Call: 2, Return: 3},
	}
	if porcupine.CheckOperations(registerModel, history) {
		t.Error("a read that missed a finished write passed")
	}
	history[1].Call = 0
	if !porcupine.CheckOperations(registerModel, history) {
		t.Error("a read at the same time as the write did not pass")
	}
}
