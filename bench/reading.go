package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/raft/v3/raftpb"
	walv3 "go.etcd.io/etcd/server/v3/wal"
	"go.etcd.io/etcd/server/v3/wal/walpb"
	"go.uber.org/zap"

	"understudy.dev/journal"
	"understudy.dev/journal/filejournal"
)

// readRecords is how many records are read back.
const readRecords = 2_000_000

func reading() []comparison {
	return []comparison{{"read", fmt.Sprintf("Reading %d records back", readRecords), "records/s", []contestant{
		{"filejournal, checksums and chain", readJournal(false)},
		{"filejournal, checksums alone", readJournal(true)},
		{"SHA-256 over the same bytes, in memory", hashAlone},
		{"etcd's wal", readEtcd},
	}}}
}

// filled returns a journal of so many records, open for reading only.
func filled(ctx context.Context, dir string) (*filejournal.Journal, error) {
	if err := fillJournal(ctx, dir); err != nil {
		return nil, err
	}
	return filejournal.Open(dir, filejournal.Config{ReadOnly: true})
}

// fillJournal writes the records in batches of 1,024.
func fillJournal(ctx context.Context, dir string) error {
	j, err := filejournal.Open(dir, filejournal.Config{})
	if err != nil {
		return err
	}
	defer j.Close()
	if _, err := j.Fence(ctx, 1, "bench/1"); err != nil {
		return err
	}
	r := journal.NewReader(j, journal.ReaderConfig{})
	defer r.Close()
	var it journal.Item
	for it.Verdict != journal.Opened {
		if err := r.Next(ctx, &it); err != nil {
			return err
		}
	}
	w := journal.NewWriter(j, r.Cursor(), journal.WriterConfig{})
	b := w.NewBuilder()
	for range readRecords / 1024 {
		b.Reset()
		for i := range 1024 {
			rec := journal.Record{Kind: journal.KindCommand, Name: "put", Client: 7, Request: uint64(i), Data: make([]byte, commandBytes)}
			if err := b.Add(&rec); err != nil {
				return err
			}
		}
		if err := w.Append(ctx, b, journal.Digest{}); err != nil {
			return err
		}
	}
	return nil
}

func readJournal(skipChain bool) func(context.Context, settings, string) (figure, error) {
	return func(ctx context.Context, _ settings, dir string) (figure, error) {
		j, err := filled(ctx, dir)
		if err != nil {
			return figure{}, err
		}
		defer j.Close()
		end, err := j.End(ctx)
		if err != nil {
			return figure{}, err
		}
		began := time.Now()
		r := journal.NewReader(j, journal.ReaderConfig{SkipChain: skipChain})
		defer r.Close()
		var it journal.Item
		var records []journal.Record
		n := 0
		for r.Cursor().Pos < end.Pos {
			if err := r.Next(ctx, &it); err != nil {
				return figure{}, err
			}
			if it.Verdict != journal.Live {
				continue
			}
			if records, err = it.Batch.Records(records[:0]); err != nil {
				return figure{}, err
			}
			n += len(records)
		}
		return figure{rate: float64(n) / time.Since(began).Seconds()}, nil
	}
}

// hashAlone hashes the bytes of the journal's entries as the chain does, from
// memory, and counts the records in them.
func hashAlone(ctx context.Context, _ settings, dir string) (figure, error) {
	j, err := filled(ctx, dir)
	if err != nil {
		return figure{}, err
	}
	defer j.Close()
	end, err := j.End(ctx)
	if err != nil {
		return figure{}, err
	}
	var entries [][]byte
	for e, err := range j.Follow(ctx, 0) {
		if err != nil {
			return figure{}, err
		}
		entries = append(entries, bytes.Clone(e.Data))
		if e.Pos >= end.Pos {
			break
		}
	}
	began := time.Now()
	h := sha256.New()
	var sum []byte
	for _, e := range entries {
		h.Reset()
		h.Write(sum)
		h.Write(e)
		sum = h.Sum(sum[:0])
	}
	return figure{rate: float64(end.Seq) / time.Since(began).Seconds()}, nil
}

func readEtcd(_ context.Context, _ settings, dir string) (figure, error) {
	dir = filepath.Join(dir, "wal")
	w, err := walv3.Create(zap.NewNop(), dir, nil)
	if err != nil {
		return figure{}, err
	}
	entries := make([]raftpb.Entry, 1024)
	for i := range readRecords {
		entries[i%1024] = raftpb.Entry{Term: 1, Index: uint64(i + 1), Data: make([]byte, commandBytes)}
		if (i+1)%1024 == 0 {
			if err := w.Save(raftpb.HardState{Term: 1, Commit: uint64(i + 1)}, entries); err != nil {
				return figure{}, err
			}
		}
	}
	if err := w.Close(); err != nil {
		return figure{}, err
	}
	began := time.Now()
	r, err := walv3.OpenForRead(zap.NewNop(), dir, walpb.Snapshot{})
	if err != nil {
		return figure{}, err
	}
	defer r.Close()
	_, _, got, err := r.ReadAll()
	return figure{rate: float64(len(got)) / time.Since(began).Seconds()}, err
}
