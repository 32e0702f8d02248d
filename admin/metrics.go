package admin

import (
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"understudy.dev/journal"
)

// Metrics is what a node observes into, and what GET /metrics shows. All methods
// may be called concurrently and on a nil Metrics, where they do nothing: a node
// whose metrics nobody reads pays for a nil check.
//
// What is a state and not an event is read from the node's Snapshot when
// somebody scrapes.
type Metrics struct {
	registry  *prometheus.Registry
	snapshots *snapshotCollector

	submit   [len(submitOutcomes)]prometheus.Observer
	apply    [len(applyPhases)]prometheus.Observer
	batch    prometheus.Observer
	requests *prometheus.HistogramVec
	commands map[string]*[len(commandOutcomes)]prometheus.Counter // by type; fixed, so that reading needs no lock

	applied      map[string]prometheus.Counter // by type of command or kind of record; fixed too
	appliedBytes prometheus.Counter

	promotions *prometheus.CounterVec
	phases     *prometheus.HistogramVec
}

// The fixed label values. An unknown one counts as the last.
var (
	submitOutcomes  = [...]string{"ok", "rejected", "unknown"}
	applyPhases     = [...]string{"live", "catchup"}
	commandOutcomes = [...]string{"ok", "rejected", "duplicate", "refused", "not_done", "unknown"}
)

// otherType stands for the types of commands that have no label of their own.
const otherType = "other"

// maxTypes bounds the values of the label type.
const maxTypes = 64

// NewMetrics returns metrics for a node whose machine knows these types of
// commands. More than 64 count as "other".
func NewMetrics(build Build, commands []string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(), snapshots: newSnapshotCollector(), commands: map[string]*[len(commandOutcomes)]prometheus.Counter{}}
	m.registry.MustRegister(m.snapshots, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.info(build)
	m.histograms()
	types := labelTypes(commands)
	m.commandCounters(types)
	m.appliedCounters(types)
	m.promotionMetrics()
	return m
}

// info registers the two metrics that are always 1.
func (m *Metrics) info(b Build) {
	one := func(name, help string, labels prometheus.Labels) {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels})
		g.Set(1)
		m.registry.MustRegister(g)
	}
	one("understudy_build_info", "What was built; always 1.",
		prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion})
	one("understudy_machine_info", "The machine that runs; always 1.",
		prometheus.Labels{"machine": b.Machine, "logic_version": decimal(uint64(b.LogicVersion))})
}

// durations are the buckets in seconds of what happens between a memory access
// and a cluster election: 10 µs to 10 s in steps of 1, 2.5, 5.
var durations = []float64{
	1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
}

func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets,
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
	}
}

func (m *Metrics) histograms() {
	submit := prometheus.NewHistogramVec(histogram("understudy_submit_duration_seconds",
		"From the admission of a command to its answer.", durations), []string{"outcome"})
	apply := prometheus.NewHistogramVec(histogram("understudy_apply_duration_seconds",
		"Applying one batch.", durations), []string{"phase"})
	batch := prometheus.NewHistogram(histogram("understudy_append_batch_records",
		"Records in one append.", prometheus.ExponentialBuckets(1, 2, 14)))
	m.requests = prometheus.NewHistogramVec(histogram("understudy_journal_request_duration_seconds",
		"Requests to the journal.", durations), []string{"op", "outcome"})
	m.registry.MustRegister(submit, apply, batch, m.requests)
	for i, o := range submitOutcomes {
		m.submit[i] = submit.WithLabelValues(o)
	}
	for i, p := range applyPhases {
		m.apply[i] = apply.WithLabelValues(p)
	}
	m.batch = batch
}

func (m *Metrics) commandCounters(types []string) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "understudy_commands_total", Help: "Commands answered, by what the answer was.",
	}, []string{"type", "outcome"})
	m.registry.MustRegister(vec)
	for _, t := range append(types, otherType) {
		var counters [len(commandOutcomes)]prometheus.Counter
		for i, o := range commandOutcomes {
			counters[i] = vec.WithLabelValues(t, o)
		}
		m.commands[t] = &counters
	}
}

// kinds are the kinds of records, besides commands, that a node's journal holds.
var kinds = []string{journal.KindEpochStart.String(), journal.KindSession.String(), journal.KindCheckpoint.String()}

func (m *Metrics) appliedCounters(types []string) {
	vec := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "understudy_applied_records_total", Help: "Records applied since the process started, by type of command or kind of record.",
	}, []string{"type"})
	m.appliedBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "understudy_applied_bytes_total", Help: "Bytes applied since the process started.",
	})
	m.registry.MustRegister(vec, m.appliedBytes)
	m.applied = map[string]prometheus.Counter{}
	for _, t := range slices.Concat(types, kinds, []string{otherType}) {
		m.applied[t] = vec.WithLabelValues(t)
	}
}

// labelTypes returns the types that get a label of their own.
func labelTypes(types []string) []string {
	known := slices.Clone(types)
	slices.Sort(known)
	known = slices.Compact(known)
	return slices.Clip(known[:min(len(known), maxTypes-1-len(kinds))])
}

func (m *Metrics) promotionMetrics() {
	m.promotions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "understudy_promotions_total", Help: "Promotions asked for, by mode and what became of them.",
	}, []string{"mode", "outcome"})
	m.phases = prometheus.NewHistogramVec(histogram("understudy_promotion_duration_seconds",
		"Phases of promotions that succeeded.", durations), []string{"phase"})
	m.registry.MustRegister(m.promotions, m.phases)
	for _, outcome := range []string{Promoted, string(ChecksFailed), string(FencedNotServing), string(OutcomeUnknown)} {
		m.promotions.WithLabelValues("failover", outcome) // at 0 from the start, so that an alert sees the first
	}
}

// attach lets a scrape read the snapshots of node.
func (m *Metrics) attach(node Node) { m.snapshots.node.Store(&node) }

// handler answers GET /metrics.
func (m *Metrics) handler(l *slog.Logger) http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{ErrorLog: slogLogger(l), ErrorHandling: promhttp.HTTPErrorOnError})
}

// Registry returns the registry, for the program's own metrics beside these.
func (m *Metrics) Registry() *prometheus.Registry { return m.registry }

// ObserveSubmit takes in how long a command waited for its answer, and its
// outcome: ok, rejected or unknown.
func (m *Metrics) ObserveSubmit(outcome string, d time.Duration) {
	if m != nil {
		m.submit[index(submitOutcomes[:], outcome)].Observe(d.Seconds())
	}
}

// ObserveApply takes in how long a batch took to apply: live, or catchup.
func (m *Metrics) ObserveApply(phase string, d time.Duration) {
	if m != nil {
		m.apply[index(applyPhases[:], phase)].Observe(d.Seconds())
	}
}

// ObserveBatch takes in how many records one append carried.
func (m *Metrics) ObserveBatch(records int) {
	if m != nil {
		m.batch.Observe(float64(records))
	}
}

// ObserveJournal takes in how long the journal took: op is append, read, tail or
// fence, outcome is done, not_done or unknown.
func (m *Metrics) ObserveJournal(op, outcome string, d time.Duration) {
	if m != nil {
		m.requests.WithLabelValues(op, outcome).Observe(d.Seconds())
	}
}

// CountCommand counts an answer to a command of that type: ok, rejected,
// duplicate, refused, not_done or unknown.
func (m *Metrics) CountCommand(name, outcome string) {
	if m == nil {
		return
	}
	counters, ok := m.commands[name]
	if !ok {
		counters = m.commands[otherType]
	}
	counters[index(commandOutcomes[:], outcome)].Inc()
}

// CountApplied counts records of one batch that were applied: name is the type
// of command, or the kind of record.
func (m *Metrics) CountApplied(name string, records, bytes int) {
	if m == nil {
		return
	}
	counter, ok := m.applied[name]
	if !ok {
		counter = m.applied[otherType]
	}
	counter.Add(float64(records))
	m.appliedBytes.Add(float64(bytes))
}

// ObservePromotion counts a promotion by mode (failover, planned or bootstrap)
// and outcome, and of one that succeeded how long each phase took. The server
// calls it for those that it was asked for.
func (m *Metrics) ObservePromotion(mode, outcome string, p Phases) {
	if m == nil {
		return
	}
	m.promotions.WithLabelValues(mode, outcome).Inc()
	if outcome == Promoted {
		for phase, seconds := range p.seconds() {
			m.phases.WithLabelValues(phase).Observe(seconds)
		}
	}
}

// index returns where s is in words, or the last.
func index(words []string, s string) int {
	if i := slices.Index(words, s); i >= 0 {
		return i
	}
	return len(words) - 1
}
