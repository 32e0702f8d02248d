// Package filejournal keeps a journal in the files of a folder: the default for
// one machine. It also reads and writes archives, journals in one compressed file.
//
// # What an acknowledgement survives
//
// Append and Fence return after fdatasync: the entry survives the death of the
// process and of the machine, as far as the disk keeps what it confirmed. It does
// not survive the loss of the disk. The folder must be on a local file system,
// since locks and mapped memory do not reach over a network; in one that is in
// memory (tmpfs), which Describe says, it survives the process only. Before a new
// journal takes an entry the names of its folder and of all that were made for it
// are durable.
//
// # Files
//
//	00000000000000000000.udj   segment; the name is the position where it starts,
//	                           with -N behind it from generation 1 on
//	00000000000000000000.udx   index of a sealed segment; only a shortcut, held
//	                           against the segment, and made again if it is missing
//	journal.state              mapped block, and the anchors outside the segments
//	lock, lock-N               who recovers; who writes, in generation N
//	spare-*                    a segment file that is ready for use
//	tmp-*                      something not finished, locked by who makes it; the next
//	                           handle that writes removes a dead process's
//	cut-POSITION-*.bin         what recovery cut; never removed by this package
//	left-POSITION-*.bin        a segment that a writer began before it died; nothing
//	                           in it was acknowledged
//
// A Position is the logical offset at which an entry ends; entries lie back to
// back, and 0 is the empty journal. Comments in segment.go, frame.go, state.go,
// index.go and archive.go draw every byte, and docs/FORMAT.md repeats them. A later
// version reads what this one writes. A segment or state of a later version is
// refused by name (journal.ErrVersion); the checksum, version and magic of a
// header keep their places in all versions.
//
// # One append
//
// An append is one write and one fdatasync in a segment that was written before
// with zeros or with another segment's entries, so the disk does not have to note
// that blocks are now in use. With it goes a mark, 16 bytes in the segment's
// header: the position up to which the journal was durable before. Then the end
// is published in the mapped block, and only then the append returns. There is no
// padding: an append writes the sector with the end of the last entry again, with
// the same bytes.
//
// # What the mark proves
//
// After the death of a process nothing is ambiguous: the mapped block is still in
// memory and states the acknowledged end exactly. Anything bad before that is
// damage; anything behind it was never acknowledged.
//
// After a power loss the mapped block means nothing. The mark on the disk is then
// at most one entry behind the acknowledged end, because the sync that completed
// the last append made the mark of the one before durable. So all but the last
// acknowledged entry are proven: if they are gone or changed it is an error
// (journal.ErrLost, ErrDamaged). If the last one is bad, it is taken for a write
// that was interrupted, set aside, and reported by Recovered as an entry that may
// have been acknowledged. A clean Close writes the mark once more and leaves
// nothing open. Marks lie in the segment's header and not behind its entries, so
// a lost tail does not take them along; a lost segment is noticed through the
// anchors.
//
// # Who may write
//
// Every write happens under an exclusive flock on the lock file of the present
// generation. The end and the generation are one word in the mapped block, and an
// entry is in the journal from the moment a compare-and-swap moves that word.
//
// A writer that is stopped within an append holds its lock for as long as it is
// stopped. A fence waits for it no longer than Config.Patience, and then begins
// the next generation: it swaps the word, whose lock is free. The stopped writer's
// swap can no longer succeed, so it never acknowledges. Its late write may still
// reach the file, behind the published end, or make a segment there; so the next
// generation begins with a segment of its own, readers go there at the position
// where it starts, and the file that the late write goes to is never recycled. An
// append interrupted so returns an unknown outcome, which reading resolves.
//
// A handle that finds a writer dead in the midst of an append keeps its entry if
// it is whole, after writing and syncing it again, or sets it aside if it is torn.
// Neither was acknowledged.
//
// # Following
//
// Followers of any process read up to the published end, never further, and sleep
// on a futex in the mapped block (on Darwin they look every millisecond).
//
// # Files that are replaced
//
// A handle goes on with the files that it has open, whatever happens to their
// names. So it looks whether they are still in the folder: before it acknowledges
// an append or a fence, if the last look is 100 ms old, each time it begins a
// segment, trims, puts in order what a dead writer left, or samples the end, and
// in Follow each half second while there is nothing to read. If not, the error
// matches journal.ErrLost; a handle that writes is broken then (journal.ErrBroken).
// So an acknowledgement says that 100 ms before it the files were there.
//
// # What it does not do
//
// It does not check the chain when it opens a journal: the newest segment's frames
// and checksums are read, older segments are read by whoever follows them. It does
// not repair or skip anything. It cannot tell a disk that forgets what it
// confirmed from one that was never written, beyond what the mark proves.
package filejournal
