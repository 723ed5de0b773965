// Package peer is the terminal's end of one WebRTC connection: it answers an offer and carries VP8 or H.264, and Opus, both ways.
//
// The terminal only ever answers (RFC 8829 §5.3.1). Accept checks the offer, which is hostile input, and makes the
// answer; candidates trickle (RFC 8838) through AddCandidate and Events. Run owns every goroutine of ours and
// returns when the connection has ended; what arrives goes to a Sink, what leaves through WriteVideo and WriteAudio.
//
// Guarantees:
//   - Media is protected by SRTP with AEAD_AES_256_GCM or AEAD_AES_128_GCM (RFC 7714) or does not flow. DTLS is 1.2 with
//     ECDHE-ECDSA and AES-128-GCM or CHACHA20-POLY1305, extended master secret required, a fresh P-256 certificate for each connection.
//   - The far end is who the offer's SHA-256 fingerprint says (RFC 8122), or nothing is connected.
//   - A far end that falls silent is reported within 10 s (consent, RFC 7675): Interrupted after 3 s, Failed after 8 s. Restart, if the far end offers another
//     path by then, gives it 10 s more, once, with the same certificates and keys.
//   - No SDP, candidate or credential reaches a log: the types redact themselves, pion's own logging is not passed on.
//   - Close returns within its deadline whatever state the connection is in.
//
// The terminal takes the DTLS server's role (a=setup:passive), so that it sees the negotiated suite and can report it.
//
// Video in: packets are put in order, missing ones asked for again (NACK, RTX by RFC 4588), and only whole frames that
// can be decoded are passed on (RFC 7741, RFC 6184). pion's own NACK generator is not used: it does not see what RTX brings
// back and asks again and again. pion's OnTrack is made to fire without waiting for a packet: when the first one
// came by RTX (Chromium probes with it), pion read payload type 0 from it and never fired at all.
package peer

import (
	"errors"
	"log/slog"

	"vindu/media/codec"
)

// Errors that callers tell apart. Those of Failed events are wrapped in what was being done.
var (
	// ErrOffer says that an offer cannot be answered; the text says why.
	ErrOffer = errors.New("offer cannot be answered")
	// ErrFingerprint says that an offer carries no usable certificate fingerprint, or several.
	ErrFingerprint = errors.New("offer has no single sha-256 fingerprint")
	// ErrCandidate says that a candidate was refused.
	ErrCandidate = errors.New("candidate refused")
	// ErrNoPath says that no pair of candidates worked.
	ErrNoPath = errors.New("no path to the far end")
	// ErrSilent says that the far end was there and fell silent.
	ErrSilent = errors.New("far end fell silent")
	// ErrProfile says that the far end offers no AEAD protection for media.
	ErrProfile = errors.New("far end offers no AEAD profile for SRTP")
	// ErrSuite says that the far end offers no cipher suite that is allowed.
	ErrSuite = errors.New("far end offers no permitted cipher suite")
	// ErrCertificate says that the far end's certificate is not the one that the offer names.
	ErrCertificate = errors.New("far end's certificate is not the offer's")
	// ErrHandshake says that DTLS failed for another reason.
	ErrHandshake = errors.New("DTLS handshake failed")
	// ErrFarClosed says that the far end closed the connection.
	ErrFarClosed = errors.New("far end closed the connection")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("peer is closed")
	// ErrCloseTimeout says that Close gave up waiting; everything was told to stop.
	ErrCloseTimeout = errors.New("peer did not close in time")
)

// SDP is a session description. It does not show itself in logs.
type SDP string

// LogValue implements slog.LogValuer.
func (SDP) LogValue() slog.Value { return slog.StringValue("sdp redacted") }

// Candidate is an ICE candidate as browsers exchange it (RFC 8829 §4.1.20). It does not show itself in logs.
type Candidate struct {
	Candidate string // "candidate:…"; empty for the end of candidates
	Mid       string // of the media section
	MLine     int    // index of the media section; −1 if unknown
}

// LogValue implements slog.LogValuer.
func (Candidate) LogValue() slog.Value { return slog.StringValue("candidate redacted") }

// ICEServer is a STUN or TURN server.
type ICEServer struct {
	URLs                 []string
	Username, Credential string
}

// LogValue implements slog.LogValuer.
func (s ICEServer) LogValue() slog.Value {
	return slog.GroupValue(slog.Any("urls", s.URLs), slog.String("credential", "redacted"))
}

// Stage is the part of setting up a connection that an event is about.
type Stage string

// The stages.
const (
	StageICE   Stage = "ice"
	StageDTLS  Stage = "dtls"
	StageMedia Stage = "media"
)

// Kind says what an Event is.
type Kind int

// The kinds of events.
const (
	// LocalCandidate: Event.Candidate is to be sent to the far end.
	LocalCandidate Kind = iota + 1
	// EndOfCandidates: no further local candidates.
	EndOfCandidates
	// PathFound: ICE has a working pair; DTLS begins.
	PathFound
	// Secure: DTLS is done and media can flow.
	Secure
	// Interrupted: the far end has not been heard for 3 s. Resumed or Failed follows.
	Interrupted
	// Resumed: it is heard again.
	Resumed
	// Failed: the connection will not work (any more); Event.Stage and Event.Err say why. The last event.
	Failed
)

var kindNames = [...]string{"", "local_candidate", "end_of_candidates", "path_found", "secure", "interrupted", "resumed", "failed"}

// String returns the kind's name.
func (k Kind) String() string {
	if k <= 0 || int(k) >= len(kindNames) {
		return "unknown"
	}
	return kindNames[k]
}

// Event is something that happened to a Peer.
type Event struct {
	Kind      Kind
	Candidate Candidate // LocalCandidate
	Stage     Stage     // Failed
	Err       error     // Failed
}

// VideoFrame is one whole frame.
type VideoFrame struct {
	Codec     codec.Kind
	Data      []byte // valid until Sink.Video returns; H.264 in Annex B's byte stream
	Timestamp uint32 // 90 kHz
	Keyframe  bool
}

// AudioPacket is one Opus packet.
type AudioPacket struct {
	Data      []byte // valid until Sink.Audio returns
	Seq       uint16
	Timestamp uint32 // 48 kHz
}

// Sink takes what arrives. Each method is called from one goroutine only and must not block: the far end's bandwidth
// estimate is made from when packets are read.
type Sink interface {
	// Video takes a frame that follows on the one before it, or is a keyframe.
	Video(VideoFrame)
	Audio(AudioPacket)
	// KeyframeWanted says that the far end asks for a keyframe (PLI or FIR, RFC 4585 §6.3.1, RFC 5104 §4.3.1).
	KeyframeWanted()
}
