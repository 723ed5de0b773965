package provisioning

import (
	"net/http"
	"testing"
	"time"

	"vindu/protocol"
)

// wrongClocks are what terminals without a battery, or with a wrong time server, believe.
var wrongClocks = map[string]func() time.Time{
	"right":                time.Now,
	"1970":                 func() time.Time { return time.Unix(0, 0) },
	"a year ago":           func() time.Time { return time.Now().AddDate(-1, 0, 0) },
	"in ten years":         func() time.Time { return time.Now().AddDate(10, 0, 0) },
	"when the root is old": func() time.Time { return time.Now().AddDate(100, 0, 0) },
}

func TestTime(t *testing.T) {
	for name, now := range wrongClocks {
		t.Run(name, func(t *testing.T) {
			c, device := newClinic(t, time.Hour), terminal(t)
			device.Now = now
			g := &Grant{Address: c.voucher.Address, ServerName: serverName, Root: c.root, Settings: c.settings()}
			at, took, err := device.Time(t.Context(), g)
			if off := time.Since(at); err != nil || took <= 0 || off < 0 || off > time.Minute {
				t.Errorf("got %v after %v, %v", at, took, err)
			}
		})
	}
}

// TestTimeByTrust: a terminal that has proven a trust goes by its service keys, and by its authorisation keys where another service key has followed.
func TestTimeByTrust(t *testing.T) {
	for _, test := range []struct {
		name     string
		trust    func(c, other *clinic) *protocol.Trust
		want     protocol.Code
		question string // to PathTrust
	}{
		{"the key is named", func(c, other *clinic) *protocol.Trust {
			return &protocol.Trust{Serial: 1, Authorities: [][]byte{other.authority()}, Service: [][]byte{other.authority(), c.serviceKey()}}
		}, "", ""},
		{"another key has followed", func(c, other *clinic) *protocol.Trust {
			return &protocol.Trust{Serial: 1, Authorities: [][]byte{c.authority()}, Service: [][]byte{other.authority()}}
		}, "", "trust=1"},
		{"the authorisation key is one from before", func(_, other *clinic) *protocol.Trust {
			return &protocol.Trust{Serial: 1, Authorities: [][]byte{other.authority()}, Service: [][]byte{other.authority()}}
		}, protocol.AuthUnproven, "trust=1"},
		{"the clinic has an older one", func(c, other *clinic) *protocol.Trust {
			return &protocol.Trust{Serial: 2, Authorities: [][]byte{c.authority()}, Service: [][]byte{other.authority()}}
		}, protocol.AuthTrust, "trust=2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, device, other := newClinic(t, time.Hour), terminal(t), newClinic(t, time.Hour)
			asked := ""
			c.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == protocol.PathTrust {
					asked = r.URL.RawQuery
				}
				return false
			}
			g := &Grant{Address: c.voucher.Address, ServerName: serverName, Root: c.root, Settings: c.settings(), Trust: test.trust(c, other)}
			at, _, err := device.Time(t.Context(), g)
			if (err == nil) != (test.want == "") || err != nil && protocol.CodeOf(err) != test.want || err == nil && time.Since(at) > time.Minute || asked != test.question {
				t.Errorf("got %v, %v, asked %q", at, err, asked)
			}
		})
	}
}

// TestEnrolWithAnyClock: a voucher that carries the authorisation key sets a terminal up whatever its clock says.
func TestEnrolWithAnyClock(t *testing.T) {
	for name, now := range wrongClocks {
		t.Run(name, func(t *testing.T) {
			c, device := newClinic(t, time.Hour), terminal(t)
			device.Now = now
			c.voucher.Authority = c.authority()
			g, err := device.Enrol(t.Context(), &c.voucher)
			if err != nil || g.Settings.Home != "Home 17" {
				t.Errorf("got %+v, %v", g, err)
			}
		})
	}
}

// TestSettingsOfAnotherAuthority: whoever could speak for the clinic once cannot have the terminal pin another key than the voucher's.
func TestSettingsOfAnotherAuthority(t *testing.T) {
	c, other := newClinic(t, time.Hour), newClinic(t, time.Hour)
	c.voucher.Authority = c.authority()
	c.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != protocol.PathSettings {
			return false
		}
		b, err := protocol.Encode(other.settings())
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
		return true
	}
	if g, err := terminal(t).Enrol(t.Context(), &c.voucher); g != nil || protocol.CodeOf(err) != protocol.IdentityPin {
		t.Errorf("got %v, %v", g, err)
	}
}

func TestEnrolForAnotherAuthority(t *testing.T) {
	c, other := newClinic(t, time.Hour), newClinic(t, time.Hour)
	c.voucher.Authority = other.authority()
	if g, err := terminal(t).Enrol(t.Context(), &c.voucher); g != nil || protocol.CodeOf(err) != protocol.AuthUnproven || c.issued != 0 {
		t.Errorf("got %v, %v, %d certificates issued", g, err, c.issued)
	}
}

// TestTimeRefused: what does not prove the time is no time, and no certificate gets through that is not good at the time that was proven.
func TestTimeRefused(t *testing.T) {
	const day = 24 * time.Hour
	served := func(from, until time.Duration) func(t *testing.T) *clinic {
		return func(t *testing.T) *clinic { return newClinicServing(t, time.Hour, from, until) }
	}
	good := served(-time.Minute, time.Hour)
	for _, c := range []struct {
		name   string
		clinic func(t *testing.T) *clinic
		change func(c *clinic, g *Grant)
		want   protocol.Code
	}{
		{"the server's certificate has expired", served(-2*day, -day), nil, protocol.TimeOff},
		{"the server's certificate is yet to begin", served(day, 2*day), nil, protocol.TimeOff},
		{"the root has expired", good, func(c *clinic, _ *Grant) { c.late = 2000 * time.Hour }, protocol.TimeOff},
		{"the time is before the certificate", good, func(c *clinic, _ *Grant) { c.late = -2 * time.Hour }, protocol.TimeOff},
		{"another clinic's server", good, func(c *clinic, g *Grant) { g.Root = newClinic(c.t, time.Hour).root }, protocol.IdentityPin},
		{"another name", good, func(_ *clinic, g *Grant) { g.ServerName = "other.example" }, protocol.IdentityPin},
		{"signed by another key", good, func(c *clinic, g *Grant) { g.Settings = newClinic(c.t, time.Hour).settings() }, protocol.AuthUnproven},
		{"an answer to another question", good, func(c *clinic, _ *Grant) {
			c.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != protocol.PathClock {
					return false
				}
				signed, err := protocol.Sign(&protocol.Clock{Version: 1, Nonce: protocol.Nonce{1}, At: protocol.At(time.Now())}, c.service)
				if err != nil {
					c.t.Error(err)
				}
				_, _ = w.Write(signed)
				return true
			}
		}, protocol.AuthReplayed},
		{"signed by the authorisation key", good, func(c *clinic, _ *Grant) {
			c.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == protocol.PathClock {
					was := c.service
					c.service = c.key
					c.clock(w, r)
					c.service = was
				}
				return r.URL.Path == protocol.PathClock
			}
		}, protocol.AuthUnproven},
		{"a trust of another clinic", good, func(c *clinic, _ *Grant) {
			c.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != protocol.PathTrust {
					return false
				}
				_, _ = w.Write(c.trust(1, c.rootKey))
				return true
			}
		}, protocol.AuthUnproven},
		{"an older trust than the one that is known", good, func(c *clinic, g *Grant) {
			was := c.service
			c.service = c.rootKey
			g.Settings.Trust = c.trust(2, c.key)
			c.service = was
		}, protocol.AuthTrust},
		{"another statement of the same key", good, func(c *clinic, g *Grant) {
			c.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != protocol.PathClock {
					return false
				}
				signed, err := protocol.Sign(&protocol.Decommission{Version: 1, Terminal: protocol.KeyHash{1}, Nonce: protocol.Nonce{1}, Issued: 1, Expires: 2}, c.service)
				if err != nil {
					c.t.Error(err)
				}
				_, _ = w.Write(signed)
				return true
			}
		}, protocol.AuthUnproven},
		{"nothing", good, func(c *clinic, _ *Grant) {
			c.before = func(http.ResponseWriter, *http.Request) bool { return true }
		}, protocol.SignalMalformed},
	} {
		for clock, now := range wrongClocks {
			t.Run(c.name+", the clock says "+clock, func(t *testing.T) {
				clinic, device := c.clinic(t), terminal(t)
				device.Now = now
				g := &Grant{Address: clinic.voucher.Address, ServerName: serverName, Root: clinic.root, Settings: clinic.settings()}
				if c.change != nil {
					c.change(clinic, g)
				}
				if at, _, err := device.Time(t.Context(), g); protocol.CodeOf(err) != c.want || !at.IsZero() && err == nil {
					t.Errorf("got %v, %v with code %q, want %q", at, err, protocol.CodeOf(err), c.want)
				}
			})
		}
	}
}
