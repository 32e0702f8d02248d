// Package admin is what an operator, a load balancer and a monitoring system may
// ask a running node over HTTP: the shapes of the JSON, the server, a client and
// the metrics.
//
// # The node
//
// [Node] is all that the server needs to know of the node it stands before: a
// snapshot, the checks before a promotion, and the promotion. The server adds
// what HTTP needs: who may ask, idempotency keys, operations that go on when the
// one who asked is gone.
//
// # Two listeners
//
// The public listener answers GET and HEAD only: health, metrics, version. It
// tells no secrets and shows no payloads. The admin listener answers /admin/*.
// Beyond loopback it does not start without a token file, nor without TLS unless
// Config.InsecureHTTP says so. On loopback without tokens it checks the Host
// header and refuses requests that a web page of another origin made.
//
// # What is certain
//
// Each problem that an answer can name has a [Certainty]: done, refused before
// anything was written, not done, unknown, or failed after the fence. [ExitCode]
// turns it into the exit code of a command. A request that left without its
// answer coming back is unknown, never failed: the operation's key, which the
// client makes before it asks, finds out what became of it.
//
// # Unknown is never zero
//
// What is not known is null in JSON and absent from the metrics: a lag of 0 says
// that the standby was seen to be level with the tail.
//
// # What this package does not do
//
// It decides nothing about a promotion: the node does, and the journal's fence
// does in the end. Operations are kept in memory and end with the process; the
// journal's epochs are the lasting record.
package admin
