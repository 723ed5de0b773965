package grants

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/clinic/register"
	"vindu/protocol"
)

// policyOf returns what a terminal gets, as it verifies it.
func (c *clinic) policyOf(terminal protocol.KeyHash) *protocol.Policy {
	c.t.Helper()
	signed, err := c.Policy(c.t.Context(), terminal)
	if err != nil || signed == nil {
		c.t.Fatalf("policy %x, %v", signed, err)
	}
	key, err := protocol.ParseKey(c.Authority.Authorities()[0])
	if err != nil {
		c.t.Fatal(err)
	}
	p := new(protocol.Policy)
	if err := protocol.Verify(signed, key, p); err != nil {
		c.t.Fatal(err)
	}
	return p
}

func (c *clinic) setPolicy(home string, s Settings) {
	c.t.Helper()
	if err := c.SetPolicy(c.t.Context(), "kari", home, s); err != nil {
		c.t.Fatal(err)
	}
}

// TestPolicy (R11, R25): what holds everywhere, what differs in one home, with serial numbers that rise.
func TestPolicy(t *testing.T) {
	c := open(t)
	c.now = time.Now
	terminal := c.enrol(c.home)
	first := c.policyOf(terminal)
	if first.Home != c.home.ID || first.Terminal != terminal || len(first.Rules) != 1 || first.Rule("staff").Mode != protocol.ModeRing || first.Rule("relatives").Mode != protocol.ModeRefuse ||
		first.Longest != 3600 || first.Volume != 70 || first.Zone != "Europe/Oslo" || len(first.Groups) != 0 {
		t.Errorf("policy %+v", first)
	}
	if again := c.policyOf(terminal); again.Serial != first.Serial {
		t.Error("made anew without a change")
	}
	everywhere := Settings{
		Rules: map[string]Rule{"staff": {Mode: protocol.ModeRing, After: 5, Urgent: true}, "relatives": {Mode: protocol.ModeAsk, After: 30}},
		Quiet: &[]Quiet{{Days: []string{"mon", "sun"}, From: "22:00", To: "07:30"}, {From: "13:00", To: "14:00"}}, Zone: "Europe/Oslo", Longest: 90,
	}
	c.setPolicy("", everywhere)
	second := c.policyOf(terminal)
	if second.Serial <= first.Serial || second.Rule("staff") != (protocol.Rule{Group: "staff", Mode: protocol.ModeRing, After: 5, Urgent: true}) || second.Rule("relatives").After != 30 || second.Volume != 70 ||
		!slices.Equal(second.Quiet, []protocol.Span{{Days: 0x41, From: 22 * 60, To: 7*60 + 30}, {Days: 0x7f, From: 13 * 60, To: 14 * 60}}) || second.Longest != 90*60 {
		t.Errorf("everywhere: %+v", second)
	}
	c.setPolicy(c.home.ID, Settings{Rules: map[string]Rule{"relatives": {Mode: protocol.ModeRefuse}}, Quiet: &[]Quiet{}, Volume: 40})
	other := c.enrol(c.newHome("Home 18"))
	here, there := c.policyOf(terminal), c.policyOf(other)
	if here.Rule("relatives").Mode != protocol.ModeRefuse || here.Rule("staff").After != 5 || len(here.Quiet) != 0 || here.Volume != 40 || here.Longest != 90*60 {
		t.Errorf("in this home: %+v", here)
	}
	if there.Rule("relatives").Mode != protocol.ModeAsk || len(there.Quiet) != 2 || there.Volume != 70 || there.Serial <= here.Serial {
		t.Errorf("in the other: %+v", there)
	}
	if err := c.SetHomeGroups(t.Context(), "kari", c.home.ID, []string{"north", "ward 3", "north"}); err != nil {
		t.Fatal(err)
	}
	if p := c.policyOf(terminal); !slices.Equal(p.Groups, []string{"north", "ward 3"}) || p.Serial <= there.Serial {
		t.Errorf("in groups: %+v", p)
	}
	next := c.enrol(c.home) // another terminal stands in the home
	if p := c.policyOf(next); p.Terminal != next || !slices.Equal(p.Groups, []string{"north", "ward 3"}) || p.Volume != 40 {
		t.Errorf("the next terminal: %+v", p)
	}
	if signed, err := c.Policy(t.Context(), terminal); err != nil || signed != nil {
		t.Errorf("the one before, which is revoked: %x, %v", signed, err)
	}
	if signed, err := c.Policy(t.Context(), protocol.KeyHash{1}); signed != nil || err != nil && !errors.Is(err, register.ErrNotFound) {
		t.Errorf("nobody's: %x, %v", signed, err)
	}
}

// TestPolicySerial: numbers rise through a clock that went back, and through a restore from a backup.
func TestPolicySerial(t *testing.T) {
	c := open(t)
	c.now = time.Now
	terminal := c.enrol(c.home)
	first := c.policyOf(terminal)
	if off := time.Since(time.UnixMilli(int64(first.Serial))); off < 0 || off > time.Minute {
		t.Errorf("begins at %d, which is not now: a clinic that was restored would be behind", first.Serial)
	}
	c.now = func() time.Time { return time.Now().AddDate(-1, 0, 0) }
	volume := DefaultSettings()
	volume.Volume = 30
	c.setPolicy("", volume)
	if second := c.policyOf(terminal); second.Serial != first.Serial+1 {
		t.Errorf("%d after %d", second.Serial, first.Serial)
	}
}

// TestPolicyKey: after a roll-over of the key every policy and authorisation is made anew, by the new one.
func TestPolicyKey(t *testing.T) {
	c := open(t)
	c.now = time.Now
	terminal := c.enrol(c.home)
	c.give(c.grant())
	policy, person := c.policyOf(terminal), c.current()
	if _, err := c.Authority.AddAuthority(nil); err != nil {
		t.Fatal(err)
	}
	if p := c.policyOf(terminal); p.Serial != policy.Serial {
		t.Error("made anew while the old key signs")
	}
	if _, err := c.Authority.DropAuthority(); err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	c.ends(&last)
	if p := c.policyOf(terminal); p.Serial <= policy.Serial {
		t.Error("not made anew") // and policyOf has verified it by the new key
	}
	if a := c.current(); a.ID == person.ID {
		t.Error("the person's authorisation is the old key's")
	}
	if told := c.ends(&last); len(told) != 0 {
		t.Errorf("the roll-over ended calls of %v", told)
	}
}

// TestLeastRing: what was said of calls before there was a least is read as the least, and terminals are told that; nothing waits for an administrator.
func TestLeastRing(t *testing.T) {
	c := open(t)
	c.now = time.Now
	terminal := c.enrol(c.home)
	if err := c.Store.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO grant_policy_settings (home, body, changed, changed_by) VALUES ('', ?, 1, 'kari')",
			`{"rules":{"doctors":{"mode":"ring"},"relatives":{"mode":"ask","after":3},"staff":{"mode":"ring","after":2}}}`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p := c.policyOf(terminal)
	for group, want := range map[string]uint16{"doctors": 0, "relatives": 3, "staff": protocol.LeastRing} {
		if got := p.Rule(group).After; got != want {
			t.Errorf("%s ring for %d, want %d", group, got, want)
		}
	}
	for _, r := range []Rule{{Mode: protocol.ModeRing}, {Mode: protocol.ModeRing, After: 4}, {Mode: protocol.ModeRing, After: 5}} {
		if r.Rings() != protocol.LeastRing {
			t.Errorf("%+v is said to ring for %d s", r, r.Rings())
		}
	}
}

func TestPolicyRefused(t *testing.T) {
	c := open(t)
	for name, tc := range map[string]struct {
		change func(*Settings)
		says   string
	}{
		"mode":           {func(s *Settings) { s.Rules["staff"] = Rule{Mode: "always"} }, "ask, ring or refuse"},
		"too long":       {func(s *Settings) { s.Rules["staff"] = Rule{Mode: protocol.ModeRing, After: 121} }, "120 seconds"},
		"no time for no": {func(s *Settings) { s.Rules["staff"] = Rule{Mode: protocol.ModeRing, After: 4} }, "at least 5 seconds before it answers by itself"},
		"asks for never": {func(s *Settings) { s.Rules["staff"] = Rule{Mode: protocol.ModeAsk} }, "how many seconds"},
		"refuses slowly": {func(s *Settings) { s.Rules["staff"] = Rule{Mode: protocol.ModeRefuse, After: 1} }, "does not ring"},
		"group":          {func(s *Settings) { s.Rules[" staff"] = Rule{Mode: protocol.ModeRefuse} }, "space"},
		"many rules": {func(s *Settings) {
			for i := range protocol.MaxRules {
				s.Rules["g"+string(rune('a'+i))] = Rule{Mode: protocol.ModeRefuse}
			}
		}, "at most 16"},
		"many spans": {func(s *Settings) {
			q := slices.Repeat([]Quiet{{From: "01:00", To: "02:00"}}, protocol.MaxSpans+1)
			s.Quiet = &q
		}, "at most 14"},
		"zone":       {func(s *Settings) { s.Zone = "Oslo" }, "Europe/Oslo"},
		"local zone": {func(s *Settings) { s.Zone = "Local" }, "Europe/Oslo"},
		"longest":    {func(s *Settings) { s.Longest = 241 }, "240 minutes"},
		"volume":     {func(s *Settings) { s.Volume = 101 }, "100 percent"},
		"too soft":   {func(s *Settings) { s.Volume = 19 }, "from 20"},
		"day":        {func(s *Settings) { s.Quiet = &[]Quiet{{Days: []string{"monday"}, From: "01:00", To: "02:00"}} }, "mon, tue"},
		"time":       {func(s *Settings) { s.Quiet = &[]Quiet{{From: "24:00", To: "02:00"}} }, "like 22:00"},
		"no time":    {func(s *Settings) { s.Quiet = &[]Quiet{{From: "02:00", To: "02:00"}} }, "another time"},
	} {
		for where, home := range map[string]string{"everywhere": "", "in a home": c.home.ID} {
			s := DefaultSettings()
			tc.change(&s)
			if err := c.SetPolicy(t.Context(), "kari", home, s); !errors.Is(err, ErrBounds) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%s, %s: %v", name, where, err)
			}
		}
	}
	if err := c.SetPolicy(t.Context(), "kari", "1", Settings{}); !errors.Is(err, register.ErrNotFound) {
		t.Errorf("unknown home: %v", err)
	}
	if err := c.SetHomeGroups(t.Context(), "kari", "1", nil); !errors.Is(err, register.ErrNotFound) {
		t.Errorf("unknown home: %v", err)
	}
	many := make([]string, protocol.MaxScope+1)
	for i := range many {
		many[i] = string(rune('a'+i%26)) + string(rune('a'+i/26))
	}
	if err := c.SetHomeGroups(t.Context(), "kari", c.home.ID, many); !errors.Is(err, ErrBounds) {
		t.Errorf("too many groups: %v", err)
	}
	// What differs in one home has still to fit when what holds everywhere changes.
	full := DefaultSettings()
	for i := range protocol.MaxRules - 1 {
		full.Rules["g"+string(rune('a'+i))] = Rule{Mode: protocol.ModeRefuse}
	}
	c.setPolicy(c.home.ID, Settings{Rules: map[string]Rule{"only here": {Mode: protocol.ModeRefuse}}})
	if err := c.SetPolicy(t.Context(), "kari", "", full); !errors.Is(err, ErrBounds) || !strings.Contains(err.Error(), "home "+c.home.ID) {
		t.Errorf("one home does not fit: %v", err)
	}
}

// TestLeavesGroup (R29): who could call a home by its group loses it when the home leaves the group.
func TestLeavesGroup(t *testing.T) {
	c := open(t)
	if err := c.SetHomeGroups(t.Context(), "kari", c.home.ID, []string{"north", "south"}); err != nil {
		t.Fatal(err)
	}
	g := c.grant()
	g.Scope = protocol.Scope{Groups: []string{"north"}}
	c.give(g)
	last := int64(-1)
	c.ends(&last)
	permitted := func() bool {
		ok, err := c.Permits(t.Context(), c.anne.ID, c.home.ID)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if !permitted() {
		t.Error("not permitted by the group")
	}
	for _, groups := range [][]string{{"north"}, {}} {
		if err := c.SetHomeGroups(t.Context(), "kari", c.home.ID, groups); err != nil {
			t.Fatal(err)
		}
		if told, gone := c.ends(&last), len(groups) == 0; (len(told) == 1) != gone || permitted() == gone {
			t.Errorf("in %v: told of %v, permitted %v", groups, told, permitted())
		}
	}
}
