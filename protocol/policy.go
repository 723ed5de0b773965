package protocol

import "slices"

const typePolicy = "vindu/policy.v1"

// Bounds of a Policy.
const (
	MaxPolicy = 4 << 10 // bytes, signed
	MaxRules  = 16
	MaxSpans  = 14
	maxAfter  = 120 // seconds
	// LeastRing is the shortest in seconds that a call rings before it answers itself: time to see who it is, and to say no (R25). A rule that says less means this.
	LeastRing  = 5
	maxLongest = 4 * 3600
	// MinVolume is the softest at which a caller is played, in percent: nobody is made so soft that people at home do not hear who looks at them. A policy that says less means this.
	MinVolume = 20
	minutes   = 24 * 60
)

// Policy says what a terminal does about callers who have proven who they are (R11, R25). The clinic's authorisation key signs it for one terminal in one
// home; one with a lower Serial than the last is refused. What it does not name is refused, too.
type Policy struct {
	Version  uint     `cbor:"1,keyasint"`
	Serial   uint64   `cbor:"2,keyasint"`
	Terminal KeyHash  `cbor:"3,keyasint"`
	Home     string   `cbor:"4,keyasint"` // the clinic's number for the home: what a Scope names
	Groups   []string `cbor:"5,keyasint"` // to which the home belongs
	Rules    []Rule   `cbor:"6,keyasint"`
	Quiet    []Span   `cbor:"7,keyasint"`
	Zone     string   `cbor:"8,keyasint"`  // of Quiet, as in the IANA time zone database
	Longest  uint32   `cbor:"9,keyasint"`  // seconds of talking
	Volume   uint8    `cbor:"10,keyasint"` // percent, from 1
	Issued   Time     `cbor:"11,keyasint"`
}

// Mode is what a rule makes of a proven call.
type Mode string

const (
	ModeAsk    Mode = "ask"    // rings, and is answered only if somebody at the terminal says so within After
	ModeRing   Mode = "ring"   // rings for After, and never for less than LeastRing, then answers by itself
	ModeRefuse Mode = "refuse" //
)

// Rule is for one group of callers, as Authorisation.Group names it.
type Rule struct {
	Group string `cbor:"1,keyasint"`
	Mode  Mode   `cbor:"2,keyasint"`
	After uint16 `cbor:"3,keyasint"` // seconds; of ModeRing, less than LeastRing is as much
	// Urgent lets this group ring in quiet hours if the invitation says that it is urgent; the screen says so.
	Urgent bool `cbor:"4,keyasint"`
}

// Span is a part of some days. From is in it, To is not; To before From reaches into the next day.
type Span struct {
	Days uint8  `cbor:"1,keyasint"` // on which it begins: bit 0 is Monday
	From uint16 `cbor:"2,keyasint"` // minutes since midnight, as clocks on the wall show them
	To   uint16 `cbor:"3,keyasint"`
}

func (p *Policy) valid() error {
	if err := checkVersion(p.Version); err != nil {
		return err
	}
	if p.Serial == 0 || (p.Terminal == KeyHash{}) || p.Issued <= 0 {
		return malformed("policy lacks a serial number, terminal or time")
	}
	if err := checkName("home", p.Home); err != nil {
		return err
	}
	if err := checkNames("group of homes", p.Groups); err != nil {
		return err
	}
	if len(p.Rules) > MaxRules || len(p.Quiet) > MaxSpans {
		return malformed("policy has %d rules and %d spans of quiet hours", len(p.Rules), len(p.Quiet))
	}
	for i, r := range p.Rules {
		if err := r.valid(); err != nil {
			return err
		}
		if i > 0 && p.Rules[i-1].Group >= r.Group {
			return malformed("rules: not one for each group, in ascending order")
		}
	}
	for _, s := range p.Quiet {
		if s.Days == 0 || s.Days > 0x7f || s.From >= minutes || s.To >= minutes || s.From == s.To {
			return malformed("span of quiet hours out of bounds")
		}
	}
	if p.Longest == 0 || p.Longest > maxLongest || p.Volume == 0 || p.Volume > 100 {
		return malformed("longest call or volume out of bounds")
	}
	return checkName("time zone", p.Zone)
}

func (r Rule) valid() error {
	switch r.Mode {
	case ModeRing:
	case ModeAsk:
		if r.After == 0 {
			return malformed("rule asks, but for no time")
		}
	case ModeRefuse:
		if r.After != 0 || r.Urgent {
			return malformed("rule refuses, and says more")
		}
	default:
		return malformed("unknown mode of a rule")
	}
	if r.After > maxAfter {
		return malformed("rule rings for %d s, at most %d", r.After, maxAfter)
	}
	return checkName("group of callers", r.Group)
}

// Rule returns what holds for a group of callers; one that is not named is refused.
func (p *Policy) Rule(group string) Rule {
	if i := slices.IndexFunc(p.Rules, func(r Rule) bool { return r.Group == group }); i >= 0 {
		return p.Rules[i]
	}
	return Rule{Group: group, Mode: ModeRefuse}
}

func (*Policy) contentType() string { return typePolicy }
