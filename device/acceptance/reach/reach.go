// Package reach asks the clinic's relay how well it can be reached: over UDP, and over TLS on the port where everything gets out.
//
// Questions are STUN binding requests (RFC 8489 §12), which need no credentials and cost the relay no state; over streams they follow
// one another (RFC 8489 §6.2.2), over UDP they go out on a beat, as media does, so that what is lost can be counted. An allocation is a
// TURN one (RFC 8656 §7). Every wait has a limit, and nothing is left open.
//
// It also tells by which of the terminal's interfaces the clinic is reached; no packet is sent for that.
package reach

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pion/logging"
	"github.com/pion/stun/v4"
	"github.com/pion/turn/v5"

	"vindu/device/acceptance"
	"vindu/protocol"
)

// The questions.
const (
	packets     = 50
	beat        = 20 * time.Millisecond // as sound is sent
	last        = time.Second           // for what is still on its way
	questions   = 10                    // over a stream
	answerLimit = 5 * time.Second       // for one of them
	dialLimit   = 10 * time.Second
	maxAnswer   = 1 << 10
)

// Network implements acceptance.Network.
type Network struct {
	// Clinic returns the clinic's front door, host:port.
	Clinic func() string
	// Dial connects to the relay behind TLS, verified, at host:port.
	Dial func(ctx context.Context, address string) (net.Conn, error)
	// Signal returns an interface's Wi-Fi signal in dBm; where it is nil or returns 0, the kernel's wireless extensions are asked.
	Signal func(ctx context.Context, name string) int
	// Root is the folder in which sys and proc are; empty: the system's.
	Root string
}

var _ acceptance.Network = (*Network)(nil)

// Path implements acceptance.Network.
func (n *Network) Path(ctx context.Context) (acceptance.Path, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	// A datagram socket that is connected knows its way; nothing is sent. The name is looked up.
	conn, err := new(net.Dialer).DialContext(ctx, "udp", n.Clinic())
	if err != nil {
		return acceptance.Path{}, protocol.WithCode(protocol.IPNone, fmt.Errorf("find the way to the clinic: %w", err))
	}
	defer conn.Close()
	own, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		return acceptance.Path{}, errors.New("find the way to the clinic: no address of our own")
	}
	name, err := interfaceOf(own.IP)
	if err != nil {
		return acceptance.Path{}, err
	}
	p := acceptance.Path{Interface: name, Address: own.IP.String(), Wireless: n.wireless(name)}
	if p.Wireless && n.Signal != nil {
		p.Signal = n.Signal(ctx, name)
	}
	if p.Wireless && p.Signal == 0 {
		p.Signal = n.extensions(name)
	}
	return p, nil
}

func interfaceOf(ip net.IP) (string, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		addresses, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		for _, a := range addresses {
			if prefix, ok := a.(*net.IPNet); ok && prefix.IP.Equal(ip) {
				return i.Name, nil
			}
		}
	}
	return "", protocol.WithCode(protocol.IPNone, errors.New("no interface has the address by which the clinic is reached"))
}

// wireless tells whether an interface is a radio: the kernel then links it to its phy.
func (n *Network) wireless(name string) bool {
	_, err := os.Stat(filepath.Join(n.Root, "/sys/class/net", name, "phy80211"))
	return err == nil
}

// extensions reads /proc/net/wireless, which kernels with CONFIG_CFG80211_WEXT have.
func (n *Network) extensions(name string) int {
	text, err := os.ReadFile(filepath.Join(n.Root, "/proc/net/wireless"))
	if err != nil {
		return 0
	}
	return parseWireless(string(text), name)
}

// parseWireless finds the level in dBm: the fourth field of the interface's line.
func parseWireless(text, name string) int {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 4 || fields[0] != name+":" {
			continue
		}
		level, err := strconv.ParseFloat(strings.TrimSuffix(fields[3], "."), 64)
		if err != nil || level >= 0 || level < -150 { // others than dBm are not of use
			return 0
		}
		return int(level)
	}
	return 0
}

// Echo implements acceptance.Network.
func (n *Network) Echo(ctx context.Context, url string) (acceptance.Echoes, error) {
	u, err := stun.ParseURI(url)
	if err != nil {
		return acceptance.Echoes{}, fmt.Errorf("address of the relay: %w: %w", protocol.ErrMalformed, err)
	}
	conn, stream, err := n.dial(ctx, u)
	if err != nil {
		return acceptance.Echoes{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if stream {
		return oneByOne(conn)
	}
	return onBeat(ctx, conn)
}

// dial connects to the relay, and says whether it did by a stream.
func (n *Network) dial(ctx context.Context, u *stun.URI) (net.Conn, bool, error) {
	address := net.JoinHostPort(u.Host, strconv.Itoa(u.Port))
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	switch {
	case u.Scheme == stun.SchemeTypeTURN && u.Proto == stun.ProtoTypeUDP:
		conn, err := new(net.Dialer).DialContext(ctx, "udp", address)
		if err != nil {
			return nil, false, fmt.Errorf("reach the relay: %w", err)
		}
		return conn, false, nil
	case u.Scheme == stun.SchemeTypeTURNS && u.Proto == stun.ProtoTypeTCP:
		conn, err := n.Dial(ctx, address)
		if err != nil {
			if code := protocol.HandshakeCode(err); code != "" {
				err = protocol.WithCode(code, err)
			}
			return nil, true, fmt.Errorf("reach the relay over TLS: %w", err)
		}
		return conn, true, nil
	}
	return nil, false, fmt.Errorf("address of the relay: %w: %s over %s is not used here", protocol.ErrMalformed, u.Scheme, u.Proto)
}

func question() (*stun.Message, error) {
	return stun.Build(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

var errSilent = errors.New("the relay does not answer")

// oneByOne asks over a stream.
func oneByOne(conn net.Conn) (acceptance.Echoes, error) {
	var times []time.Duration
	for range questions {
		q, err := question()
		if err != nil {
			return acceptance.Echoes{}, err
		}
		began := time.Now()
		if err := conn.SetDeadline(began.Add(answerLimit)); err != nil {
			return acceptance.Echoes{}, err
		}
		if _, err := conn.Write(q.Raw); err != nil {
			return acceptance.Echoes{}, fmt.Errorf("ask the relay: %w", err)
		}
		raw, err := readMessage(conn)
		if err != nil {
			return acceptance.Echoes{}, fmt.Errorf("%w: %w", errSilent, err)
		}
		answer := &stun.Message{Raw: raw}
		if err := answer.Decode(); err != nil || answer.TransactionID != q.TransactionID || answer.Type != stun.BindingSuccess {
			return acceptance.Echoes{}, fmt.Errorf("%w: what came is no answer: %w", errSilent, errors.Join(protocol.ErrMalformed, err))
		}
		times = append(times, time.Since(began))
	}
	return acceptance.Echoes{Sent: questions, RTT: median(times)}, nil
}

// readMessage reads one STUN message of a stream (RFC 8489 §5: 20 bytes of header, which hold the length of the rest).
func readMessage(r io.Reader) ([]byte, error) {
	raw := make([]byte, 20, maxAnswer)
	if _, err := io.ReadFull(r, raw); err != nil {
		return nil, err
	}
	length := int(binary.BigEndian.Uint16(raw[2:]))
	if raw[0]>>6 != 0 || length%4 != 0 || 20+length > maxAnswer {
		return nil, fmt.Errorf("not STUN: %w", protocol.ErrMalformed)
	}
	raw = raw[:20+length]
	_, err := io.ReadFull(r, raw[20:])
	return raw, err
}

// onBeat asks over UDP, and counts what comes back.
func onBeat(ctx context.Context, conn net.Conn) (acceptance.Echoes, error) {
	type key = [stun.TransactionIDSize]byte
	type arrival struct {
		id key
		at time.Time
	}
	arrived := make(chan arrival, packets)
	go func() { // ends when conn is closed or its deadline passes, which is waited for
		defer close(arrived)
		raw := make([]byte, maxAnswer)
		for range packets {
			n, err := conn.Read(raw)
			for errors.Is(err, syscall.ECONNREFUSED) { // by ICMP: another one may come through
				n, err = conn.Read(raw)
			}
			if err != nil {
				return
			}
			answer := &stun.Message{Raw: raw[:n]}
			if answer.Decode() == nil && answer.Type == stun.BindingSuccess {
				arrived <- arrival{answer.TransactionID, time.Now()}
			}
		}
	}()
	sent := map[key]time.Time{}
	if err := conn.SetDeadline(time.Now().Add(packets*beat + last)); err != nil {
		return acceptance.Echoes{}, err
	}
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for range packets {
		q, err := question()
		if err != nil {
			return acceptance.Echoes{}, err
		}
		sent[q.TransactionID] = time.Now()
		_, _ = conn.Write(q.Raw) // what does not leave counts as lost
		select {
		case <-ticker.C:
		case <-ctx.Done():
			_ = conn.Close() // so that nobody reads any more
			for range arrived {
			}
			return acceptance.Echoes{}, ctx.Err()
		}
	}
	var times []time.Duration
	for a := range arrived {
		if at, ok := sent[a.id]; ok {
			times = append(times, a.at.Sub(at))
			delete(sent, a.id)
		}
	}
	if len(times) == 0 {
		return acceptance.Echoes{}, errSilent
	}
	return acceptance.Echoes{Sent: packets, Lost: packets - len(times), RTT: median(times)}, nil
}

// Allocate implements acceptance.Network.
func (n *Network) Allocate(ctx context.Context, url, user string, password protocol.Secret) error {
	u, err := stun.ParseURI(url)
	if err != nil {
		return fmt.Errorf("address of the relay: %w: %w", protocol.ErrMalformed, err)
	}
	conn, stream, err := n.dial(ctx, u)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	var wire net.PacketConn = connected{conn}
	if stream {
		wire = turn.NewSTUNConn(conn)
	}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	client, err := turn.NewClient(&turn.ClientConfig{
		TURNServerAddr: conn.RemoteAddr().String(), Username: user, Password: string(password), Conn: wire, LoggerFactory: quiet,
		RequestedAddressFamily: turn.RequestedAddressFamilyIPv4, // as calls do, also where the relay is reached over IPv6
	})
	if err != nil {
		return fmt.Errorf("ask for an allocation: %w", err)
	}
	defer client.Close()
	if err := client.Listen(); err != nil {
		return fmt.Errorf("ask for an allocation: %w", err)
	}
	relayed, err := client.Allocate()
	if err != nil {
		return fmt.Errorf("ask for an allocation: %w", err)
	}
	if err := relayed.Close(); err != nil {
		return fmt.Errorf("give the allocation back: %w", err)
	}
	return nil
}

// connected lets a connected socket be written to as if it were not; the address is its peer's anyway.
type connected struct{ net.Conn }

// ReadFrom implements net.PacketConn.
func (c connected) ReadFrom(p []byte) (int, net.Addr, error) {
	n, err := c.Read(p)
	return n, c.RemoteAddr(), err
}

// WriteTo implements net.PacketConn.
func (c connected) WriteTo(p []byte, _ net.Addr) (int, error) { return c.Write(p) }
