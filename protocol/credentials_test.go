package protocol

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestCredentials(t *testing.T) {
	v := &Voucher{ID: Nonce{0xab, 15: 0xcd}, Secret: bytes.Repeat([]byte{0xfb}, 32)}
	user, password := v.Credentials()
	if want := "ab0000000000000000000000000000cd"; user != want {
		t.Errorf("user = %q, want %q", user, want)
	}
	if want := strings.Repeat("-_v7", 10) + "-_s"; string(password) != want {
		t.Errorf("password = %q, want %q", string(password), want)
	}
	id, secret, err := ParseCredentials(user, password)
	if err != nil || id != v.ID || !bytes.Equal(secret, v.Secret) {
		t.Errorf("parsed %x, %x, %v", id, secret, err)
	}
	for _, c := range []struct {
		name, user string
		password   Secret
	}{
		{"nothing", "", ""},
		{"short id", user[2:], password},
		{"capitals", strings.ToUpper(user), password},
		{"short secret", user, password[4:]},
		{"padding", user, password + "="},
		{"bits after the end", user, password[:42] + "t"},
		{"line break", user, password[:10] + "\n" + password[10:]},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, _, err := ParseCredentials(c.user, c.password); !errors.Is(err, ErrMalformed) {
				t.Errorf("error = %v", err)
			}
		})
	}
}

func TestIdentitiesInLogs(t *testing.T) {
	var b strings.Builder
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "terminal", KeyHash{1}, "call", CallID{2})
	for _, want := range []string{`"terminal":"` + KeyHash{1}.Name() + `"`, `"call":"` + CallID{2}.String() + `"`} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("logged %s, without %s", b.String(), want)
		}
	}
}
