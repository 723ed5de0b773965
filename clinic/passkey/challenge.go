package passkey

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

var (
	// ErrCeremony is wrapped when a challenge is not of this server, was for something else, is used or has expired.
	ErrCeremony = errors.New("not begun here, finished already, or too late")
	// ErrBusy is wrapped when too many ceremonies were finished within their time.
	ErrBusy = errors.New("too many passkeys used at once")
)

const (
	// ceremonyLife is how long a challenge is good for; browserTimeout is when browsers give up, before it.
	ceremonyLife   = 3 * time.Minute
	browserTimeout = 2 * time.Minute
	// maxUsed bounds the challenges that are remembered: over 90 in each second of ceremonyLife.
	maxUsed = 1 << 14

	nonceBytes     = 12
	timeBytes      = 4
	macBytes       = 16
	challengeBytes = nonceBytes + timeBytes + macBytes // as many as a protocol.Hash has
)

// What a challenge is for. One for one thing proves nothing for another.
const (
	forSignIn  = "sign in"
	forTouch   = "touch"      // by the person of a session
	forInvited = "invitation" // registration under an invitation
	forAnother = "another"    // registration by the person of a session
)

type nonce [nonceBytes]byte

// challenges makes and checks challenges. It is safe for concurrent use.
type challenges struct {
	key [sha256.Size]byte

	mu   sync.Mutex
	used map[nonce]time.Time // until when
}

func newChallenges() *challenges {
	c := &challenges{used: map[nonce]time.Time{}}
	rand.Read(c.key[:])
	return c
}

func (c *challenges) mac(purpose, subject string, nonceAndTime []byte) []byte {
	m := hmac.New(sha256.New, c.key[:])
	for _, s := range []string{purpose, subject} {
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		m.Write([]byte(s))
	}
	m.Write(nonceAndTime)
	return m.Sum(nil)[:macBytes]
}

// make returns a challenge for one purpose of one subject.
func (c *challenges) make(purpose, subject string, now time.Time) []byte {
	b := make([]byte, nonceBytes, challengeBytes)
	rand.Read(b)
	b = binary.BigEndian.AppendUint32(b, uint32(now.Add(ceremonyLife).Unix()))
	return append(b, c.mac(purpose, subject, b)...)
}

// check reports whether a challenge was made here for this and has not expired. The error wraps ErrCeremony.
func (c *challenges) check(challenge []byte, purpose, subject string, now time.Time) error {
	if len(challenge) != challengeBytes {
		return ErrCeremony
	}
	said, mac := challenge[:nonceBytes+timeBytes], challenge[nonceBytes+timeBytes:]
	if !hmac.Equal(mac, c.mac(purpose, subject, said)) || !now.Before(expiry(challenge)) {
		return ErrCeremony
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, used := c.used[nonce(challenge[:nonceBytes])]; used {
		return ErrCeremony
	}
	return nil
}

func expiry(challenge []byte) time.Time {
	return time.Unix(int64(binary.BigEndian.Uint32(challenge[nonceBytes:])), 0)
}

// use uses a challenge that was checked up: of any number at once, one succeeds. The error wraps ErrCeremony or ErrBusy.
func (c *challenges) use(challenge []byte, now time.Time) error {
	n := nonce(challenge[:nonceBytes])
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, used := c.used[n]; used {
		return ErrCeremony
	}
	if len(c.used) >= maxUsed {
		for other, until := range c.used {
			if !now.Before(until) {
				delete(c.used, other)
			}
		}
		if len(c.used) >= maxUsed {
			return ErrBusy
		}
	}
	c.used[n] = expiry(challenge)
	return nil
}
