package peer

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pion/webrtc/v4"
)

// maxTried bounds how many pairs are kept.
const maxTried = 40

// End is one end of a pair of candidates. Its address is not kept, only in what kind of network it is.
type End struct {
	Kind      string // host, srflx, prflx or relay
	Network   string // v4.private, v4.shared, v4.public, v4.local, v6.private, v6.public, v6.local, hidden (mDNS) or unknown
	Transport string // udp, tcp or tls; of a relayed end how the relay is reached
}

// Pair is a pair of candidates that was tried (RFC 8445 §6.1.2).
type Pair struct {
	Local, Remote          End
	State                  string // frozen, waiting, in-progress, failed or succeeded
	Asked, Answered, Heard uint64 // checks sent, answers to them, checks of the far end
}

// Tried returns the pairs as they were when they were last looked at: once a second until there is a path, and when none was found. Any goroutine,
// also after Close.
func (p *Peer) Tried() []Pair {
	if list := p.tried.Load(); list != nil {
		return slices.Clone(*list)
	}
	return nil
}

// try looks at the pairs.
func (p *Peer) try() {
	report := p.look()
	var list []Pair
	for _, s := range report {
		c, ok := s.(webrtc.ICECandidatePairStats)
		if !ok || len(list) == maxTried {
			continue
		}
		local, ok := report[c.LocalCandidateID].(webrtc.ICECandidateStats)
		if !ok {
			continue
		}
		remote, ok := report[c.RemoteCandidateID].(webrtc.ICECandidateStats)
		if !ok {
			continue
		}
		state := string(c.State)
		if state == "inprogress" {
			state = "in-progress"
		}
		list = append(list, Pair{end(local), end(remote), state, c.RequestsSent, c.ResponsesReceived, c.RequestsReceived})
	}
	if len(list) > 0 { // once the agent is closed, there are none
		p.tried.Store(&list)
	}
}

func end(c webrtc.ICECandidateStats) End {
	transport := strings.ToLower(c.RelayProtocol)
	if transport == "" {
		transport = strings.ToLower(c.Protocol)
	}
	switch {
	case strings.HasPrefix(transport, "tls"), strings.HasPrefix(transport, "dtls"):
		transport = "tls"
	case strings.HasPrefix(transport, "tcp"):
		transport = "tcp"
	default:
		transport = "udp"
	}
	return End{c.CandidateType.String(), network(c.IP), transport}
}

var shared = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598

// network says of an address no more than in what kind of network it is.
func network(address string) string {
	if strings.HasSuffix(strings.ToLower(address), ".local") { // mDNS (draft-ietf-mmusic-mdns-ice-candidates)
		return "hidden"
	}
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	ip = ip.Unmap().WithZone("")
	version := "v6."
	if ip.Is4() {
		version = "v4."
	}
	switch {
	case ip.IsLoopback(), ip.IsLinkLocalUnicast():
		return version + "local"
	case ip.IsPrivate():
		return version + "private"
	case shared.Contains(ip):
		return "v4.shared"
	}
	return version + "public"
}
