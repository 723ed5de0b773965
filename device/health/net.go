package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"

	"vindu/device/network"
	"vindu/protocol"
)

const (
	weakSignal   = -75 // dBm
	fairSignal   = -70
	roamsTooMany = 12 // within an hour
)

// Interfaces tells how the ways out of the terminal stand.
type Interfaces func(ctx context.Context) ([]network.Interface, error)

// Network returns the probe "network". It sends nothing. A network without a way out is none to complain of while the clinic is reached: it may be the clinic's own.
func Network(files fs.FS, interfaces Interfaces, reached func() bool) Probe {
	return Probe{Name: "network", Every: time.Minute, Run: func(ctx context.Context) ([]Finding, error) {
		list, err := interfaces(ctx)
		if err != nil {
			return nil, fmt.Errorf("network: %w", err)
		}
		if len(list) == 0 {
			return nil, nil // none that is a device: somebody else's network, as in a container
		}
		up, four, six := false, false, false
		for _, i := range list {
			up = up || i.Up
			for _, a := range i.Addresses {
				if p, err := netip.ParsePrefix(a); err == nil {
					four, six = four || p.Addr().Is4(), six || p.Addr().Is6()
				}
			}
		}
		var found []Finding
		// An address may outlive the cable by which it came: a static one, or one whose lease has not ended.
		if cut := !up && !reached(); cut || !four && !six {
			for _, i := range list {
				if i.Code == protocol.IPWiFiUnheard || i.Code == protocol.IPWiFiRefused {
					found = append(found, Finding{Code: i.Code})
				}
			}
			if !up {
				return append(found, Finding{Code: protocol.IPNoCarrier}), nil
			}
			return append(found, Finding{Code: protocol.IPNone}), nil
		}
		if six && !four {
			found = append(found, Finding{Code: protocol.IPv6Only})
		}
		if reached() {
			return found, nil
		}
		gateway, way := gateway(text(files, "proc/net/route"))
		if !way && !defaultRoute6(text(files, "proc/net/ipv6_route")) {
			return append(found, Finding{Code: protocol.IPNoGateway}), nil
		}
		if silentNeighbour(text(files, "proc/net/arp"), gateway) {
			found = append(found, Finding{Code: protocol.IPGatewaySilent})
		}
		return found, nil
	}}
}

// gateway finds the default route in /proc/net/route, whose numbers are hexadecimal in the machine's order.
func gateway(routes string) (netip.Addr, bool) {
	for line := range strings.Lines(routes) {
		f := strings.Fields(line)
		if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
			continue
		}
		raw, err := hex.DecodeString(f[2])
		if err != nil || len(raw) != 4 {
			continue
		}
		var four [4]byte
		binary.NativeEndian.PutUint32(four[:], binary.BigEndian.Uint32(raw))
		return netip.AddrFrom4(four), true
	}
	return netip.Addr{}, false
}

// defaultRoute6 finds one in /proc/net/ipv6_route that refuses nothing (RTF_REJECT, 0x200).
func defaultRoute6(routes string) bool {
	for line := range strings.Lines(routes) {
		f := strings.Fields(line)
		if len(f) < 10 || f[0] != strings.Repeat("0", 32) || f[1] != "00" {
			continue
		}
		if flags, err := hex.DecodeString(f[8]); err == nil && len(flags) == 4 && flags[2]&2 == 0 {
			return true
		}
	}
	return false
}

// silentNeighbour tells whether the kernel asked in vain for who has an address: its entry has no flags.
func silentNeighbour(table string, a netip.Addr) bool {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) < 6 {
			continue
		}
		if at, err := netip.ParseAddr(f[0]); err == nil && at == a {
			return f[2] == "0x0"
		}
	}
	return false
}

// WiFi returns the probe "wifi". access tells which access point is used, or "".
func WiFi(interfaces Interfaces, access func(ctx context.Context) string) Probe {
	weak := false
	before := ""
	var changes []time.Time
	return Probe{Name: "wifi", Every: time.Minute, Run: func(ctx context.Context) ([]Finding, error) {
		list, err := interfaces(ctx)
		if err != nil {
			return nil, fmt.Errorf("wifi: %w", err)
		}
		now := time.Now()
		var found []Finding
		for _, i := range list {
			if i.Kind != network.WiFi {
				continue
			}
			if at := access(ctx); at != "" && at != before {
				if before != "" {
					changes = append(changes, now)
				}
				before = at
			}
			limit := weakSignal
			if weak {
				limit = fairSignal
			}
			if weak = i.Signal != 0 && i.Signal < limit; weak {
				found = append(found, Finding{protocol.IPWeak, fmt.Sprintf("%d dBm", i.Signal)})
			}
		}
		for len(changes) > 0 && now.Sub(changes[0]) >= time.Hour {
			changes = changes[1:]
		}
		if len(changes) > roamsTooMany {
			found = append(found, Finding{protocol.IPRoams, fmt.Sprintf("%d changes in an hour", len(changes))})
		}
		return found, nil
	}}
}

// Names returns the probe "names": it looks up the clinic's name, while the clinic is out of reach.
func Names(host string, reached func() bool, lookup func(ctx context.Context, host string) ([]string, error)) Probe {
	return Probe{Name: "names", Every: 5 * time.Minute, Run: func(ctx context.Context) ([]Finding, error) {
		if _, err := netip.ParseAddr(host); err == nil || reached() {
			return nil, nil
		}
		if _, err := lookup(ctx, host); err != nil {
			return []Finding{{Code: protocol.IPDNS}}, nil
		}
		return nil, nil
	}}
}

// PortalPath is what is asked for over plain HTTP to find who answers in the clinic's place. The clinic itself does not listen there.
const PortalPath = "/.well-known/vindu-reachable"

// Portal returns the probe "portal". address is the clinic's name with the port for plain HTTP; nothing of the terminal is told. Only while the clinic is out
// of reach is it asked.
func Portal(address string, reached func() bool, dial func(ctx context.Context, network, address string) (net.Conn, error)) Probe {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	client := &http.Client{
		Transport:     &http.Transport{DialContext: dial, DisableKeepAlives: true, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return Probe{Name: "portal", Every: 5 * time.Minute, Run: func(ctx context.Context) ([]Finding, error) {
		if reached() {
			return nil, nil
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+PortalPath, nil)
		if err != nil {
			return nil, fmt.Errorf("portal: %w", err)
		}
		request.Header.Set("User-Agent", "")
		response, err := client.Do(request)
		if err != nil {
			return nil, nil // nobody answers: no portal
		}
		defer response.Body.Close()
		_, _ = io.CopyN(io.Discard, response.Body, 1<<10)
		if isPortal(response, host) {
			return []Finding{{protocol.IPPortal, fmt.Sprintf("status %d", response.StatusCode)}}, nil
		}
		return nil, nil
	}}
}

// isPortal judges an answer: a page, a way to another host, or the status that RFC 6585 §6 has for it. A server of the clinic's that leads to
// its own https address, or knows no such path, is none.
func isPortal(response *http.Response, host string) bool {
	switch code := response.StatusCode; {
	case code == http.StatusNetworkAuthenticationRequired:
		return true
	case code >= 300 && code < 400:
		to, err := url.Parse(response.Header.Get("Location"))
		return err != nil || to.Hostname() != "" && !strings.EqualFold(to.Hostname(), host)
	default:
		return code == http.StatusOK
	}
}

const (
	renewalDays = 5
	clinicDays  = 7
)

// TLS returns the probe "tls". shake makes a connection as every other, verified against the pinned clinic, and returns the clinic's certificate; own returns
// the terminal's own, or nil.
func TLS(now func() time.Time, own func() *x509.Certificate, shake func(ctx context.Context) (*x509.Certificate, error)) Probe {
	return Probe{Name: "tls", Every: 6 * time.Hour, Timeout: 20 * time.Second, Costly: true, Run: func(ctx context.Context) ([]Finding, error) {
		var found []Finding
		if c := own(); c != nil {
			if left := c.NotAfter.Sub(now()); left > 0 && left < renewalDays*24*time.Hour {
				found = append(found, Finding{protocol.RenewalOverdue, fmt.Sprintf("%.0f h left", left.Hours())})
			}
		}
		clinic, err := shake(ctx)
		var record tls.RecordHeaderError
		switch {
		case err == nil:
			if left := clinic.NotAfter.Sub(now()); left < clinicDays*24*time.Hour {
				found = append(found, Finding{protocol.ClinicExpires, fmt.Sprintf("%.0f h left", left.Hours())})
			}
		case protocol.HandshakeCode(err) == protocol.IdentityPin, errors.As(err, &record):
			found = append(found, Finding{Code: protocol.EgressIntercepted})
		}
		return found, nil // that the clinic is out of reach is the link's to say
	}}
}

// Relay is how the clinic's relay is reached. Package device/acceptance/reach does it.
type Relay struct {
	// Servers are those that calls would use, with credentials that are good for minutes.
	Servers func(ctx context.Context) ([]protocol.ICEServer, error)
	// Echo asks one of them, by its URL, and returns an error if it does not answer.
	Echo func(ctx context.Context, url string) error
	// Allocate asks for a relayed address and gives it back.
	Allocate func(ctx context.Context, url, user string, password protocol.Secret) error
}

// Egress returns the probe "egress": what of UDP, TURN over UDP and TURN over TLS gets through to the clinic's relay. A run sends about 60 packets.
func Egress(reached func() bool, relay Relay) Probe {
	return Probe{Name: "egress", Every: 6 * time.Hour, Timeout: time.Minute, Costly: true, Run: func(ctx context.Context) ([]Finding, error) {
		if !reached() {
			return nil, nil // the link says that, and nothing could be learnt
		}
		servers, err := relay.Servers(ctx)
		if err != nil {
			return nil, fmt.Errorf("egress: %w", err)
		}
		var udp, stream, refused, offered, offeredUDP bool
		for _, s := range servers {
			for _, u := range s.URLs {
				overUDP := strings.HasPrefix(u, "turn:") && strings.HasSuffix(u, "transport=udp")
				if !overUDP && !strings.HasPrefix(u, "turns:") {
					continue
				}
				offered = true
				err := relay.Echo(ctx, u)
				if overUDP && !errors.Is(err, syscall.ENETUNREACH) { // the way to a server with IPv4 alone, from a home with IPv6 alone, is closed by nobody
					offeredUDP = true
				}
				if err != nil {
					continue
				}
				udp, stream = udp || overUDP, stream || !overUDP
				refused = refused || relay.Allocate(ctx, u, s.Username, s.Credential) != nil
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("egress: %w", err)
		}
		var found []Finding
		switch {
		case !offered: // the clinic has no relay
		case !udp && !stream:
			found = append(found, Finding{Code: protocol.EgressRelay})
		case !offeredUDP:
			found = append(found, Finding{Code: protocol.EgressNoUDP})
		case !udp:
			found = append(found, Finding{Code: protocol.EgressUDP})
		}
		if refused {
			found = append(found, Finding{Code: protocol.EgressRefused})
		}
		return found, nil
	}}
}

const slowTrip = 2 * time.Second

// Trip is the last message that made the round trip through the broker to the clinic.
type Trip struct {
	Up   bool      // the link is
	From time.Time // since when, or when the last one came back, whichever is later
	Took time.Duration
}

// silentTrip is how long none may come back.
const silentTrip = time.Minute

// Link returns the probe "link". It reads what the link has measured and sends nothing.
func Link(trip func() Trip) Probe {
	return Probe{Name: "link", Every: 30 * time.Second, Run: func(context.Context) ([]Finding, error) {
		t := trip()
		switch {
		case !t.Up:
		case time.Since(t.From) > silentTrip:
			return []Finding{{protocol.SignalSilent, fmt.Sprintf("%.0f s", time.Since(t.From).Seconds())}}, nil
		case t.Took > slowTrip:
			return []Finding{{protocol.SignalSlow, fmt.Sprintf("%.1f s", t.Took.Seconds())}}, nil
		}
		return nil, nil
	}}
}
