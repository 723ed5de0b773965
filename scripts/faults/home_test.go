package faults

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/clinic/register"
	"vindu/protocol"
	"vindu/scripts/lab"
)

// home is a terminal, its router, and the line to the provider.
type home struct {
	t      *testing.T // whose turn it is
	w      *world
	label  string
	number int
	six    bool
	room   *lab.Net
	router *lab.Net
	line   *line
	names  names
	dir    string
	agent  *program
	known  register.Home
	raised time.Time // when the fault was provoked
	hidden []protocol.Code
	awaits []protocol.Code // what is to be hidden before it is looked at
	rang   time.Time       // the latest call
	begun  func()          // the terminal has begun
}

// make lays cables and the line, and gets a voucher for the terminal, which does not run yet.
func (h *home) make() {
	t, w, number, six := h.t, h.w, h.number, h.six
	t.Helper()
	h.dir = w.path(fmt.Sprintf("home%d", number))
	outer := fmt.Sprintf("h%d", number)
	h.line = lay(t, h.router, "wan0", w.internet, outer)
	ip(t, w.internet, "link", "set", outer, "up")
	ip(t, h.router, "link", "set", "wan0", "up")
	h.subscribe(100 + number)
	forwards(t, h.router)
	ip(t, h.router, "link", "add", "lan0", "type", "veth", "peer", "name", "eth0", "netns", h.room.Name())
	ip(t, h.router, "addr", "add", routerInner+"/24", "dev", "lan0")
	ip(t, h.router, "link", "set", "lan0", "up")
	ip(t, h.router, "route", "add", "default", "dev", "wan0")
	h.four()
	h.names.four = netip.MustParseAddr(clinicFour)
	if six {
		prefix := fmt.Sprintf("2001:db8:%d:", 100+number)
		ip(t, w.internet, "route", "add", prefix+":/64", "dev", outer)
		ip(t, h.router, "addr", "add", prefix+":1/64", "dev", "lan0", "nodad")
		ip(t, h.router, "-6", "route", "add", "default", "dev", "wan0")
		ip(t, h.room, "addr", "add", prefix+":15/64", "dev", "eth0", "nodad")
		ip(t, h.room, "-6", "route", "add", "default", "via", prefix+":1")
		h.names.six = netip.MustParseAddr(clinicSix)
	}
	filter(t, h.router, `table ip home {
	chain out { type nat hook postrouting priority 100; oifname "wan0" masquerade; }
	chain through { type filter hook forward priority 0; iifname "wan0" ct state new drop; }
}`)
	h.names.serve(t, h.router, routerInner+":53")

	fatal(t, os.MkdirAll(h.dir, 0o700))
	server := routerInner
	if six {
		server = fmt.Sprintf("2001:db8:%d::1", 100+number)
		h.names.serve(t, h.router, "["+server+"]:53")
	}
	fatal(t, os.WriteFile(h.path("resolv.conf"), []byte("nameserver "+server+"\n"), 0o644))
	fatal(t, os.WriteFile(h.path("agent.toml"), fmt.Appendf(nil, `state = %q
language = "en"
log.format = "json"
identity.tpm = "none"
devices.test_picture = true
devices.test_sound = true
devices.display = "memory"
devices.memory_size = "640x360"
devices.button = "none"
call.notice = "0s"
call.see_first = "1s"
call.least = "0s"
network.wifi = "eth0"
network.wpa_file = %q
network.wpa_control = %q
`, h.path("state"), h.path("wpa.conf"), h.path("wpa")), 0o600))
	voucher := w.run(t, "vindu-clinic", "voucher", "-dir", w.path("clinic"), "-home", h.label)
	fatal(t, os.WriteFile(h.path("voucher"), []byte(voucher), 0o600))
}

func (h *home) path(name string) string { return filepath.Join(h.dir, name) }

// subscribe has the provider give the router an address.
func (h *home) subscribe(last int) {
	h.t.Helper()
	address := fmt.Sprintf("203.0.113.%d/32", last)
	ip(h.t, h.router, "addr", "add", address, "dev", "wan0")
	ip(h.t, h.w.internet, "route", "add", address, "dev", fmt.Sprintf("h%d", h.number))
}

// moves has the provider give the router another address in place of the one that it had.
func (h *home) moves() {
	h.t.Helper()
	address := fmt.Sprintf("203.0.113.%d/32", 100+h.number)
	ip(h.t, h.router, "addr", "del", address, "dev", "wan0")
	ip(h.t, h.w.internet, "route", "del", address)
	h.subscribe(200 + h.number)
	ip(h.t, h.router, "route", "replace", "default", "dev", "wan0")
}

// four gives the terminal its address, as a lease would.
func (h *home) four() {
	h.t.Helper()
	ip(h.t, h.room, "addr", "replace", "192.168.2.15/24", "dev", "eth0")
	ip(h.t, h.room, "link", "set", "eth0", "up")
	ip(h.t, h.room, "route", "replace", "default", "via", routerInner)
}

// inside is a command that runs in the home, which asks the home's router for names.
func (h *home) inside(name string, arguments ...string) []string {
	return append([]string{"-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, h.path("resolv.conf"), filepath.Join(h.w.bin, name)}, arguments...)
}

// enrol sets the terminal up.
func (h *home) enrol() {
	h.t.Helper()
	out, err := h.room.Command(h.t.Context(), "sh", h.inside("vindu-agent", "enrol", "-config", h.path("agent.toml"), "-voucher-file", h.path("voucher"))...).CombinedOutput()
	if err != nil {
		h.t.Errorf("enrol: %v\n%s", err, out)
	}
}

// start runs the terminal's program.
func (h *home) start() {
	h.t.Helper()
	h.agent = start(h.t, h.room, "sh", h.inside("vindu-agent", "run", "-config", h.path("agent.toml"))...)
	until(h.t, time.Minute, "a terminal that has measured its coders", func() bool { return h.agent.said("coders of the picture", "", time.Time{}) })
	h.begun()
}

// online waits until the link is up for the first time.
func (h *home) online() {
	h.t.Helper()
	until(h.t, 30*time.Second, "a terminal that is ready", func() bool { return h.agent.said("ready", "", time.Time{}) })
}

// told is what `vindu-agent diagnose` prints: what shows, and what is hidden. What is as it should be is left out, but for what is looked for.
func (h *home) told(wanted protocol.Code) (shown, hidden []protocol.Code) {
	h.t.Helper()
	out, err := exec.CommandContext(h.t.Context(), filepath.Join(h.w.bin, "vindu-agent"), "diagnose", "-config", h.path("agent.toml"), "-json").Output()
	if err != nil {
		return nil, nil // it has not told anything yet
	}
	var bundle struct {
		Conditions []struct {
			Code   protocol.Code `json:"code"`
			Hidden bool          `json:"follows_from_another"`
		} `json:"conditions"`
	}
	fatal(h.t, json.Unmarshal(out, &bundle))
	for _, c := range bundle.Conditions {
		switch {
		case strings.HasPrefix(string(c.Code), "capture."): // this terminal's devices are made up
		case protocol.Explain(c.Code).Severity == protocol.Note && c.Code != wanted:
		case c.Hidden:
			hidden = append(hidden, c.Code)
		default:
			shown = append(shown, c.Code)
		}
	}
	return shown, hidden
}

// shows waits until the terminal says that a condition holds, and nothing else that is not hidden, and returns what is.
func (h *home) shows(code protocol.Code, limit time.Duration) (hidden []protocol.Code) {
	h.t.Helper()
	took := until(h.t, limit, "condition "+string(code), func() bool { return h.agent.said("condition", code, h.raised) })
	var shown []protocol.Code
	began := time.Now()
	for {
		shown, hidden = h.told(code)
		alone, late := slices.Equal(shown, []protocol.Code{code}), time.Since(began) > 50*time.Second
		missing := slices.ContainsFunc(h.awaits, func(c protocol.Code) bool { return !slices.Contains(hidden, c) })
		if alone && (!missing || late) { // what is missing is for the list to say
			break
		}
		if late {
			h.t.Fatalf("the terminal shows %q, and hides %q; want %q alone", shown, hidden, code)
		}
		select {
		case <-h.t.Context().Done():
		case <-time.After(time.Second):
		}
	}
	h.t.Logf("%s after %s, told after %s more; hides %q", code, took.Round(time.Second), time.Since(began).Round(time.Second), hidden)
	return hidden
}

// clears waits until the terminal says that nothing holds, and the clinic has heard when that which did began and ended.
func (h *home) clears(code protocol.Code, relieved time.Time) {
	h.t.Helper()
	took := until(h.t, 90*time.Second, "the end of "+string(code), func() bool { return h.agent.said("condition cleared", code, relieved) })
	until(h.t, 60*time.Second, "the clinic's record of "+string(code), func() bool {
		list, err := h.w.fleet.Conditions(h.t.Context(), h.terminal(), 20)
		fatal(h.t, err)
		return slices.ContainsFunc(list, func(p fleetPast) bool { return p.Code == code && !p.Until.IsZero() })
	})
	began := time.Now()
	for {
		shown, hidden := h.told("")
		if len(shown)+len(hidden) == 0 {
			break
		}
		if time.Since(began) > 60*time.Second {
			h.t.Fatalf("after relief the terminal shows %q and hides %q", shown, hidden)
		}
		select {
		case <-h.t.Context().Done():
		case <-time.After(time.Second):
		}
	}
	h.t.Logf("%s ended %s after relief", code, took.Round(time.Second))
}

func (h *home) terminal() protocol.KeyHash {
	h.t.Helper()
	if h.known.Label == "" {
		all, err := h.w.register.Homes(h.t.Context())
		fatal(h.t, err)
		i := slices.IndexFunc(all, func(r register.Home) bool { return r.Label == h.label })
		if i < 0 {
			h.t.Fatalf("the clinic knows no %s", h.label)
		}
		h.known = all[i]
	}
	return h.known.Terminal
}
