package main

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
	raftwal "github.com/hashicorp/raft-wal"
	"golang.org/x/sys/unix"
)

func writing() []comparison {
	return []comparison{
		{"write", "Durable commands, 512 closed-loop submitters, whole node", "commands/s", []contestant{
			{"understudy node on filejournal", nodeOnFile(512)},
			{"hashicorp/raft on raft-wal", onRaft},
			{"plain group-commit log, no guarantees", onPlainLog},
		}},
		{"write", "Durable commands, one submitter, whole node", "", []contestant{
			{"understudy node on filejournal", nodeOnFile(1)},
			{"bare 4 KiB overwrite and fdatasync", bare},
		}},
		{"write", "Durable commands, asynchronous submission", "commands/s", []contestant{
			{"understudy node on filejournal, 16,384 in flight, trimmed behind", nodeAsync(true)},
			{"understudy node on filejournal, 16,384 in flight, growing", nodeAsync(false)},
			{"understudy node on filejournal, 512 closed loops", nodeOnFile(512)},
		}},
	}
}

// discard is a raft state machine that does nothing.
type discard struct{}

func (discard) Apply(*raft.Log) any                  { return nil }
func (discard) Snapshot() (raft.FSMSnapshot, error)  { return discard{}, nil }
func (discard) Restore(r io.ReadCloser) error        { return r.Close() }
func (discard) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (discard) Release()                             {}

// onRaft is one raft node on raft-wal, with batches as large as raft makes them.
func onRaft(_ context.Context, s settings, dir string) (figure, error) {
	wal, err := raftwal.Open(dir)
	if err != nil {
		return figure{}, err
	}
	defer wal.Close()
	cfg := raft.DefaultConfig()
	cfg.LocalID, cfg.LogOutput, cfg.LogLevel = "bench", io.Discard, "ERROR"
	cfg.BatchApplyCh, cfg.MaxAppendEntries = true, 1024
	addr, transport := raft.NewInmemTransport("")
	r, err := raft.NewRaft(cfg, discard{}, wal, wal, raft.NewDiscardSnapshotStore(), transport)
	if err != nil {
		return figure{}, err
	}
	defer func() { r.Shutdown().Error() }()
	servers := []raft.Server{{ID: cfg.LocalID, Address: addr}}
	if err := r.BootstrapCluster(raft.Configuration{Servers: servers}).Error(); err != nil {
		return figure{}, err
	}
	<-r.LeaderCh()
	return closedLoop(512, s.length, func(data []byte) error { return r.Apply(data, 0).Error() })
}

// A plainLog is the least that makes commands durable: it gathers what comes
// while a sync is under way, writes it with lengths and checksums, and syncs.
type plainLog struct {
	f     *os.File
	queue chan plainWrite
}

type plainWrite struct {
	data []byte
	done chan error
}

// run writes until the queue is closed. The file was preallocated, and is
// written from the start again when it is full.
func (l *plainLog) run(size int64) {
	table := crc32.MakeTable(crc32.Castagnoli)
	var buf []byte
	var waiting []plainWrite
	at := int64(0)
	for w := range l.queue {
		buf, waiting = buf[:0], append(waiting[:0], w)
		for more := true; more && len(waiting) < 4096; {
			select {
			case w, more = <-l.queue:
				if more {
					waiting = append(waiting, w)
				}
			default:
				more = false
			}
		}
		for _, w := range waiting {
			buf = binary.LittleEndian.AppendUint32(buf, uint32(len(w.data)))
			buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(w.data, table))
			buf = append(buf, w.data...)
		}
		if at+int64(len(buf)) > size {
			at = 0
		}
		_, err := l.f.WriteAt(buf, at)
		if err == nil {
			err = unix.Fdatasync(int(l.f.Fd()))
		}
		at += int64(len(buf))
		for _, w := range waiting {
			w.done <- err
		}
	}
}

func onPlainLog(_ context.Context, s settings, dir string) (figure, error) {
	const size = 64 << 20
	f, err := preallocated(dir, size)
	if err != nil {
		return figure{}, err
	}
	defer f.Close()
	l := &plainLog{f: f, queue: make(chan plainWrite, 4096)}
	ended := make(chan struct{})
	go func() { l.run(size); close(ended) }()
	defer func() { close(l.queue); <-ended }()
	return closedLoop(512, s.length, func(data []byte) error {
		done := make(chan error, 1)
		l.queue <- plainWrite{data, done}
		return <-done
	})
}

// preallocated returns a file of zeros that is on the disk.
func preallocated(dir string, size int) (*os.File, error) {
	f, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	zeros := make([]byte, 1<<20)
	for range size >> 20 {
		if _, err := f.Write(zeros); err != nil {
			return nil, err
		}
	}
	return f, f.Sync()
}

// bare overwrites 4 KiB and syncs, again and again.
func bare(_ context.Context, s settings, dir string) (figure, error) {
	const size = 64 << 20
	f, err := preallocated(dir, size)
	if err != nil {
		return figure{}, err
	}
	defer f.Close()
	block, at := make([]byte, 4096), int64(0)
	return closedLoop(1, s.length, func([]byte) error {
		if _, err := f.WriteAt(block, at); err != nil {
			return err
		}
		at = (at + 4096) % size
		return unix.Fdatasync(int(f.Fd()))
	})
}
