// Package client is the way into a group from another process: a framed,
// pipelined protocol over TCP, its server ([Serve]) and its client ([Dial]).
//
// # What a client promises
//
// Every command gets one [Answer], and it is true. The client finds the primary
// among its addresses and where nodes point to, opens a session, numbers its
// commands, and keeps up to a window of them outstanding. When the connection is
// lost, the node is not the primary any more, or it says goaway, the client looks
// for the primary again and sends everything unanswered again with the same
// session and numbers. The session is part of the replicated state, so a command
// that was carried out before is answered with its first answer
// ([Answer.Repeated]) and is not carried out again.
//
// # Verdicts
//
// Done and Rejected: the command is in the journal and was carried out once.
// Refused: it never was, and never will be as it is. NotDone: it was not carried
// out and this client will not try again; without a node to answer, that is only
// said of commands that were never sent or whose every copy was answered so.
// Unknown: a copy was sent, what became of it is not known, and the client
// cannot or may not wait: Timeout or the caller's context ended, the client was
// closed, or the session is gone.
//
// # What the session's codes lead to
//
// NoSession: the session expired (too many other sessions were used since). What
// was sent once, on this connection, and got this code was certainly not carried
// out: it goes, in order, into a new session. What was sent on an earlier
// connection too is Unknown, since the new session could not tell that it had
// been carried out: it is never silently sent again.
//
// Forgotten: the session dropped this answer, which it does only below the
// lowest unanswered number that this client told. It cannot happen to a command
// that waits; should it, the answer is Unknown.
//
// Hole: an ordered session lacks an earlier number. It is sent again first, then
// the rest in order.
//
// Beyond: the machine's window is smaller than the server said. The client
// narrows its own and sends the command again.
//
// Opening a session is not idempotent: an opening whose answer was lost is sent
// again and leaves a session that nobody uses. It is harmless and expires.
//
// # Ordered sessions
//
// With [Config.Ordered] commands are carried out in the order of submission. A
// command that its caller gave up after it was sent keeps its place: the client
// goes on sending it, since the session takes no later one without it, so after
// Unknown it may still be carried out. In a session without order it is not sent
// again. A command that a node refuses after it got a number ends the session:
// what came after it was not carried out and goes, in order, into a new one. If
// a copy of the refused command was in doubt (nodes disagree about what they
// know), those after it that were in doubt too are Unknown; of these alone one
// may still be carried out after a command of the new session.
//
// # What this package does not do
//
// It does not encrypt or authenticate: give [Serve] a TLS listener and
// [Config.Dial] a TLS dialer. A client process that restarts gets a new session
// and cannot ask what became of the commands of its old one.
//
// # The protocol
//
// All numbers are little endian. A frame is a length, a type and a payload:
//
//	0  4  length of what follows, at least 1; a longer one than the receiver
//	      allows is refused before memory is set aside for it
//	4  1  type
//	5  n  payload
//
// The client says hello; the server answers with welcome or goaway. After that
// the client sends submits and the server one result for each, in any order.
// Either side may ping; the other answers with pong and the same token. The
// payloads:
//
//	hello, type 1, client to server; the first frame, at most 1,561 bytes long
//	0  4  magic "UDC1"
//	4  2  version of the protocol, 1
//	6  2  length m of the machine's name, at most 255; 0 takes any machine
//	8  m  the machine's name
//
//	welcome, type 2, server to client; the first frame
//	 0  4  magic "UDC1"
//	 4  2  version, 1
//	 6  1  role: 1 primary, 2 standby
//	 7  1  zero
//	 8  8  epoch that the node last saw
//	16  4  bytes of data that a command may have
//	20  4  window: submits that may be without a result on this connection
//	24  1  length m of the machine's name
//	25  1  length a of the primary's client address; 0 if it is not known
//	26  m  the machine's name
//	 m  a  the primary's client address
//
//	submit, type 3, client to server
//	 0  1  kind of the record: 1 command, 3 opening of a session
//	 1  1  zero
//	 2  2  length n of the name, at most 1,024
//	 4  4  version of the command
//	 8  8  session; 0: none, and a retry is a new command
//	16  8  number of the command in its session, from 1; of an opening 0
//	24  8  lowest number of the session without an answer
//	32  n  name: the command's type; of an opening "ordered" or nothing
//	 n  …  data, to the end of the frame
//
//	result, type 4, server to client
//	 0  8  number of the submit
//	 8  8  Seq of its record; the session, if it opened one; 0 if there is none
//	16  1  status: 0 done, 1 refused, 2 not done, 3 not primary, 4 unknown
//	17  1  code, if done: 0 ok, 1 rejected, 2 no session, 3 forgotten, 4 hole,
//	       5 beyond the window
//	18  1  1 if the answer is that of an earlier attempt
//	19  1  length a of the primary's client address, if not primary
//	20  a  the primary's client address
//	 a  …  reply, if done; otherwise why, in words; to the end of the frame
//
//	ping, type 5, and pong, type 6
//	 0  8  token
//
//	goaway, type 7, server to client; the server sends nothing but outstanding
//	results after it, then closes
//	 0  1  reason: 1 the node ends, 2 not this protocol, 3 version, 4 machine,
//	       5 window exceeded, 6 too many connections
//	 1  1  length a of the primary's client address; 0 if it is not known
//	 2  a  the primary's client address
//	 a  …  why, in words, at most 1,024 bytes; to the end of the frame
package client
