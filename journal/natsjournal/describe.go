package natsjournal

import (
	"fmt"

	"understudy.dev/journal"
)

// Describe implements journal.Describer, from what the stream was at Open.
func (j *Journal) Describe() journal.Capabilities {
	replicas := j.info.Config.Replicas
	return journal.Capabilities{
		Backend: "nats", Location: fmt.Sprintf("stream %s on %s", j.cfg.Stream, j.place()),
		Survives: survives(replicas, j.cfg.SyncAlways), Fence: true, MaxBatch: j.maxBatch,
		Notes: j.notes(replicas),
	}
}

// survives says what an acknowledgement survives. Two replicas hold each entry
// twice but cannot go on with one, so the loss of a server is claimed from three.
func survives(replicas int, syncAlways bool) journal.Survival {
	s := journal.SurvivesProcess
	if syncAlways {
		s |= journal.SurvivesMachine
	}
	if replicas >= 3 {
		s |= journal.SurvivesDisk | journal.SurvivesNode
	}
	return s
}

func (j *Journal) notes(replicas int) []string {
	notes := []string{fmt.Sprintf("R%d", replicas)}
	if c := j.info.Cluster; c != nil && c.Leader != "" {
		notes[0] += ", leader " + c.Leader + " when opened"
	}
	switch {
	case j.cfg.SyncAlways && replicas > 1:
		notes = append(notes, "synced on a quorum before it is acknowledged")
	case j.cfg.SyncAlways:
		notes = append(notes, "synced before it is acknowledged")
	default:
		notes = append(notes, "not known to sync before it acknowledges: JetStream does so every two minutes unless its servers have sync_interval: always")
	}
	if replicas == 2 {
		notes = append(notes, "two replicas stop when either is lost: use three")
	}
	if j.cfg.InProcess != nil && replicas == 1 {
		notes = append(notes, "the server dies with this process: a standby cannot read it then")
	}
	if j.info.Config.DenyPurge {
		notes = append(notes, "the stream denies purging: it cannot be trimmed")
	}
	if j.info.Config.MaxBytes > 0 || j.info.Config.MaxMsgs > 0 {
		notes = append(notes, fmt.Sprintf("full at %d bytes or %d entries (-1: no limit); then it refuses appends", j.info.Config.MaxBytes, j.info.Config.MaxMsgs))
	}
	return notes
}
