package admin

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A snapshotCollector reads the node's snapshot at each scrape. What is unknown
// is absent.
type snapshotCollector struct {
	node  atomic.Pointer[Node] // nil before attach
	descs map[string]*prometheus.Desc
}

// A family is one metric of the collector.
type family struct{ name, help, label string }

var families = []family{
	{"understudy_node_role", "The node's role: 1 for what it is.", "role"},
	{"understudy_node_state", "The node's state: 1 for what it is.", "state"},
	{"understudy_epoch", "The open epoch.", ""},
	{"understudy_epoch_start_timestamp_seconds", "When the open epoch began.", ""},
	{"understudy_journal_up", "Whether the last request to the journal succeeded.", ""},
	{"understudy_journal_first_sequence", "The oldest record in the journal.", ""},
	{"understudy_journal_tail_sequence", "The newest record in the journal, sampled.", ""},
	{"understudy_journal_size_bytes", "Bytes in the journal.", ""},
	{"understudy_journal_tail_sample_timestamp_seconds", "When the tail was sampled.", ""},
	{"understudy_journal_reconnects_total", "Connections to the journal made again.", ""},
	{"understudy_journal_capability", "What the journal declares.", "capability"},
	{"understudy_applied_sequence", "The last record applied.", ""},
	{"understudy_applied_record_timestamp_seconds", "The time of the last record applied.", ""},
	{"understudy_lag_records", "Records between the applied one and the tail; absent if unknown.", ""},
	{"understudy_lag_bytes", "Bytes between the applied record and the tail; absent if unknown.", ""},
	{"understudy_lag_seconds", "Log time between the applied record and the tail; absent if unknown.", ""},
	{"understudy_lag_known", "Whether the lag is known.", ""},
	{"understudy_catchup_seconds", "Estimate of the time to reach the tail; absent if unknown.", ""},
	{"understudy_inflight_commands", "Commands admitted and not answered.", ""},
	{"understudy_sessions", "Client sessions kept.", ""},
	{"understudy_hash_agreed_sequence", "The newest record at which digests were compared and equal.", ""},
	{"understudy_hash_comparisons_total", "Comparisons of digests.", "result"},
	{"understudy_diverged", "Whether this node's digest differed from the journal's.", ""},
	{"understudy_promotable", "Whether all checks before a promotion passed when last looked at; absent if unknown.", ""},
	{"understudy_check_ok", "Whether a check before a promotion passed when last looked at.", "check"},
	{"understudy_journal_gaps_total", "Gaps found in the sequence; must stay 0.", ""},
	{"understudy_journal_corrupt_records_total", "Damaged entries found; must stay 0.", ""},
	{"understudy_dead_epoch_records_total", "Records of a dead epoch skipped; must stay 0.", ""},
	{"understudy_fenced", "Whether the node was fenced and has not rejoined.", ""},
	{"understudy_paused", "Whether applying is paused.", ""},
}

func newSnapshotCollector() *snapshotCollector {
	c := &snapshotCollector{descs: map[string]*prometheus.Desc{}}
	for _, f := range families {
		var labels []string
		if f.label != "" {
			labels = []string{f.label}
		}
		c.descs[f.name] = prometheus.NewDesc(f.name, f.help, labels, nil)
	}
	return c
}

// Describe implements prometheus.Collector.
func (c *snapshotCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *snapshotCollector) Collect(ch chan<- prometheus.Metric) {
	node := c.node.Load()
	if node == nil {
		return
	}
	s := (*node).Snapshot()
	e := emitter{descs: c.descs, ch: ch}
	e.node(&s)
	e.journal(&s.Journal)
	e.applied(&s)
	e.lag(s.Node.Lag)
	e.safety(&s)
}

// An emitter sends the metrics of one scrape.
type emitter struct {
	descs map[string]*prometheus.Desc
	ch    chan<- prometheus.Metric
}

func (e emitter) gauge(name string, v float64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.descs["understudy_"+name], prometheus.GaugeValue, v, labels...)
}

func (e emitter) counter(name string, v uint64, labels ...string) {
	e.ch <- prometheus.MustNewConstMetric(e.descs["understudy_"+name], prometheus.CounterValue, float64(v), labels...)
}

func (e emitter) flag(name string, v bool, labels ...string) {
	var n float64
	if v {
		n = 1
	}
	e.gauge(name, n, labels...)
}

func (e emitter) timestamp(name string, t time.Time) {
	if !t.IsZero() {
		e.gauge(name, float64(t.UnixMicro())/1e6)
	}
}

// known sends a gauge whose value is there.
func known[T ~int | ~int64 | ~uint64 | ~float64](e emitter, name string, v *T) {
	if v != nil {
		e.gauge(name, float64(*v))
	}
}

func (e emitter) node(s *Snapshot) {
	for _, r := range Roles() {
		e.flag("node_role", s.Node.Role == r, string(r))
	}
	for _, st := range States() {
		e.flag("node_state", s.Node.State == st, string(st))
	}
	e.gauge("epoch", float64(s.Epoch))
	e.timestamp("epoch_start_timestamp_seconds", s.EpochStartedAt)
	known(e, "inflight_commands", s.Node.InflightCommands)
	known(e, "sessions", s.Node.Sessions)
}

func (e emitter) journal(j *JournalStatus) {
	e.flag("journal_up", j.Up)
	known(e, "journal_first_sequence", j.FirstSeq)
	known(e, "journal_tail_sequence", j.TailSeq)
	known(e, "journal_size_bytes", j.SizeBytes)
	e.timestamp("journal_tail_sample_timestamp_seconds", j.TailSampledAt.Time)
	e.flag("journal_capability", j.Capabilities.ConditionalAppend, "conditional_append")
	e.flag("journal_capability", j.Capabilities.DurableAck, "durable_ack")
}

func (e emitter) applied(s *Snapshot) {
	e.gauge("applied_sequence", float64(s.Node.AppliedSeq))
	e.timestamp("applied_record_timestamp_seconds", s.Node.AppliedTime.Time)
	c := &s.Counters
	e.counter("journal_reconnects_total", c.Reconnects)
	e.counter("journal_gaps_total", c.Gaps)
	e.counter("journal_corrupt_records_total", c.CorruptRecords)
	e.counter("dead_epoch_records_total", c.DeadRecords)
	e.counter("hash_comparisons_total", c.HashEqual, "equal")
	e.counter("hash_comparisons_total", c.HashDifferent, "different")
	e.counter("hash_comparisons_total", c.HashSkipped, "not_comparable")
}

func (e emitter) lag(l Lag) {
	e.flag("lag_known", l.Records != nil)
	known(e, "lag_records", l.Records)
	known(e, "lag_bytes", l.Bytes)
	known(e, "lag_seconds", l.Seconds)
	known(e, "catchup_seconds", l.CatchUpSeconds)
}

func (e emitter) safety(s *Snapshot) {
	if c := s.Node.Checkpoint; c != nil && c.Agrees != nil && *c.Agrees {
		e.gauge("hash_agreed_sequence", float64(c.Seq))
	}
	e.flag("diverged", s.Node.State == Diverged)
	e.flag("fenced", s.Node.State == Fenced)
	e.flag("paused", s.Node.State == Paused)
	if s.Node.Promotable != nil {
		e.flag("promotable", *s.Node.Promotable)
	}
	for _, c := range s.Checks {
		e.flag("check_ok", c.Verdict == VerdictOK || c.Verdict == VerdictInfo, string(c.ID))
	}
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }
