package protocol

// Bounds of what a terminal tells of itself in numbers.
const (
	maxTripFigure = 600_000 // ms
	maxHeat       = 250     // °C
	maxWritten    = 1 << 32 // KiB
	maxCosts      = 8
	maxCost       = 60_000_000 // µs
)

// Figures are what a terminal has measured of itself besides, about once a minute. 0 is: not known, or there is none. None of them is about a person, an
// address or a place.
type Figures struct {
	Signal uint64 `cbor:"1,keyasint,omitempty"` // of the Wi-Fi, in -dBm: 60 is -60 dBm
	Trip   uint64 `cbor:"2,keyasint,omitempty"` // ms: the last round trip of a message through the broker to the clinic, at least 1
	Heat   uint64 `cbor:"3,keyasint,omitempty"` // °C, of the hottest zone
	Memory uint64 `cbor:"4,keyasint,omitempty"` // percent in use, at least 1
	// Written is how much was written to the storage that the state is on, KiB in the last 24 hours or since the program began, at least 1. Flash wears by it.
	Written uint64 `cbor:"5,keyasint,omitempty"`
}

func (f *Figures) valid() error {
	if f.Signal > 127 || f.Trip > maxTripFigure || f.Heat > maxHeat || f.Memory > 100 || f.Written > maxWritten {
		return malformed("a figure is out of bounds")
	}
	return nil
}

// About is what a terminal consists of (R31): it changes with its hardware and its image, and names neither a home nor a person.
type About struct {
	Board  string      `cbor:"1,keyasint,omitempty"` // as the firmware calls it
	Kernel string      `cbor:"2,keyasint,omitempty"` // its release
	Coders []CoderCost `cbor:"3,keyasint,omitempty"` // of pictures, the one that calls offer first; empty until they were measured
}

// CoderCost is what a coder of pictures costs on this board: µs of a processor for one picture of 640×480.
type CoderCost struct {
	Name   string `cbor:"1,keyasint"`
	Encode uint64 `cbor:"2,keyasint"`
	Decode uint64 `cbor:"3,keyasint"`
}

func (a *About) valid() error {
	if err := checkText("board", a.Board, false); err != nil {
		return err
	}
	if err := checkText("kernel", a.Kernel, false); err != nil {
		return err
	}
	if len(a.Coders) > maxCosts {
		return malformed("%d coders, at most %d", len(a.Coders), maxCosts)
	}
	for _, c := range a.Coders {
		if err := checkText("coder", c.Name, true); err != nil {
			return err
		}
		if c.Encode > maxCost || c.Decode > maxCost {
			return malformed("cost of a coder out of bounds")
		}
	}
	return nil
}
