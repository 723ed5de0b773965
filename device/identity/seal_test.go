package identity

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

func TestTraits(t *testing.T) {
	const (
		serial = "sys/firmware/devicetree/base/serial-number"
		soc    = "sys/devices/soc0/serial_number"
		uuid   = "sys/class/dmi/id/product_uuid"
		board  = "sys/class/dmi/id/board_serial"
		system = "etc/machine-id"
	)
	for _, c := range []struct {
		name  string
		files map[string]string
		want  []Trait
	}{
		{"nothing", nil, nil},
		{"a board", map[string]string{serial: "10000000abcd1234\x00", soc: "77f1\n", system: "0f0e0d0c"}, []Trait{{"device-tree serial", "10000000abcd1234"}, {"soc serial", "77f1"}}},
		{"a PC", map[string]string{uuid: "5d1b-77\n", board: "X1\n", system: "0f0e0d0c"}, []Trait{{"product uuid", "5d1b-77"}}},
		{"only a system", map[string]string{system: "0f0e0d0c\n"}, []Trait{{"machine id", "0f0e0d0c"}}},
		{"nothing is said", map[string]string{serial: "0000000000000000", soc: "ffff-ffff", uuid: "03000200-0400-0500-0006-000700080009", board: "Default string", system: "uninitialized\n"}, nil},
		{"too long", map[string]string{serial: strings.Repeat("12", 200)}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for name, content := range c.files {
				if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755), os.WriteFile(filepath.Join(root, name), []byte(content), 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			if got := traitsUnder(root); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("a system whose id does not stay", func(t *testing.T) {
		root := t.TempDir()
		run, etc := filepath.Join(root, "run/machine-id"), filepath.Join(root, "etc/machine-id")
		if err := errors.Join(os.Mkdir(filepath.Dir(run), 0o755), os.Mkdir(filepath.Dir(etc), 0o755), os.WriteFile(run, []byte("0f0e0d0c"), 0o644), os.Link(run, etc)); err != nil {
			t.Fatal(err)
		}
		if got := traitsUnder(root); got != nil {
			t.Errorf("got %q", got)
		}
	})
}

var (
	board = []Trait{{"device-tree serial", "1000000012345678"}, {"soc serial", "77f1"}}
	other = []Trait{{"device-tree serial", "1000000012345679"}, {"soc serial", "77f1"}}
)

func keysOf(traits []Trait, log *bytes.Buffer) FileKeys {
	return FileKeys{Traits: func() []Trait { return traits }, Log: slog.New(slog.NewTextHandler(log, nil))}
}

func on(t *testing.T, disk *statetest.Disk) *state.Dir {
	t.Helper()
	dir, err := state.OpenOn(disk, "/state")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestSealed(t *testing.T) {
	disk, log := statetest.New(), new(bytes.Buffer)
	dir := on(t, disk)
	made, err := keysOf(board, log).Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := made.Signer().(*ecdsa.PrivateKey)
	secret, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	file, err := dir.Read(keyFile, maxKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(file)
	if block == nil || block.Type != sealBlock || bytes.Contains(block.Bytes, secret) {
		t.Fatalf("the key is not sealed: %s", file)
	}
	for _, c := range []struct {
		name   string
		traits []Trait
		change func(b []byte)
		want   string // of the error
	}{
		{"the same device", board, nil, ""},
		{"the same device, which tells more", append([]Trait{{"board serial", "X"}}, board...), nil, ""},
		{"another device", other, nil, "another device"},
		{"a device that does not tell", board[:1], nil, "soc serial"},
		{"no traits", nil, nil, "device-tree serial"},
		{"one bit", board, func(b []byte) { b[len(b)-1] ^= 1 }, "damaged"},
		{"another version", board, func(b []byte) { b[2] = 2 }, "not of a known form"},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := disk.After(statetest.Nothing)
			body := bytes.Clone(block.Bytes)
			if c.change != nil {
				c.change(body)
				found.Corrupt("/state/"+keyFile, pem.EncodeToMemory(&pem.Block{Type: sealBlock, Bytes: body}))
			}
			dir := on(t, found)
			steps := found.Steps()
			again, err := keysOf(c.traits, log).Open(dir)
			if c.want == "" {
				if err != nil || !again.Signer().(*ecdsa.PrivateKey).Equal(key) {
					t.Fatalf("got %v", err)
				}
			} else if !errors.Is(err, ErrDamaged) || protocol.CodeOf(err) != protocol.IdentityDamaged || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want one with %q", err, c.want)
			}
			if found.Steps() != steps {
				t.Error("the file was written")
			}
		})
	}
	if log.Len() > 0 {
		t.Errorf("logged %s", log)
	}
}

// unsealed returns a disk with a key as earlier versions wrote it, and the key.
func unsealed(t *testing.T) (*statetest.Disk, *ecdsa.PrivateKey) {
	t.Helper()
	disk := statetest.New()
	made, err := keysOf(nil, new(bytes.Buffer)).Open(on(t, disk))
	if err != nil {
		t.Fatal(err)
	}
	return disk, made.Signer().(*ecdsa.PrivateKey)
}

func TestSealEarlier(t *testing.T) {
	disk, key := unsealed(t)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := on(t, disk).Read(keyFile, maxKey)
	if err != nil || !bytes.Equal(plain, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})) {
		t.Fatalf("without traits: %v, %s", err, plain)
	}
	t.Run("nothing to seal with", func(t *testing.T) {
		found, log := disk.After(statetest.Everything), new(bytes.Buffer)
		dir := on(t, found)
		steps := found.Steps()
		if _, err := keysOf(nil, log).Open(dir); err != nil || found.Steps() != steps || !strings.Contains(log.String(), "not sealed") {
			t.Errorf("got %v, %d steps, logged %s", err, found.Steps()-steps, log)
		}
	})
	t.Run("full disk", func(t *testing.T) {
		found, log := disk.After(statetest.Everything), new(bytes.Buffer)
		found.Fail("write", syscall.ENOSPC)
		again, err := keysOf(board, log).Open(on(t, found))
		if err != nil || !again.Signer().(*ecdsa.PrivateKey).Equal(key) || !strings.Contains(log.String(), "could not be sealed") {
			t.Errorf("got %v, logged %s", err, log)
		}
	})
	for _, loss := range statetest.Losses {
		t.Run("power cut, "+string(loss)+" lost", func(t *testing.T) {
			for cut, done := 0, false; !done; cut++ {
				first := disk.After(statetest.Everything)
				first.CutBefore(cut)
				if dir, err := state.OpenOn(first, "/state"); err == nil {
					_, _ = keysOf(board, new(bytes.Buffer)).Open(dir)
				}
				done = first.Steps() < cut
				found := first.After(loss)
				again, err := keysOf(board, new(bytes.Buffer)).Open(on(t, found))
				if err != nil || !again.Signer().(*ecdsa.PrivateKey).Equal(key) {
					t.Fatalf("cut before step %d: %v", cut, err)
				}
				if b, err := on(t, found).Read(keyFile, maxKey); err != nil || !bytes.Contains(b, []byte(sealBlock)) {
					t.Errorf("cut before step %d: not sealed afterwards: %v", cut, err)
				}
			}
		})
	}
}

func TestKeyExpected(t *testing.T) {
	disk := statetest.New()
	dir := on(t, disk)
	if err := dir.Write(clinicFile, []byte("whatever")); err != nil {
		t.Fatal(err)
	}
	if _, err := keysOf(board, new(bytes.Buffer)).Open(dir); !errors.Is(err, ErrDamaged) || dir.Has(keyFile) {
		t.Errorf("got %v: an enrolment without its key must not lead to a new one", err)
	}
}

func TestDestroy(t *testing.T) {
	keys := keysOf(board, new(bytes.Buffer))
	for _, loss := range statetest.Losses {
		for cut, done := 0, false; !done; cut++ {
			disk := statetest.New()
			dir := on(t, disk)
			before, err := keys.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			// What a cut write leaves beside the file counts too.
			if err := errors.Join(dir.Write(clinicFile, []byte("grant")), dir.Write(keyFile+"-copy", []byte("x"))); err != nil {
				t.Fatal(err)
			}
			sealed, err := dir.Read(keyFile, maxKey)
			if err != nil {
				t.Fatal(err)
			}
			disk.Corrupt("/state/"+keyFile+".new", bytes.Clone(sealed))
			disk.CutBefore(disk.Steps() + cut)
			err = Destroy(dir, keys)
			done = err == nil
			found := disk.After(loss)
			again := on(t, found)
			if !done {
				if err := Destroy(again, keys); err != nil {
					t.Fatalf("%s lost, cut before step %d: %v", loss, cut, err)
				}
			}
			for _, name := range []string{keyFile, keyFile + ".new", clinicFile} {
				if b, err := found.Read("/state/"+name, 1<<20); err == nil {
					t.Errorf("%s lost, cut before step %d: %s is there: %q", loss, cut, name, b)
				}
			}
			after, err := keys.Open(again)
			if err != nil || after.Signer().(*ecdsa.PrivateKey).Equal(before.Signer().(*ecdsa.PrivateKey)) {
				t.Errorf("%s lost, cut before step %d: afterwards %v", loss, cut, err)
			}
		}
	}
	if err := Destroy(on(t, statetest.New()), keys); err != nil {
		t.Errorf("nothing to destroy: %v", err)
	}
}

func TestScrubOnDisk(t *testing.T) {
	dir, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	keys := keysOf(board, new(bytes.Buffer))
	if _, err := keys.Open(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir.Path(), keyFile)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// The same file under another name shows what was left in its place.
	if err := os.Link(path, path+"-seen"); err != nil {
		t.Fatal(err)
	}
	if err := Destroy(dir, keys); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(path + "-seen")
	if err != nil || len(after) != len(before) || bytes.Contains(after, before[40:60]) {
		t.Errorf("not overwritten: %v, %d bytes of %d", err, len(after), len(before))
	}
	if dir.Has(keyFile) {
		t.Error("not removed")
	}
}
