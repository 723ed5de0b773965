package main

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"vindu/device/acceptance"
	"vindu/device/agent"
	devicecall "vindu/device/call"
	"vindu/device/call/calltest"
	"vindu/device/health"
	"vindu/device/identity"
	"vindu/device/screen"
	"vindu/device/state"
	"vindu/protocol"
	"vindu/provisioning"
)

// home is a terminal's whole program but for its devices, behind a tap.
type home struct {
	t      *testing.T
	label  string
	folder string
	media  *calltest.Media
	tap    *tap
	keys   *signers

	agent  *agent.Agent
	stop   func()
	done   chan error
	scenes chan screen.Scene
}

// bench has nothing to be looked at: of the checks there is the clinic's test call alone.
type bench struct{ checkClinic }

type checkClinic struct {
	client *provisioning.Client
	id     *identity.Identity
}

func (c checkClinic) Relay(ctx context.Context) ([]protocol.ICEServer, error) {
	return c.client.Relay(ctx, (*provisioning.Grant)(c.id.Grant()))
}

func (c checkClinic) TestCall(ctx context.Context, id protocol.CallID, path string) (*protocol.TestCall, error) {
	return c.client.TestCall(ctx, (*provisioning.Grant)(c.id.Grant()), id, path)
}

func (c checkClinic) Time(ctx context.Context) (time.Time, time.Duration, error) {
	return c.client.Time(ctx, (*provisioning.Grant)(c.id.Grant()))
}

var errNothing = errors.New("there is nothing")

func (bench) Look(context.Context, devicecall.Ledger) (acceptance.Sight, error) {
	return acceptance.Sight{}, errNothing
}

func (bench) Listen(context.Context, devicecall.Ledger) (acceptance.Hearing, error) {
	return acceptance.Hearing{}, errNothing
}
func (bench) Screen() (string, protocol.Code) { return "", protocol.ScreenNone }
func (bench) Panel() (string, protocol.Code)  { return "", protocol.PanelMissing }
func (bench) Path(context.Context) (acceptance.Path, error) {
	return acceptance.Path{Interface: "lo", Address: "127.0.0.1"}, nil
}

func (bench) Echo(context.Context, string) (acceptance.Echoes, error) {
	return acceptance.Echoes{}, errNothing
}

func (bench) Allocate(context.Context, string, string, protocol.Secret) error { return errNothing }

type technician struct{ mandate protocol.Nonce }

func (technician) Technician() protocol.Party {
	return protocol.Party{Name: "Bo Dahl", Role: "technician", Organisation: "Fjordbyen kommune"}
}
func (p technician) Mandate() protocol.Nonce      { return p.mandate }
func (technician) Pressed() (time.Duration, bool) { return 0, true }

func newHome(t *testing.T, s *serving, c *clinic, label string) *home {
	t.Helper()
	h := &home{t: t, label: label, media: &calltest.Media{}, keys: &signers{Keys: identity.FileKeys{}, all: map[protocol.KeyHash]crypto.Signer{}}}
	h.tap = newTap(t, s, c, h.keys)
	h.folder = filepath.Join(t.TempDir(), "terminal")
	h.with(func(id *identity.Identity) {
		v, err := protocol.ParseVoucher(must(t, "voucher", "-dir", s.dir, "-home", label))
		if err != nil {
			t.Fatal(err)
		}
		v.Address = h.tap.Addr().String()
		client := &provisioning.Client{Signer: id.Signer(), Now: time.Now}
		grant, err := client.Enrol(t.Context(), v)
		if err != nil {
			t.Fatal(err)
		}
		if err := id.Keep(identity.Grant(*grant)); err != nil {
			t.Fatal(err)
		}
		if _, err := client.Renew(t.Context(), grant); err != nil {
			t.Fatal(err)
		}
	})
	return h
}

// with opens the terminal's folder while its program does not run.
func (h *home) with(f func(*identity.Identity)) {
	h.t.Helper()
	dir, err := state.Open(h.folder)
	if err != nil {
		h.t.Fatal(err)
	}
	defer dir.Close()
	store, err := h.keys.Open(dir)
	if err != nil {
		h.t.Fatal(err)
	}
	id, err := identity.Open(dir, store, time.Now)
	if err != nil {
		h.t.Fatal(err)
	}
	f(id)
}

func (h *home) start() {
	h.t.Helper()
	h.scenes = make(chan screen.Scene, 4096)
	cfg := agent.Default()
	cfg.Call.Notice, cfg.Call.Least = 0, 0
	cfg.State = h.folder
	var err error
	h.agent, err = agent.New(cfg, agent.Parts{
		Software: "test", Display: noDisplay{}, HasScreen: func() bool { return true }, Devices: func() health.Devices { return health.Devices{} },
		Media: func(*identity.Identity) devicecall.Media { return h.media }, CallRest: time.Nanosecond, Keys: h.keys,
		Clinic: func(signer crypto.Signer, now func() time.Time) identity.Clinic {
			return estClinic{&provisioning.Client{Signer: signer, Now: now}}
		},
		Checks: func(id *identity.Identity, now func() time.Time) acceptance.Config {
			b := bench{checkClinic{&provisioning.Client{Signer: id.Signer(), Now: now}, id}}
			return acceptance.Config{Devices: b, Network: b, Clinic: b}
		},
		Shown: func(s screen.Scene) {
			select {
			case h.scenes <- s:
			default:
			}
		},
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		h.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	h.done = make(chan error, 1)
	go func() { h.done <- h.agent.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-h.done; err != nil {
			h.t.Error(err)
		}
	})
	h.t.Cleanup(h.stop)
	h.see("that it is ready", ready)
}

func (h *home) see(what string, wanted func(screen.Scene) bool) {
	h.t.Helper()
	for late := time.After(time.Minute); ; {
		select {
		case s := <-h.scenes:
			if wanted(s) {
				return
			}
		case <-late:
			h.t.Fatalf("%s: %s was not shown in a minute", h.label, what)
		}
	}
}

// call is a call to the terminal from its page, with everything that either says in it.
func (h *home) call(page *caller, id string, terminal protocol.KeyHash) {
	t := h.t
	t.Helper()
	n := len(h.media.Sessions())
	name := page.ring(id, terminal)
	h.see("who calls", func(s screen.Scene) bool { return s.Kind == screen.Ringing })
	until(t, "prepared", func() bool { return len(h.media.Sessions()) == n+1 })
	session := h.media.Sessions()[n]
	signed, err := protocol.Sign(&protocol.Candidates{
		Version: protocol.Version, Call: name, Terminal: terminal, Invitation: page.proven, Number: 1, List: []protocol.Candidate{{Line: "candidate:1 1 udp 1 127.0.0.1 9 typ host", Mid: "0"}},
	}, page.key)
	if err != nil {
		t.Fatal(err)
	}
	page.post("/api/calls/"+name.String()+"/candidates", map[string]any{"candidates": signed})
	until(t, "the page's candidate", func() bool { return len(session.Candidates()) == 1 })
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaCandidate, Candidate: protocol.Candidate{Line: "candidate:2 1 udp 1 127.0.0.1 9 typ host", Mid: "0"}})
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaConnected})
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaSeen})
	until(t, "open", func() bool { return session.IsOpen(devicecall.Camera) && session.IsOpen(devicecall.Microphone) })
	const offer = protocol.SDP("v=0 another path")
	signed, err = protocol.Sign(&protocol.Restart{
		Version: protocol.Version, Call: name, Terminal: terminal, Invitation: page.proven, By: protocol.SideCaller, N: 1, SDP: protocol.HashOf(offer), At: protocol.At(time.Now()),
	}, page.key)
	if err != nil {
		t.Fatal(err)
	}
	page.post("/api/calls/"+name.String()+"/restart", map[string]any{"restart": signed, "sdp": offer})
	until(t, "the page's offer for another path", func() bool { return len(session.Restarts()) == 1 })
	session.Say(devicecall.MediaEvent{Kind: devicecall.MediaConnected})
	for number, drawn := range []bool{1: true, 2: false} {
		if number == 0 {
			continue
		}
		signed, err := protocol.Sign(&protocol.Curtain{
			Version: protocol.Version, Call: name, Terminal: terminal, Invitation: page.proven, By: protocol.SideCaller, Drawn: drawn, Number: uint32(number), At: protocol.At(time.Now()),
		}, page.key)
		if err != nil {
			t.Fatal(err)
		}
		page.post("/api/calls/"+name.String()+"/curtain", map[string]any{"curtain": signed})
		until(t, "the page's curtain", func() bool {
			return session.IsOpen(devicecall.Camera) != drawn && session.IsOpen(devicecall.Microphone) != drawn
		})
	}
	page.post("/api/calls/"+name.String()+"/hang-up", map[string]any{"reason": protocol.EndCallerHungUp})
	h.see("that it has ended", func(s screen.Scene) bool { return s.Kind == screen.Ended })
	if session.IsOpen(devicecall.Camera) || session.IsOpen(devicecall.Microphone) {
		t.Fatal("open after the end")
	}
	page.post("/api/calls/"+name.String()+"/record", &protocol.CallRecord{
		Version: protocol.Version, By: protocol.SideCaller, Began: protocol.At(time.Now()), Outcome: protocol.EndCallerHungUp,
	})
}

func (c *caller) post(path string, body any) {
	c.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := c.Post(c.pages+path, "application/json", bytes.NewReader(b))
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	if said, _ := io.ReadAll(response.Body); response.StatusCode >= 300 {
		c.t.Fatalf("%s: %s, %s", path, response.Status, said)
	}
}

// keeper is a page's way to the clinic, and keeps what is posted.
type keeper struct {
	http.RoundTripper
	mu   sync.Mutex
	kept []recorded
}

func (k *keeper) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodPost && r.GetBody != nil {
		b, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(b)
		if err != nil {
			return nil, err
		}
		k.mu.Lock()
		header := r.Header.Clone()
		header.Del("Cookie") // which nobody else has
		k.kept = append(k.kept, recorded{method: r.Method, path: r.URL.Path, payload: body, header: header})
		k.mu.Unlock()
	}
	return k.RoundTripper.RoundTrip(r)
}
