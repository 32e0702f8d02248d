package admin

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"understudy.dev/journal"
)

// fullNode returns a node of which everything is known.
func fullNode() *fakeNode {
	n := &fakeNode{}
	at := time.Date(2026, 11, 22, 10, 31, 2, 511_000_000, time.UTC)
	n.checks = []Check{
		{ID: CheckRole, Verdict: VerdictOK, Detail: "b is a standby, state following"},
		{ID: CheckLag, Verdict: VerdictWarn, Detail: "7 records, 1.9 KiB", Measured: new(7.0), Limit: new(5.0), Unit: "records"},
	}
	n.snap = Snapshot{
		Group: "orders", Epoch: 7, EpochStartedAt: at.Add(-time.Hour), BusySince: time.Now(), Checks: n.checks,
		Journal: JournalStatus{
			URL: "nats+context://prod/ORDERS", Up: true, FirstSeq: new(journal.Seq(1)), TailSeq: new(journal.Seq(1204558)),
			TailTime: At(at), TailSampledAt: At(at), SizeBytes: new(int64(5 << 20)), Error: "none",
			Capabilities: CapabilitiesOf(journal.Capabilities{
				Fence: true, Survives: journal.SurvivesProcess | journal.SurvivesMachine, Notes: []string{"3 replicas"},
			}),
		},
		Node: NodeStatus{
			Node: "b", Role: Standby, State: Following, Error: "none", Epoch: 7, AppliedSeq: 1204551, AppliedTime: At(at), Cursor: 1204560,
			CommandsReplayed: 1204000, RecordsPerSecond: new(4900.5), CaughtUp: new(true),
			Lag:        Lag{Records: new(uint64(7)), Bytes: new(uint64(1946)), Seconds: new(0.003), CatchUpSeconds: new(0.001)},
			Checkpoint: &Checkpoint{Seq: 1204000, Agrees: new(true)}, StateHash: "9c41e2", Promotable: new(false), RefusedBy: []CheckID{CheckLag},
			Sessions: new(12), InflightCommands: new(41), Machine: "exchange", LogicVersion: 12, Build: "v1.4.2", StartedAt: At(at.Add(-time.Hour)),
			Admin: "http://127.0.0.1:7070", Client: "127.0.0.1:7072",
		},
		Counters: Counters{Reconnects: 1, Gaps: 2, CorruptRecords: 3, DeadRecords: 4, HashEqual: 5, HashDifferent: 6, HashSkipped: 7},
	}
	return n
}

// observe takes in one of everything.
func observe(m *Metrics) {
	m.ObserveSubmit("ok", time.Millisecond)
	m.ObserveApply("live", time.Microsecond)
	m.ObserveBatch(128)
	m.CountApplied("order.place", 128, 4096)
	m.CountApplied("session", 1, 40)
	m.ObserveJournal("append", "done", time.Millisecond)
	m.CountCommand("order.place", "ok")
	m.CountCommand("never.heard.of", "duplicate")
	m.ObservePromotion("failover", Promoted, Phases{Checks: 38, Fence: 4, Drain: 2, Verify: 1, Open: 0.5})
}

func TestMetricsLint(t *testing.T) {
	m := NewMetrics(Build{Version: "v1.4.2", Machine: "exchange"}, []string{"order.place"})
	m.attach(fullNode())
	observe(m)
	problems, err := testutil.GatherAndLint(m.Registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "understudy_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// The names and types are an interface: dashboards and alerts are written against them.
func TestMetricNames(t *testing.T) {
	m := NewMetrics(Build{}, []string{"order.place"})
	observe(m)
	s := startServer(t, Config{Metrics: m}, fullNode())
	r := call(t, "GET", s.PublicURL()+"/metrics", "")
	want := strings.Fields(`
		applied_bytes_total=counter applied_record_timestamp_seconds=gauge applied_records_total=counter applied_sequence=gauge
		append_batch_records=histogram apply_duration_seconds=histogram build_info=gauge catchup_seconds=gauge check_ok=gauge
		commands_total=counter dead_epoch_records_total=counter diverged=gauge epoch=gauge epoch_start_timestamp_seconds=gauge fenced=gauge
		hash_agreed_sequence=gauge hash_comparisons_total=counter inflight_commands=gauge journal_capability=gauge
		journal_corrupt_records_total=counter journal_first_sequence=gauge journal_gaps_total=counter journal_reconnects_total=counter
		journal_request_duration_seconds=histogram journal_size_bytes=gauge journal_tail_sample_timestamp_seconds=gauge
		journal_tail_sequence=gauge journal_up=gauge lag_bytes=gauge lag_known=gauge lag_records=gauge lag_seconds=gauge machine_info=gauge
		node_role=gauge node_state=gauge paused=gauge promotable=gauge promotion_duration_seconds=histogram promotions_total=counter
		sessions=gauge submit_duration_seconds=histogram`)
	var got []string
	for _, match := range regexp.MustCompile(`(?m)^# TYPE understudy_(\S+) (\S+)$`).FindAllStringSubmatch(r.body, -1) {
		got = append(got, match[1]+"="+match[2])
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	for _, std := range []string{"go_goroutines ", "process_start_time_seconds "} {
		if !strings.Contains(r.body, "\n"+std) {
			t.Errorf("no %s", std)
		}
	}
	for series, want := range map[string]string{
		`applied_records_total{type="order.place"}`: "128", `applied_records_total{type="session"}`: "1", "applied_bytes_total": "4136",
	} {
		if !strings.Contains(r.body, "\nunderstudy_"+series+" "+want+"\n") {
			t.Errorf("no %s %s in %s", series, want, r.body)
		}
	}
	if got := testutil.ToFloat64(m.commands[otherType][index(commandOutcomes[:], "duplicate")]); got != 1 {
		t.Errorf("an unknown type under other: got %v, want 1", got)
	}
}

// An unknown lag is absent: a 0 or a NaN would silence alerts.
func TestUnknownLagIsAbsent(t *testing.T) {
	names := []string{"understudy_lag_known", "understudy_lag_records", "understudy_lag_bytes", "understudy_lag_seconds", "understudy_catchup_seconds"}
	for _, tt := range []struct {
		name string
		lag  Lag
		want string
	}{
		{name: "unknown", want: help("lag_known", "Whether the lag is known.") + "understudy_lag_known 0\n"},
		{
			name: "zero", lag: Lag{Records: new(uint64(0)), Seconds: new(0.0)},
			want: help("lag_known", "Whether the lag is known.") + "understudy_lag_known 1\n" +
				help("lag_records", "Records between the applied one and the tail; absent if unknown.") + "understudy_lag_records 0\n" +
				help("lag_seconds", "Log time between the applied record and the tail; absent if unknown.") + "understudy_lag_seconds 0\n",
		},
		{
			name: "known", lag: Lag{Records: new(uint64(7)), CatchUpSeconds: new(0.5)},
			want: help("catchup_seconds", "Estimate of the time to reach the tail; absent if unknown.") + "understudy_catchup_seconds 0.5\n" +
				help("lag_known", "Whether the lag is known.") + "understudy_lag_known 1\n" +
				help("lag_records", "Records between the applied one and the tail; absent if unknown.") + "understudy_lag_records 7\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := standbyB()
			n.set(func(s *Snapshot) { s.Node.Lag = tt.lag })
			m := NewMetrics(Build{}, nil)
			m.attach(n)
			if err := testutil.GatherAndCompare(m.Registry(), strings.NewReader(tt.want), names...); err != nil {
				t.Error(err)
			}
		})
	}
}

func help(name, text string) string {
	return "# HELP understudy_" + name + " " + text + "\n# TYPE understudy_" + name + " gauge\n"
}

// What else is absent while nothing is known, and what is there in any case.
func TestMetricsOfANewNode(t *testing.T) {
	m := NewMetrics(Build{}, nil)
	m.attach(&fakeNode{})
	families, err := m.Registry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, strings.TrimPrefix(f.GetName(), "understudy_"))
	}
	for _, absent := range []string{
		"epoch_start_timestamp_seconds", "journal_tail_sequence", "journal_tail_sample_timestamp_seconds", "journal_size_bytes",
		"applied_record_timestamp_seconds", "promotable", "check_ok", "hash_agreed_sequence", "sessions", "inflight_commands",
	} {
		if slices.Contains(names, absent) {
			t.Errorf("%s is there though nothing is known", absent)
		}
	}
	for _, there := range []string{"journal_up", "diverged", "node_state", "lag_known", "journal_gaps_total", "promotions_total"} {
		if !slices.Contains(names, there) {
			t.Errorf("%s is absent", there)
		}
	}
}

// The types of commands are many; their label has 64 values.
func TestCommandTypesAreBounded(t *testing.T) {
	var types []string
	for i := range 100 {
		types = append(types, "type"+decimal(uint64(i)))
	}
	if got := len(NewMetrics(Build{}, types).applied); got != maxTypes {
		t.Errorf("got %d values, want %d", got, maxTypes)
	}
}

func TestPromotionsAreCounted(t *testing.T) {
	n := standbyB()
	m := NewMetrics(Build{}, nil)
	s := startServer(t, Config{Metrics: m}, n)
	call(t, "POST", s.AdminURL()+"/admin/promote", `{"expect":{"node":"a"}}`)
	call(t, "POST", s.AdminURL()+"/admin/promote", "")
	call(t, "POST", s.AdminURL()+"/admin/promote", `{"dry_run":true}`)
	for outcome, want := range map[string]float64{Promoted: 1, string(ExpectationFailed): 1} {
		if got := testutil.ToFloat64(m.promotions.WithLabelValues("failover", outcome)); got != want {
			t.Errorf("%s: got %v, want %v", outcome, got, want)
		}
	}
	if got := testutil.CollectAndCount(m.phases); got != 5 {
		t.Errorf("phases: got %d series, want 5", got)
	}
}

// Unused metrics cost a nil check, used ones no allocation per command.
func TestObservingDoesNotAllocate(t *testing.T) {
	for name, m := range map[string]*Metrics{"nil": nil, "used": NewMetrics(Build{}, []string{"order.place"})} {
		allocs := testing.AllocsPerRun(100, func() {
			m.ObserveSubmit("ok", time.Millisecond)
			m.ObserveApply("live", time.Microsecond)
			m.ObserveBatch(128)
			m.CountCommand("order.place", "ok")
			m.CountApplied("order.place", 128, 4096)
		})
		if allocs > 0 {
			t.Errorf("%s: %v allocations, want 0", name, allocs)
		}
	}
	var none *Metrics
	observe(none)
}
