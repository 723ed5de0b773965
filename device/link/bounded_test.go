package link

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// replay is a connection on which a broker said this.
type replay struct {
	net.Conn
	io.Reader
}

func (r replay) Read(p []byte) (int, error)     { return r.Reader.Read(p) }
func (replay) SetReadDeadline(time.Time) error  { return nil }
func (replay) SetWriteDeadline(time.Time) error { return nil }

func publish(topic string, payload int) []byte {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload = topic, make([]byte, payload)
	return wire(p)
}

func wire(p packets.ControlPacket) []byte {
	var b bytes.Buffer
	if err := p.Write(&b); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func TestBounded(t *testing.T) {
	suback := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	suback.MessageID, suback.ReturnCodes = 1, []byte{0}
	long := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	long.MessageID, long.ReturnCodes = 1, []byte{0, 0}
	acknowledged := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	acknowledged.Qos, acknowledged.TopicName, acknowledged.MessageID = 1, "a/b", 1
	connack, pingresp := wire(packets.NewControlPacket(packets.Connack)), wire(packets.NewControlPacket(packets.Pingresp))
	small, retained := publish("a/b", 10), publish("a/b", 10)
	retained[0] |= 1
	largest := publish("a/b", maxPacket-5)
	tooLarge := publish("a/b", maxPacket-4)
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, c := range []struct {
		name    string
		in      []byte
		out     []byte
		skipped int
		err     error
	}{
		{"nothing", nil, nil, 0, io.EOF},
		{"all that belongs", join(connack, wire(suback), pingresp, small, retained), join(connack, wire(suback), pingresp, small, retained), 0, io.EOF},
		{"as large as can be", join(largest, pingresp), join(largest, pingresp), 0, io.EOF},
		{"too large", join(small, tooLarge, pingresp, tooLarge, small), join(small, pingresp, small), 2, io.EOF},
		{"too large and cut off", tooLarge[:1000], nil, 1, io.EOF},
		{"256 MiB announced", []byte{0x30, 0xff, 0xff, 0xff, 0x7f, 0, 1, 'a'}, nil, 1, io.EOF},
		{"endless length", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, nil, 0, errPacket},
		{"at QoS 1", join(pingresp, wire(acknowledged)), pingresp, 0, errPacket},
		{"granted twice", wire(long), nil, 0, errPacket},
		{"a client's packet", wire(packets.NewControlPacket(packets.Pingreq)), nil, 0, errPacket},
		{"an acknowledgement of nothing", wire(packets.NewControlPacket(packets.Puback)), nil, 0, errPacket},
		{"ping with content", []byte{0xd0, 1, 0}, nil, 0, errPacket},
		{"type 0", []byte{0, 0}, nil, 0, errPacket},
		{"no topic", []byte{0x30, 1, 0}, nil, 0, errPacket},
		{"topic beyond the message", []byte{0x30, 4, 0, 3, 'a', 'b'}, nil, 0, errPacket},
		{"empty message", []byte{0x30, 2, 0, 0}, []byte{0x30, 2, 0, 0}, 0, io.EOF},
		{"cut off", small[:7], small[:7], 0, io.EOF},
	} {
		for name, reader := range map[string]io.Reader{"": bytes.NewReader(c.in), ", byte by byte": iotest.OneByteReader(bytes.NewReader(c.in))} {
			t.Run(c.name+name, func(t *testing.T) {
				skipped := 0
				conn := newBoundedConn(replay{Reader: reader}, time.Second, func() { skipped++ })
				var out bytes.Buffer
				_, err := io.CopyBuffer(&out, struct{ io.Reader }{conn}, make([]byte, 100))
				if err == nil {
					err = io.EOF
				}
				if !bytes.Equal(out.Bytes(), c.out) || skipped != c.skipped || !errors.Is(err, c.err) {
					t.Errorf("got %d bytes, %d skipped, %v; want %d, %d, %v", out.Len(), skipped, err, len(c.out), c.skipped, c.err)
				}
				if !errors.Is(conn.cause(), c.err) {
					t.Errorf("cause %v", conn.cause())
				}
			})
		}
	}
}

// FuzzBounded: whatever a broker says, what comes through are packets of the expected kinds that the library can read.
func FuzzBounded(f *testing.F) {
	for _, b := range [][]byte{wire(packets.NewControlPacket(packets.Connack)), publish("a/b", 10), {0x30, 0x80, 0x80, 0x10, 0, 1, 0x61}, {0x90, 3, 0, 1, 0}, {0xd0, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		conn := newBoundedConn(replay{Reader: bytes.NewReader(said)}, time.Second, func() {})
		for {
			packet, err := packets.ReadPacket(conn)
			if err != nil {
				return
			}
			switch p := packet.(type) {
			case *packets.PublishPacket:
				if len(p.Payload) > maxPacket || p.Qos != 0 {
					t.Fatalf("message of %d bytes at QoS %d", len(p.Payload), p.Qos)
				}
			case *packets.SubackPacket:
				if len(p.ReturnCodes) != 1 {
					t.Fatalf("%d return codes", len(p.ReturnCodes))
				}
			case *packets.ConnackPacket, *packets.PingrespPacket:
			default:
				t.Fatalf("%T came through", p)
			}
		}
	})
}
