package protocol

// PathReport takes a Report from a terminal that cannot reach the broker, over mutual TLS, and answers with Reported.
const PathReport = "/vindu/v1/report"

// Bounds of a Report.
const (
	MaxReportEvents = 64
	MaxReportBytes  = 64 << 10 // of all its events together; one that is larger goes alone
)

// Report is what a terminal would have told over MQTT: how it is now, and events from its outbox, the oldest first.
type Report struct {
	Version uint    `cbor:"1,keyasint"`
	Health  *Health `cbor:"2,keyasint,omitempty"`
	Events  []Event `cbor:"3,keyasint"`
}

func (r *Report) valid() error {
	if r.Events == nil || len(r.Events) > MaxReportEvents {
		return malformed("report has %d events, at most %d, or none at all", len(r.Events), MaxReportEvents)
	}
	for i := range r.Events {
		if err := r.Events[i].valid(); err != nil {
			return err
		}
	}
	if r.Health != nil {
		if err := r.Health.valid(); err != nil {
			return err
		}
	}
	return checkVersion(r.Version)
}

// Reported acknowledges what of a Report is committed.
type Reported struct {
	Version uint     `cbor:"1,keyasint"`
	Acks    [][]byte `cbor:"2,keyasint"` // each a signed Ack
}

func (r *Reported) valid() error {
	if r.Acks == nil || len(r.Acks) > MaxReportEvents {
		return malformed("answer to a report has %d acknowledgements", len(r.Acks))
	}
	for i := range r.Acks {
		if len(r.Acks[i]) == 0 || len(r.Acks[i]) > MaxStatement {
			return malformed("acknowledgement has %d bytes", len(r.Acks[i]))
		}
	}
	return checkVersion(r.Version)
}
