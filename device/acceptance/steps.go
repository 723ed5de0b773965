package acceptance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"vindu/device/call"
	"vindu/protocol"
)

// What passes. Those about camera and microphone are wide: they shall find what is broken, covered or badly placed, not judge taste.
const (
	darkest, brightest = 0.08, 0.92 // mean luma: with the shutter closed, or into the sun
	blurriest          = 10.0       // variance of the Laplacian: a film on the lens, or a lens out of place
	stillest           = 0.01       // a live sensor's noise is a hundred times that
	quietest           = -85.0      // dBFS RMS: below the noise of any microphone that is connected
	loudest            = -12.0      // dBFS RMS of a room in which nobody shall be shouting
	mostClipped        = 0.01
	weakest            = -75                    // dBm, below which 802.11 has no rate to spare for a call
	slowest            = 200 * time.Millisecond // there and back; ITU-T G.114 wants less than 150 ms one way, of which the codecs take a share
	mostLost           = 0.03                   // of packets: beyond what retransmission and concealment hide
	farthest           = 5 * time.Second        // of the clock
	fewestPictures     = 10
	fewestSounds       = 50 // of 20 ms
)

const (
	deviceLimit  = 15 * time.Second
	closeLimit   = 3 * time.Second
	networkLimit = 20 * time.Second
	robotLimit   = 60 * time.Second
	robotPoll    = time.Second
	recordLimit  = 5 * time.Second // for the terminal's own record, after the robot has ended the call
)

// step is what is found out at one go: one check or several.
type step struct {
	names []string
	limit time.Duration
	run   func(*run, context.Context) []protocol.Check
}

// Each step has the time for all that it may be the first to ask for: any of them may be wanted alone.
var steps = []step{
	{[]string{"screen"}, time.Second, (*run).screen},
	{[]string{"panel"}, time.Second, (*run).panel},
	{[]string{"camera.brightness", "camera.sharpness", "camera.motion"}, deviceLimit, (*run).look},
	{[]string{"microphone.level", "loudspeaker.chirp"}, deviceLimit, (*run).listen},
	{[]string{"network.address"}, networkLimit, (*run).address},
	{[]string{"wifi.signal"}, networkLimit, (*run).signal},
	{[]string{"network.tls"}, networkLimit, (*run).tls},
	{[]string{"network.udp"}, networkLimit, (*run).udp},
	{[]string{"relay.allocation"}, networkLimit, (*run).allocation},
	{[]string{"clinic.latency"}, networkLimit, (*run).latency},
	{[]string{"clinic.loss"}, networkLimit, (*run).loss},
	{[]string{"time.offset"}, networkLimit, (*run).offset},
	{[]string{"call.robot"}, robotLimit + recordLimit, (*run).robot},
}

// run is one check that runs. What a step finds out for later ones is asked for once, also if the step itself was not wanted.
type run struct {
	r        *Runner
	c        Config
	proof    Proof // nil if it rehearses
	unproven error // why neither camera nor microphone may be opened
	seen     bool  // a person has compared the code on the screen
	// rehearses is set where nobody has begun it: the microphone alone may open, and the screen is left as it is.
	rehearses bool

	path    once[Path]
	servers once[[]protocol.ICEServer]
	stream  once[Echoes]
	packets once[Echoes]
	ledger  *ledger // of this step
}

// once is something that is asked for at most once.
type once[T any] struct {
	asked bool
	value T
	err   error
}

func (o *once[T]) get(ask func() (T, error)) (T, error) {
	if !o.asked {
		o.asked = true
		o.value, o.err = ask()
	}
	return o.value, o.err
}

// step runs one within its limit. What a step opened is closed when it returns; a device that is not by then ends the process.
func (x *run) step(ctx context.Context, s step) ([]protocol.Check, error) {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	x.ledger = &ledger{run: x, allowed: true}
	found := make(chan []protocol.Check, 1)
	// It may be left behind in a driver that hangs; the process then ends.
	go func() { found <- s.run(x, ctx) }()
	var checks []protocol.Check
	select {
	case checks = <-found:
	case <-ctx.Done():
		timer := time.NewTimer(closeLimit)
		defer timer.Stop()
		select {
		case checks = <-found:
		case <-timer.C:
			return nil, fmt.Errorf("check %s: %w", s.names[0], call.ErrDeviceStuck)
		}
	}
	if open := x.ledger.finish(); len(open) > 0 {
		return nil, fmt.Errorf("check %s: %v: %w", s.names[0], open, call.ErrDeviceStuck)
	}
	return checks, nil
}

func verdict(name, figure string, code protocol.Code) protocol.Check {
	c := protocol.Check{Name: name, State: protocol.CheckPassed, Figure: figure, Code: code}
	if code != "" {
		c.State = protocol.CheckFailed
	}
	return c
}

func failed(name string, err error, otherwise protocol.Code) protocol.Check {
	code := protocol.CodeOf(err)
	if code == protocol.Unknown {
		code = otherwise
	}
	return verdict(name, "", code)
}

func skipped(name string, code protocol.Code) protocol.Check {
	return protocol.Check{Name: name, State: protocol.CheckSkipped, Code: code}
}

// all gives the same finding to several checks.
func all(names []string, f func(name string) protocol.Check) []protocol.Check {
	var checks []protocol.Check
	for _, n := range names {
		checks = append(checks, f(n))
	}
	return checks
}

func (x *run) screen(context.Context) []protocol.Check {
	figure, code := x.c.Devices.Screen()
	if code == "" && !x.seen { // that there is one says nothing of whether it is dark
		return []protocol.Check{skipped("screen", protocol.ScreenUnseen)}
	}
	return []protocol.Check{verdict("screen", figure, code)}
}

func (x *run) panel(context.Context) []protocol.Check {
	figure, code := x.c.Devices.Panel()
	if code == protocol.PanelMissing {
		return []protocol.Check{skipped("panel", code)}
	}
	return []protocol.Check{verdict("panel", figure, code)}
}

func (x *run) look(ctx context.Context) []protocol.Check {
	names := []string{"camera.brightness", "camera.sharpness", "camera.motion"}
	if x.unproven != nil {
		return all(names, func(n string) protocol.Check { return failed(n, x.unproven, protocol.AuthButton) })
	}
	s, err := x.c.Devices.Look(ctx, x.ledger)
	switch {
	case err != nil:
		x.c.Log.Warn("camera not checked", "error", err)
		return all(names, func(n string) protocol.Check { return failed(n, err, protocol.CaptureNoCamera) })
	case s.Synthetic:
		return all(names, func(n string) protocol.Check { return skipped(n, protocol.CaptureTestPicture) })
	}
	var bright, sharp, motion protocol.Code
	switch {
	case s.Brightness < darkest:
		bright = protocol.CaptureDark
	case s.Brightness > brightest:
		bright = protocol.CaptureBright
	}
	if s.Sharpness < blurriest {
		sharp = protocol.CaptureBlurred
	}
	if s.Motion < stillest {
		motion = protocol.CaptureStill
	}
	blurred := verdict(names[1], fmt.Sprintf("%.0f", s.Sharpness), sharp)
	if bright == protocol.CaptureDark && sharp != "" { // in the dark nothing is sharp
		blurred = skipped(names[1], bright)
	}
	return []protocol.Check{
		verdict(names[0], fmt.Sprintf("%.0f %%", 100*s.Brightness), bright), blurred, verdict(names[2], fmt.Sprintf("%.2f", s.Motion), motion),
	}
}

func (x *run) listen(ctx context.Context) []protocol.Check {
	names := []string{"microphone.level", "loudspeaker.chirp"}
	if x.unproven != nil {
		return all(names, func(n string) protocol.Check { return failed(n, x.unproven, protocol.AuthButton) })
	}
	h, err := x.c.Devices.Listen(ctx, x.ledger)
	switch {
	case err != nil:
		x.c.Log.Warn("sound not checked", "error", err)
		return all(names, func(n string) protocol.Check { return failed(n, err, protocol.CaptureNoMicrophone) })
	case h.Synthetic:
		return all(names, func(n string) protocol.Check { return skipped(n, protocol.CaptureTestSound) })
	}
	var level, chirp protocol.Check
	figure := fmt.Sprintf("%.0f dBFS, peak %.0f", h.RMS, h.Peak)
	switch {
	case !h.Microphone:
		level = verdict(names[0], "", protocol.CaptureNoMicrophone)
	case h.RMS < quietest:
		level = verdict(names[0], figure, protocol.CaptureSilent)
	case h.RMS > loudest || h.Clipped > mostClipped:
		level = verdict(names[0], figure, protocol.CaptureLoud)
	default:
		level = verdict(names[0], figure, "")
	}
	switch {
	case !h.Speaker:
		chirp = verdict(names[1], "", protocol.CaptureNoSpeaker)
	case !h.Microphone:
		chirp = skipped(names[1], protocol.CaptureNoMicrophone)
	case !h.Heard:
		chirp = verdict(names[1], "", protocol.CaptureNoEcho)
	default:
		chirp = verdict(names[1], "after "+milliseconds(h.Delay), "")
	}
	return []protocol.Check{level, chirp}
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
}

func (x *run) way(ctx context.Context) (Path, error) {
	return x.path.get(func() (Path, error) { return x.c.Network.Path(ctx) })
}

func (x *run) address(ctx context.Context) []protocol.Check {
	p, err := x.way(ctx)
	if err != nil {
		x.c.Log.Warn("no way to the clinic", "error", err)
		return []protocol.Check{failed("network.address", err, protocol.IPNone)}
	}
	figure := p.Address + " " + p.Interface
	if len(figure) > 40 {
		figure = p.Interface
	}
	return []protocol.Check{verdict("network.address", figure, "")}
}

func (x *run) signal(ctx context.Context) []protocol.Check {
	const name = "wifi.signal"
	p, err := x.way(ctx)
	switch {
	case err != nil:
		return []protocol.Check{skipped(name, failed(name, err, protocol.IPNone).Code)}
	case !p.Wireless:
		return []protocol.Check{skipped(name, protocol.IPWired)}
	case p.Signal == 0:
		return []protocol.Check{verdict(name, "not known", protocol.IPWeak)}
	case p.Signal < weakest:
		return []protocol.Check{verdict(name, fmt.Sprintf("%d dBm", p.Signal), protocol.IPWeak)}
	}
	return []protocol.Check{verdict(name, fmt.Sprintf("%d dBm", p.Signal), "")}
}

// relay asks the clinic for its relay. The error's code is the one that all that depends on it has.
func (x *run) relay(ctx context.Context) ([]protocol.ICEServer, error) {
	if _, err := x.way(ctx); err != nil {
		return nil, protocol.WithCode(failed("", err, protocol.IPNone).Code, err)
	}
	return x.servers.get(func() ([]protocol.ICEServer, error) {
		servers, err := x.c.Clinic.Relay(ctx)
		if err != nil {
			x.c.Log.Warn("clinic not reached", "error", err)
			return nil, protocol.WithCode(failed("", err, protocol.LinkUnreachable).Code, err)
		}
		return servers, nil
	})
}

// server returns the first of the relay's addresses with that scheme ("turn" is UDP, "turns" TLS); nil if there is none.
func server(servers []protocol.ICEServer, scheme string) (url string, s *protocol.ICEServer) {
	for i := range servers {
		for _, u := range servers[i].URLs {
			if got, _, _ := strings.Cut(u, ":"); got == scheme {
				return u, &servers[i]
			}
		}
	}
	return "", nil
}

var errNotOffered = errors.New("the clinic's relay is not offered in this way")

// echo asks the relay in one of the ways to it.
func (x *run) echo(ctx context.Context, scheme string) (Echoes, error) {
	servers, err := x.relay(ctx)
	if err != nil {
		return Echoes{}, err
	}
	result := &x.stream
	if scheme == "turn" {
		result = &x.packets
	}
	return result.get(func() (Echoes, error) {
		url, s := server(servers, scheme)
		if s == nil {
			return Echoes{}, errNotOffered
		}
		e, err := x.c.Network.Echo(ctx, url)
		if err != nil {
			x.c.Log.Warn("relay does not answer", "scheme", scheme, "error", err)
		}
		return e, err
	})
}

func (x *run) tls(ctx context.Context) []protocol.Check {
	const name = "network.tls"
	e, err := x.echo(ctx, "turns")
	switch {
	case errors.Is(err, errNotOffered):
		return []protocol.Check{verdict(name, "", protocol.EgressRelay)} // every clinic has it
	case err != nil:
		return []protocol.Check{failed(name, err, protocol.EgressRelay)}
	}
	return []protocol.Check{verdict(name, milliseconds(e.RTT), "")}
}

func (x *run) udp(ctx context.Context) []protocol.Check {
	const name = "network.udp"
	if _, err := x.relay(ctx); err != nil {
		return []protocol.Check{skipped(name, protocol.CodeOf(err))}
	}
	e, err := x.echo(ctx, "turn")
	switch {
	case errors.Is(err, errNotOffered):
		return []protocol.Check{skipped(name, protocol.EgressNoUDP)}
	case err != nil:
		return []protocol.Check{failed(name, err, protocol.EgressUDP)}
	}
	return []protocol.Check{verdict(name, fmt.Sprintf("%d of %d back", e.Sent-e.Lost, e.Sent), "")}
}

func (x *run) allocation(ctx context.Context) []protocol.Check {
	const name = "relay.allocation"
	servers, err := x.relay(ctx)
	if err != nil {
		return []protocol.Check{skipped(name, protocol.CodeOf(err))}
	}
	for _, scheme := range []string{"turn", "turns"} {
		if _, err := x.echo(ctx, scheme); err != nil {
			continue
		}
		url, s := server(servers, scheme)
		if err := x.c.Network.Allocate(ctx, url, s.Username, s.Credential); err != nil {
			x.c.Log.Warn("no allocation at the relay", "scheme", scheme, "error", err)
			return []protocol.Check{failed(name, err, protocol.EgressRelay)}
		}
		return []protocol.Check{verdict(name, map[string]string{"turn": "over UDP", "turns": "over TLS"}[scheme], "")}
	}
	return []protocol.Check{verdict(name, "", protocol.EgressRelay)}
}

func (x *run) latency(ctx context.Context) []protocol.Check {
	const name = "clinic.latency"
	if _, err := x.relay(ctx); err != nil {
		return []protocol.Check{skipped(name, protocol.CodeOf(err))}
	}
	e, err := x.echo(ctx, "turns")
	if err != nil {
		e, err = x.echo(ctx, "turn")
	}
	switch {
	case err != nil:
		return []protocol.Check{skipped(name, protocol.EgressRelay)}
	case e.RTT > slowest:
		return []protocol.Check{verdict(name, milliseconds(e.RTT), protocol.QualityDelay)}
	}
	return []protocol.Check{verdict(name, milliseconds(e.RTT), "")}
}

// loss is that of UDP: what TCP loses shows as delay.
func (x *run) loss(ctx context.Context) []protocol.Check {
	const name = "clinic.loss"
	if c := x.udp(ctx)[0]; c.State != protocol.CheckPassed {
		return []protocol.Check{skipped(name, c.Code)}
	}
	e, _ := x.echo(ctx, "turn") // it passed
	share := float64(e.Lost) / float64(max(e.Sent, 1))
	figure := fmt.Sprintf("%.1f %%", 100*share)
	if share > mostLost {
		return []protocol.Check{verdict(name, figure, protocol.QualityLoss)}
	}
	return []protocol.Check{verdict(name, figure, "")}
}

func (x *run) offset(ctx context.Context) []protocol.Check {
	const name = "time.offset"
	if _, err := x.relay(ctx); err != nil {
		return []protocol.Check{skipped(name, protocol.CodeOf(err))}
	}
	at, took, err := x.c.Clinic.Time(ctx)
	if err != nil {
		return []protocol.Check{failed(name, err, protocol.TimeUnknown)}
	}
	off := x.c.Now().Sub(at) - took/2
	figure := fmt.Sprintf("%+.1f s", off.Seconds())
	if off.Abs() < 50*time.Millisecond {
		figure = "0.0 s" // not -0.0
	}
	if off.Abs() > farthest {
		return []protocol.Check{verdict(name, figure, protocol.TimeOff)}
	}
	return []protocol.Check{verdict(name, figure, "")}
}

// robot has the clinic's robot call and compares what each end saw and heard.
func (x *run) robot(ctx context.Context) []protocol.Check {
	const name = "call.robot"
	if x.unproven != nil {
		return []protocol.Check{failed(name, x.unproven, protocol.AuthButton)}
	}
	if _, err := x.relay(ctx); err != nil {
		return []protocol.Check{skipped(name, protocol.CodeOf(err))}
	}
	id := protocol.NewCallID()
	x.r.expect(id)
	defer x.r.expect(protocol.CallID{})
	far, err := Follow(ctx, x.c.Clinic, id, "")
	if err != nil {
		x.c.Log.Warn("no test call", "call", id, "error", err)
		return []protocol.Check{failed(name, err, protocol.MediaRobot)}
	}
	if far.Outcome != protocol.EndCallerHungUp { // the robot hangs up when it has had enough
		return []protocol.Check{verdict(name, "", far.Outcome)}
	}
	timer := time.NewTimer(recordLimit)
	defer timer.Stop()
	select {
	case near := <-x.r.record:
		return []protocol.Check{judge(name, far, near)}
	case <-timer.C:
	case <-ctx.Done():
	}
	return []protocol.Check{verdict(name, "no record", protocol.MediaRobot)}
}

// Robot places test calls; a Clinic is one.
type Robot interface {
	TestCall(ctx context.Context, id protocol.CallID, path string) (*protocol.TestCall, error)
}

// Follow has the robot call, by a path if one is named, and waits for the end of that call. An error of the first question says that there is none.
func Follow(ctx context.Context, robot Robot, id protocol.CallID, path string) (*protocol.TestCall, error) {
	ctx, cancel := context.WithTimeout(ctx, robotLimit)
	defer cancel()
	ticker := time.NewTicker(robotPoll)
	defer ticker.Stop()
	var last error
	for asked := false; ; asked = true {
		t, err := robot.TestCall(ctx, id, path)
		switch {
		case err == nil && t.Ended:
			return t, nil
		case err != nil && !asked:
			return nil, err
		case err != nil && ctx.Err() == nil:
			last = err // the call may go on although this question was lost
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the test call did not end: %w", errors.Join(ctx.Err(), last))
		case <-ticker.C:
		}
	}
}

// judge compares both halves of a test call.
func judge(name string, far *protocol.TestCall, near *protocol.CallRecord) protocol.Check {
	figure := fmt.Sprintf("pictures out %d in %d", far.Pictures, near.Quality.FramesDecoded)
	if !Worked(far, near) {
		return verdict(name, figure, protocol.MediaRobot)
	}
	return verdict(name, figure, "")
}

// Worked tells by both halves of a test call whether each end saw and heard enough of the other.
func Worked(far *protocol.TestCall, near *protocol.CallRecord) bool {
	heard := false
	for _, s := range near.Stages {
		heard = heard || s.Stage == "heard"
	}
	sees := near.Camera != "none" && near.Camera != ""
	speaks := near.MicOpen != 0 || near.Sound == "synthetic"
	switch {
	case sees && (far.Pictures < fewestPictures || far.Keys == 0),
		speaks && far.Sounds < fewestSounds,
		near.Quality.FramesDecoded < fewestPictures, !heard:
		return false
	}
	return true
}
