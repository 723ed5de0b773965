package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"vindu/protocol"
)

// beforeFile is there from when a terminal goes over to a new key until that has proven itself: what it had from its clinic with the key before, as in clinic.pem.
const beforeFile = "identity/before.pem"

// onwards is in its place when nothing turns back any more, but the key before is still there.
const onwards = "destroy the key before\n"

// errTurned ends a renewer whose identity has another key from now on.
var errTurned = errors.New("the terminal has another key: it begins anew")

// Rotation replaces the terminal's key by a new one when its clinic orders it (protocol.KeyOrder), so that a power cut at any instant delays it and
// changes nothing:
//
//	order  ──► next    a second key is made beside the terminal's (Keys.Next)
//	       ──► ask     the clinic certifies it, asked with the certificate of the present one (RFC 7030 §4.2.2)
//	       ──► turn    before.pem keeps what was; then clinic.pem is written, which is the whole change (Keys.Open follows the certificate)
//	       ──► prove   the clinic answers the new key: the one before is destroyed, and the clinic refuses it from then on
//
// Cut before the turn, the terminal has its key and begins again, with the same next one. Cut after it, it has the new one. If the
// clinic then refuses the new one, because it came too late, the terminal turns back.
type Rotation struct {
	Keys Keys
	// Begin is asked before the turn; false: not now, such as beside a call. After true no call may begin.
	Begin func() bool
	// Ready is Begin without its promise, asked before anything is done.
	Ready func() bool
	// Anew has the terminal begin anew, with the key that is its own by then; after an error of the turn with the one that it had.
	Anew func()
}

// Unproven tells whether the terminal went over to its key and the clinic has not answered that yet.
func (i *Identity) Unproven() bool { return i.before() != nil }

// before returns what the terminal had with the key before, while its own is not proven.
func (i *Identity) before() *kept {
	b, err := i.dir.Read(beforeFile, maxClinic)
	if err != nil {
		return nil
	}
	g, err := decodeGrant(b)
	if err != nil || protocol.HashSPKI(g.Chain[0].RawSubjectPublicKeyInfo) == i.hash {
		return nil // it did not come to the turn, or has turned back
	}
	return g
}

// settling tells whether the key before is to be destroyed, whether or not the terminal's own has proven itself.
func (i *Identity) settling() bool {
	b, err := i.dir.Read(beforeFile, maxClinic)
	return err == nil && string(b) == onwards
}

// Turn makes the terminal that of another key, which Keys.Next has made and chain is for. This Identity keeps the key that it has, and keeps nothing else
// any more: Open has the new one.
func (i *Identity) Turn(next crypto.PublicKey, chain []*x509.Certificate) error {
	i.writing.Lock()
	defer i.writing.Unlock()
	old := i.kept()
	if old == nil || i.turned {
		return protocol.WithCode(protocol.IdentityNone, errors.New("go over to a new key: the terminal is not enrolled"))
	}
	hash, err := protocol.HashKey(next)
	if err != nil {
		return fmt.Errorf("go over to a new key: %w", err)
	}
	was, err := encodeGrant(old)
	if err != nil {
		return fmt.Errorf("go over to a new key: %w", err)
	}
	g := *old
	g.Chain = slices.Clone(chain)
	if err := checkGrant(&g.Grant, hash); err != nil {
		return fmt.Errorf("go over to a new key: %w", err)
	}
	is, err := encodeGrant(&g)
	if err == nil {
		err = i.dir.Write(beforeFile, was)
	}
	if err == nil {
		i.turned = true // whether or not it is known that it was written
		err = i.dir.Write(clinicFile, is)
	}
	if err != nil {
		return fmt.Errorf("go over to a new key: %w", err)
	}
	return nil
}

// turnBack gives a terminal whose new key the clinic refuses the one before, if that is there. It returns false if it is not.
func (i *Identity) turnBack(keys Keys) (bool, error) {
	i.writing.Lock()
	defer i.writing.Unlock()
	was, own := i.before(), i.kept()
	if was == nil || own == nil || i.turned || !slices.EqualFunc(was.Settings.Authorities, own.Settings.Authorities, bytes.Equal) {
		return false, nil
	}
	beside, err := keys.Beside(i.dir)
	if err != nil || beside == nil {
		return false, err
	}
	was.Settings, was.Trust, was.Policy, was.withdrawn = own.Settings, own.Trust, own.Policy, own.withdrawn // these do not go back
	pub, ok := beside.Signer().Public().(*ecdsa.PublicKey)
	if !ok {
		return false, nil
	}
	hash, err := protocol.HashKey(pub)
	if err == nil {
		err = checkGrant(&was.Grant, hash)
	}
	if err != nil {
		return false, err
	}
	b, err := encodeGrant(was)
	if err != nil {
		return false, err
	}
	i.turned = true
	return true, i.dir.Write(clinicFile, b)
}

// settle destroys the key before the one that has proven itself, and returns whether there was one. The order lets a repetition find what is left.
func (i *Identity) settle(keys Keys) (bool, error) {
	i.writing.Lock()
	defer i.writing.Unlock()
	if i.turned || !i.dir.Has(beforeFile) {
		return false, nil
	}
	was := i.before() != nil || i.settling()
	if was {
		if err := keys.Retire(i.dir); err != nil {
			return true, err
		}
	}
	return was, i.dir.Wipe(beforeFile)
}

// refused is told that the clinic refused the terminal's certificate. It returns errTurned if the terminal has turned back to the key before.
func (r *Rotation) refused(i *Identity, err error, log *slog.Logger) error {
	if protocol.CodeOf(err) != protocol.LinkRefused || !i.Unproven() {
		return err
	}
	back, backErr := i.turnBack(r.Keys)
	if backErr != nil {
		return errors.Join(err, backErr)
	}
	if !back {
		return err
	}
	log.Warn("the clinic refuses the terminal's new key: it goes back to the one before", "error", err)
	r.Anew()
	return errTurned
}

// answered is told what the clinic has answered the terminal's certificate. It returns errTurned if the terminal has another key from now on.
func (r *Rotation) answered(ctx context.Context, i *Identity, clinic Clinic, g *Grant, order []byte, log *slog.Logger) error {
	settled, err := i.settle(r.Keys)
	if err != nil {
		return fmt.Errorf("destroy the key before: %w", err)
	}
	if settled {
		log.Info("the terminal's new key is in use, the one before is destroyed", "terminal", i.Key().Code())
	}
	if len(order) == 0 || !r.Ready() {
		return nil
	}
	if err := verifyKeyOrder(order, g.Authorities(), i.Key()); err != nil {
		return err
	}
	next, err := r.Keys.Next(i.dir)
	if err != nil {
		return fmt.Errorf("make a new key: %w", err)
	}
	chain, err := clinic.Replace(ctx, g, next.Signer())
	if protocol.CodeOf(err) == protocol.IdentityClone { // it was used before: left over from a rotation that a person's enrolment ended
		err = errors.Join(err, r.Keys.Retire(i.dir))
	}
	if err != nil {
		return fmt.Errorf("certify a new key: %w", err)
	}
	if !r.Begin() {
		return nil // the clinic certifies it again
	}
	err = i.Turn(next.Signer().Public(), chain)
	if err == nil {
		log.Warn("the clinic has ordered a new key: the terminal goes over to it", "terminal", i.Key().Code())
	} else {
		log.Error("the terminal could not go over to a new key", "error", err, "code", protocol.CodeOf(err))
	}
	r.Anew()
	return errTurned
}

// verifyKeyOrder asks whether the clinic ordered this very key to be replaced. The code of the error is protocol.AuthOrder.
func verifyKeyOrder(order []byte, authorities [][]byte, self protocol.KeyHash) error {
	err := errors.New("no authorisation key is known")
	for _, der := range authorities {
		parsed, parseErr := x509.ParsePKIXPublicKey(der)
		key, ok := parsed.(*ecdsa.PublicKey)
		if parseErr != nil || !ok {
			continue
		}
		o := new(protocol.KeyOrder)
		if err = protocol.Verify(order, key, o); err != nil {
			continue
		}
		if o.Terminal != self {
			err = fmt.Errorf("it is for the terminal %s", o.Terminal.Code())
			break
		}
		return nil
	}
	return protocol.WithCode(protocol.AuthOrder, fmt.Errorf("order for a new key: %w", err))
}
