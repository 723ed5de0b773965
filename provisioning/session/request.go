package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"vindu/protocol"
)

// need is what a session has to be before a request is served.
type need uint8

const (
	// On a terminal that is set up: a mandate of its clinic and a press of its button, not longer ago than PressTime. Else nothing.
	needAccess need = iota
	// As needAccess, but any press in the session will do, and a session that began before the terminal was set up may go on asking how that went.
	needStory
	// A mandate if the terminal is set up; nothing if its key is away.
	needMandate
	// As needAccess; and a long press of the button if its key is away.
	needReset
	// As needMandate, and a press in the session, however long ago: to ask after what it has begun.
	needPast
	// A terminal that is set up, a mandate and a press as for needAccess.
	needProof
)

var needs = map[string]need{
	opPress: needMandate, opCheckStop: needMandate, // to end what is open takes no more than to begin to ask
	opInfo: needStory, opEnrolStatus: needStory, opCheckStatus: needPast,
	opSetNetwork: needAccess, opNetwork: needAccess, opScan: needAccess, opLanguage: needAccess, opEnrol: needAccess, opCSR: needAccess,
	opInstall: needAccess,
	opReset:   needReset, opCheck: needProof, opHandOver: needProof, opHandOverDone: needProof,
}

// access is what a guest proved when it asked.
type access struct {
	mandate *protocol.Mandate // nil if the terminal is not set up
	pressed time.Time         // zero if the button was not pressed, or too long ago
	whole   bool              // nothing is missing for needAccess
}

// may says whether g may ask for what has this need, by the state, the mandate and the time of now.
func (d *desk) may(g *guest, n need) (access, error) {
	recent := !g.pressed.IsZero() && time.Since(g.pressed) <= PressTime
	switch d.host.Greeting().State {
	case Factory:
		if n == needProof {
			return access{}, protocol.WithCode(protocol.IdentityNone, errors.New("the terminal is not set up yet"))
		}
		return access{whole: true}, nil
	case SetUp:
	case KeyAway:
		switch {
		case n == needReset && !recent:
			return access{}, protocol.WithCode(protocol.AuthButton, errors.New("nobody has held the terminal's button"))
		case n == needReset || n == needMandate:
			return access{whole: recent}, nil
		}
		return access{}, d.unusable()
	default:
		return access{}, d.unusable()
	}
	if n == needStory && g.fresh && g.pressed.IsZero() {
		return access{}, nil
	}
	m, err := d.mandate(g.mandate, g.public)
	if err != nil {
		return access{}, err
	}
	a := access{mandate: m}
	if recent {
		a.pressed, a.whole = g.pressed, true
	}
	switch past := n == needStory || n == needPast; {
	case a.whole, n == needMandate, past && !g.pressed.IsZero():
		return a, nil
	case g.pressed.IsZero():
		return access{}, protocol.WithCode(protocol.AuthButton, errors.New("nobody has pressed the terminal's button"))
	}
	return access{}, protocol.WithCode(protocol.AuthButton, errors.New("the terminal's button was pressed too long ago"))
}

// unusable says why the terminal does nothing.
func (d *desk) unusable() error {
	switch g := d.host.Greeting(); {
	case g.State == Returned:
		return protocol.WithCode(protocol.IdentityReturned, errors.New("the terminal was taken out of use"))
	case g.State == KeyAway && g.Cause != "":
		return protocol.WithCode(g.Cause, errors.New("the terminal's key or enrolment is not there"))
	}
	return protocol.WithCode(protocol.LinkTerminalBusy, errors.New("the terminal is starting"))
}

// mandate verifies a mandate of the terminal's clinic for the key public. A terminal that knows no more than a floor of the time
// takes one that is still to begin: it may be the terminal that is behind. One whose end is past is never taken.
func (d *desk) mandate(signed, public []byte) (*protocol.Mandate, error) {
	refuse := func(format string, args ...any) error {
		return protocol.WithCode(protocol.AuthTechnician, fmt.Errorf(format, args...))
	}
	if len(signed) == 0 {
		return nil, refuse("this laptop has no authorisation")
	}
	var m *protocol.Mandate
	for _, der := range d.host.Authorities() {
		key, err := publicKey(der)
		if err != nil {
			continue
		}
		read := new(protocol.Mandate)
		if protocol.Verify(signed, key, read) == nil {
			m = read
		}
	}
	if m == nil {
		return nil, refuse("the authorisation is not of this terminal's clinic")
	}
	if d.host.Withdrawn(m.ID) {
		return nil, withdrawn()
	}
	if !bytes.Equal(m.Key, public) {
		return nil, refuse("the authorisation is for another laptop")
	}
	now, known := d.host.Now()
	if at := protocol.At(now); at >= m.To {
		return nil, refuse("the authorisation ended on %s", m.To.Time().Format(time.DateOnly))
	} else if at < m.From && known {
		return nil, refuse("the authorisation begins on %s", m.From.Time().Format(time.DateOnly))
	}
	return m, nil
}

func withdrawn() error {
	return protocol.WithCode(protocol.AuthWithdrawn, errors.New("the clinic has withdrawn the authorisation"))
}

type worker func(context.Context) outcome

func refused(err error) worker {
	return func(context.Context) outcome { return outcome{err: err} }
}

// with reads the body of a request into T and works on it.
func with[T any](body []byte, work func(context.Context, *T) (any, error)) worker {
	t := new(T)
	if err := decode(body, t); err != nil {
		return refused(err)
	}
	return without(func(ctx context.Context) (any, error) { return work(ctx, t) })
}

func without(work func(context.Context) (any, error)) worker {
	return func(ctx context.Context) outcome {
		body, err := work(ctx)
		return outcome{body: body, err: err}
	}
}

// prepare decides, on the desk, whether and how a request is worked on.
func (d *desk) prepare(ctx context.Context, g *guest, r request) worker {
	if r.Op == opOpen && !g.open {
		return d.open(g, r.Body)
	}
	n, known := needs[r.Op]
	if !known {
		return refused(malformed("request %q is not known to this terminal", protocol.Printable(r.Op)))
	}
	a, err := d.may(g, n)
	if err != nil {
		return refused(err)
	}
	switch r.Op {
	case opPress:
		return d.press(ctx, g, a, r.Body)
	case opInfo:
		return without(func(ctx context.Context) (any, error) {
			i, err := d.host.Info(ctx)
			if err == nil {
				i.Authorised = a.whole
			}
			return i, err
		})
	case opSetNetwork:
		return with(r.Body, func(ctx context.Context, n *Network) (any, error) {
			if err := n.Validate(); err != nil {
				return nil, err
			}
			return nil, d.host.SetNetwork(ctx, n)
		})
	case opNetwork:
		return without(func(ctx context.Context) (any, error) { return d.host.Network(ctx) })
	case opScan:
		return without(func(ctx context.Context) (any, error) {
			found, err := d.host.ScanNetworks(ctx)
			return scanReply{found[:min(len(found), maxFound)]}, err
		})
	case opLanguage:
		return with(r.Body, func(ctx context.Context, l *languageRequest) (any, error) { return nil, d.host.SetLanguage(ctx, l.Tag) })
	case opCSR:
		return without(func(ctx context.Context) (any, error) {
			csr, err := d.host.CSR(ctx)
			return csrReply{csr}, err
		})
	case opReset:
		return without(func(ctx context.Context) (any, error) {
			return nil, d.jobs.alone(func() error { return d.host.Reset(ctx) })
		})
	case opInstall:
		return with(r.Body, func(ctx context.Context, grant *Grant) (any, error) {
			return nil, d.jobs.alone(func() error { return d.host.Install(ctx, grant) })
		})
	}
	return d.prepareJob(g, a, r)
}

// prepareJob is prepare for jobs and for what follows them.
func (d *desk) prepareJob(g *guest, a access, r request) worker {
	switch r.Op {
	case opEnrol:
		return with(r.Body, func(_ context.Context, e *enrolRequest) (any, error) {
			v, err := protocol.ParseVoucher(string(e.Voucher))
			if err != nil {
				return nil, protocol.WithCode(protocol.IdentityVoucher, err)
			}
			return nil, d.jobs.startEnrol(v.ID, func(ctx context.Context) error { return d.host.Enrol(ctx, v) })
		})
	case opEnrolStatus:
		return without(func(context.Context) (any, error) { return d.jobs.enrolStatus(), nil })
	case opCheck:
		p := &Proof{a.mandate.Person, a.mandate.ID, a.pressed}
		return with(r.Body, func(ctx context.Context, o *CheckOptions) (any, error) {
			if len(o.Names) > protocol.MaxChecks {
				return nil, malformed("%d checks", len(o.Names))
			}
			return d.jobs.startCheck(ctx, g, func(ctx context.Context, progress func(CheckProgress)) ([]protocol.Check, error) {
				return d.host.Check(ctx, p, *o, progress)
			})
		})
	case opCheckStatus:
		return without(func(context.Context) (any, error) { return d.jobs.checkStatus(g), nil })
	case opCheckStop:
		return without(func(context.Context) (any, error) {
			d.jobs.stopCheck(nil, errCheckStopped)
			return nil, nil
		})
	case opHandOver:
		return with(r.Body, func(ctx context.Context, b *recordRequest) (any, error) {
			return d.signHandOver(ctx, a.mandate, b.Record)
		})
	default:
		return with(r.Body, func(ctx context.Context, b *recordRequest) (any, error) {
			return nil, d.finishHandOver(ctx, g, b.Record)
		})
	}
}

// open is a laptop's proof of its key, on which the terminal gives its own. A terminal that is set up signs for nobody without a mandate.
func (d *desk) open(g *guest, body []byte) worker {
	state := d.host.Greeting().State
	return func(context.Context) outcome {
		var r openRequest
		if err := decode(body, &r); err != nil {
			return outcome{err: err}
		}
		greeting := d.host.Greeting()
		self := greeting.Terminal()
		if err := checkProof(r.Proof, g.key, g.hash, self, protocol.SideTechnician); err != nil {
			return outcome{err: protocol.WithCode(protocol.AuthTechnician, err)}
		}
		if state == SetUp {
			if _, err := d.mandate(r.Mandate, g.public); err != nil {
				return outcome{err: err}
			}
		} else if state != Factory && state != KeyAway {
			return outcome{err: d.unusable()}
		}
		now, _ := d.host.Now()
		proof, err := protocol.Sign(&protocol.Session{
			Version: protocol.Version, Transcript: g.hash, Terminal: self, By: protocol.SideTerminal, At: protocol.At(now),
		}, d.host.Signer())
		if err != nil {
			return outcome{err: fmt.Errorf("prove the terminal's key: %w", err)}
		}
		return outcome{body: openReply{proof}, after: func() {
			g.open, g.fresh, g.mandate = true, state == Factory, r.Mandate
			if d.coming == g {
				d.coming = nil
			}
			d.leave(d.current)
			d.current = g
			d.log.Info("serial session begins", "laptop", protocol.HashSPKI(g.public).Code(), "state", state)
		}}
	}
}

// press asks for a press of the button where one is needed, and says how it is.
func (d *desk) press(ctx context.Context, g *guest, a access, body []byte) worker {
	var r pressRequest
	if err := decode(body, &r); err != nil {
		return refused(err)
	}
	status := pressStatus{Pressed: a.whole}
	if !a.whole && g.asking == nil {
		if !r.Begin {
			err := g.unpressed
			if protocol.CodeOf(err) == protocol.Unknown {
				err = protocol.WithCode(protocol.AuthButton, errors.New("nobody pressed the terminal's button in time"))
			}
			return refused(err)
		}
		var who protocol.Party
		if a.mandate != nil {
			who = a.mandate.Person
		}
		d.ask(ctx, g, who)
	}
	return without(func(context.Context) (any, error) { return status, nil })
}

// signHandOver signs a record of which the host confirms what it says of the terminal.
func (d *desk) signHandOver(ctx context.Context, m *protocol.Mandate, record []byte) (any, error) {
	var h protocol.HandOver
	if err := protocol.Decode(record, &h); err != nil {
		return nil, protocol.WithCode(protocol.SignalMalformed, err)
	}
	if err := d.truth(&h, m); err != nil {
		return nil, err
	}
	if err := d.host.ConfirmHandOver(ctx, &h); err != nil {
		return nil, err
	}
	signed, err := protocol.Sign(&h, d.host.Signer())
	if err != nil {
		return nil, err
	}
	return signedReply{signed}, nil
}

// truth checks what this package knows itself.
func (d *desk) truth(h *protocol.HandOver, m *protocol.Mandate) error {
	g := d.host.Greeting()
	if h.Terminal != g.Terminal() || h.Technician != m.Person || h.Software != g.Software || h.KeyGrade != g.KeyGrade {
		return malformed("the record is not about this terminal and technician")
	}
	return nil
}

// finishHandOver passes the record on that both signed.
func (d *desk) finishHandOver(ctx context.Context, g *guest, event []byte) error {
	var e protocol.HandOverEvent
	if err := protocol.Decode(event, &e); err != nil {
		return protocol.WithCode(protocol.SignalMalformed, err)
	}
	greeting := d.host.Greeting()
	self, err := publicKey(greeting.Public)
	if err != nil {
		return err
	}
	var ours, theirs protocol.HandOver
	if err := errors.Join(protocol.Verify(e.Terminal, self, &ours), protocol.Verify(e.Technician, g.key, &theirs)); err != nil {
		return protocol.WithCode(protocol.SignalMalformed, fmt.Errorf("hand-over record: %w", err))
	}
	m, err := d.mandate(e.Authorisation, g.public)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(ours, theirs) {
		return malformed("terminal and technician signed different records")
	}
	if err := d.truth(&ours, m); err != nil {
		return err
	}
	return d.host.FinishHandOver(ctx, &ours, &e)
}
