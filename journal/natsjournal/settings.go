package natsjournal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// subjects are the names that a stream's entries are published under.
type subjects struct {
	data  string // batches
	epoch string // fences
	all   string // what is republished
	live  string // where to
}

func subjectsOf(stream string) subjects {
	base := "understudy." + stream
	return subjects{data: base + ".data", epoch: base + ".epoch", all: base + ".>", live: base + ".live.>"}
}

// streamConfig is what Create asks for.
func streamConfig(cfg Config) jetstream.StreamConfig {
	s := subjectsOf(cfg.Stream)
	return jetstream.StreamConfig{
		Name: cfg.Stream, Description: "understudy journal", Subjects: []string{s.data, s.epoch},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1, MaxConsumers: -1,
		Replicas: max(cfg.Replicas, 1), DenyDelete: true, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: s.all, Destination: s.live},
	}
}

// pauseForLeader is how long to wait before a cluster is asked again for what it
// could not do without a leader.
const pauseForLeader = 50 * time.Millisecond

// pauseForFence lets another fence that is being committed become visible.
const pauseForFence = 2 * time.Millisecond

// stream reads the stream's description, and creates it if that is wanted and it
// is missing. It waits for a leader within ctx.
func (j *Journal) stream(ctx context.Context) (*jetstream.StreamInfo, error) {
	for {
		info, err := j.streamOnce(ctx)
		if err == nil || !passing(err) {
			return info, err
		}
		if wait(ctx, pauseForLeader) != nil {
			return nil, fmt.Errorf("no leader in time: %w", err)
		}
	}
}

// createTimeout bounds one creation: on three replicas it waits for their
// election.
const createTimeout = 5 * time.Second

func (j *Journal) streamOnce(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	s, err := j.js.Stream(ctx, j.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) && j.cfg.Create {
		s, err = j.js.CreateStream(ctx, streamConfig(j.cfg))
	}
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("%w: it has to be created first", err)
	}
	if err != nil {
		return nil, fmt.Errorf("read settings: %w", err)
	}
	return s.CachedInfo(), nil
}

// Codes of a cluster that is still forming (nats-server v2.15.2,
// server/jetstream_errors_generated.go).
const (
	codeNoPeers       = 10005 // no suitable peers for placement
	codeNotAvailable  = 10008 // JetStream system temporarily unavailable
	codeNotLeader     = 10009 // JetStream cluster can not handle request
	codeStreamOffline = 10118 // stream is offline
	codeNameInUse     = 10058 // another creator was first and asked for something else: read what is there
)

// passing reports whether asking again may help.
func passing(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return slices.Contains([]jetstream.ErrorCode{codeNoPeers, codeNotAvailable, codeNotLeader, codeStreamOffline, codeNameInUse}, api.ErrorCode)
	}
	return unsent(err) || errors.Is(err, nats.ErrDisconnected) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse)
}

// wait pauses; it fails when ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// A SettingsError lists what is wrong with the settings of a stream that exists.
type SettingsError struct {
	Stream string
	Faults []string // each one setting and why it cannot be
	Fix    string   // the command that changes what can be changed; "" if nothing can
	Remake bool     // some of it can only be chosen when a stream is created
}

func (e *SettingsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "stream %s cannot hold a journal: %s", e.Stream, strings.Join(e.Faults, "; "))
	if e.Fix != "" {
		fmt.Fprintf(&b, "; fix: %s", e.Fix)
	}
	if e.Remake {
		b.WriteString("; what is marked (at creation) cannot be changed: copy the journal to a new stream")
	}
	return b.String()
}

// A setting is one thing that must hold. flag is what the nats command takes to
// make it so; "" where it can only be chosen when the stream is created.
type setting struct {
	holds bool
	fault string
	flag  string
}

// checkSettings refuses settings under which the contract would not hold:
// those that delete, reorder, alter or acknowledge early.
func checkSettings(got jetstream.StreamConfig, cfg Config) error {
	e := &SettingsError{Stream: got.Name}
	var flags []string
	for _, s := range settings(got, cfg) {
		if s.holds {
			continue
		}
		if s.flag == "" {
			e.Remake = true
			e.Faults = append(e.Faults, s.fault+" (at creation)")
			continue
		}
		e.Faults = append(e.Faults, s.fault)
		flags = append(flags, s.flag)
	}
	if len(e.Faults) == 0 {
		return nil
	}
	if len(flags) > 0 {
		e.Fix = "nats stream edit " + got.Name + " " + strings.Join(flags, " ")
	}
	return e
}

// settings is the list. Flags are those of the nats command's "stream edit"
// (natscli, cli/stream_command.go).
func settings(got jetstream.StreamConfig, cfg Config) []setting {
	s := subjectsOf(got.Name)
	want := []string{s.data, s.epoch}
	have := slices.Sorted(slices.Values(got.Subjects))
	rp := got.RePublish
	replicas := cfg.Replicas
	if replicas == 0 {
		replicas = got.Replicas
	}
	return []setting{
		{got.Storage == jetstream.FileStorage, "storage is memory: an acknowledgement would survive nothing", ""},
		{got.Retention == jetstream.LimitsPolicy, fmt.Sprintf("retention is %v: entries vanish once consumed", got.Retention), ""},
		{got.Discard == jetstream.DiscardNew, "discard is old: a full stream would eat its history instead of refusing", "--discard=new"},
		{!got.DiscardNewPerSubject, "discard new per subject: a limit on batches would not hold for fences", "--no-discard-per-subject"},
		{got.MaxAge == 0, fmt.Sprintf("max age is %v: entries vanish with time", got.MaxAge), "--max-age=0"},
		{got.MaxMsgsPerSubject <= 0, fmt.Sprintf("max messages per subject is %d: older entries vanish", got.MaxMsgsPerSubject), "--max-msgs-per-subject=-1"},
		{slices.Equal(have, want), fmt.Sprintf("subjects are %s, want %s", strings.Join(have, ","), strings.Join(want, ",")), "--subjects=" + strings.Join(want, ",")},
		{got.Mirror == nil, "it mirrors another stream", ""},
		{len(got.Sources) == 0, "it sources other streams, whose messages come without a fence", ""},
		{got.SubjectTransform == nil, "it transforms subjects", "--no-transform"},
		{
			rp != nil && rp.Source == s.all && rp.Destination == s.live && !rp.HeadersOnly, "it does not republish " + s.all + " to " + s.live + " with bodies, where followers listen",
			"--republish-source='" + s.all + "' --republish-destination='" + s.live + "'",
		},
		{got.AllowDirect, "direct get is off, which followers read the past by", "--allow-direct"},
		{got.DenyDelete, "deleting single messages is allowed", "--deny-delete"},
		{!got.AllowRollup, "roll-ups are allowed: one message could purge all before it", "--no-allow-rollup"},
		{!got.AllowMsgTTL, "messages may carry a time to live", ""},
		{got.SubjectDeleteMarkerTTL == 0, "delete markers are written into it", "--subject-del-markers-ttl=0"},
		{!got.AllowMsgCounter, "it holds counters", ""},
		{!got.AllowMsgSchedules, "it schedules messages", ""},
		{!got.NoAck, "it does not acknowledge", "--ack"},
		{!got.Sealed, "it is sealed", ""},
		{
			got.MaxMsgSize <= 0 || got.MaxMsgSize > headroom, fmt.Sprintf("max message size is %d bytes: nothing is left for a batch beside %d of headers", got.MaxMsgSize, headroom),
			"--max-msg-size=-1",
		},
		{got.FirstSeq <= 1, fmt.Sprintf("it starts at sequence %d", got.FirstSeq), ""},
		{got.PersistMode == jetstream.DefaultPersistMode, "persist mode is async: acknowledged before it is written", ""},
		{got.Replicas == replicas, fmt.Sprintf("it has %d replicas, %d were asked for", got.Replicas, replicas), "--replicas=" + strconv.Itoa(replicas)},
	}
}
