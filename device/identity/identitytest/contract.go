package identitytest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"vindu/device/identity"
	"vindu/device/state"
	"vindu/device/state/statetest"
	"vindu/protocol"
)

// TestKeys is the contract of identity.Keys. Each call of fresh returns keys of a device that has none yet; there may be no
// other at the same time.
func TestKeys(t *testing.T, grade string, fresh func(t *testing.T) identity.Keys) {
	folder := func(t *testing.T, disk *statetest.Disk) *state.Dir {
		t.Helper()
		dir, err := state.OpenOn(disk, "/state")
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	open := func(t *testing.T, keys identity.Keys, dir *state.Dir) identity.Keystore {
		t.Helper()
		k, err := keys.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	public := func(k identity.Keystore) *ecdsa.PublicKey { return k.Signer().Public().(*ecdsa.PublicKey) }
	digest := sha256.Sum256([]byte("a window"))

	t.Run("keeps one key", func(t *testing.T) {
		keys, disk := fresh(t), statetest.New()
		first := open(t, keys, folder(t, disk))
		if first.Grade() != grade || first.Condition() != "" || public(first).Curve != elliptic.P256() {
			t.Fatalf("grade %s, condition %q", first.Grade(), first.Condition())
		}
		again := open(t, keys, folder(t, disk.After(statetest.Everything)))
		if !public(again).Equal(public(first)) {
			t.Error("another key after a restart")
		}
		signature, err := again.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil || !ecdsa.VerifyASN1(public(first), digest[:], signature) {
			t.Errorf("its signature does not verify: %v", err)
		}
	})

	t.Run("signs for many at once", func(t *testing.T) {
		k := open(t, fresh(t), folder(t, statetest.New()))
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				signature, err := k.Signer().Sign(rand.Reader, digest[:], crypto.SHA256)
				if err != nil || !ecdsa.VerifyASN1(public(k), digest[:], signature) {
					t.Errorf("signature: %v", err)
				}
				if code := k.Condition(); code != "" {
					t.Errorf("condition %s", code)
				}
			})
		}
		all.Wait()
	})

	t.Run("serves TLS, EST and statements", func(t *testing.T) {
		keys, dir, clinic := fresh(t), folder(t, statetest.New()), New(t, time.Now)
		i, err := identity.Open(dir, open(t, keys, dir), time.Now)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: i.Key().Name()}}, i.Signer())
		if err != nil {
			t.Fatal(err)
		}
		request, err := x509.ParseCertificateRequest(der)
		if err == nil {
			err = request.CheckSignature()
		}
		if err != nil {
			t.Fatalf("certificate request: %v", err)
		}
		if err := i.Keep(clinic.Grant("clinic.example:443", request.PublicKey)); err != nil {
			t.Fatal(err)
		}
		receipt := &protocol.Decommissioned{Version: 1, Terminal: i.Key(), Order: protocol.Hash{1}, KeyGrade: i.Grade(), At: 1}
		signed, err := protocol.Sign(receipt, i.Signer())
		if err == nil {
			err = protocol.Verify(signed, i.Signer().Public().(*ecdsa.PublicKey), new(protocol.Decommissioned))
		}
		if err != nil {
			t.Errorf("statement: %v", err)
		}
		near, far := net.Pipe()
		defer near.Close()
		shown := make(chan error, 1)
		go func() {
			s := tls.Server(far, clinic.Server("mqtt"))
			err := s.Handshake()
			if err == nil && !s.ConnectionState().PeerCertificates[0].Equal(i.Certificate()) {
				err = errors.New("another certificate")
			}
			_, _ = s.Write([]byte("x"))
			far.Close()
			shown <- err
		}()
		if _, err := tls.Client(near, i.TLS("mqtt")).Read(make([]byte, 1)); err != nil {
			t.Errorf("TLS: %v", err)
		}
		if err := <-shown; err != nil {
			t.Errorf("TLS: %v", err)
		}
	})

	t.Run("makes no new key where one is expected", func(t *testing.T) {
		keys, dir := fresh(t), folder(t, statetest.New())
		if err := dir.Write("identity/clinic.pem", []byte("an enrolment")); err != nil {
			t.Fatal(err)
		}
		if k, err := keys.Open(dir); !errors.Is(err, identity.ErrDamaged) || protocol.CodeOf(err) != protocol.IdentityDamaged || k != nil {
			t.Errorf("got %v, %v", k, err)
		}
	})

	t.Run("destroys it for good", func(t *testing.T) {
		keys, dir := fresh(t), folder(t, statetest.New())
		if err := keys.Destroy(dir); err != nil {
			t.Errorf("nothing to destroy: %v", err)
		}
		first := open(t, keys, dir)
		beside, err := keys.Next(dir)
		for _, name := range []string{"identity/clinic.pem", "identity/before.pem"} {
			err = errors.Join(err, dir.Write(name, []byte("an enrolment")))
		}
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := identity.Destroy(dir, keys); err != nil {
				t.Fatal(err)
			}
		}
		if dir.Has("identity/clinic.pem") || dir.Has("identity/before.pem") {
			t.Error("what the clinic gave is left")
		}
		second := open(t, keys, dir)
		if public(second).Equal(public(first)) || public(second).Equal(public(beside)) {
			t.Error("the key is back")
		}
		if left, err := keys.Beside(dir); err != nil || left != nil {
			t.Errorf("the key that was to replace it is left: %v", err)
		}
		for _, gone := range []identity.Keystore{first, beside} {
			if _, soft := gone.Signer().(*ecdsa.PrivateKey); soft {
				continue
			}
			if _, err := gone.Signer().Sign(rand.Reader, digest[:], crypto.SHA256); err == nil {
				t.Error("it still signs")
			}
		}
	})

	t.Run("a power cut at any step", func(t *testing.T) {
		keys := fresh(t)
		for _, loss := range statetest.Losses {
			for cut, done := 0, false; !done; cut++ {
				disk := statetest.New()
				disk.CutBefore(cut)
				var first identity.Keystore
				dir, err := state.OpenOn(disk, "/state")
				if err == nil {
					first, err = keys.Open(dir)
				}
				done = err == nil
				if !done && !errors.Is(err, statetest.ErrPower) {
					t.Fatalf("%s lost, cut before step %d: %v", loss, cut, err)
				}
				second := open(t, keys, folder(t, disk.After(loss)))
				if done && !public(second).Equal(public(first)) {
					t.Errorf("%s lost, cut before step %d: another key", loss, cut)
				}
				if signature, err := second.Signer().Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || !ecdsa.VerifyASN1(public(second), digest[:], signature) {
					t.Errorf("%s lost, cut before step %d: %v", loss, cut, err)
				}
			}
		}
	})

	testRotation(t, fresh)

	t.Run("its secret is not on the disk", func(t *testing.T) {
		dir := folder(t, statetest.New())
		k := open(t, fresh(t), dir)
		plain, ok := k.Signer().(*ecdsa.PrivateKey)
		if !ok {
			return // it cannot even be asked for
		}
		secret, err := plain.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		file, err := dir.Read("identity/key.pem", 1<<20)
		if err != nil || bytes.Contains(file, secret) || bytes.Contains(file, []byte("PRIVATE KEY")) {
			t.Errorf("%v: %s", err, file)
		}
	})
}
