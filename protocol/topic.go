package protocol

import "strings"

// The topics of a terminal (MQTT 3.1.1 §4.7). A terminal may publish to its own "out" topics and subscribe to its own
// "in" topics and nothing else. No topic says anything about a patient (R39).
const (
	topicPrefix = "vindu/v1/"

	OutPresence = "presence" // retained; the will clears it
	OutHealth   = "health"   // retained
	OutEvent    = "event"    // Event, acknowledged by Ack once committed
	OutCall     = "call"     // CallOut
	InAck       = "ack"      // signed Ack
	InCommand   = "command"  // Command
	InCall      = "call"     // CallIn

	// AllOut is the filter by which the clinic hears every terminal.
	AllOut = topicPrefix + "+/out/+"
)

// OutTopic returns the topic on which terminal k says channel.
func OutTopic(k KeyHash, channel string) string { return topicPrefix + k.Name() + "/out/" + channel }

// InTopic returns the topic on which terminal k is told channel.
func InTopic(k KeyHash, channel string) string { return topicPrefix + k.Name() + "/in/" + channel }

// InFilter returns the one subscription of terminal k.
func InFilter(k KeyHash) string { return topicPrefix + k.Name() + "/in/+" }

// ParseOutTopic splits a topic that a terminal published on. The error wraps ErrMalformed.
func ParseOutTopic(topic string) (KeyHash, string, error) { return parseTopic(topic, "out") }

// ParseInTopic splits a topic that a terminal is told on. The error wraps ErrMalformed.
func ParseInTopic(topic string) (KeyHash, string, error) { return parseTopic(topic, "in") }

func parseTopic(topic, direction string) (KeyHash, string, error) {
	rest, ok := strings.CutPrefix(topic, topicPrefix)
	if !ok {
		return KeyHash{}, "", malformed("topic does not begin with %q", topicPrefix)
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 3 || parts[1] != direction {
		return KeyHash{}, "", malformed("topic is not <terminal>/%s/<channel>", direction)
	}
	k, err := ParseName(parts[0])
	if err != nil {
		return KeyHash{}, "", err
	}
	switch direction + "/" + parts[2] {
	case "out/presence", "out/health", "out/event", "out/call", "in/ack", "in/command", "in/call":
		return k, parts[2], nil
	}
	return KeyHash{}, "", malformed("unknown channel")
}
