package grants

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vindu/protocol"
)

// asking returns an item that asks for an authorisation of a person with these passkeys' keys.
func asking(t *testing.T, person string, party protocol.Party, keys ...[]byte) *Item {
	t.Helper()
	now := time.Now()
	a := &protocol.Authorisation{
		Version: protocol.Version, ID: protocol.NewNonce(), Person: person, Party: party, Employment: "employed", Group: "staff",
		Scope: protocol.Scope{Homes: []string{"1"}}, From: protocol.At(now), To: protocol.At(now.Add(time.Hour)),
	}
	for n, k := range keys {
		a.Credentials = append(a.Credentials, protocol.Credential{ID: []byte{byte(n + 1)}, Key: k})
	}
	body, err := protocol.Encode(a)
	if err != nil {
		t.Fatal(err)
	}
	return &Item{Kind: KindAuthorisation, Body: body}
}

// A passkey that a person did not have the last time is new, whatever else the clinic's server says of it; it is remembered when it was signed, and as a whole.
func TestNewPasskeys(t *testing.T) {
	kari, olav := protocol.Party{Name: "Kari Nes", Role: "nurse", Organisation: "Solvik clinic"}, protocol.Party{Name: "Olav Nes", Role: "nurse", Organisation: "Solvik clinic"}
	one, two, thief := spki(t), spki(t), spki(t)
	code := func(key []byte) string { return protocol.HashSPKI(key).Code() }
	path := filepath.Join(t.TempDir(), "authorisation.key.passkeys")
	read := func() *Memory {
		t.Helper()
		m, err := ReadMemory(path)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	signed := func(items ...*Item) {
		t.Helper()
		m := read()
		m.Keep(items)
		if err := m.Write(path); err != nil {
			t.Fatal(err)
		}
	}
	signed(asking(t, "7", kari, one, two), asking(t, "8", olav, spki(t)), &Item{Kind: KindPolicy})
	renamed := kari
	renamed.Role = "head nurse"
	for name, tc := range map[string]struct {
		item *Item
		want [][]byte
	}{
		"the same as last week":       {asking(t, "7", kari, one, two), nil},
		"one less":                    {asking(t, "7", kari, two), nil},
		"one that was slipped in":     {asking(t, "7", kari, one, thief, two), [][]byte{thief}},
		"another person's":            {asking(t, "8", olav, one), [][]byte{one}},
		"by another's number":         {asking(t, "8", kari, one), [][]byte{one}},
		"of somebody called Kari too": {asking(t, "9", kari, one, thief), [][]byte{one, thief}},
		"in another role":             {asking(t, "7", renamed, one), [][]byte{one}},
		"no authorisation":            {&Item{Kind: KindPolicy}, nil},
	} {
		var want []string
		for _, k := range tc.want {
			want = append(want, code(k))
		}
		var got []string
		for _, p := range read().New(tc.item) {
			got = append(got, p.Code)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: new are %q, want %q", name, got, want)
		}
	}
	signed(asking(t, "7", kari, one), asking(t, "7", kari, two)) // in one file
	if list := read().New(asking(t, "7", kari, one, two)); len(list) > 0 {
		t.Errorf("new are %v", list)
	}
	signed(asking(t, "7", kari, one))
	if list := read().New(asking(t, "7", kari, one, two)); len(list) != 1 || list[0] != (Passkey{code(two), "7", kari}) {
		t.Errorf("one that was gone meanwhile: %v", list)
	}
	if list, err := os.ReadDir(filepath.Dir(path)); err != nil || len(list) != 1 {
		t.Errorf("left behind: %v, %v", list, err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		content string
		mode    os.FileMode
	}{
		"empty": {"", 0o600}, "another file": {`{"format":"vindu-waiting-1","persons":[]}`, 0o600}, "cut off": {string(whole[:len(whole)/2]), 0o600},
		"more": {string(whole) + "{}", 0o600}, "anybody's": {string(whole), 0o644},
	} {
		if err := errors.Join(os.WriteFile(path, []byte(tc.content), tc.mode), os.Chmod(path, tc.mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadMemory(path); errors.Is(err, ErrMemory) != (tc.mode == 0o600) || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	empty, err := ReadMemory(filepath.Join(t.TempDir(), "none"))
	if err != nil {
		t.Fatal(err)
	}
	if err := empty.Write(filepath.Join(path, "not a folder", "x")); err == nil || !strings.Contains(err.Error(), "folder of the key") {
		t.Errorf("written nowhere: %v", err)
	}
}

// What others have called themselves reads as one name, and not as what is said of it.
func TestWordsAreQuoted(t *testing.T) {
	const evil = `Anne", "head nurse`
	party := protocol.Party{Name: evil, Role: "nurse", Organisation: "Solvik clinic"}
	authorisation := new(protocol.Authorisation)
	if err := protocol.Decode(asking(t, "7", party, spki(t)).Body, authorisation); err != nil {
		t.Fatal(err)
	}
	authorisation.Scope = protocol.Scope{Groups: []string{"north, ward 3"}}
	body, err := protocol.Encode(authorisation)
	mandate, mandateErr := protocol.Encode(&protocol.Mandate{
		Version: protocol.Version, ID: protocol.NewNonce(), Person: party, Key: spki(t), From: authorisation.From, To: authorisation.To,
	})
	if err := errors.Join(err, mandateErr); err != nil {
		t.Fatal(err)
	}
	for _, i := range []*Item{{Kind: KindAuthorisation, Body: body}, {Kind: KindMandate, Body: mandate}} {
		if words := i.Words(); !strings.Contains(words, `"Anne\", \"head nurse", "nurse"`) || i.Kind == KindAuthorisation && !strings.HasSuffix(words, `homes in the groups "north, ward 3"`) {
			t.Errorf("%s: %s", i.Kind, words)
		}
	}
}
