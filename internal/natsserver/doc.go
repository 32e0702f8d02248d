// Package natsserver runs a NATS server with JetStream inside this process.
//
// # What an acknowledgement survives
//
// The server syncs every message to the disk before it acknowledges it, unless
// Config.NoSync asks otherwise. A single server dies with its process: what it
// acknowledged is on the disk and served again after a restart, but nobody can
// read it in between. Run three as a cluster, in processes of their own, where
// that matters.
//
// # What it binds
//
// Loopback, on a free port, unless told otherwise. With NoListen it binds
// nothing and is reached through [Server.InProcessConn] only.
package natsserver
