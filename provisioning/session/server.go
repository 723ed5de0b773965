package session

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"sync"
	"time"

	"vindu/protocol"
	"vindu/provisioning/frame"
)

const (
	reopenTime = time.Second
	reopenMost = 30 * time.Second
)

// Server is the terminal's end. Run owns its goroutines, the port and the jobs.
type Server struct {
	host Host
	log  *slog.Logger
	jobs *jobs
}

// NewServer returns the terminal's end for host.
func NewServer(host Host, log *slog.Logger) *Server {
	return &Server{host: host, log: log, jobs: newJobs(func() protocol.KeyHash {
		g := host.Greeting()
		return g.Terminal()
	})}
}

// Run opens the port, serves whoever is at its other end, and opens it anew when it is gone, until ctx ends; then it returns nil. An
// enrolment outlives sessions and ports, but not Run.
func (s *Server) Run(ctx context.Context, open func(context.Context) (io.ReadWriteCloser, error)) error {
	var group sync.WaitGroup
	defer group.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	group.Go(func() { s.jobs.run(ctx) })
	said := false
	for wait := reopenTime; ; wait = min(2*wait, reopenMost) {
		port, err := open(ctx)
		if err == nil {
			s.log.Info("serial port is served")
			began := time.Now()
			err = s.serve(ctx, port)
			if said = false; time.Since(began) > reopenMost {
				wait = reopenTime
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if !said { // and not again until it was open
			s.log.Warn("serial port is not served", "error", err)
			said = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait/2 + mathrand.N(wait)):
		}
	}
}

// guest is a laptop that has said hello.
type guest struct {
	*sealer
	hello, answer []byte
	public        []byte // of the laptop's own key
	key           *ecdsa.PublicKey
	mandate       []byte             // as it came; judged each time it is needed
	open          bool               // it has proven its key
	fresh         bool               // the terminal was not set up when it came
	last          uint64             // number of the last request
	reply         []byte             // to it, not sealed; nil while it is worked on
	pressed       time.Time          // the last time, with a reading of the monotonic clock
	unpressed     error              // why the last prompt for a press had none
	asking        context.CancelFunc // ends the prompt for a press, if there is one
}

// desk serves one port. Its fields belong to the goroutine of serve.
type desk struct {
	*Server
	line    *line
	current *guest // has proven its key
	coming  *guest // has not yet
	busy    bool   // a request is worked on
	done    chan outcome
	presses chan press
	group   sync.WaitGroup
}

// outcome is what became of a request.
type outcome struct {
	guest *guest
	reply reply
	body  any
	err   error
	after func() // on the desk, before the reply is sent
}

type press struct {
	guest *guest
	err   error
}

// serve returns when ctx ends or the port is gone. Nothing of a session survives it.
func (s *Server) serve(ctx context.Context, port io.ReadWriteCloser) error {
	ctx, stop := context.WithCancel(ctx)
	d := &desk{Server: s, line: newLine(port), done: make(chan outcome, 1), presses: make(chan press)}
	gone := make(chan error, 1)
	d.group.Go(func() { gone <- d.line.run(ctx) })
	defer d.group.Wait()
	defer stop()
	defer func() { d.leave(d.current) }()
	idle := time.NewTimer(IdleTime)
	defer idle.Stop()
	for {
		select {
		case err := <-gone:
			return err
		case f := <-d.line.in:
			if d.frame(ctx, f) {
				idle.Reset(IdleTime)
			}
		case o := <-d.done:
			d.busy = false
			d.finish(o)
			idle.Reset(IdleTime)
		case p := <-d.presses:
			d.pressed(p)
		case <-idle.C:
			d.leave(d.current)
			d.current, d.coming = nil, nil
		}
	}
}

// leave forgets what a guest was allowed, and ends the check that it began.
func (d *desk) leave(g *guest) {
	if g == nil {
		return
	}
	if g.asking != nil {
		g.asking()
	}
	d.jobs.stopCheck(g, errCheckLeft)
	d.log.Info("serial session ended")
}

// frame does what a frame asks for. It returns true if that came from a guest in a session.
func (d *desk) frame(ctx context.Context, f frame.Frame) bool {
	switch f.Kind {
	case kindAsk:
		g := d.host.Greeting()
		if g.Version = Version; len(g.Public) == 0 {
			return false // it does not know its key yet
		}
		if b, err := encode(g); err == nil {
			d.send(kindGreeting, b)
		}
	case kindHello:
		d.hello(f.Payload)
	case kindSealed:
		return d.sealed(ctx, f.Payload)
	}
	return false
}

func (d *desk) send(kind byte, payload []byte) {
	if err := d.line.send(kind, payload); err != nil {
		d.log.Error("serial frame not sent", "error", err)
	}
}

// hello answers the first message of a session. It costs the session that is open nothing: that ends when the new guest has proven its key.
func (d *desk) hello(b []byte) {
	for _, g := range []*guest{d.coming, d.current} {
		if g != nil && bytes.Equal(g.hello, b) {
			d.send(kindReply, g.answer)
			return
		}
	}
	g, err := d.welcome(b)
	if err != nil {
		d.log.Warn("serial session refused", "error", err)
		return
	}
	d.coming = g
	d.send(kindReply, g.answer)
}

func (d *desk) welcome(b []byte) (*guest, error) {
	var h hello
	if err := decode(b, &h); err != nil {
		return nil, err
	}
	if h.Version != Version {
		return nil, malformed("version %d of the session is not known", h.Version)
	}
	key, err := publicKey(h.Public)
	if err != nil {
		return nil, err
	}
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a session key: %w", err)
	}
	greeting := d.host.Greeting()
	if len(greeting.Public) == 0 {
		return nil, errors.New("the terminal's key is not there")
	}
	answer, err := encode(hello{Version, ephemeral.PublicKey().Bytes(), greeting.Public})
	if err != nil {
		return nil, err
	}
	sealer, err := newSealer(ephemeral, h.Ephemeral, b, answer, false)
	if err != nil {
		return nil, err
	}
	return &guest{sealer: sealer, hello: bytes.Clone(b), answer: answer, public: h.Public, key: key}, nil
}

// sealed opens what belongs to a session.
func (d *desk) sealed(ctx context.Context, b []byte) bool {
	if len(b) < tagSize {
		return false
	}
	var g *guest
	for _, known := range []*guest{d.coming, d.current} {
		if known != nil && known.tag() == [tagSize]byte(b) {
			g = known
		}
	}
	if g == nil {
		d.send(kindLost, b[:tagSize])
		return false
	}
	m, err := g.sealer.open(b)
	if err != nil {
		return false
	}
	var r request
	if err := decode(m, &r); err != nil {
		d.log.Warn("serial request refused", "error", err)
		return g.open
	}
	d.request(ctx, g, r)
	return g.open
}

// request begins to work on a request, or repeats the reply to one that was.
func (d *desk) request(ctx context.Context, g *guest, r request) {
	switch {
	case !g.open && (r.Number != 0 || r.Op != opOpen), g.open && r.Number < g.last:
		return
	case r.Number == g.last && g.reply != nil:
		d.reply(g, g.reply)
		return
	case d.busy: // with this one, or with one that the guest has given up
		if b, err := encode(reply{Number: r.Number, Wait: true}); err == nil {
			d.reply(g, b)
		}
		return
	}
	g.last, g.reply, d.busy = r.Number, nil, true
	work := d.prepare(ctx, g, r)
	d.group.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, AnswerTime)
		defer cancel()
		o := work(ctx)
		o.guest, o.reply.Number = g, r.Number
		if o.err != nil {
			d.log.Info("serial request refused", "request", r.Op, "code", protocol.CodeOf(o.err))
		}
		d.done <- o // there is room: one at a time
	})
}

// finish keeps and sends the reply.
func (d *desk) finish(o outcome) {
	if o.err == nil && o.after != nil {
		o.after()
	}
	r := o.reply
	if o.err == nil && o.body != nil {
		r.Body, o.err = encode(o.body)
	}
	if o.err != nil {
		r.Code, r.Cause, r.Body = protocol.CodeOf(o.err), protocol.Printable(o.err.Error()), nil
	}
	b, err := encode(r)
	if err != nil || len(b) > frame.MaxPayload-64 {
		d.log.Error("serial reply does not fit", "error", err, "bytes", len(b))
		b, _ = encode(reply{Number: r.Number, Code: protocol.Unknown, Cause: "the reply does not fit"})
	}
	o.guest.reply = b
	d.reply(o.guest, b)
}

func (d *desk) reply(g *guest, b []byte) { d.send(kindSealed, g.seal(b)) }

// ask has the host ask for a press of the button, for a guest.
func (d *desk) ask(ctx context.Context, g *guest, technician protocol.Party) {
	waiting, cancel := context.WithTimeout(ctx, ButtonTime)
	g.asking = cancel
	d.group.Go(func() {
		defer cancel()
		err := d.host.AwaitPress(waiting, technician)
		select {
		case d.presses <- press{g, err}:
		case <-ctx.Done():
		}
	})
}

func (d *desk) pressed(p press) {
	p.guest.asking, p.guest.unpressed = nil, p.err
	if p.err != nil {
		return
	}
	p.guest.pressed = time.Now()
	d.log.Info("the terminal's button was pressed for a technician")
}
