package main

import (
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/logging"
	"github.com/pion/turn/v5"
	"github.com/pion/webrtc/v4"

	"vindu/protocol"
)

// cables are between the terminal and the clinic's front door. Their owner may answer in the door's place.
type cables struct {
	t       *testing.T
	address string
	leaf    func(*tls.ClientHelloInfo) (*tls.Certificate, error) // the server's: he has its key

	mu    sync.Mutex
	open  map[net.Conn]bool
	old   bool // he answers himself, by TLS 1.2
	wrong chan error
}

func newCables(t *testing.T, door string) *cables {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &cables{t: t, address: l.Addr().String(), open: map[net.Conn]bool{}, wrong: make(chan error, 16)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { n.pass(in, door) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		n.cut()
		all.Wait()
	})
	return n
}

// cut closes every connection.
func (n *cables) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.open {
		_ = c.Close()
	}
}

func (n *cables) keep(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.open[c] = true
}

func (n *cables) drop(c net.Conn) {
	_ = c.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.open, c)
}

func (n *cables) pass(in net.Conn, door string) {
	n.keep(in)
	defer n.drop(in)
	n.mu.Lock()
	old := n.old
	n.mu.Unlock()
	if old {
		err := tls.Server(in, &tls.Config{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, GetCertificate: n.leaf, NextProtos: []string{protocol.ALPNMQTT, "h2", "http/1.1"}}).Handshake()
		select {
		case n.wrong <- err:
		default:
		}
		return
	}
	out, err := net.Dial("tcp", door)
	if err != nil {
		return
	}
	n.keep(out)
	defer n.drop(out)
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(out, in); _ = out.(*net.TCPConn).CloseWrite() })
	both.Go(func() { _, _ = io.Copy(in, out); _ = in.(*net.TCPConn).CloseWrite() })
	both.Wait()
}

// answerOld has the network's owner answer himself from now on, or no longer. What is connected is cut.
func (n *cables) answerOld(yes bool) {
	n.mu.Lock()
	n.old = yes
	n.mu.Unlock()
	n.cut()
}

// hostileRelay is a TURN server whose owner changes what he relays, and may tell an end a password that is not right.
type hostileRelay struct {
	address                    string
	misleadsPage, misleadsHome atomic.Bool
	allocated, cut             atomic.Int64 // allocations so far; those up to cut carry nothing any more
}

func newHostileRelay(t *testing.T, change func([]byte) []byte) *hostileRelay {
	t.Helper()
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &hostileRelay{address: udp.LocalAddr().String()}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	s, err := turn.NewServer(turn.ServerConfig{
		Realm: "hostile", LoggerFactory: quiet,
		AuthHandler: func(r *turn.RequestAttributes) (string, []byte, bool) {
			return r.Username, turn.GenerateAuthKey(r.Username, "hostile", "secret"), true
		},
		PacketConnConfigs: []turn.PacketConnConfig{{
			PacketConn:            udp,
			RelayAddressGenerator: changing{&turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}, r, change},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return r
}

// Servers implements web.Relay.
func (r *hostileRelay) Servers() []protocol.ICEServer { return r.servers(r.misleadsPage.Load()) }

func (r *hostileRelay) servers(misleads bool) []protocol.ICEServer {
	password := protocol.Secret("secret")
	if misleads {
		password = "another"
	}
	return []protocol.ICEServer{{URLs: []string{"turn:" + r.address + "?transport=udp"}, Username: "user", Credential: password}}
}

// TerminalServers implements calls.Relay.
func (r *hostileRelay) TerminalServers(protocol.KeyHash) []protocol.ICEServer {
	return r.servers(r.misleadsHome.Load())
}

// changing changes what is relayed.
type changing struct {
	turn.RelayAddressGenerator
	relay  *hostileRelay
	change func([]byte) []byte
}

// AllocatePacketConn implements turn.RelayAddressGenerator.
func (g changing) AllocatePacketConn(c turn.AllocateListenerConfig) (net.PacketConn, net.Addr, error) {
	conn, addr, err := g.RelayAddressGenerator.AllocatePacketConn(c)
	if err != nil {
		return nil, nil, err
	}
	return changed{conn, g.relay, g.relay.allocated.Add(1), g.change}, addr, nil
}

type changed struct {
	net.PacketConn
	relay  *hostileRelay
	number int64
	change func([]byte) []byte
}

// WriteTo implements net.PacketConn.
func (c changed) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.number <= c.relay.cut.Load() {
		return len(p), nil
	}
	_, err := c.PacketConn.WriteTo(c.change(append([]byte(nil), p...)), to)
	return len(p), err
}

// A DTLS record that begins a handshake (RFC 6347 §4.1): 13 bytes of record, 12 of handshake.
const (
	clientHello = 1
	serverHello = 2
)

func isHello(p []byte, kind byte) bool { return len(p) > 60 && p[0] == 22 && p[13] == kind }

// weakenSRTP has a hello offer, or choose, no SRTP profile but AES_CM (RFC 5764 §4.1.1).
func weakenSRTP(p []byte) (n int) {
	for i := 25; i+6 < len(p); i++ {
		size, list := int(binary.BigEndian.Uint16(p[i+2:])), int(binary.BigEndian.Uint16(p[i+4:]))
		if p[i] != 0 || p[i+1] != 14 || size != list+3 || list == 0 || list%2 != 0 || i+6+list > len(p) {
			continue
		}
		for j := i + 6; j < i+6+list; j += 2 {
			binary.BigEndian.PutUint16(p[j:], 0x0001)
			n++
		}
		return n
	}
	return 0
}

// weakenSuites has a ClientHello offer no suite but TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA.
func weakenSuites(p []byte) (n int) {
	if p[19] != 0 || p[20] != 0 || p[21] != 0 { // a later fragment (RFC 6347 §4.2.3)
		return 0
	}
	at := 25 + 2 + 32
	at += 1 + int(p[at])
	at += 1 + int(p[at])
	end := at + 2 + int(binary.BigEndian.Uint16(p[at:]))
	for at += 2; at+1 < len(p) && at < end; at += 2 {
		binary.BigEndian.PutUint16(p[at:], 0xc009)
		n++
	}
	return n
}

// impostor is a far end with a certificate of its own that has learnt another's ICE credentials on the way, and takes its place.
type impostor struct {
	t       *testing.T
	pc      *webrtc.PeerConnection
	packets atomic.Int64 // of RTP that reached it
	secure  atomic.Bool
	paired  chan struct{} // closed when it has a path
	once    sync.Once
}

// credentials reads the ICE credentials of a session description.
func credentials(sdp string) (ufrag, password string) {
	for line := range strings.Lines(sdp) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "a=ice-ufrag:"); ok {
			ufrag = v
		}
		if v, ok := strings.CutPrefix(line, "a=ice-pwd:"); ok {
			password = v
		}
	}
	return ufrag, password
}

// newImpostor takes the place of who has made the session description mine, towards who has made theirs. found gets its candidates.
func newImpostor(t *testing.T, mine, theirs string, offers bool, found func(protocol.Candidate)) *impostor {
	t.Helper()
	i := &impostor{t: t, paired: make(chan struct{})}
	var e webrtc.SettingEngine
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	e.LoggerFactory = quiet
	e.SetICECredentials(credentials(mine))
	e.SetIncludeLoopbackCandidate(true)
	e.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(e.SetAnsweringDTLSRole(webrtc.DTLSRoleServer))
	var m webrtc.MediaEngine
	check(m.RegisterDefaultCodecs())
	var err error
	i.pc, err = webrtc.NewAPI(webrtc.WithSettingEngine(e), webrtc.WithMediaEngine(&m)).NewPeerConnection(webrtc.Configuration{})
	check(err)
	t.Cleanup(func() { _ = i.pc.Close() })
	i.pc.OnICECandidate(func(c *webrtc.ICECandidate) {
		if c != nil {
			found(candidate(c.ToJSON()))
		}
	})
	i.pc.OnICEConnectionStateChange(func(s webrtc.ICEConnectionState) {
		if s == webrtc.ICEConnectionStateConnected {
			i.once.Do(func() { close(i.paired) })
		}
	})
	i.pc.OnConnectionStateChange(func(s webrtc.PeerConnectionState) {
		if s == webrtc.PeerConnectionStateConnected {
			i.secure.Store(true)
		}
	})
	i.pc.OnTrack(func(track *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			if _, _, err := track.ReadRTP(); err != nil {
				return
			}
			i.packets.Add(1)
		}
	})
	if offers {
		for _, kind := range []webrtc.RTPCodecType{webrtc.RTPCodecTypeAudio, webrtc.RTPCodecTypeVideo} {
			_, err := i.pc.AddTransceiverFromKind(kind, webrtc.RTPTransceiverInit{Direction: webrtc.RTPTransceiverDirectionSendrecv})
			check(err)
		}
		offer, err := i.pc.CreateOffer(nil)
		check(err)
		check(i.pc.SetLocalDescription(offer))
		check(i.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: theirs}))
		return i
	}
	check(i.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: theirs}))
	answer, err := i.pc.CreateAnswer(nil)
	check(err)
	check(i.pc.SetLocalDescription(answer))
	return i
}

// awaitPath waits until the far end answers to its credentials.
func (i *impostor) awaitPath() {
	i.t.Helper()
	select {
	case <-i.paired:
	case <-time.After(20 * time.Second):
		i.t.Fatal("the impostor finds no path: the case shows nothing")
	}
}
