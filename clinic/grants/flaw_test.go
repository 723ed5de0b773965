package grants

import (
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/register"
	"vindu/protocol"
)

func fields(err error) (names []string) {
	for _, f := range Flaws(err) {
		names = append(names, f.Field)
	}
	slices.Sort(names)
	return names
}

// All that is wrong with a grant is said at once, each by its field; nothing of it is kept.
func TestFlaws(t *testing.T) {
	c := open(t)
	_, err := c.Give(t.Context(), "kari", Grant{Person: c.anne.ID, Employment: " x", Callers: "", From: time.Now(), To: time.Now().Add(-time.Hour)})
	if got := fields(err); !errors.Is(err, ErrBounds) || !slices.Equal(got, []string{"callers", "employment", "reason", "scope", "to"}) {
		t.Errorf("%v: %v", got, err)
	}
	if list, err := c.History(t.Context(), c.anne.ID); err != nil || len(list) != 0 {
		t.Errorf("kept %v, %v", list, err)
	}
	if got := fields(Rule{Mode: "x", After: 300}.Check("")); !slices.Equal(got, []string{"group", "mode"}) {
		t.Error(got)
	}
	if got := fields(Quiet{Days: []string{"x", "mon"}, From: "1", To: "25:00"}.Check()); !slices.Equal(got, []string{"days", "from", "to"}) {
		t.Error(got)
	}
	if got := fields(fmt.Errorf("in all: %w", Settings{Longest: 300, Volume: 200, Zone: "Oslo"}.Check())); !slices.Equal(got, []string{"longest", "volume", "zone"}) {
		t.Error(got)
	}
	if err := errors.Join(Settings{}.Check(), DefaultSettings().Check(), Quiet{From: "22:00", To: "07:00"}.Check(), Rule{Mode: protocol.ModeRefuse}.Check("x")); err != nil {
		t.Error(err)
	}
	if Flaws(errors.New("x")) != nil {
		t.Error("a flaw of something else")
	}
}

// What was said of a policy stays as it was said; who has seen an older version changes nothing; going back is a new version (R19, R32).
func TestVersions(t *testing.T) {
	c := open(t)
	c.now = time.Now
	terminal := c.enrol(c.home)
	first := c.policyOf(terminal)
	loud, soft := DefaultSettings(), DefaultSettings()
	loud.Volume, soft.Volume = 90, 20
	if err := c.ChangePolicy(t.Context(), "kari", "", 0, loud); err != nil {
		t.Fatal(err)
	}
	if err := c.ChangePolicy(t.Context(), "olav", "", 0, soft); !errors.Is(err, ErrChanged) {
		t.Errorf("who has not seen the first one: %v", err)
	}
	for _, made := range []int64{-1, -2, math.MinInt64} {
		if err := c.ChangePolicy(t.Context(), "olav", "", made, soft); !errors.Is(err, ErrChanged) {
			t.Errorf("who names version %d: %v", made, err)
		}
	}
	history, err := c.PolicyHistory(t.Context(), "", 10)
	if err != nil || len(history) != 1 {
		t.Fatalf("%v, %v", history, err)
	}
	if err := c.ChangePolicy(t.Context(), "olav", "", history[0].N, soft); err != nil {
		t.Fatal(err)
	}
	second := c.policyOf(terminal)
	if history, err = c.PolicyHistory(t.Context(), "", 10); err != nil || len(history) != 2 || history[0].By != "olav" || history[1].By != "kari" || history[1].Settings.Volume != 90 {
		t.Fatalf("%+v, %v", history, err)
	}
	if err := c.ChangePolicy(t.Context(), "kari", "", history[0].N, history[1].Settings); err != nil {
		t.Fatal(err)
	}
	if back := c.policyOf(terminal); back.Volume != 90 || back.Serial <= second.Serial || second.Serial <= first.Serial {
		t.Errorf("back: %+v", back)
	}
	for _, do := range []string{"DELETE FROM grant_policy_settings", "UPDATE grant_policy_settings SET changed_by = 'olav'"} {
		if err := c.Store.Write(t.Context(), func(tx *sql.Tx) error {
			_, err := tx.ExecContext(t.Context(), do)
			return err
		}); err == nil {
			t.Errorf("%s: done", do)
		}
	}
	entries, err := c.log.Entries(t.Context(), -1, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries { // the newest first
		if e.What == audit.PolicyChanged {
			if e.Detail["before"] == "" || e.Detail["settings"] == e.Detail["before"] {
				t.Errorf("audited %v", e.Detail)
			}
			break
		}
	}
}

// Who has seen another grant than the one that a person has replaces and renews nothing.
func TestReplace(t *testing.T) {
	c := open(t)
	replace := func(was string) (Grant, error) { return c.Replace(t.Context(), "kari", was, c.grant()) }
	if _, err := replace("1"); !errors.Is(err, ErrChanged) {
		t.Errorf("in place of one that is not there: %v", err)
	}
	first, err := replace("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := replace(""); !errors.Is(err, ErrChanged) {
		t.Errorf("as if there were none: %v", err)
	}
	second, err := replace(first.ID)
	if err != nil {
		t.Fatal(err)
	}
	to := second.To.AddDate(1, 0, 0)
	if _, err := c.RenewThis(t.Context(), "kari", c.anne.ID, first.ID, to, "looked at"); !errors.Is(err, ErrChanged) {
		t.Errorf("renewed the one before: %v", err)
	}
	third, err := c.RenewThis(t.Context(), "kari", c.anne.ID, second.ID, to, "looked at")
	if err != nil || third.Renews != second.ID {
		t.Fatalf("%+v, %v", third, err)
	}
	if list, err := c.History(t.Context(), c.anne.ID); err != nil || len(list) != 3 || !list[1].Followed() || list[0].Followed() {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := c.Withdraw(t.Context(), "kari", c.anne.ID, "has left"); err != nil {
		t.Fatal(err)
	}
	if _, err := replace(third.ID); !errors.Is(err, ErrChanged) {
		t.Errorf("in place of one that was withdrawn: %v", err)
	}
}

// A group is made of the homes that it is said to have, by who has seen those that it had; who could call a home that has left may do less.
func TestGroupHomes(t *testing.T) {
	c := open(t)
	other := c.newHome("Home 18")
	set := func(before, homes []string) error {
		return c.SetGroupHomes(t.Context(), "kari", "north", GroupState(before), homes)
	}
	if err := set(nil, []string{c.home.ID, other.ID}); err != nil {
		t.Fatal(err)
	}
	if err := c.SetHomeGroups(t.Context(), "kari", other.ID, []string{"north", "south"}); err != nil {
		t.Fatal(err)
	}
	g := c.grant()
	g.Scope = protocol.Scope{Groups: []string{"north"}}
	c.give(g)
	last := int64(-1)
	c.ends(&last)
	for _, before := range [][]string{nil, {c.home.ID}, {other.ID}, {c.home.ID + " " + other.ID}, {other.ID + " " + c.home.ID}, {c.home.ID, other.ID, "1"}} {
		if err := set(before, nil); !errors.Is(err, ErrChanged) {
			t.Errorf("who has seen the homes %q: %v", before, err)
		}
	}
	if err := set([]string{c.home.ID, other.ID}, []string{"1"}); !errors.Is(err, register.ErrNotFound) || len(Flaws(err)) != 1 {
		t.Errorf("a home that is not there: %v", err)
	}
	if err := c.SetGroupHomes(t.Context(), "kari", " north", GroupState(nil), nil); !errors.Is(err, ErrBounds) || len(Flaws(err)) != 1 {
		t.Errorf("a name: %v", err)
	}
	if err := set([]string{other.ID, c.home.ID}, []string{c.home.ID}); err != nil {
		t.Fatal(err)
	}
	groups, err := c.Groups(t.Context())
	if err != nil || !slices.Equal(groups["north"], []string{c.home.ID}) || !slices.Equal(groups["south"], []string{other.ID}) {
		t.Errorf("%v, %v", groups, err)
	}
	if told := c.ends(&last); !slices.Equal(told, []string{c.anne.ID}) {
		t.Errorf("told of %v", told)
	}
	if permits, err := c.Permits(t.Context(), c.anne.ID, other.ID); err != nil || permits {
		t.Errorf("%v, %v", permits, err)
	}
}
