package protocol

// Paths of what a terminal asks for when it is checked, over mutual TLS.
const (
	// PathRelay answers a GET with RelayServers.
	PathRelay = "/vindu/v1/relay"
	// PathTestCall takes a TestCallRequest and answers with a TestCall. The first request for a call has the clinic's robot place it;
	// the same request again tells how it goes.
	PathTestCall = "/vindu/v1/test-call"
)

// RelayServers are the clinic's relay as a terminal reaches it, with short-lived credentials.
type RelayServers struct {
	Version uint        `cbor:"1,keyasint"`
	Servers []ICEServer `cbor:"2,keyasint"`
}

func (r *RelayServers) valid() error {
	if err := checkVersion(r.Version); err != nil {
		return err
	}
	return checkServers(r.Servers)
}

// TestCallRequest asks the clinic's robot to ring this terminal. The terminal names the call, so that it knows it when it comes.
type TestCallRequest struct {
	Version uint   `cbor:"1,keyasint"`
	Call    CallID `cbor:"2,keyasint"`
	Path    string `cbor:"3,keyasint,omitempty"` // DirectPath or RelayedPath in a rehearsal; empty in a technician's check
}

func (r *TestCallRequest) valid() error {
	if r.Path != "" && r.Path != DirectPath && r.Path != RelayedPath {
		return malformed("test call by an unknown path")
	}
	if (r.Call == CallID{}) {
		return malformed("test call lacks a name")
	}
	return checkVersion(r.Version)
}

// TestCall is what the robot knows of a test call. Counts are of what reached it.
type TestCall struct {
	Version  uint   `cbor:"1,keyasint"`
	Call     CallID `cbor:"2,keyasint"`
	Ended    bool   `cbor:"3,keyasint"`
	Outcome  Code   `cbor:"4,keyasint,omitempty"` // why it ended
	Pictures uint64 `cbor:"5,keyasint"`           // whole ones
	Keys     uint64 `cbor:"6,keyasint"`           // of them, those that stand alone
	Sounds   uint64 `cbor:"7,keyasint"`           // packets
	Lost     uint64 `cbor:"8,keyasint"`           // packets of either
}

func (t *TestCall) valid() error {
	if err := checkVersion(t.Version); err != nil {
		return err
	}
	if (t.Call == CallID{}) || t.Ended != (t.Outcome != "") {
		return malformed("test call lacks a name, or has ended without an outcome")
	}
	if !t.Ended {
		return nil
	}
	return t.Outcome.valid()
}
