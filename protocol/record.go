package protocol

import "slices"

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

	// What an end may not know is left out.
	Frozen   uint64 `cbor:"11,keyasint,omitempty" json:"frozen,omitempty"`      // ms that the received picture stood still (W3C webrtc-stats, totalFreezesDuration)
	Grade    uint64 `cbor:"12,keyasint,omitempty" json:"grade,omitempty"`       // hundredths of a mean opinion score, 100…450, of received sound (ITU-T G.107)
	Worst    uint64 `cbor:"13,keyasint,omitempty" json:"grade_worst,omitempty"` // that one second in ten was below
	ERLE     uint64 `cbor:"14,keyasint,omitempty" json:"erle,omitempty"`        // dB by which this end's echo was less, at the end
	CPU      uint64 `cbor:"15,keyasint,omitempty" json:"cpu,omitempty"`         // ‰ of one processor, mean
	Heat     uint64 `cbor:"16,keyasint,omitempty" json:"heat,omitempty"`        // °C, the most
	CodecOut string `cbor:"17,keyasint,omitempty" json:"codec_out,omitempty"`   // of the picture that was sent, as in VideoCodecs
	CodecIn  string `cbor:"18,keyasint,omitempty" json:"codec_in,omitempty"`    // of the one that was received
}

// VideoCodecs are the names of picture coders (media subtypes of video) that a record can hold.
var VideoCodecs = []string{"VP8", "VP9", "H264", "H265", "AV1"}

// Bounds on what an end can say of itself. Who makes a record keeps them: what is outside must not cost the rest.
const (
	LeastGrade, MostGrade = 100, 450
	MostERLE              = 120     // dB
	MostCPU               = 256_000 // ‰
	MostHeat              = 200     // °C
)

func (q Quality) valid() error {
	for _, g := range []uint64{q.Grade, q.Worst} {
		if g != 0 && (g < LeastGrade || g > MostGrade) {
			return malformed("grade of a call out of bounds")
		}
	}
	if q.ERLE > MostERLE || q.CPU > MostCPU || q.Heat > MostHeat {
		return malformed("quality of a call out of bounds")
	}
	for _, c := range []string{q.CodecOut, q.CodecIn} {
		if c != "" && !slices.Contains(VideoCodecs, c) {
			return malformed("unknown picture coder")
		}
	}
	return nil
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
	if err := r.Quality.valid(); err != nil {
		return err
	}
	return r.Outcome.valid()
}

// Validate checks a record that came in another encoding (the browser's half is JSON).
func (r *CallRecord) Validate() error { return r.valid() }
