// Package speech has words spoken by a synthesiser, which is a program of its own behind a Unix socket.
//
// The terminal starts no programs, and the synthesiser in use (espeak-ng, GPL-3) is not linked: who listens at the socket starts it for one text at a time,
// with no rights (docs/dependencies.md). So a synthesiser that hangs, crashes or is taken over costs the voice, and nothing else.
//
// One connection is one text: SSML 1.1 in UTF-8, up to the end of the sender's half; back comes a RIFF WAVE file, PCM, one channel, 16 bits, up to the end. In the
// SSML are one <speak> with xml:lang and one <prosody> with the rate; the text is escaped, so no element comes out of a name. What comes back is
// bounded, judged as hostile, brought to 48 kHz and to one loudness, and begins and ends without a click. A better voice is another program at the same socket, or another
// type with the method Speak.
package speech

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

var (
	// ErrUnreachable: nobody answers at the socket, or not in time.
	ErrUnreachable = errors.New("no speech synthesiser answers")
	// ErrAnswer: what came back is no sound.
	ErrAnswer = errors.New("the speech synthesiser answers with what is no sound")
	// ErrText: there is nothing in the text to say, or it is too long.
	ErrText = errors.New("text that cannot be said")
)

const (
	// Timeout is how long one text may take.
	Timeout = 5 * time.Second
	// MaxText is how many bytes a text may have.
	MaxText = 1000
	// maxSeconds is how long what comes back may be.
	maxSeconds = 30
)

// Synthesiser speaks by a socket. Its methods may be called from any goroutine.
type Synthesiser struct {
	Socket string // path of the Unix socket
	Speed  int    // percent; 0: 100
}

// languages are those which are said by another one's voice. Nynorsk has none; without this it would be read as English.
var languages = map[string]string{"nn": "nb"}

// Speak returns the text as it is said in a language (BCP 47), at 48 kHz. It gives up when ctx ends, and after Timeout.
func (s *Synthesiser) Speak(ctx context.Context, language, text string) ([]int16, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	document, err := ssml(language, text, s.Speed)
	if err != nil {
		return nil, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", s.Socket)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := io.WriteString(conn, document); err != nil {
		return nil, fmt.Errorf("%w: send the text: %w", ErrUnreachable, err)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return nil, fmt.Errorf("%w: end the text: %w", ErrUnreachable, err)
		}
	}
	samples, rate, err := Decode(conn)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, ctx.Err())
	}
	if err != nil {
		return nil, err
	}
	return finish(resample(samples, rate))
}

// ssml is what is sent for a text. Of the text there is nothing in it that could be taken for markup, and nothing that is no character in XML 1.0.
func ssml(language, text string, speed int) (string, error) {
	if len(text) > MaxText || !utf8.ValidString(text) {
		return "", fmt.Errorf("%w: %d bytes, at most %d of UTF-8", ErrText, len(text), MaxText)
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == 0xFFFE || r == 0xFFFF {
			return ' '
		}
		return r
	}, text)
	if !strings.ContainsFunc(text, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) }) {
		return "", fmt.Errorf("%w: no letter in it", ErrText)
	}
	if spoken := languages[language]; spoken != "" {
		language = spoken
	}
	if language == "" || strings.ContainsFunc(language, func(r rune) bool { return r != '-' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') }) {
		return "", fmt.Errorf("%w: %q is no language", ErrText, language)
	}
	if speed == 0 {
		speed = 100
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<speak version="1.1" xmlns="http://www.w3.org/2001/10/synthesis" xml:lang="%s"><prosody rate="%d%%">`, language, speed)
	if err := xml.EscapeText(&b, []byte(text)); err != nil {
		return "", fmt.Errorf("%w: %w", ErrText, err)
	}
	b.WriteString("</prosody></speak>\n")
	return b.String(), nil
}
