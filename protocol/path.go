package protocol

import "slices"

// PathEnd is one end of a pair of ICE candidates. Of its address only the kind of network is kept, and the end that saw it says that; the lists below
// are closed, so that no address passes through them.
type PathEnd struct {
	Kind      string `cbor:"1,keyasint" json:"kind"`      // host, srflx, prflx, relay (RFC 8445 §5.1.1.1)
	Network   string `cbor:"2,keyasint" json:"network"`   // as in PathNetworks
	Transport string `cbor:"3,keyasint" json:"transport"` // udp, tcp or tls; of a relayed one how the relay is reached
}

// Pair is a pair of candidates that was tried (RFC 8445 §6.1.2), with how far it came.
type Pair struct {
	Local    PathEnd `cbor:"1,keyasint" json:"local"`
	Remote   PathEnd `cbor:"2,keyasint" json:"remote"`
	State    string  `cbor:"3,keyasint" json:"state"`    // as in PairStates
	Asked    uint64  `cbor:"4,keyasint" json:"asked"`    // checks sent
	Answered uint64  `cbor:"5,keyasint" json:"answered"` // answers to them that came
	Heard    uint64  `cbor:"6,keyasint" json:"heard"`    // checks of the far end that came
}

// GatherError is a server that gave no candidate (W3C webrtc-pc §4.8.2).
type GatherError struct {
	Way  string `cbor:"1,keyasint" json:"way"`  // to a relay by udp, tcp or tls; stun
	Code uint64 `cbor:"2,keyasint" json:"code"` // of STUN (RFC 8489 §14.8); 701: the server did not answer
}

// Series is a half's quality through the call, in columns of one length: each value stands for Every seconds. A call of any length has at most MaxSeries of
// them: when they are full, each two become one.
type Series struct {
	Every  uint64   `cbor:"1,keyasint" json:"every"`
	RTT    []uint64 `cbor:"2,keyasint" json:"rtt"`    // ms
	Loss   []uint64 `cbor:"3,keyasint" json:"loss"`   // ‰ of what should have arrived
	Jitter []uint64 `cbor:"4,keyasint" json:"jitter"` // ms, of received sound
	Out    []uint64 `cbor:"5,keyasint" json:"out"`    // kbit/s
	In     []uint64 `cbor:"6,keyasint" json:"in"`     // kbit/s
	Frames []uint64 `cbor:"7,keyasint" json:"frames"` // decoded in a second

	// Left out where they would be nothing but 0: not known, or none.
	Frozen    []uint64 `cbor:"8,keyasint,omitempty" json:"frozen,omitempty"`    // ms of a second that the received picture stood still
	Concealed []uint64 `cbor:"9,keyasint,omitempty" json:"concealed,omitempty"` // ‰ of the received sound that was made up
	Grade     []uint64 `cbor:"10,keyasint,omitempty" json:"grade,omitempty"`    // as Quality's; 0 where nothing was played
	ERLE      []uint64 `cbor:"11,keyasint,omitempty" json:"erle,omitempty"`     // dB
	CPU       []uint64 `cbor:"12,keyasint,omitempty" json:"cpu,omitempty"`      // ‰ of one processor
	Heat      []uint64 `cbor:"13,keyasint,omitempty" json:"heat,omitempty"`     // °C
}

// Bounds on what a half of a record holds of paths and quality; together a few KiB.
const (
	MaxPairs        = 40
	MaxGatherErrors = 12
	MaxSeries       = 240
)

// Words of a path.
var (
	PathKinds      = []string{"host", "srflx", "prflx", "relay"}
	PathNetworks   = []string{"v4.private", "v4.shared", "v4.public", "v4.local", "v6.private", "v6.public", "v6.local", "hidden", "unknown"}
	PathTransports = []string{"udp", "tcp", "tls"}
	PairStates     = []string{"frozen", "waiting", "in-progress", "failed", "succeeded"}
	gatherWays     = []string{"udp", "tcp", "tls", "stun"}
)

func (e PathEnd) valid() bool {
	return slices.Contains(PathKinds, e.Kind) && slices.Contains(PathNetworks, e.Network) && slices.Contains(PathTransports, e.Transport)
}

// Valid tells whether a pair is in the words that there are. One that is not is left out by who makes a record: it must not cost the rest.
func (p Pair) Valid() bool {
	return p.Local.valid() && p.Remote.valid() && slices.Contains(PairStates, p.State)
}

func validPath(pairs []Pair, gather []GatherError) error {
	if len(pairs) > MaxPairs || len(gather) > MaxGatherErrors {
		return malformed("too many pairs of candidates")
	}
	for _, p := range pairs {
		if !p.Valid() {
			return malformed("pair of candidates in unknown words")
		}
	}
	for _, g := range gather {
		if !slices.Contains(gatherWays, g.Way) || g.Code < 300 || g.Code > 799 {
			return malformed("error of gathering in unknown words")
		}
	}
	return nil
}

func (s *Series) valid() error {
	if s == nil {
		return nil
	}
	n := len(s.RTT)
	if s.Every == 0 || n > MaxSeries {
		return malformed("series of quality out of bounds")
	}
	for _, c := range s.columns() {
		if len(*c.of) != n && (len(*c.of) != 0 || !c.optional) {
			return malformed("series of quality with columns of different lengths")
		}
		if c.most > 0 && n > 0 && len(*c.of) > 0 && slices.Max(*c.of) > c.most {
			return malformed("series of quality out of bounds")
		}
	}
	return nil
}

// column is one of a series. Of two values of it one is made: their mean, or the one that tells more.
type column struct {
	of       *[]uint64
	join     func([]uint64) uint64
	optional bool
	most     uint64 // 0: any
}

func (s *Series) columns() []column {
	return []column{
		{&s.RTT, meanOf, false, 0}, {&s.Loss, mostOf, false, 0}, {&s.Jitter, mostOf, false, 0},
		{&s.Out, meanOf, false, 0}, {&s.In, meanOf, false, 0}, {&s.Frames, meanOf, false, 0},
		{&s.Frozen, mostOf, true, 1000}, {&s.Concealed, mostOf, true, 1000}, {&s.Grade, leastKnown, true, MostGrade},
		{&s.ERLE, meanOf, true, MostERLE}, {&s.CPU, mostOf, true, MostCPU}, {&s.Heat, mostOf, true, MostHeat},
	}
}

func meanOf(list []uint64) uint64 {
	sum := uint64(0)
	for _, v := range list {
		sum += v
	}
	return sum / uint64(len(list))
}

func mostOf(list []uint64) uint64 { return slices.Max(list) }

func leastKnown(list []uint64) uint64 {
	least := uint64(0)
	for _, v := range list {
		if least == 0 || v != 0 && v < least {
			least = v
		}
	}
	return least
}

// Sample is one second of a Series.
type Sample struct {
	RTT, Loss, Jitter, Out, In, Frames        uint64
	Frozen, Concealed, Grade, ERLE, CPU, Heat uint64
}

// columns are in the order of a Series'.
func (x Sample) columns() [12]uint64 {
	return [...]uint64{x.RTT, x.Loss, x.Jitter, x.Out, x.In, x.Frames, min(x.Frozen, 1000), min(x.Concealed, 1000), min(x.Grade, MostGrade), min(x.ERLE, MostERLE), min(x.CPU, MostCPU), min(x.Heat, MostHeat)}
}

// Sampler gathers a Series from a sample each second. The zero value is ready.
type Sampler struct {
	series  Series
	pending [12][]uint64 // a column each
}

// Add takes the next second.
func (a *Sampler) Add(x Sample) {
	if a.series.Every == 0 {
		a.series.Every = 1
	}
	for i, v := range x.columns() {
		a.pending[i] = append(a.pending[i], v)
	}
	if uint64(len(a.pending[0])) < a.series.Every {
		return
	}
	a.flush()
	if len(a.series.RTT) == MaxSeries {
		a.series.halve()
	}
}

func (a *Sampler) flush() {
	for i, c := range a.series.columns() {
		*c.of = append(*c.of, c.join(a.pending[i]))
		a.pending[i] = a.pending[i][:0]
	}
}

func (s *Series) halve() {
	s.Every *= 2
	for _, c := range s.columns() {
		old := *c.of
		half := make([]uint64, 0, MaxSeries)
		for i := 0; i+1 < len(old); i += 2 {
			half = append(half, c.join(old[i:i+2]))
		}
		*c.of = half
	}
}

// Series returns what was gathered; nil if nothing was. What is left of the last value's seconds counts as one.
func (a *Sampler) Series() *Series {
	if len(a.pending[0]) > 0 && len(a.series.RTT) < MaxSeries {
		a.flush()
	}
	if len(a.series.RTT) == 0 {
		return nil
	}
	s := a.series
	for _, c := range s.columns() {
		if *c.of = slices.Clone(*c.of); c.optional && slices.Max(*c.of) == 0 {
			*c.of = nil
		}
	}
	return &s
}
