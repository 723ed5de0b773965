package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"go.uber.org/goleak"

	"vindu/device/identity"
	"vindu/device/identity/identitytest"
	"vindu/device/identity/tpm/tpmtest"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var traits = func() []identity.Trait {
	return []identity.Trait{{Name: "device-tree serial", Value: "1000000012345678"}}
}

func at(path string) Keys { return Keys{Device: path, Files: identity.FileKeys{Traits: traits}} }

func on(t *testing.T, disk *statetest.Disk) *state.Dir {
	t.Helper()
	dir, err := state.OpenOn(disk, "/state")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, keys Keys, dir *state.Dir) identity.Keystore {
	t.Helper()
	k, err := keys.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign signs something and verifies it.
func sign(k identity.Keystore) error {
	digest := sha256.Sum256([]byte("a window"))
	signature, err := k.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
	if err == nil && !ecdsa.VerifyASN1(k.Signer().Public().(*ecdsa.PublicKey), digest[:], signature) {
		err = errors.New("signature does not verify")
	}
	return err
}

func public(k identity.Keystore) *ecdsa.PublicKey { return k.Signer().Public().(*ecdsa.PublicKey) }

func TestKeysContract(t *testing.T) {
	identitytest.TestKeys(t, identity.GradeHardware, func(t *testing.T) identity.Keys { return at(tpmtest.Start(t).Path) })
}

// TestAttributes asks the TPM itself what it would do with the key.
func TestAttributes(t *testing.T) {
	chip := tpmtest.Start(t)
	dir := on(t, statetest.New())
	open(t, at(chip.Path), dir)
	c := newChip(chip.Path)
	found, err := c.readPublic()
	if err != nil {
		t.Fatal(err)
	}
	if a := found.ObjectAttributes; !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin || !a.NoDA || a.Decrypt || a.AdminWithPolicy || a.EncryptedDuplication {
		t.Errorf("attributes %+v", a)
	}
	name, err := tpm2.ObjectName(found)
	if err != nil {
		t.Fatal(err)
	}
	r, err := load(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.Auth = unsealed(t, r)
	digest := sha256.Sum256([]byte("x"))
	for _, with := range []struct {
		name string
		auth []byte
		ok   bool
	}{{"its text", r.Auth, true}, {"none", nil, false}, {"another", bytes.Repeat([]byte{7}, authSize), false}} {
		_, err := tpm2.Sign{
			KeyHandle: tpm2.AuthHandle{Handle: handle, Name: *name, Auth: tpm2.PasswordAuth(with.auth)}, Digest: tpm2.TPM2BDigest{Buffer: digest[:]},
			InScheme:   tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(c)
		if (err == nil) != with.ok {
			t.Errorf("used with %s: %v", with.name, err)
		}
	}
	// Neither out of this TPM nor under another parent, even for one who knows the bytes.
	_, err = tpm2.Duplicate{
		ObjectHandle:    tpm2.AuthHandle{Handle: handle, Name: *name, Auth: tpm2.PasswordAuth(r.Auth)},
		NewParentHandle: tpm2.NamedHandle{Handle: tpm2.TPMRHNull}, Symmetric: tpm2.TPMTSymDef{Algorithm: tpm2.TPMAlgNull},
	}.Execute(c)
	if err == nil {
		t.Error("the key can be duplicated")
	}
}

func TestDigests(t *testing.T) {
	k := open(t, at(tpmtest.Start(t).Path), on(t, statetest.New()))
	for name, c := range map[string]struct {
		digest []byte
		opts   crypto.SignerOpts
	}{
		"SHA-384": {make([]byte, 48), crypto.SHA384}, "unnamed": {make([]byte, 32), crypto.Hash(0)}, "no options, long": {make([]byte, 48), nil},
		"short": {make([]byte, 31), crypto.SHA256}, "empty": {nil, crypto.SHA256},
	} {
		if _, err := k.Signer().Sign(rand.Reader, c.digest, c.opts); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

// TestKilled: the TPM loses its power in the middle, is away, and comes back.
func TestKilled(t *testing.T) {
	chip := tpmtest.Start(t)
	disk := statetest.New()
	k := open(t, at(chip.Path), on(t, disk))
	gone := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrGone) || protocol.CodeOf(err) != protocol.IdentityTPMGone {
			t.Errorf("got %v with code %s", err, protocol.CodeOf(err))
		}
	}
	if err := sign(k); err != nil {
		t.Fatal(err)
	}
	chip.Kill()
	gone(sign(k))
	if code := k.Condition(); code != protocol.IdentityTPMGone {
		t.Errorf("condition %q", code)
	}
	steps := disk.Steps()
	for _, keys := range []Keys{at(chip.Path), {Device: Auto, auto: chip.Path}, {Device: None}} {
		keys.Files.Traits = traits
		again, err := keys.Open(on(t, disk.After(statetest.Everything)))
		gone(err)
		if again != nil {
			t.Errorf("%+v: there is a key", keys)
		}
	}
	if disk.Steps() != steps {
		t.Error("something was written")
	}
	chip.Restart()
	if err := sign(k); err != nil || k.Condition() != "" {
		t.Errorf("it is back: %v, condition %q", err, k.Condition())
	}
	if again := open(t, at(chip.Path), on(t, disk.After(statetest.Everything))); !public(again).Equal(public(k)) || again.Grade() != identity.GradeHardware {
		t.Error("another key")
	}
}

// TestPowerCutsDoNotLock: a TPM takes each power cut after the use of a key for a wrong attempt, unless the key is exempt.
func TestPowerCutsDoNotLock(t *testing.T) {
	chip := tpmtest.Start(t)
	k := open(t, at(chip.Path), on(t, statetest.New()))
	for cut := range 8 {
		if err := sign(k); err != nil || k.Condition() != "" {
			t.Fatalf("after %d cuts: %v, condition %q", cut, err, k.Condition())
		}
		chip.Kill()
		chip.Restart()
	}
}

func TestCleared(t *testing.T) {
	chip := tpmtest.Start(t)
	disk := statetest.New()
	dir := on(t, disk)
	keys := at(chip.Path)
	k := open(t, keys, dir)
	if err := dir.Write("identity/clinic.pem", []byte("an enrolment")); err != nil {
		t.Fatal(err)
	}
	c := newChip(chip.Path)
	if _, err := (tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}).Execute(c); err != nil {
		t.Fatal(err)
	}
	cleared := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, ErrCleared) || protocol.CodeOf(err) != protocol.IdentityTPMCleared {
			t.Errorf("%s: %v with code %s", what, err, protocol.CodeOf(err))
		}
	}
	cleared("signing", sign(k))
	if code := k.Condition(); code != protocol.IdentityTPMCleared {
		t.Errorf("condition %q", code)
	}
	_, err := keys.Open(dir)
	cleared("opening", err)
	if _, err := c.readPublic(); !errors.Is(err, ErrCleared) {
		t.Errorf("a new key was made: %v", err)
	}
	// Somebody else's key in the same place, with attributes like ours.
	other := on(t, statetest.New())
	open(t, keys, other)
	cleared("signing with another key", sign(k))
	_, err = keys.Open(dir)
	cleared("opening another key", err)
	// Giving the lost one up does not touch the other.
	if err := identity.Destroy(dir, keys); err != nil {
		t.Fatal(err)
	}
	if err := sign(open(t, keys, other)); err != nil {
		t.Errorf("the other key: %v", err)
	}
}

// TestLocked: somebody guesses at a key of his own until the TPM locks. Calls go on, and it is told.
func TestLocked(t *testing.T) {
	chip := tpmtest.Start(t)
	dir := on(t, statetest.New())
	k := open(t, at(chip.Path), dir)
	c := newChip(chip.Path)
	guessed := template
	guessed.ObjectAttributes.NoDA = false
	made, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(guessed),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{UserAuth: tpm2.TPM2BAuth{Buffer: []byte("1234")}}},
	}.Execute(c)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("x"))
	for tries := 0; ; tries++ {
		_, err := tpm2.Sign{
			KeyHandle: tpm2.AuthHandle{Handle: made.ObjectHandle, Name: made.Name, Auth: tpm2.PasswordAuth([]byte("0000"))},
			Digest:    tpm2.TPM2BDigest{Buffer: digest[:]}, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(c)
		if errors.Is(err, tpm2.TPMRCLockout) {
			if locked := explain(err); !errors.Is(locked, ErrLocked) || protocol.CodeOf(locked) != protocol.IdentityTPMLocked {
				t.Errorf("got %v", locked)
			}
			break
		}
		if tries > 100 {
			t.Fatalf("it does not lock: %v", err)
		}
	}
	if code := k.Condition(); code != protocol.IdentityTPMLocked {
		t.Errorf("condition %q", code)
	}
	if err := sign(k); err != nil {
		t.Errorf("while it is locked: %v", err)
	}
	if err := sign(open(t, at(chip.Path), dir)); err != nil {
		t.Errorf("opened while it is locked: %v", err)
	}
}

// TestDestroyed: what somebody copied before is of no use afterwards.
func TestDestroyed(t *testing.T) {
	for _, c := range []struct {
		name string
		with func(chip *tpmtest.TPM)
	}{{"with its TPM", func(*tpmtest.TPM) {}}, {"without its TPM", (*tpmtest.TPM).Kill}} {
		t.Run(c.name, func(t *testing.T) {
			chip, disk, log := tpmtest.Start(t), statetest.New(), new(bytes.Buffer)
			dir, keys := on(t, disk), at(chip.Path)
			keys.Log = slog.New(slog.NewTextHandler(log, nil))
			open(t, keys, dir)
			copied := disk.After(statetest.Everything)
			c.with(chip)
			if err := keys.Destroy(dir); err != nil {
				t.Fatal(err)
			}
			if dir.Has(recordFiles[0]) || strings.Contains(log.String(), "stays in the TPM") != (c.name == "without its TPM") {
				t.Errorf("the record is there, or logged %s", log)
			}
			chip.Restart()
			if err := keys.Destroy(dir); err != nil { // again: what was out of reach is now taken out
				t.Fatal(err)
			}
			if _, err := keys.Open(on(t, copied)); !errors.Is(err, ErrCleared) {
				t.Errorf("with a copy of the folder: %v", err)
			}
		})
	}
}

// TestDestroyedFile: giving up a key in a file leaves the TPM alone.
func TestDestroyedFile(t *testing.T) {
	keys := at(tpmtest.Start(t).Path)
	k := open(t, keys, on(t, statetest.New()))
	dir := on(t, statetest.New())
	if _, err := keys.Files.Open(dir); err != nil {
		t.Fatal(err)
	}
	if err := keys.Destroy(dir); err != nil || identity.FileKeyIn(dir) {
		t.Errorf("the file is there: %v", err)
	}
	if err := sign(k); err != nil {
		t.Error(err)
	}
}

func TestChoice(t *testing.T) {
	chip := tpmtest.Start(t)
	nowhere := filepath.Join(t.TempDir(), "tpmrm0")
	nothing := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(nothing, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	files := identity.FileKeys{Traits: traits}
	withFile := statetest.New()
	if _, err := files.Open(on(t, withFile)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		keys  Keys
		disk  *statetest.Disk
		grade string        // "": an error
		code  protocol.Code // of that error
		logs  string
	}{
		{"auto with a TPM", Keys{Device: Auto, auto: chip.Path}, statetest.New(), identity.GradeHardware, "", ""},
		{"auto without a TPM", Keys{Device: Auto, auto: nowhere, signs: []string{nowhere}}, statetest.New(), identity.GradeFile, "", "there is no TPM"},
		{"auto with a TPM that does not come", Keys{Device: Auto, auto: nowhere, signs: []string{nothing + "*"}, late: time.Nanosecond}, statetest.New(), identity.GradeFile, "", "does not come"},
		{"auto with a TPM that cannot be used", Keys{Device: Auto, auto: nothing, late: time.Nanosecond}, statetest.New(), identity.GradeFile, "", "cannot be used"},
		{"none", Keys{Device: None, auto: chip.Path}, statetest.New(), identity.GradeFile, "", ""},
		{"a TPM that is there", Keys{Device: chip.Path}, statetest.New(), identity.GradeHardware, "", "is replaced"},
		{"a TPM that is not there", Keys{Device: nowhere}, statetest.New(), "", protocol.IdentityTPMGone, ""},
		{"a path that is no TPM", Keys{Device: nothing}, statetest.New(), "", protocol.IdentityTPMGone, ""},
		{"a key in a file stays there", Keys{Device: chip.Path}, withFile, identity.GradeFile, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := new(bytes.Buffer)
			c.keys.Files, c.keys.Log = files, slog.New(slog.NewTextHandler(log, nil))
			k, err := c.keys.Open(on(t, c.disk))
			if c.grade == "" {
				if err == nil || protocol.CodeOf(err) != c.code {
					t.Fatalf("got %v", err)
				}
				return
			}
			if err != nil || k.Grade() != c.grade {
				t.Fatalf("got %v, %v", k, err)
			}
			if (c.logs == "") != (log.Len() == 0) || !strings.Contains(log.String(), c.logs) {
				t.Errorf("logged %q, want %q", log, c.logs)
			}
		})
	}
}

// TestFullDisk: a key that cannot be kept is not silently kept in a file instead.
func TestFullDisk(t *testing.T) {
	chip := tpmtest.Start(t)
	disk := statetest.New()
	dir := on(t, disk)
	disk.Fail("rename", errors.New("no"))
	if k, err := (Keys{Device: Auto, auto: chip.Path}).Open(dir); err == nil || k != nil {
		t.Errorf("got %v", k)
	}
	disk.Fail("rename", nil)
	if err := sign(open(t, at(chip.Path), dir)); err != nil {
		t.Error(err)
	}
}

func TestOccupied(t *testing.T) {
	chip := tpmtest.Start(t)
	c := newChip(chip.Path)
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(c)
	if err == nil {
		err = c.persist(made.ObjectHandle, made.Name)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := on(t, statetest.New())
	if _, err := at(chip.Path).Open(dir); err == nil || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("got %v", err)
	}
	if err := at(chip.Path).Destroy(dir); err != nil {
		t.Error(err)
	}
	if _, err := c.readPublic(); err != nil {
		t.Errorf("it was taken away: %v", err)
	}
}

func TestOwned(t *testing.T) {
	chip := tpmtest.Start(t)
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: []byte("owner")},
	}.Execute(newChip(chip.Path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := at(chip.Path).Open(on(t, statetest.New())); err == nil || !strings.Contains(err.Error(), "another owner") {
		t.Errorf("got %v", err)
	}
}

func TestDamagedRecord(t *testing.T) {
	chip := tpmtest.Start(t)
	disk := statetest.New()
	open(t, at(chip.Path), on(t, disk))
	sound, err := on(t, disk).Read(recordFiles[0], maxRecord)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"empty": nil, "cut": sound[:len(sound)/2], "twice": append(bytes.Clone(sound), sound...), "too long": make([]byte, 2*maxRecord),
	} {
		found := disk.After(statetest.Everything)
		found.Corrupt("/state/"+recordFiles[0], content)
		k, err := at(chip.Path).Open(on(t, found))
		if (protocol.CodeOf(err) != protocol.IdentityDamaged) != errors.Is(err, state.ErrTooLarge) || k != nil {
			t.Errorf("%s: %v, %v", name, k, err)
		}
		if err := at(chip.Path).Destroy(on(t, found)); err != nil {
			t.Errorf("%s: it cannot be given up: %v", name, err)
		}
		chip.Restart()
	}
}

// FuzzRecord: whatever is in the file, decoding it ends with an error or with a record of a key.
func FuzzRecord(f *testing.F) {
	sound, err := os.ReadFile("testdata/tpm.pem")
	if err != nil {
		f.Fatal(err)
	}
	if _, err := decode(sound); err != nil {
		f.Fatal(err)
	}
	f.Add(sound)
	f.Add(sound[:len(sound)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decode(b)
		if err != nil {
			return
		}
		if _, err := newKey("/dev/null", r); err != nil {
			t.Fatal(err)
		}
		again, err := encode(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Error(err)
		}
	})
}

// TestLate: a TPM that the kernel knows and that is a little late gets the key all the same.
func TestLate(t *testing.T) {
	chip := tpmtest.Start(t)
	path := filepath.Join(t.TempDir(), "tpm")
	time.AfterFunc(2*comesPoll, func() {
		if err := os.Symlink(chip.Path, path); err != nil {
			t.Error(err)
		}
	})
	k, err := Keys{Device: Auto, auto: path, signs: []string{chip.Path}, late: time.Minute, Files: identity.FileKeys{Traits: traits}}.Open(on(t, statetest.New()))
	if err != nil || k.Grade() != identity.GradeHardware {
		t.Errorf("%v, %v", k, err)
	}
}

// unsealed is what the key of r wants.
func unsealed(t *testing.T, r record) []byte {
	t.Helper()
	auth, err := identity.FileKeys{Traits: traits}.Unseal(r.Auth)
	if err != nil || len(auth) != authSize {
		t.Fatalf("%d bytes, %v", len(auth), err)
	}
	return auth
}

// TestSealed: the storage alone, beside the chip or in another device, does not let one use the key.
func TestSealed(t *testing.T) {
	chip := tpmtest.Start(t)
	disk := statetest.New()
	k := open(t, at(chip.Path), on(t, disk))
	r, err := load(on(t, disk), 0)
	if err != nil {
		t.Fatal(err)
	}
	b, err := on(t, disk).Read(recordFiles[0], maxRecord)
	block, _ := pem.Decode(b)
	if err != nil || bytes.Contains(block.Bytes, unsealed(t, r)) {
		t.Errorf("the record holds what the key wants, %v", err)
	}
	elsewhere := at(chip.Path)
	elsewhere.Files.Traits = func() []identity.Trait { return []identity.Trait{{Name: "device-tree serial", Value: "another"}} }
	if _, err := elsewhere.Open(on(t, disk)); !errors.Is(err, identity.ErrDamaged) || protocol.CodeOf(err) != protocol.IdentityDamaged {
		t.Errorf("in another device: %v", err)
	}
	if again := open(t, at(chip.Path), on(t, disk)); !public(again).Equal(public(k)) || sign(again) != nil {
		t.Error("it does not open again")
	}
	// A device that nothing tells from others has nothing to seal it with.
	bare := at(chip.Path)
	bare.Files.Traits = func() []identity.Trait { return nil }
	other := statetest.New()
	open(t, bare, on(t, other))
	if err := sign(open(t, bare, on(t, other))); err != nil {
		t.Errorf("without traits: %v", err)
	}
}
