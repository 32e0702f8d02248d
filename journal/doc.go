// Package journal is the ground floor of understudy: what a record is, how a
// batch of records is encoded, and what every store of batches promises.
//
// # Records, batches, entries
//
// A [Record] is one thing that happened. Live records are numbered by [Seq] from
// 1 without gaps. A batch holds the records of one append: it is the unit of
// encoding, checksum, hash chain and storage, and an empty one is a barrier. An
// [Entry] is what a backend stores at one [Position]: a batch or a fence. A
// Position is the backend's own index and never a Seq; the two are different Go
// types and are never compared.
//
// # Epochs and fences
//
// An [Epoch] is the number of one primary's tenure and belongs to one owner. A
// primary opens its epoch with Fence before it appends; opening a larger one
// shuts out all smaller ones. That refusal by the journal, not a clock, keeps
// two primaries from both being believed. A batch that carries the (epoch,
// owner) of the open fence is live. A batch of a smaller epoch after a larger
// fence is dead: every reader skips it and counts it. A fence that is not above
// the open epoch is void and changes nothing.
//
// # The chain
//
// h(i) = H(h(i-1) || bytes of entry i), over every entry, fences and dead batches
// included. Each batch states h(i-1), so the first batch of a tenure proves that
// its writer saw everything before it. A fence states nothing, since its writer
// cannot know the tail; it is folded in where it lies.
//
// # Three outcomes
//
// Every write is done, certainly not done, or unknown; [OutcomeOf] tells which.
// A time-out is unknown. Only an entry after prev resolves it.
//
// # Who uses what
//
// Backends implement [Journal] and are dumb: no retry, no logging, no back-off.
// [Writer] is the only caller of Append and [Reader] the only follower; numbering,
// the chain, liveness, conflicts and unknown outcomes are handled there, once.
//
// # What this package does not do
//
// It does not look inside a record's data, and it does not say how durable an
// acknowledgement is: each backend declares that in its [Capabilities].
package journal
