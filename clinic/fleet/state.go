package fleet

import (
	"time"

	"vindu/protocol"
)

// Silence is how long a terminal may be silent, or its messages not make the round trip, before it is no longer taken to be online. Terminals
// report at least twice in that time.
const Silence = 60 * time.Second

// State is what the clinic knows of one terminal.
type State struct {
	Terminal protocol.KeyHash
	Online   bool
	Since    time.Time // of Online, or of not Online; zero if it was never seen
	Heard    time.Time // when anything last came from it; zero if nothing ever did
	// RoundTrip is when the terminal last said that it got what the clinic had answered it. Zero if it has not since the clinic started, or is of a
	// version that does not say so: then being heard has to do.
	RoundTrip time.Time
	Software  string
	Health    *protocol.Health // the latest; nil if it never reported
	// Malformed counts messages of this terminal that were refused since the clinic started.
	Malformed uint64
}
