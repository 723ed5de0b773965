package audit

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"vindu/protocol"
)

const (
	headEvery   = 24 * time.Hour
	headTimeout = 5 * time.Second // of the last head, while the server stops
)

// logName names the audit log in its heads.
const logName = "vindu-clinic-audit"

// headMessage is what the log line that carries a head says, headKey under which key.
const (
	headMessage = "signed head of the audit log: keep it elsewhere"
	headKey     = "head"
)

// Run writes the signed head to log now, daily, and once more when ctx ends. It returns nil.
func (l *Log) Run(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(headEvery)
	defer tick.Stop()
	for {
		l.tell(ctx, log)
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), headTimeout)
			defer cancel()
			l.tell(last, log)
			return nil
		case <-tick.C:
		}
	}
}

func (l *Log) tell(ctx context.Context, log *slog.Logger) {
	head, err := l.Head(ctx)
	switch {
	case err == nil:
		log.Info(headMessage, headKey, string(head))
	case ctx.Err() == nil:
		log.Error("the audit log's head cannot be signed", "error", err)
	}
}

// VerifierKey returns the public half of a log's key, in the form of golang.org/x/mod/sumdb/note. It is no secret: whoever keeps it
// elsewhere can verify heads without trusting what is on the server by then.
func VerifierKey(key protocol.Secret) (string, error) {
	malformed := errors.New("audit log: its key is malformed; restore it from a backup")
	parts := strings.SplitN(string(key), "+", 5) // PRIVATE+KEY+<name>+<hash>+<base64>
	if len(parts) != 5 {
		return "", malformed
	}
	b, err := base64.StdEncoding.DecodeString(parts[4])
	if err != nil || len(b) != 1+ed25519.SeedSize {
		return "", malformed
	}
	public, ok := ed25519.NewKeyFromSeed(b[1:]).Public().(ed25519.PublicKey)
	if !ok {
		return "", malformed
	}
	return note.NewEd25519VerifierKey(parts[2], public)
}

// FindHeads returns the heads in text: a head itself, or the log of a server, in either of its forms, with as many as Run wrote there.
func FindHeads(text []byte) [][]byte {
	if s := string(text); strings.HasPrefix(s, logName+"\n") {
		return [][]byte{text}
	}
	var heads [][]byte
	for line := range strings.Lines(string(text)) {
		for _, before := range []string{headKey + "=", strconv.Quote(headKey) + ":"} {
			_, rest, found := strings.Cut(line, before+`"`+logName)
			if !found {
				continue
			}
			quoted, err := strconv.QuotedPrefix(`"` + logName + rest)
			if err != nil {
				continue
			}
			if head, err := strconv.Unquote(quoted); err == nil {
				heads = append(heads, []byte(head))
			}
		}
	}
	return heads
}
