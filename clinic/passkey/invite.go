package passkey

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/audit"
)

const (
	// InvitationLife is how long an invitation can be used if nothing else is asked for.
	InvitationLife = time.Hour
	// MaxInvitationLife bounds what may be asked for.
	MaxInvitationLife = 7 * 24 * time.Hour

	tokenBytes = 32
)

// ErrInvitation is wrapped when an invitation is unknown, used, withdrawn or expired; which of them is not told.
var ErrInvitation = errors.New("invitation cannot be used")

// Invitation is what an administrator gives to a person: whoever has its token can register one passkey for that person.
type Invitation struct {
	Token   string // empty in lists: it is not stored
	Person  string
	By      string
	Issued  time.Time
	Expires time.Time
}

// Path is where the invitation is used, below the address of the clinic's pages.
func (i Invitation) Path() string { return "/invited/" + i.Token }

func hashToken(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// Invite invites a person to register a passkey within life. Invitations that the person had until now cannot be used any more; if removing
// is true, neither can the passkeys, from now on. The token is a secret.
func (s *Service) Invite(ctx context.Context, by, person string, life time.Duration, removing bool) (Invitation, error) {
	if life <= 0 || life > MaxInvitationLife {
		return Invitation{}, fmt.Errorf("invite: it has to hold for more than nothing and at most %s, not %s", MaxInvitationLife, life)
	}
	if _, err := s.c.Persons.Person(ctx, person); err != nil {
		return Invitation{}, fmt.Errorf("invite: %w", err)
	}
	var b [tokenBytes]byte
	rand.Read(b[:])
	now := s.now()
	i := Invitation{Token: base64.RawURLEncoding.EncodeToString(b[:]), Person: person, By: by, Issued: now, Expires: now.Add(life)}
	removed := 0
	err := s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		if removed = 0; removing {
			rows, err := of(ctx, tx, person)
			if err != nil {
				return err
			}
			for _, r := range rows {
				if !r.Removed.IsZero() {
					continue
				}
				if err := s.remove(ctx, tx, by, r); err != nil {
					return err
				}
				removed++
			}
		}
		if _, err := tx.ExecContext(ctx, "UPDATE passkey_invitations SET withdrawn = ? WHERE person = ? AND used IS NULL AND withdrawn IS NULL", now.UnixMilli(), person); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "INSERT INTO passkey_invitations VALUES (?, ?, ?, ?, ?, NULL, NULL)",
			hashToken(i.Token), person, by, now.UnixMilli(), i.Expires.UnixMilli()); err != nil {
			return err
		}
		d := map[string]string{"expires": i.Expires.UTC().Format(time.RFC3339), "passkeys": "kept"}
		if removing {
			d["passkeys"] = "removed"
		}
		return s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: by, What: audit.PasskeyInvited, Subject: subject(person), Detail: d})
	})
	if err != nil {
		return Invitation{}, fmt.Errorf("invite: %w", err)
	}
	if removed > 0 {
		s.changed(person)
	}
	return i, nil
}

const open = "used IS NULL AND withdrawn IS NULL AND expires > ?"

// Invited returns the invitation with this token. The error wraps ErrInvitation.
func (s *Service) Invited(ctx context.Context, token string) (Invitation, error) {
	i := Invitation{Token: token}
	var issued, expires int64
	err := s.c.Store.Read().QueryRowContext(ctx, "SELECT person, issued_by, created, expires FROM passkey_invitations WHERE hash = ? AND "+open,
		hashToken(token), s.now().UnixMilli()).Scan(&i.Person, &i.By, &issued, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return Invitation{}, ErrInvitation
	}
	if err != nil {
		return Invitation{}, fmt.Errorf("read invitation: %w", err)
	}
	i.Issued, i.Expires = time.UnixMilli(issued), time.UnixMilli(expires)
	return i, nil
}

// Open returns the invitation that a person can use now, without its token, and whether there is one.
func (s *Service) Open(ctx context.Context, person string) (Invitation, bool, error) {
	i := Invitation{Person: person}
	var issued, expires int64
	err := s.c.Store.Read().QueryRowContext(ctx, "SELECT issued_by, created, expires FROM passkey_invitations WHERE person = ? AND "+open+" ORDER BY created DESC LIMIT 1",
		person, s.now().UnixMilli()).Scan(&i.By, &issued, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return Invitation{}, false, nil
	}
	if err != nil {
		return Invitation{}, false, fmt.Errorf("read invitation: %w", err)
	}
	i.Issued, i.Expires = time.UnixMilli(issued), time.UnixMilli(expires)
	return i, true, nil
}

// Withdraw takes back the invitation that a person has. The error wraps ErrInvitation if there is none.
func (s *Service) Withdraw(ctx context.Context, by, person string) error {
	err := s.c.Store.Write(ctx, func(tx *sql.Tx) error {
		now := s.now().UnixMilli()
		result, err := tx.ExecContext(ctx, "UPDATE passkey_invitations SET withdrawn = ? WHERE person = ? AND "+open, now, person, now)
		if err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, ErrInvitation)
		}
		return s.c.Audit.AppendTx(ctx, tx, audit.Entry{Who: by, What: audit.InvitationWithdrawn, Subject: subject(person)})
	})
	if err != nil {
		return fmt.Errorf("withdraw invitation: %w", err)
	}
	return nil
}
