// Package harness records what a program does and replays it: for programs that
// are not a machine, such as pipelines that drive accelerators, trainers,
// simulations, or services with a random seed somewhere.
//
// # Modes
//
// A [Harness] is Off, records, or replays. Off costs one branch. In Record every
// call is journaled: device and kernel commands, outputs, and the inputs that the
// world gave, which are seeds, batch sizes and values. In Replay the program runs
// again: its inputs are answered from the journal, and what it does is compared
// with what it did. The first [Difference] stops it and says the number, the path,
// what was expected, what came, and the last ten entries before it; what the
// program has not done at the end is a difference too.
//
// After a change of mode that failed, calls fail with its error: they never look as
// if they had been recorded.
//
// # Numbers
//
// Entries are numbered from 1 without gaps, across all runs of one persistence
// id. The number is the Request of the journal's record; its Seq also counts the
// harness's own records, which open a run (KindEpochStart) or change the mode
// (KindMode), and is not used here. A write that failed burns no number.
//
// # Time
//
// A record's Time is absolute. [Entry.At] is the time since the start of its run in
// microseconds: the record that opens a run carries the start. The clock of a run
// is monotonic, and runs on from the journal's end if the local clock is behind it.
//
// # Persistence ids
//
// An id is a journal of its own; [JournalURL] derives its URL from a common one. A
// second recorder on an id shuts the first one out: the first one's next call
// fails with journal.ErrFenced and says by whom.
//
// # When a call returns
//
// In Record a call returns when its record is as durable as the journal says;
// calls at the same time share one append. One whose outcome is unknown ends the
// recorder; its error, Flush's and Close's name the numbers, as a [LostError]. With Config.Async it returns at once.
// The first failure is then returned by all that come after it, by Flush and by
// Close, as a LostError too.
//
// # Paths
//
// The journal has one order, but goroutines of a program may interleave
// differently each time. So Replay and [Diff] compare path by path: each [Actor]
// has its own, each seed, batch size and value has the one it is asked for, and
// commands and outputs of the Harness itself are on the path "". Goroutines that
// command concurrently should have an Actor each. Config.Strict compares the total
// order instead.
//
// # Runs that were cut
//
// A run that ends with Close, or with a change of mode, says so in the journal: a
// program that does more than it differs from it. One that ends with
// [Harness.Abort], for an error or an interrupt, says that it was cut short and
// why; a run that was killed says nothing. After the end of either a program that
// goes on gets [ErrPastEnd] and not a difference, path by path.
//
// A journal or part without entries is not replayed or compared at all, but is
// [ErrNothing].
//
// # Sinks
//
// [Harness.Replay] and [Player] send entries to a [Sink]: a function, a channel, or
// one of package sinks. Each is acknowledged before the next. A player goes at full
// speed, at the recorded pace times a factor, or stepwise, and can be paused. It
// never skips an entry; only [NewViewer], which is for looking, filters. With
// ReplayOptions.Foreign it takes the journal of a machine too.
//
// What a sink made of an entry after an error is unknown, unless the error matches
// [ErrNotTaken].
//
// # What this package does not do
//
// It does not compare floating point numbers with a tolerance or re-execute
// commands on a device: package accel does. It does not say how long an answer
// lasts: the journal's Capabilities do.
package harness
