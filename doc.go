// Package understudy is the documentation of the module understudy.dev. It holds
// no code: each thing has one name, in the package that it belongs to.
//
// Understudy gives a deterministic program a memory and a stand-in. Every command
// is recorded in a journal before it is answered; the journal can be replayed bit
// for bit; a standby replays it live and takes over, when it is asked to, without
// losing a command that was answered.
//
// # Where to begin
//
// With a deterministic engine: write a [understudy.dev/machine.Machine], which has
// three methods, and give it to [understudy.dev/cli.Main], which makes a complete
// binary, or to [understudy.dev/node.New] inside a program of your own.
//
// With a program that is not a machine, such as a trainer or a pipeline that drives
// accelerators: record it through [understudy.dev/harness.Harness].
//
// # The packages
//
// Imports only go down this list.
//
//	cmd/understudy           the binary, with the exchange as its machine, and the demo
//	cli                      the same commands for a machine of your own
//	admin                    health, status, promotion and metrics over HTTP
//	client                   how another process submits commands, and its server
//	node                     one process's life: follow, take over, lead, step down
//	accel, accel/cpu         devices and kernels, recorded and executed again
//	accel/trace              profiler traces as journals, and a device model
//	harness, harness/sinks   record and replay of programs that are not a machine
//	machine                  the contract with your code; the one function that applies
//	replay                   drives records into a sink and keeps account
//	journal/journalurl       opens any journal by its URL
//	journal/filejournal      a journal in a folder, and archives
//	journal/natsjournal      a journal in a JetStream stream
//	journal/sqlitejournal    journals in a SQLite database
//	journal/memjournal       a journal in memory: the reference, and for tests
//	journal/journaltest      the suite that every backend passes
//	journal                  records, batches, fences, the chain, Writer and Reader
//	engines/exchange         a limit order book as a machine
//	examples/trainer         a training run that is recorded, replayed and compared
//
// Modules of their own, for what they depend on: bench, contrib/actors and
// contrib/cuda.
//
// # What it promises
//
// A command that was answered is in the journal, survives what the journal's
// acknowledgement survives, and is applied exactly once. At most one primary's
// answers are believed per epoch; the journal enforces it, not a clock. A standby
// that is promoted has applied every answered command before it answers its first.
// Replay gives the same digests, or says at which record it did not. Damage is
// reported with its place; nothing is skipped, repaired or deleted silently.
//
// docs/GUARANTEES.md says under which failures, and what was not tested.
package understudy
