package screen

import (
	_ "embed" // the typeface
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"strings"
	"unicode"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
	"golang.org/x/text/unicode/norm"
)

// Atkinson Hyperlegible Next is made for readers with low vision; its licence (SIL OFL 1.1) is in font/OFL.txt. The files are the
// latin and latin-ext subsets of fontsource, unpacked from WOFF. It has no Ŋ and no Ŧ, which Northern Sámi needs: those, and Greek and Cyrillic, are the Go fonts'.
var (
	//go:embed font/AtkinsonHyperlegibleNext-Regular.ttf
	regularLatin []byte
	//go:embed font/AtkinsonHyperlegibleNext-Regular-Ext.ttf
	regularExtended []byte
	//go:embed font/AtkinsonHyperlegibleNext-Bold.ttf
	boldLatin []byte
	//go:embed font/AtkinsonHyperlegibleNext-Bold-Ext.ttf
	boldExtended []byte
)

type weight uint8

const (
	regular weight = iota
	bold
)

// typeface draws text. For one goroutine.
type typeface struct {
	fonts [2][3]*sfnt.Font // by weight; in the order in which they are asked for a letter
	faces map[faceKey]font.Face
	steps map[stepKey]step
	buf   sfnt.Buffer
}

// step is how a rune follows another: found once, since breaking lines asks again and again.
type step struct {
	font          int8
	kern, advance fixed.Int26_6
}

type stepKey struct {
	w       weight
	size    int32
	last, r rune
}

type faceKey struct {
	w     weight
	which int
	size  int // pixels per em
}

func newTypeface() (*typeface, error) {
	t := &typeface{faces: map[faceKey]font.Face{}, steps: map[stepKey]step{}}
	for w, files := range [2][3][]byte{{regularLatin, regularExtended, goregular.TTF}, {boldLatin, boldExtended, gobold.TTF}} {
		for i, b := range files {
			f, err := sfnt.Parse(b)
			if err != nil {
				return nil, fmt.Errorf("typeface: %w", err)
			}
			t.fonts[w][i] = f
		}
	}
	return t, nil
}

func (t *typeface) face(w weight, which, size int) font.Face {
	key := faceKey{w, which, size}
	if f := t.faces[key]; f != nil {
		return f
	}
	f, err := opentype.NewFace(t.fonts[w][which], &opentype.FaceOptions{Size: float64(size), DPI: 72, Hinting: font.HintingNone})
	if err != nil {
		panic(err) // fonts that parsed, options that are constant: cannot happen
	}
	if len(t.faces) > 64 { // sizes of one screen are few; this bounds odd use
		clear(t.faces)
	}
	t.faces[key] = f
	return f
}

// which returns the first font that has r, and the first of all where none has: it shows that something is missing.
func (t *typeface) which(w weight, r rune) int {
	for i, f := range t.fonts[w] {
		if g, err := f.GlyphIndex(&t.buf, r); err == nil && g != 0 {
			return i
		}
	}
	return 0
}

// step returns how r follows last (0: nothing).
func (t *typeface) step(w weight, size int, last, r rune) step {
	key := stepKey{w, int32(size), last, r}
	if s, ok := t.steps[key]; ok {
		return s
	}
	which := t.which(w, r)
	face := t.face(w, which, size)
	s := step{font: int8(which)}
	s.advance, _ = face.GlyphAdvance(r)
	if last != 0 && t.which(w, last) == which {
		s.kern = face.Kern(last, r)
	}
	if len(t.steps) > 8192 { // many more than a screen's texts have
		clear(t.steps)
	}
	t.steps[key] = s
	return s
}

// each calls f with every rune, the face that has it and where it goes, kerning included.
func (t *typeface) each(s string, w weight, size int, f func(r rune, face font.Face, x fixed.Int26_6)) fixed.Int26_6 {
	var x fixed.Int26_6
	var last rune
	for _, r := range s {
		if unicode.IsSpace(r) { // of which typefaces have but one
			r = ' '
		}
		step := t.step(w, size, last, r)
		x += step.kern
		if f != nil {
			f(r, t.face(w, int(step.font), size), x)
		}
		x += step.advance
		last = r
	}
	return x
}

func (t *typeface) width(s string, w weight, size int) int { return t.each(s, w, size, nil).Ceil() }

// draw draws one line with its baseline at y.
func (t *typeface) draw(img draw.Image, s string, w weight, size, x, y int, c color.Color) {
	src := image.NewUniform(c)
	t.each(s, w, size, func(r rune, face font.Face, at fixed.Int26_6) {
		rect, mask, maskp, _, ok := face.Glyph(fixed.Point26_6{X: fixed.I(x) + at, Y: fixed.I(y)}, r)
		if ok {
			draw.DrawMask(img, rect, src, image.Point{}, mask, maskp, draw.Over)
		}
	})
}

// block is text that was broken into lines for a width.
type block struct {
	lines  []string
	w      weight
	size   int // pixels per em
	width  int
	height int
}

// lineHeight is 1.25 em: enough for Å over g.
func lineHeight(size int) int { return (size*5 + 3) / 4 }

// fit breaks s into at most lines lines of at most width pixels, at the largest size from size down to 60 % of it (never under
// least) at which it fits; what still does not fit is cut with an ellipsis.
func (t *typeface) fit(s string, w weight, size, least, width, lines int) block {
	s = norm.NFC.String(s) // a letter and its accent that come apart are one glyph
	least = max(least, size*6/10)
	for at := size; ; at = max(at*19/20, least) {
		broken, fits := t.wrap(s, w, at, width, lines)
		if fits || at <= least {
			b := block{lines: broken, w: w, size: at, height: len(broken) * lineHeight(at)}
			for _, l := range broken {
				b.width = max(b.width, t.width(l, w, at))
			}
			return b
		}
		if at == 1 {
			return block{}
		}
	}
}

// breakable tells whether a line may end at r: at spaces, but for those that are there to hold together what stands on both sides (UAX #14, class GL).
func breakable(r rune) bool {
	return unicode.IsSpace(r) && r != '\u00a0' && r != '\u202f' && r != '\u2007'
}

// wrap breaks at spaces, and inside words only where a word alone is too wide: after a hyphen if there is one.
func (t *typeface) wrap(s string, w weight, size, width, lines int) ([]string, bool) {
	var out []string
	line := ""
	fits := true
	for _, word := range strings.FieldsFunc(s, breakable) {
		joined := word
		if line != "" {
			joined = line + " " + word
		}
		if t.width(joined, w, size) <= width {
			line = joined
			continue
		}
		if line != "" {
			out = append(out, line)
		}
		line = word
		for t.width(line, w, size) > width {
			fits = false
			head := t.cut(line, w, size, width)
			if len(head) == len(line) {
				break
			}
			out = append(out, head)
			line = line[len(head):]
		}
	}
	if line != "" {
		out = append(out, line)
	}
	if len(out) > lines {
		fits = false
		out = out[:lines]
		last := out[lines-1]
		for last != "" && t.width(last+"…", w, size) > width {
			r := []rune(last)
			last = strings.TrimRight(string(r[:len(r)-1]), " ")
		}
		out[lines-1] = last + "…"
	}
	return out, fits
}

// cut returns the longest beginning of s that is no wider than width, at least one rune, up to its last hyphen if it has one.
func (t *typeface) cut(s string, w weight, size, width int) string {
	end := 0
	for i, r := range s {
		next := i + len(string(r))
		if end > 0 && t.width(s[:next], w, size) > width {
			break
		}
		end = next
	}
	if hyphen := strings.LastIndexByte(s[:end], '-'); end < len(s) && hyphen > 0 {
		end = hyphen + 1
	}
	return s[:end]
}
