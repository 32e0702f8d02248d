package node

import "understudy.dev/journal"

// sayStarted logs what the node runs on, and warns if an acknowledgement may be lost
// with the machine: a backend's defaults may be so (JetStream's are).
func (n *Node) sayStarted() {
	caps := journal.Describe(n.cfg.Journal)
	can := []string{}
	if caps.Fence {
		can = append(can, "fence")
	}
	if caps.ReadOnly {
		can = append(can, "read-only")
	}
	synced := caps.Survives&journal.SurvivesMachine != 0
	n.log.Info("node started", "event", "node.started", "owner", n.owner, "version", n.cfg.Version,
		"machine", n.cfg.Machine.Name, "logic_version", n.cfg.Machine.Version,
		"journal", caps.Location, "capabilities", can, "survives", caps.Survives.String(), "sync", synced)
	if !synced && !caps.ReadOnly {
		n.log.Warn("what is acknowledged may be lost with the machine: the journal does not declare that it syncs before it acknowledges",
			"event", "journal.unsynced", "journal", caps.Location, "survives", caps.Survives.String(), "notes", caps.Notes)
	}
}
