// Package sinks holds receivers of recorded entries that live outside the process:
// a child process and an HTTP server. Both get an entry as one JSON object, a
// [Message], and acknowledge it before the next is sent.
//
// # The exec protocol, version 1
//
// The child reads one line of JSON per entry from its standard input and answers
// each with one line on its standard output:
//
//	in   {"number":7,"seq":9,"time":"2026-01-02T03:04:05.000000006Z","micros":1500,"run":1,"kind":"seed","path":"shuffle","data":"KgAAAAAAAAA=","seed":"42"}
//	out  {"ack":7}
//
// or, to stop the replay,
//
//	out  {"ack":7,"error":"disk is full"}
//
// Lines end with "\n". Fields that a child does not know are to be ignored, and
// unknown fields of an answer are ignored too. Anything else on standard output is
// an error, and so is an acknowledgement that comes before its entry was sent, or
// twice: the replay stops with its number. (One that arrives after its entry was
// sent and before the child has read it looks like any other.) Words for people go
// to standard error. After the last entry the child's standard input is closed; it
// then ends with status 0, and so does its standard output: a process that it left
// behind and that holds that open is waited for no longer than the grace.
//
// An error in an answer, and a child that closed its input before the line was
// written, match harness.ErrNotTaken. After any other failure it is not known
// whether the child has the entry.
//
// # The HTTP protocol, version 1
//
// Each entry is the body of one POST with the content type application/json and
// the entry's number in the header Understudy-Number. A status of 2xx acknowledges
// it; any other stops the replay, and so does an error of the connection. 4xx and a
// connection that did not come about match harness.ErrNotTaken; after anything
// else, such as a 503 of a proxy, the server may have the entry. Nothing
// is sent twice by itself: who starts the replay again at that number sends it
// again, so that a server can tell a repetition by the number.
package sinks
