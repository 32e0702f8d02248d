package machine_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"understudy.dev/journal"
	"understudy.dev/machine"
)

// An account refuses to be overdrawn.
type account struct{ cents int64 }

func (a *account) Apply(_ *machine.Context, c machine.Command) ([]byte, error) {
	if len(c.Data) != 8 {
		return nil, errors.New("want an amount of 8 bytes")
	}
	amount := int64(binary.BigEndian.Uint64(c.Data))
	if c.Name == "withdraw" {
		amount = -amount
	}
	if a.cents+amount < 0 {
		return nil, errors.New("not enough money")
	}
	a.cents += amount
	return fmt.Appendf(nil, "%d", a.cents), nil
}

func (a *account) Snapshot(w io.Writer) error { return binary.Write(w, binary.BigEndian, a.cents) }
func (a *account) Restore(r io.Reader) error  { return binary.Read(r, binary.BigEndian, &a.cents) }

// A machine is a state and three methods. A Replica applies the journal's batches
// to it; a rejection is an answer like any other.
func Example() {
	replica, err := machine.NewReplica(machine.Definition{
		Name: "account", Version: 1, New: func() machine.Machine { return &account{} },
		Commands: []machine.CommandType{{Name: "deposit"}, {Name: "withdraw"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	amount := func(cents uint64) []byte { return binary.BigEndian.AppendUint64(nil, cents) }
	outcomes, err := replica.ApplyBatch(&journal.Batch{First: 1, Count: 3, Epoch: 1}, []journal.Record{
		{Seq: 1, Kind: journal.KindCommand, Name: "deposit", Data: amount(100)},
		{Seq: 2, Kind: journal.KindCommand, Name: "withdraw", Data: amount(500)},
		{Seq: 3, Kind: journal.KindCommand, Name: "withdraw", Data: amount(30)},
	})
	for _, o := range outcomes {
		fmt.Printf("%d %v: %s\n", o.Seq, o.Code, o.Reply)
	}
	fmt.Println("at", replica.Seq(), err)
	fmt.Println(replica.Knows("transfer", 0))
	// Output:
	// 1 ok: 100
	// 2 rejected: not enough money
	// 3 ok: 70
	// at 3 <nil>
	// machine: unknown command: "transfer" is not one of account's commands
}
