package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"vindu/device/health"
	"vindu/device/network"
	"vindu/protocol"
)

const (
	bootsFile = "boots"
	diskFile  = "disk-probe"
)

// whenLinkTurns are the probes that say why, when the clinic is lost or found again.
var whenLinkTurns = []string{"network", "names", "portal", "tls", "link"}

// newProber makes the probes of this terminal. address is the clinic's, host:port.
func (t *terminal) newProber(address string) *health.Prober {
	files := t.system()
	ways := network.New(network.Config{WiFi: t.a.cfg.Network.WiFi, File: t.a.cfg.Network.WPAFile, Control: t.a.cfg.Network.WPAControl})
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	t.power = &health.Power{Files: files, Store: fileStore{t.dir, bootsFile}}
	trip := func() health.Trip { return health.Trip(t.link.Trip()) }
	probes := []health.Probe{
		t.power.Probe(),
		health.Heat(files),
		health.Memory(files),
		health.Space(files, t.freeSpace),
		health.Disk(health.Drive{
			Write:    func(b []byte) error { return t.dir.Write(diskFile, b) },
			Read:     t.dir.Reach,
			ReadOnly: t.dir.ReadOnly,
			Waiting:  t.unwritten,
		}),
		health.Outbox(t.droppedEvents),
		health.Time(t.clock.Age),
		health.Network(files, ways.State, t.link.Up),
		health.WiFi(ways.State, ways.Access),
		health.Names(host, t.link.Up, net.DefaultResolver.LookupHost),
		health.Portal(net.JoinHostPort(host, "80"), t.link.Up, t.a.dial),
		health.TLS(t.clock.Now, t.id.Certificate, t.shake),
		health.Link(trip),
		t.figures.Probe(files, ways.State, trip, health.DiskCounts(t.dir.Path())),
	}
	if t.a.parts.Checks != nil {
		c := t.a.parts.Checks(t.id, t.clock.Now)
		probes = append(probes, health.Egress(t.link.Up, health.Relay{
			Servers:  c.Clinic.Relay,
			Echo:     func(ctx context.Context, url string) error { _, err := c.Network.Echo(ctx, url); return err },
			Allocate: c.Network.Allocate,
		}))
	}
	return health.NewProber(probes, t.health.Find, t.a.log)
}

// scarce is so little that what is to be written next may find no room.
const scarce = 1 << 20

// unwritten tells whether something could not be written, and waits, or will soon not be.
func (t *terminal) unwritten() bool {
	free, _, err := t.freeSpace()
	return t.outbox.Status().Waiting > 0 || err == nil && free < scarce
}

// system is the system's file system from its root.
func (t *terminal) system() fs.FS {
	if t.a.parts.System != nil {
		return t.a.parts.System
	}
	return os.DirFS("/")
}

// about is what the terminal consists of. Board and kernel do not change while it runs, and are read once.
func (t *terminal) about() func() *protocol.About {
	fixed := sync.OnceValue(func() protocol.About { return protocol.About{Board: health.Board(t.system()), Kernel: health.Kernel()} })
	return func() *protocol.About {
		a := fixed()
		if t.a.parts.Coders != nil {
			a.Coders = t.a.parts.Coders()
		}
		return &a
	}
}

// standing tells what a caller should know before ringing.
func (t *terminal) standing() (quiet, covered bool) {
	return t.policy.Rests(t.clock.Now()), t.a.parts.Covered != nil && t.a.parts.Covered()
}

// freeSpace looks where the state is kept.
func (t *terminal) freeSpace() (free, total uint64, err error) {
	var s syscall.Statfs_t
	if err := syscall.Statfs(t.dir.Path(), &s); err != nil {
		return 0, 0, fmt.Errorf("look at %s: %w", t.dir.Path(), err)
	}
	return s.Bavail * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), nil
}

// shake makes a connection to the clinic as set-up and renewal do, and returns the certificate that it showed.
func (t *terminal) shake(ctx context.Context) (*x509.Certificate, error) {
	grant, config := t.id.Grant(), t.id.TLS("http/1.1")
	if grant == nil || config == nil {
		return nil, errors.New("the terminal is not enrolled")
	}
	conn, err := t.a.dial(ctx, "tcp", grant.Address)
	if err != nil {
		return nil, fmt.Errorf("connect to the clinic: %w", err)
	}
	c := tls.Client(conn, config)
	defer c.Close()
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("connect to the clinic: %w", err)
	}
	shown := c.ConnectionState().PeerCertificates
	if len(shown) == 0 {
		return nil, errors.New("connect to the clinic: it showed no certificate")
	}
	return shown[0], nil
}

// probe runs the probes, and remembers that the program was told to stop.
func (t *terminal) probe(ctx context.Context) error {
	err := t.prober.Run(ctx)
	if t.left() == nil {
		if stopErr := t.power.Stopped(); stopErr != nil {
			t.a.log.Warn("the next start will take this stop for a power cut", "error", stopErr)
		}
	}
	return err
}

// conditionChanged does not block. What holds is in the health message all the same.
func (t *terminal) conditionChanged(c protocol.ConditionChange) {
	if lost := t.changes.add(c); lost > 0 {
		t.a.log.Warn("conditions come and go faster than can be written: a beginning and an end are not told, and counted as dropped", "lost", lost, "code", c.Code)
	}
}

// droppedEvents is what bounds have cost: the outbox's ever, and before it since the agent began.
func (t *terminal) droppedEvents() uint64 { return t.outbox.Status().Dropped + t.changes.lost() }

// reportChanges writes changes of conditions to the outbox.
func (t *terminal) reportChanges(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.changes.wake:
		}
		for ctx.Err() == nil {
			c, ok := t.changes.next()
			if !ok {
				break
			}
			body, err := protocol.Encode(&c)
			if err == nil {
				err = t.outbox.Append(protocol.EventCondition, body)
			}
			if err != nil {
				t.changes.lose()
				t.a.log.Warn("a condition's change is not kept, and counted as dropped", "code", c.Code, "error", err)
			}
		}
	}
}
