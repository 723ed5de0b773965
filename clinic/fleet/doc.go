// Package fleet is the clinic as a client of the message broker: it knows which terminals are there, keeps what they
// report, and carries call messages to and from them. The broker may be any that speaks MQTT 3.1.1 over mutual TLS 1.3.
//
// # Presence
//
// A terminal publishes presence when it connects and leaves a will that clears it. Every message that comes from it
// while it is connected counts as heard; what the broker retained does not. Each presence is answered, and the next one says that the answer came
// (trips.go). A terminal is Online when its presence says so, and it was heard and a message made that round trip within the last 60 s. A late will
// of an older session changes nothing.
//
// Two devices that are connected in turn with one identity are noticed (twins.go says how): one of them is a copy.
//
// # Events
//
// An event is acknowledged only after it was committed to the store, together with what its sinks derive from it, in one
// transaction. (terminal, epoch, seq) identifies it, so that one that is sent again is recognised. Acknowledgements are
// cumulative, signed by the clinic's service key (Config.SignAck), and never pass over a sequence number that may still come.
//
// # What does not fit
//
// Malformed and oversized messages are counted, written to the audit log (at a bounded rate), and change nothing else. Of what waits each terminal has a
// share, so that one that sends without end is in nobody's way but its own (share.go).
package fleet
