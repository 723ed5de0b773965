package link

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"vindu/protocol"
)

const (
	// maxPacket bounds what reaches the MQTT library: it allocates what a packet's header announces, up to 256 MiB.
	maxPacket    = protocol.MaxMessage + 256 // payload, topic
	writeTimeout = 5 * time.Second
)

// Types of MQTT control packets that a broker may send to this client (MQTT 3.1.1 §2.2.1), with their flags.
const (
	packetConnack  = 0x20
	packetPublish  = 0x30
	packetSuback   = 0x90
	packetPingresp = 0xd0
)

// errPacket is wrapped when the broker sends what is no MQTT, or no answer to what this client does.
var errPacket = errors.New("unexpected MQTT packet")

// boundedConn stands between TLS and the MQTT library, which trusts its broker. It gives every read and write a
// deadline, lets only well-formed packets of the expected kinds through, and skips messages that are too large.
// One goroutine may read and any number may write.
type boundedConn struct {
	net.Conn
	silence  time.Duration
	tooLarge func()

	in   *bufio.Reader
	head []byte // header of the current packet that was not read yet
	left int    // bytes of the current packet after head

	lost chan error // gets the first error; the library keeps some to itself

	mu  sync.Mutex
	err error // the first that ended reading or writing
}

func newBoundedConn(conn net.Conn, silence time.Duration, tooLarge func()) *boundedConn {
	c := &boundedConn{Conn: conn, silence: silence, tooLarge: tooLarge, lost: make(chan error, 1)}
	c.in = bufio.NewReaderSize(alive{c}, 4096)
	return c
}

// alive reads from the connection and fails when nothing comes for too long.
type alive struct{ *boundedConn }

func (a alive) Read(p []byte) (int, error) {
	if err := a.Conn.SetReadDeadline(time.Now().Add(a.silence)); err != nil {
		return 0, err
	}
	return a.Conn.Read(p)
}

// SetDeadline does nothing, as do the others: the deadlines of this connection are its own.
func (c *boundedConn) SetDeadline(time.Time) error      { return nil }
func (c *boundedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *boundedConn) SetWriteDeadline(time.Time) error { return nil }

func (c *boundedConn) Write(p []byte) (int, error) {
	if err := c.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, c.failed(err)
	}
	n, err := c.Conn.Write(p)
	if err != nil {
		return n, c.failed(err)
	}
	return n, nil
}

func (c *boundedConn) Read(p []byte) (int, error) {
	for len(c.head) == 0 && c.left == 0 {
		if err := c.next(); err != nil {
			return 0, c.failed(err)
		}
	}
	if len(c.head) > 0 {
		n := copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	}
	n, err := c.in.Read(p[:min(len(p), c.left)])
	c.left -= n
	if err != nil {
		return n, c.failed(err)
	}
	return n, nil
}

// next reads the fixed header of a packet (MQTT 3.1.1 §2.2) and skips the packet if it is too large.
func (c *boundedConn) next() error {
	kind, err := c.in.ReadByte()
	if err != nil {
		return err
	}
	head, length := []byte{kind}, 0
	for shift := 0; ; shift += 7 {
		b, err := c.in.ReadByte()
		if err != nil {
			return err
		}
		head = append(head, b)
		length |= int(b&0x7f) << shift
		if b&0x80 == 0 {
			break
		}
		if shift == 21 {
			return fmt.Errorf("length of more than four bytes: %w", errPacket)
		}
	}
	switch kind &^ 1 {
	case packetPublish: // QoS 0, with or without the retain flag
		if length > maxPacket {
			c.tooLarge()
			_, err := io.CopyN(io.Discard, c.in, int64(length))
			return err
		}
		return c.publish(head, length)
	case packetConnack, packetSuback, packetPingresp:
		if want := map[byte]int{packetConnack: 2, packetSuback: 3, packetPingresp: 0}; kind&1 == 0 && length == want[kind] {
			c.head, c.left = head, length
			return nil
		}
	}
	return fmt.Errorf("type %#02x of %d bytes: %w", kind, length, errPacket)
}

// publish reads the topic's length too, so that the topic cannot reach beyond its packet.
func (c *boundedConn) publish(head []byte, length int) error {
	if length < 2 {
		return fmt.Errorf("message without a topic: %w", errPacket)
	}
	var topic [2]byte
	if _, err := io.ReadFull(c.in, topic[:]); err != nil {
		return err
	}
	if n := int(topic[0])<<8 | int(topic[1]); n > length-2 {
		return fmt.Errorf("topic of %d bytes in a message of %d: %w", n, length, errPacket)
	}
	c.head, c.left = append(head, topic[:]...), length-2
	return nil
}

func (c *boundedConn) failed(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
		c.lost <- err // the only one: it never blocks
	}
	return err
}

// cause returns the first error of the connection: the MQTT library's own often say only that it is gone.
func (c *boundedConn) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
