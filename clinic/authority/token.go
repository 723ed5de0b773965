package authority

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"vindu/protocol"
)

// ErrToken is wrapped when a token does not sign.
var ErrToken = errors.New("token did not sign")

// tokenTime is how long a token may take for one signature: somebody may have to find it, touch it, and type a PIN.
const tokenTime = 2 * time.Minute

// Token is a signing key that never leaves its device: a smart card, a security module, a TPM. A program of the owner's choice speaks to the device. It is run for each
// signature by the shell, reads the SHA-256 digest (32 bytes) from standard input, and writes the ECDSA signature to standard output, as r‖s (64 bytes) as PKCS #11
// has it, or in DER (RFC 3279, section 2.2.3). What it says on standard error is shown, and it may ask for a PIN at its terminal.
type Token struct {
	public  *ecdsa.PublicKey
	command string
	said    io.Writer
}

// NewToken makes a token of the file with its public key, in PEM (SubjectPublicKeyInfo), and of a command. said gets what the command says.
func NewToken(public, command string, said io.Writer) (*Token, error) {
	b, err := os.ReadFile(public)
	if err != nil {
		return nil, fmt.Errorf("read the token's public key: %w", err)
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != blockPublic || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("read the token's public key: %s is not one public key in PEM", public)
	}
	key, err := protocol.ParseKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the token's public key: %s: %w", public, err)
	}
	if strings.TrimSpace(command) == "" {
		return nil, errors.New("the token needs a command that signs")
	}
	return &Token{public: key, command: command, said: said}, nil
}

// Public implements crypto.Signer.
func (t *Token) Public() crypto.PublicKey { return t.public }

// Sign implements crypto.Signer. What the device returns is verified. Options may be nil, as COSE's library leaves them.
func (t *Token) Sign(_ io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if options != nil && options.HashFunc() != crypto.SHA256 || len(digest) != crypto.SHA256.Size() {
		return nil, fmt.Errorf("%w: it signs SHA-256 only", ErrToken)
	}
	ctx, cancel := context.WithTimeout(context.Background(), tokenTime)
	defer cancel()
	command := exec.CommandContext(ctx, "/bin/sh", "-c", t.command)
	command.WaitDelay = time.Second
	out := &bounded{limit: 256}
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(digest), out, t.said
	if err := command.Run(); err != nil {
		return nil, fmt.Errorf("%w: its command ended with %w", ErrToken, err)
	}
	signature := inDER(out.written)
	if !ecdsa.VerifyASN1(t.public, digest, signature) {
		return nil, fmt.Errorf("%w: what its command wrote (%d bytes) is no signature by the key %s", ErrToken, len(out.written), keyCode(t.public))
	}
	return signature, nil
}

// inDER turns r‖s of P-256 into DER; what is something else stays as it is, to be judged as that.
func inDER(signature []byte) []byte {
	if len(signature) != 64 {
		return signature
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[:32]))
		b.AddASN1BigInt(new(big.Int).SetBytes(signature[32:]))
	})
	if der, err := b.Bytes(); err == nil && !isDER(signature) {
		return der
	}
	return signature
}

// isDER tells whether it is a whole SEQUENCE already: rarely, one of DER has 64 bytes, too.
func isDER(b []byte) bool {
	in := cryptobyte.String(b)
	var sequence cryptobyte.String
	var r, s big.Int
	return in.ReadASN1(&sequence, asn1.SEQUENCE) && in.Empty() && sequence.ReadASN1Integer(&r) && sequence.ReadASN1Integer(&s) && sequence.Empty()
}

func keyCode(public *ecdsa.PublicKey) string {
	hash, err := protocol.HashKey(public)
	if err != nil {
		return "?"
	}
	return hash.Code()
}

// bounded keeps no more than so many bytes, and has what writes more fail.
type bounded struct {
	written []byte
	limit   int
}

func (b *bounded) Write(p []byte) (int, error) {
	if len(b.written)+len(p) > b.limit {
		return 0, fmt.Errorf("more than %d bytes", b.limit)
	}
	b.written = append(b.written, p...)
	return len(p), nil
}
