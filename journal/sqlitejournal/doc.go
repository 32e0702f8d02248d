// Package sqlitejournal keeps journals in a SQLite database: for one machine
// whose operators know SQLite and want one file to copy, look into and back up.
// One database holds any number of journals, each with a name.
//
// # What an acknowledgement survives
//
// The database is in WAL mode with synchronous=FULL, so a commit returns after
// the log of the transaction was synced: the entry survives the death of the
// process and of the machine, as far as the disk keeps what it confirmed. It does
// not survive the loss of the disk. Both settings are read back when they were
// set, and a database that does not take them is refused. The file must be on a
// local file system: the log's index is shared memory, which does not reach over
// a network.
//
// # Tables
//
// Comments in schema.go draw them, and docs/FORMAT.md repeats them. A Position is
// an entry's number in its journal, from 1 and without gaps. It is never used
// again, also when the entry was trimmed: the end is kept in a row of its own.
// That row also has the open epoch, its owner and where it was opened, and a
// checksum; so trimming cannot forget a fence, and entries that are missing at
// the end are noticed. A database of another program, and one of a later version,
// is refused by name.
//
// # Who may write
//
// Every write is one transaction that takes the database's write lock first
// (BEGIN IMMEDIATE) and then compares: the end with prev, and the epoch and owner
// with the open fence. So the database itself enforces the fence, across handles
// and processes, however long a writer was paused before.
//
// A process that is stopped within a transaction keeps the lock for as long as it
// is stopped, and nobody can take it over: appends and fences wait until their
// context ends. It lasts from a look at the end to a sync; a process that is
// stopped elsewhere holds nothing. Its death gives the lock back.
//
// # Outcomes
//
// A database that is locked, until the context ended, was not written to; the
// error says so, and as after every ended context its outcome counts as unknown.
// A full disk is journal.ErrFull: the transaction was rolled back. Any other
// failure of a statement or of the commit ends the handle (journal.ErrBroken):
// the transaction may be in the log and come to light when the database is next
// recovered. Nothing is tried again.
//
// # Following
//
// A Follow reads a page of about 1 MiB in one short transaction and yields it
// after that transaction has ended, so that a slow consumer keeps nobody from
// moving the log into the database. It is woken by a write of this process, and
// looks for those of others with PRAGMA data_version, each 5 ms after it has
// read something and each 50 ms when nothing came for long.
//
// # Files that are replaced
//
// SQLite goes on with the files that it has open, whatever happens to their names.
// So a handle looks whether the database, its log and the log's index are still
// the ones that it opened: before it acknowledges an append or a fence if the
// last look is 100 ms old, each time it opens a connection, samples the end or
// trims, and in Follow each 100 ms. If not, the error matches journal.ErrLost; a
// handle that writes is broken then. So an acknowledgement says that 100 ms
// before it the files were there.
//
// # A log that was damaged
//
// After a crash SQLite reads its log up to the first frame with a wrong checksum
// and takes that for the end. Open looks first whether something was synced behind
// such a frame, and if so refuses the database (log.go): nothing that was
// acknowledged is dropped silently. The last transaction has nothing behind it. If
// it is bad, it is taken for one that was interrupted, though it may have been
// acknowledged. What was moved into the database, which happens each time that
// the log has about 4 MiB and when the last handle is closed, is not subject to
// that.
//
// # What it does not do
//
// It does not check entries or their chain, which readers do. It cannot tell a log
// that was cut off at the end of a transaction, or removed, from one that ends
// there, nor a database that was overwritten in place by another program.
package sqlitejournal
