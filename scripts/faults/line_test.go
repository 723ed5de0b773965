package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vindu/scripts/lab"
)

// quality is how bad a line is. The zero value is a good one.
type quality struct {
	delay    time.Duration // each way
	lossUp   float64       // of what leaves the home, 0 to 1
	lossDown float64
	rate     int  // bytes a second each way; 0: as fast as it comes
	longest  int  // bytes of a packet; longer ones vanish, and nobody is told; 0: as they are
	silent   bool // nothing gets through
	mediaOff bool // no UDP gets through
}

// line carries a home's packets to the provider and back, between two TUN devices. It is a program, because the kernels that build this have no netem.
type line struct {
	ends [2]*os.File

	mu sync.Mutex
	q  quality
}

// lay makes a line between two networks, whose devices are named.
func lay(t *testing.T, inside *lab.Net, name string, outside *lab.Net, outer string) *line {
	t.Helper()
	l := &line{ends: [2]*os.File{tun(t, inside, name), tun(t, outside, outer)}}
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(l.ends[0], l.ends[1], func(q quality) float64 { return q.lossUp }) })
	pumps.Go(func() { l.pump(l.ends[1], l.ends[0], func(q quality) float64 { return q.lossDown }) })
	t.Cleanup(func() {
		l.ends[0].Close()
		l.ends[1].Close()
		pumps.Wait()
	})
	return l
}

func (l *line) set(q quality) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.q = q
}

func (l *line) quality() quality {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.q
}

const (
	patience  = 2 * time.Second // longer than so a slow line keeps nothing
	queueLong = 2000
)

type packet struct {
	b   []byte
	due time.Time
}

// pump carries one way until a device is closed.
func (l *line) pump(from, to *os.File, loss func(quality) float64) {
	queue := make(chan packet, queueLong)
	var sender sync.WaitGroup
	sender.Go(func() {
		for p := range queue {
			if wait := time.Until(p.due); wait > 0 {
				<-time.After(wait)
			}
			if _, err := to.Write(p.b); errors.Is(err, os.ErrClosed) {
				break
			}
		}
		for range queue {
		}
	})
	defer sender.Wait()
	defer close(queue)
	var free time.Time // when the line has sent what it has
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			if errors.Is(err, os.ErrClosed) {
				return
			}
			continue // the device is down
		}
		q, now := l.quality(), time.Now()
		switch {
		case q.silent, q.longest > 0 && n > q.longest, loss(q) > 0 && rand.Float64() < loss(q), q.mediaOff && isUDP(buffer[:n]):
			continue
		}
		p := packet{append([]byte(nil), buffer[:n]...), now.Add(q.delay)}
		if q.rate > 0 {
			if free.Before(now) {
				free = now
			}
			if free.Sub(now) > patience {
				continue
			}
			free = free.Add(time.Duration(n) * time.Second / time.Duration(q.rate))
			p.due = free.Add(q.delay)
		}
		select {
		case queue <- p:
		default: // too much: lost
		}
	}
}

func isUDP(packet []byte) bool {
	switch packet[0] >> 4 {
	case 4:
		return len(packet) > 9 && packet[9] == unix.IPPROTO_UDP
	case 6:
		return len(packet) > 6 && packet[6] == unix.IPPROTO_UDP
	}
	return false
}

// tun makes a TUN device in a network.
func tun(t *testing.T, n *lab.Net, name string) *os.File {
	t.Helper()
	var file *os.File
	err := n.Inside(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq(name)
		if err == nil {
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		}
		if err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		file = os.NewFile(uintptr(fd), name)
		return nil
	})
	if err != nil {
		t.Fatal(fmt.Errorf("make the line %s: %w", name, err))
	}
	return file
}
