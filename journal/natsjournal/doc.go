// Package natsjournal keeps a journal in a NATS JetStream stream.
//
// # What lies where
//
// A stream NAME has exactly two subjects, understudy.NAME.data for batches and
// understudy.NAME.epoch for fences, and republishes both below
// understudy.NAME.live, where followers listen. One entry is one message without
// anything of ours but the expectation headers, and its Position is the
// message's sequence in the stream.
//
// # How it fences
//
// An append is published with Nats-Expected-Last-Sequence, so it is stored only
// directly after the entry its writer saw last. A fence is published with
// Nats-Expected-Last-Subject-Sequence of the epoch subject, so one wins for each
// epoch, and however busy a writer is it cannot keep a fence out. The fence moves
// the end of the stream, which is what shuts older writers out. That the epoch
// itself is not too small is checked by the handle, which knows the last fence
// at or before prev.
//
// Both need a server of at least version 2.14.4; before that, proposals were not
// fenced by term. An older one is refused.
//
// # What an acknowledgement survives
//
// With one replica: the process, and the machine too where the server syncs
// always. With three: the loss of a server or a disk, and the machines' power
// where all of them sync always. JetStream does not say over the wire whether a
// server syncs, so it is believed only of an embedded server or when
// Config.SyncAlways says so.
//
// # What it finds out
//
// A purge does not move the end of a stream, so a server may take appends after it
// as before. A handle therefore remembers the newest fence and batch that it wrote
// or yielded, which trimming keeps, and holds each look at the stream against them:
// a follower's every 250 ms, a sample of the end, and before a write if nobody has
// looked for a second. What one answer of a server proves to be lost ends Follow,
// End, Append and Fence with an error matching journal.ErrLost, for good.
//
// # What it does not do
//
// It does not retry, log or resolve unknown outcomes: journal.Writer and
// journal.Reader do. It changes no settings of a stream that exists: it refuses
// those that would break the contract and says how to change them.
package natsjournal
