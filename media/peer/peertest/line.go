package peertest

import (
	"container/heap"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Way is what a Line does to packets in one direction.
type Way struct {
	Rate   int                        // bit/s, of all bytes with IP and UDP heads; 0 is no limit
	RateAt func(at time.Duration) int // in place of Rate, by the time since the line was made
	Queue  int                        // bytes that wait for a Rate; 32,000
	Delay  time.Duration              // for each packet
	Jitter time.Duration              // at most this much more or less, evenly
	// Reorder lets packets overtake by their jitter, as over several paths. Without it they arrive in order.
	Reorder bool
	Loss    float64 // share that is lost, 0…1
	Bursts  bool    // losses come in bursts of five on average, the share is the same
	Seed    uint64  // of chance
	// Lose is asked for each packet, counted from 1; nil loses none. ICE and DTLS packets are asked about too.
	Lose func(n int) bool
	// See is shown each packet that comes to a Line, before anything is done to it.
	See func(packet []byte)
}

// Line stands between two ends on the loopback interface and treats packets as a bad line does. Candidates must
// be passed through Near and Far, and SDP through Strip, so that the ends know no other way.
type Line struct {
	near, far *end // the socket that the near end sends to, and the far end
	began     time.Time
	wg        sync.WaitGroup
	closed    chan struct{}
}

// end is one of the line's sockets, and who is behind it.
type end struct {
	conn *net.UDPConn
	peer atomic.Pointer[net.UDPAddr]

	Sent, Lost, Dropped atomic.Int64 // of what comes in here: passed on, lost, no room in the queue
	bytes               atomic.Int64
	waited              atomic.Int64 // longest time in the queue
}

// Passed counts one direction of a line.
type Passed struct {
	Sent, Lost, Dropped, Bytes int64
	Waited                     time.Duration // the longest
}

type inFlight struct {
	data []byte
	at   time.Duration
	n    int // those that arrive at once keep their order
}

// flight is a heap of packets, the one that arrives first on top.
type flight []inFlight

func (f flight) Len() int { return len(f) }
func (f flight) Less(i, j int) bool {
	return f[i].at < f[j].at || f[i].at == f[j].at && f[i].n < f[j].n
}
func (f flight) Swap(i, j int) { f[i], f[j] = f[j], f[i] }
func (f *flight) Push(x any)   { *f = append(*f, x.(inFlight)) }
func (f *flight) Pop() any {
	last := (*f)[len(*f)-1]
	*f = (*f)[:len(*f)-1]
	return last
}

// NewLine makes a line; toFar is what happens to packets that the near end sends.
func NewLine(toFar, toNear Way) (*Line, error) {
	l := &Line{near: &end{}, far: &end{}, began: time.Now(), closed: make(chan struct{})}
	for _, e := range []*end{l.near, l.far} {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			return nil, fmt.Errorf("make line: %w", err)
		}
		e.conn = c
	}
	l.carry(l.near, l.far, toFar)
	l.carry(l.far, l.near, toNear)
	return l, nil
}

func (l *Line) carry(from, to *end, way Way) {
	shaper := NewShaper(way)
	queue := make(chan inFlight, 4096)
	l.wg.Go(func() {
		defer close(queue)
		buf := make([]byte, 2048)
		for n := 0; ; n++ {
			k, addr, err := from.conn.ReadFromUDP(buf)
			if err != nil {
				return
			}
			from.peer.Store(addr)
			if way.See != nil {
				way.See(buf[:k])
			}
			fate, at, waited := shaper.Admit(time.Since(l.began), k)
			switch fate {
			case Lost:
				from.Lost.Add(1)
				continue
			case NoRoom:
				from.Dropped.Add(1)
				continue
			}
			from.waited.Store(max(from.waited.Load(), int64(waited)))
			select {
			case queue <- inFlight{append([]byte(nil), buf[:k]...), at, n}:
				from.Sent.Add(1)
				from.bytes.Add(int64(k))
			default:
				from.Dropped.Add(1)
			}
		}
	})
	l.wg.Go(func() { l.deliver(queue, to) })
}

// deliver sends each packet on when it arrives.
func (l *Line) deliver(queue <-chan inFlight, to *end) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var f flight
	for {
		if len(f) > 0 {
			timer.Reset(f[0].at - time.Since(l.began))
		}
		select {
		case <-l.closed:
			return
		case p, ok := <-queue:
			if !ok {
				return
			}
			heap.Push(&f, p)
		case <-timer.C:
		}
		for len(f) > 0 && f[0].at <= time.Since(l.began) {
			p := heap.Pop(&f).(inFlight)
			if addr := to.peer.Load(); addr != nil {
				_, _ = to.conn.WriteToUDP(p.data, addr)
			}
		}
	}
}

var port = regexp.MustCompile(`(candidate:\S+ \d+ \S+ \d+ )(\S+) (\d+)`)

// Near takes a candidate of the near end's and returns what the far end is told.
func (l *Line) Near(candidate string) string { return l.swap(candidate, l.near, l.far) }

// Far takes a candidate of the far end's and returns what the near end is told.
func (l *Line) Far(candidate string) string { return l.swap(candidate, l.far, l.near) }

// swap notes where the owner of candidate is and puts the other socket in its place.
func (l *Line) swap(candidate string, owner, other *end) string {
	m := port.FindStringSubmatch(candidate)
	if m == nil {
		return candidate
	}
	n, err := strconv.Atoi(m[3])
	if err != nil {
		return candidate
	}
	owner.peer.Store(&net.UDPAddr{IP: net.ParseIP(m[2]), Port: n})
	return strings.Replace(candidate, m[0],
		fmt.Sprintf("%s127.0.0.1 %d", m[1], other.conn.LocalAddr().(*net.UDPAddr).Port), 1)
}

// Strip removes the candidates from an SDP.
func Strip(sdp string) string {
	var out []string
	for _, line := range strings.Split(sdp, "\r\n") {
		if !strings.HasPrefix(line, "a=candidate:") && line != "a=end-of-candidates" {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\r\n")
}

// Passed counts what the near end sent, and what the far end sent.
func (l *Line) Passed() (toFar, toNear Passed) {
	get := func(e *end) Passed {
		return Passed{e.Sent.Load(), e.Lost.Load(), e.Dropped.Load(), e.bytes.Load(), time.Duration(e.waited.Load())}
	}
	return get(l.near), get(l.far)
}

// Close ends the line.
func (l *Line) Close() {
	close(l.closed)
	_ = l.near.conn.Close()
	_ = l.far.conn.Close()
	l.wg.Wait()
}
