package protocol

// StageTime is when a call reached a stage, in milliseconds after the half began.
type StageTime struct {
	Stage string `cbor:"1,keyasint" json:"stage"`
	After uint64 `cbor:"2,keyasint" json:"after"`
}

// Crypto is what was negotiated for a call's media; R8 asks that it is checked regularly.
type Crypto struct {
	Suite  string      `cbor:"1,keyasint" json:"suite"` // DTLS cipher suite
	SRTP   string      `cbor:"2,keyasint" json:"srtp"`  // SRTP protection profile
	Local  Fingerprint `cbor:"3,keyasint" json:"-"`     // of this half
	Remote Fingerprint `cbor:"4,keyasint" json:"-"`
}

// Quality sums a half's media up; counts are totals over the call.
type Quality struct {
	RTT             uint64 `cbor:"1,keyasint" json:"rtt"`          // ms, median
	Jitter          uint64 `cbor:"2,keyasint" json:"jitter"`       // ms, of received sound
	PacketsLost     uint64 `cbor:"3,keyasint" json:"packets_lost"` // received
	PacketsReceived uint64 `cbor:"4,keyasint" json:"packets_received"`
	FramesSent      uint64 `cbor:"5,keyasint" json:"frames_sent"`
	FramesDecoded   uint64 `cbor:"6,keyasint" json:"frames_decoded"`
	Freezes         uint64 `cbor:"7,keyasint" json:"freezes"`
	Concealed       uint64 `cbor:"8,keyasint" json:"concealed"` // ms of sound that had to be invented
	BytesSent       uint64 `cbor:"9,keyasint" json:"bytes_sent"`
	BytesReceived   uint64 `cbor:"10,keyasint" json:"bytes_received"`
}

// CallRecord is one half of a call's record (R15); both halves are joined by the call id.
type CallRecord struct {
	Version      uint        `cbor:"1,keyasint" json:"version"`
	Call         CallID      `cbor:"2,keyasint" json:"-"`
	By           Side        `cbor:"3,keyasint" json:"by"`
	Began        Time        `cbor:"4,keyasint" json:"began"`
	Outcome      Code        `cbor:"5,keyasint" json:"outcome"`
	Duration     uint64      `cbor:"6,keyasint" json:"duration"` // ms of talking
	Stages       []StageTime `cbor:"7,keyasint" json:"stages"`
	Crypto       Crypto      `cbor:"8,keyasint" json:"crypto"`
	LocalPath    string      `cbor:"9,keyasint" json:"local_path"` // candidate type: host, srflx, prflx, relay; empty if none
	RemotePath   string      `cbor:"10,keyasint" json:"remote_path"`
	Camera       string      `cbor:"11,keyasint" json:"camera"` // kind of picture sent: "v4l2", "synthetic", "none", "browser"
	Sound        string      `cbor:"12,keyasint" json:"sound"`
	Quality      Quality     `cbor:"13,keyasint" json:"quality"`
	CameraOpen   Time        `cbor:"14,keyasint" json:"camera_open"`
	CameraClosed Time        `cbor:"15,keyasint" json:"camera_closed"`
	MicOpen      Time        `cbor:"16,keyasint" json:"microphone_open"`
	MicClosed    Time        `cbor:"17,keyasint" json:"microphone_closed"`

	// What was tried to find a path, where none was found, and the quality through the call.
	Pairs  []Pair        `cbor:"18,keyasint,omitempty" json:"pairs,omitempty"`
	Gather []GatherError `cbor:"19,keyasint,omitempty" json:"gather,omitempty"`
	Series *Series       `cbor:"20,keyasint,omitempty" json:"series,omitempty"`
}

func (r *CallRecord) valid() error {
	if err := checkVersion(r.Version); err != nil {
		return err
	}
	if r.By != SideTerminal && r.By != SideCaller {
		return malformed("unknown side")
	}
	if (r.Call == CallID{}) || r.Began <= 0 || len(r.Stages) > 32 {
		return malformed("call record out of bounds")
	}
	for _, s := range r.Stages {
		if err := checkText("stage", s.Stage, true); err != nil {
			return err
		}
	}
	for _, s := range []string{r.Crypto.Suite, r.Crypto.SRTP, r.LocalPath, r.RemotePath, r.Camera, r.Sound} {
		if err := checkText("text of the call record", s, false); err != nil {
			return err
		}
	}
	if err := validPath(r.Pairs, r.Gather); err != nil {
		return err
	}
	if err := r.Series.valid(); err != nil {
		return err
	}
	return r.Outcome.valid()
}

// Validate checks a record that came in another encoding (the browser's half is JSON).
func (r *CallRecord) Validate() error { return r.valid() }
