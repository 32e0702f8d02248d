// Package group runs a journal's server and the nodes of a group as child
// processes: for the demo, and for tests that kill, pause and restart them.
//
// Children are started from the same binary, listen on loopback and free ports,
// and log into files of their own. They end with the group: [Group.Close] kills
// what still runs, and on Linux the kernel kills them when this process dies,
// however it does.
package group
