package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vindu/clinic/authority"
	"vindu/clinic/grants"
	"vindu/clinic/setup"
	"vindu/device/identity"
	"vindu/protocol"
	"vindu/provisioning"
)

// TestOrdersElsewhere: with the authorisation key taken away from a clinic that runs, a technician's authorisation and orders to terminals go to it and come back by files: each is in force
// when it is back, and not before; what was withdrawn meanwhile is not.
func TestOrdersElsewhere(t *testing.T) {
	s := start(t, newClinic(t))
	stays, goes, kept, last := s.enrolled(t, "Home 17"), s.enrolled(t, "Home 18"), s.enrolled(t, "Home 19"), s.enrolled(t, "Home 20")
	keyFile := filepath.Join(t.TempDir(), "authorisation.key")
	if err := os.Rename(filepath.Join(s.dir, folderAuthority, "authorisation.key"), keyFile); err != nil {
		t.Fatal(err)
	}
	key, err := authority.ReadKey(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(laptop string) []string {
		return []string{"mandate", "-dir", s.dir, "-person", "Kari Nes", "-laptop", laptop}
	}
	laptop, lost := laptopKey(t), laptopKey(t)
	for range 2 { // asked again, it is the same one that waits
		refused(t, "waits to be signed", ask(laptop)...)
	}
	refused(t, "waits to be signed", ask(lost)...)
	must(t, "mandate", "-dir", s.dir, "-laptop", lost, "-withdraw")
	for _, home := range []string{"Home 18", "Home 18", "Home 19"} {
		if code, _, said := do(t, "decommission", "-dir", s.dir, "-home", home, "-reason", "the loan is over"); code != 0 || !strings.Contains(said, "waits to be signed") {
			t.Fatalf("%d, %s", code, said)
		}
	}
	must(t, "decommission", "-dir", s.dir, "-home", "Home 19", "-withdraw")
	c := s.orderKeys(t)
	order := func(id *identity.Identity) []byte {
		t.Helper()
		g := provisioning.Grant(*id.Grant())
		settings, _, err := (&provisioning.Client{Signer: id.Signer(), Now: time.Now}).Settings(t.Context(), &g)
		if err != nil {
			t.Fatal(err)
		}
		return settings.KeyOrder
	}
	for range 2 {
		if order(stays) != nil {
			t.Fatal("an order for a new key that nobody has signed")
		}
	}
	if o := c.order(t, goes.Key()); len(o.Signed) != 0 || o.State != setup.OrderWaiting {
		t.Errorf("order %+v", o)
	}

	file := must(t, "waiting", "-dir", s.dir)
	if n := strings.Count(file, `"kind"`); n != 3 {
		t.Errorf("%d items wait, want a mandate and two orders:\n%s", n, file)
	}
	code, signed, said := do(t, "authorise", "-key", keyFile, "-yes", write(t, file))
	for _, want := range []string{`"Kari Nes", "technician"`, "Terminal " + goes.Key().Code() + " is to DESTROY its keys", "Terminal " + stays.Key().Code() + " is to replace its key", "3 signed"} {
		if code != 0 || !strings.Contains(said, want) {
			t.Errorf("authorise: %d, %s; want %q", code, said, want)
		}
	}
	refused(t, "not what this clinic wanted signed", "accept", "-dir", newClinic(t), write(t, signed))
	f, err := grants.ParseFile(strings.NewReader(signed))
	if err != nil {
		t.Fatal(err)
	}
	f.Items[0].Signed, f.Items[1].Signed = f.Items[1].Signed, f.Items[0].Signed
	var swapped strings.Builder
	if err := f.Write(&swapped); err != nil {
		t.Fatal(err)
	}
	refused(t, "not what this clinic wanted signed", "accept", "-dir", s.dir, write(t, swapped.String()))
	must(t, "accept", "-dir", s.dir, write(t, signed))
	refused(t, "taken before", "accept", "-dir", s.dir, write(t, signed))

	raw, mandate, err := protocol.ParseMandate(must(t, ask(laptop)...))
	if err == nil {
		err = protocol.Verify(raw, &key.PublicKey, new(protocol.Mandate))
	}
	if err != nil || mandate.Person.Name != "Kari Nes" {
		t.Errorf("mandate %+v, %v", mandate, err)
	}
	refused(t, "waits to be signed", ask(lost)...) // another one
	eventually(t, "the order is signed", func() bool { return len(c.order(t, goes.Key()).Signed) > 0 })
	verify := func(what string, err error) {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	d := new(protocol.Decommission)
	verify("the order to destroy", protocol.Verify(c.order(t, goes.Key()).Signed, &key.PublicKey, d))
	if d.Terminal != goes.Key() {
		t.Error("the order is for another terminal")
	}
	if o := c.order(t, kept.Key()); o.State != setup.OrderWithdrawn || len(o.Signed) != 0 {
		t.Errorf("order %+v", o)
	}
	k := new(protocol.KeyOrder)
	verify("the order for a new key", protocol.Verify(order(stays), &key.PublicKey, k))
	if k.Terminal != stays.Key() {
		t.Error("the order is for another terminal")
	}

	// What waits when the key comes back to the server is signed there.
	must(t, "decommission", "-dir", s.dir, "-home", "Home 20", "-reason", "the loan is over")
	if err := os.Rename(keyFile, filepath.Join(s.dir, folderAuthority, "authorisation.key")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last order is signed", func() bool { return len(c.order(t, last.Key()).Signed) > 0 })
	verify("the last order", protocol.Verify(c.order(t, last.Key()).Signed, &key.PublicKey, new(protocol.Decommission)))
}

// TestToken: the authorisation key is in a security module (SoftHSM by PKCS #11, as a smart card would be), and signs from there.
func TestToken(t *testing.T) {
	s := start(t, newClinic(t))
	key := filepath.Join(s.dir, folderAuthority, "authorisation.key")
	dir := t.TempDir()
	public := filepath.Join(dir, "public.pem")
	configuration := filepath.Join(dir, "softhsm2.conf")
	if err := os.WriteFile(configuration, []byte("directories.tokendir = "+dir+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"softhsm2-util", "--init-token", "--free", "--label", "vindu", "--pin", "1234", "--so-pin", "1234"},
		{"softhsm2-util", "--import", key, "--token", "vindu", "--label", "authorisation", "--id", "01", "--pin", "1234"},
		{"openssl", "pkey", "-in", key, "-pubout", "-out", public},
	} {
		tool := exec.CommandContext(t.Context(), args[0], args[1:]...)
		tool.Env = append(os.Environ(), "SOFTHSM2_CONF="+configuration)
		if out, err := tool.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	refused(t, "waits to be signed", "mandate", "-dir", s.dir, "-person", "Kari Nes", "-laptop", laptopKey(t))
	file := write(t, must(t, "waiting", "-dir", s.dir))
	command := func(pin string) string {
		return "SOFTHSM2_CONF=" + configuration + " pkcs11-tool --module /usr/lib/softhsm/libsofthsm2.so --token-label vindu --login --pin " + pin + " --sign --mechanism ECDSA --id 01"
	}
	if code, out, said := do(t, "authorise", "-token", command("4321"), "-public", public, "-yes", file); code != 1 || out != "" || !strings.Contains(said, "token did not sign") {
		t.Errorf("with a wrong PIN: %d, %s, %s", code, out, said)
	}
	code, signed, said := do(t, "authorise", "-token", command("1234"), "-public", public, "-yes", file)
	if code != 0 || !strings.Contains(said, `"Kari Nes", "technician"`) || !strings.Contains(said, "1 signed") {
		t.Fatalf("authorise: %d, %s", code, said)
	}
	if _, _, said := do(t, "accept", "-dir", s.dir, write(t, signed)); !strings.Contains(said, "1 are in force") {
		t.Errorf("accept: %s", said)
	}
	for _, args := range [][]string{
		{"-token", "true", "-yes", file},
		{"-token", "true", "-public", public, "-key", public, "-yes", file},
	} {
		if code, _, said := do(t, append([]string{"authorise"}, args...)...); code != 2 {
			t.Errorf("%v: %d, %s", args, code, said)
		}
	}
}
