// Package demo shows on real processes what the project promises: a primary is
// killed in the middle of its work, a standby takes over, and nothing that was
// answered is lost.
//
// It runs a journal's server and two nodes as child processes, submits order flow
// through a client as any program would, kills the primary with SIGKILL, promotes
// the standby over HTTP, and leaves the retrying to the client. Then it reads the
// journal itself and holds what clients were told against it.
package demo
