// Package hollywood sends recorded entries to an actor of
// github.com/anthdm/hollywood: the reply is the acknowledgement.
//
// The actor receives a [Record] for each entry and answers it with
// c.Respond(record.Ack(err)); the next one comes only then. An error, an actor that
// stops or restarts (it has lost its state), and an address that does not exist stop
// the replay with the entry's number. An actor that does not answer meets the
// replay's deadline.
//
// It is a module of its own, so that the core depends on no actor system.
package hollywood
