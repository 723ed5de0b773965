package screen

import (
	"image"
	"image/color"
	"strconv"
	"strings"
	"time"

	"vindu/protocol"
)

// Kind is what the screen is about. A person sees only one thing at a time.
type Kind uint8

const (
	Starting Kind = iota
	NotSetUp
	Ready
	Ringing
	InCall
	Ended
	Checking
	Pressing
	Returned
	Lost    // its key or its enrolment is not there: it can only be given up
	Resting // Ready, in quiet hours: see Screen.Rest
)

// Curtain is whose curtain is drawn in a call.
type Curtain uint8

// While one is drawn, nobody sees or hears anybody.
const (
	NoCurtain     Curtain = iota
	DrawnHere             // by the person at the terminal, and perhaps by the caller, too
	DrawnByCaller         // alone
	Lifting               // none is any more, and camera and microphone open in a moment
)

// Scene is what is to be shown. The zero Scene is Starting.
type Scene struct {
	Kind       Kind
	Code       string           // NotSetUp, Pressing: the terminal's code, in groups. Lost: what a technician who asks for it compares, or ""
	Parties    []protocol.Party // Ringing, InCall, Ended: who takes part; the first is the caller (R12). Checking, Pressing: the technician
	Errand     string           // Ringing: why
	AnswersAt  time.Time        // Ringing: when the call is answered; zero if at once
	Notice     time.Duration    // Ringing: for so long before NoticeEnds it is told, one thing after the other, what this is
	NoticeEnds time.Time        // Ringing: zero if that is known here
	Ask        bool             // Ringing: it is not, unless somebody takes it
	Urgent     bool             // Ringing: the caller says so, and may
	CallCode   string           // Ringing, InCall: what the caller sees, too; "" until it is known
	Camera     bool             // InCall, Checking: it is on
	Microphone bool             // InCall, Checking: it is on
	SaidNo     bool             // Ended: the person at the terminal said no
	HungUp     bool             // Ended: the caller hung up
	Button     bool             // Ringing, InCall, Checking: there is one that says no
	Panel      bool             // there is a panel, so that each sentence says which of its two buttons is meant
	Covered    bool             // Ringing: the camera's shutter is closed, so that only the voice goes
	Offline    bool             // Ready: the clinic cannot be reached, so nobody can call
	Coming     Coming           // Ready: who has said to call
	NoSelf     bool             // InCall: the own picture is not shown, as some are disturbed by it
	Curtain    Curtain          // InCall: neither picture is shown while there is one
	Faults     []protocol.Code  // for a helper; the first that fits is shown
}

// Coming is a call that was announced. It is shown on its day, and for a while after its time: nobody is always punctual. The zero Coming is none.
type Coming struct {
	Name, Role string
	At         time.Time
}

const unpunctual = 15 * time.Minute

// shown tells whether a person is told at now.
func (c Coming) shown(now time.Time) bool {
	if c.At.IsZero() || c.Name == "" || now.Sub(c.At) >= unpunctual {
		return false
	}
	at := c.At.In(now.Location())
	return at.Year() == now.Year() && at.YearDay() == now.YearDay()
}

// The colours. Every text colour has a contrast of at least 7:1 on the ground (WCAG 2.2 §1.4.6).
var (
	ground    = color.RGBA{0x0c, 0x16, 0x20, 0xff}
	white     = color.RGBA{0xff, 0xff, 0xff, 0xff}
	soft      = color.RGBA{0xc4, 0xd2, 0xde, 0xff}
	warm      = color.RGBA{0xff, 0xd0, 0x70, 0xff}
	calm      = color.RGBA{0x9a, 0xe6, 0xb4, 0xff}
	panel     = color.RGBA{0x1c, 0x2c, 0x3c, 0xff}
	farGround = color.RGBA{0x05, 0x0a, 0x10, 0xff}
	black     = color.RGBA{0, 0, 0, 0xff}
	dim       = color.RGBA{0xa4, 0x96, 0x80, 0xff} // on black, in quiet hours
)

// element is one thing on the screen. What two scenes have in common is recognised by its key and not painted again.
type element struct {
	rect image.Rectangle
	key  string
	text bool
	draw func(img *image.RGBA)
}

// layout is a scene in its place. Elements do not overlap each other; texts overlap neither picture.
type layout struct {
	kind      Kind
	ground    color.RGBA
	elements  []element
	far, self image.Rectangle
}

// composer lays scenes out for one size and language.
type composer struct {
	face *typeface
	lang *Language
	size image.Point
	unit int // a hundredth of the shorter side
}

func newComposer(lang *Language, w, h int) (*composer, error) {
	face, err := newTypeface()
	if err != nil {
		return nil, err
	}
	return &composer{face: face, lang: lang, size: image.Pt(w, h), unit: max(min(w, h)/100, 1)}, nil
}

func (c *composer) portrait() bool { return c.size.Y > c.size.X }

// em returns a type size in hundredths of the shorter side, never too small to be read near by.
func (c *composer) em(hundredths float64) int {
	return max(int(hundredths*float64(min(c.size.X, c.size.Y))/100), 14)
}

func (c *composer) compose(s Scene, now time.Time) layout {
	l, t := layout{kind: s.Kind, ground: ground}, c.lang.text(s)
	switch s.Kind {
	case Starting:
		c.center(&l, line{t.Starting, bold, c.em(9), white, 2})
	case NotSetUp:
		above, below := c.halves(s.Code)
		c.center(&l,
			line{t.NotSetUp, bold, c.em(8), white, 3},
			line{t.NotSetUpHelp, regular, c.em(4.5), soft, 3},
			line{above, bold, c.em(11), warm, 1},
			line{below, bold, c.em(11), warm, 1},
		)
	case Lost:
		if s.Code == "" {
			c.center(&l,
				line{t.Lost, bold, c.em(8), white, 3},
				line{t.LostHelp, regular, c.em(4.5), soft, 5},
			)
			break
		}
		above, below := c.halves(s.Code)
		c.center(&l,
			line{t.Hold, bold, c.em(8), warm, 3},
			line{t.HoldHelp, regular, c.em(4.5), white, 5},
			line{above, bold, c.em(8), warm, 1},
			line{below, bold, c.em(8), warm, 1},
		)
	case Returned:
		c.center(&l,
			line{t.Returned, bold, c.em(8), white, 3},
			line{t.ReturnedHelp, regular, c.em(4.5), soft, 4},
			line{t.ReturnedAgain, regular, c.em(3.2), soft, 3},
		)
	case Ready:
		lines := 2 // for which there is room beside the bottom line
		if c.portrait() {
			lines = 4
		}
		c.center(&l,
			line{c.lang.day(now), bold, c.em(11), white, 2},
			line{now.Format("15:04"), bold, c.em(27), white, 1},
			line{c.lang.date(now), regular, c.em(8), soft, 1},
			line{c.lang.coming(s.Coming, now), bold, c.em(6), warm, lines},
		)
	case Resting:
		l.ground = black
		if brightness(s, now) == Dark {
			return l
		}
		c.center(&l,
			line{c.lang.day(now), bold, c.em(11), dim, 2},
			line{now.Format("15:04"), bold, c.em(27), dim, 1},
			line{c.lang.date(now), regular, c.em(8), dim, 1},
		)
	case Ringing:
		if card, ok := s.card(now); ok {
			c.told(&l, s, c.lang.cards(s)[card])
			break
		}
		c.ringing(&l, s, now)
	case InCall:
		c.inCall(&l, s)
	case Ended:
		said := c.lang.ended(s)
		lines := []line{{said[0], bold, c.em(12), white, 2}}
		for _, more := range said[1 : len(said)-1] {
			lines = append(lines, line{more, regular, c.em(6), soft, 2})
		}
		lines = append(lines, line{said[len(said)-1], bold, c.em(9), calm, 2})
		for _, more := range c.lang.later(s) {
			lines = append(lines, line{more, regular, c.em(6), soft, 2})
		}
		c.center(&l, lines...)
	case Pressing:
		who := first(s.Parties)
		c.center(&l,
			line{t.Press, bold, c.em(8), warm, 3},
			line{who.Name + ", " + fill(t.From, "role", who.Role, "organisation", who.Organisation), bold, c.em(4.2), white, 3},
			line{t.PressAllows, regular, c.em(4.2), soft, 4},
			line{t.PressHelp, regular, c.em(4.2), white, 3},
			line{fill(t.PressCode, "code", s.Code), regular, c.em(4.2), soft, 2},
		)
	case Checking:
		who, on := first(s.Parties), calm
		if s.Camera || s.Microphone {
			on = warm
		}
		from := ""
		if who.Name != "" {
			from = who.Name + ", " + fill(t.From, "role", who.Role, "organisation", who.Organisation)
		}
		c.center(&l,
			line{t.Checking, bold, c.em(9), white, 2},
			line{from, regular, c.em(4.5), soft, 2},
			line{c.lang.devices(s), bold, c.em(6), on, 2},
			line{c.button(s, t.StopCheck), regular, c.em(4.5), white, 2},
		)
	}
	if s.Kind != Ringing && s.Kind != InCall { // both have their own
		c.bottomLine(&l, s)
	}
	return l
}

// halves breaks a code where a high screen has no room for it on one line.
func (c *composer) halves(code string) (above, below string) {
	half := (len(code) + 1) / 2
	if i := strings.LastIndex(code[:min(half, len(code))], "-"); c.portrait() && i > 0 {
		return code[:i], code[i+1:]
	}
	return code, ""
}

// button is what the button does, where there is one.
func (c *composer) button(s Scene, text string) string {
	if !s.Button {
		return ""
	}
	return text
}

// callCode says the code that the caller sees, too.
func (c *composer) callCode(s Scene) string {
	if s.CallCode == "" {
		return ""
	}
	return fill(c.lang.Text.CallCode, "code", s.CallCode)
}

// line is a text with its looks.
type line struct {
	text   string
	w      weight
	size   int
	colour color.RGBA
	max    int // lines it may take
}

func (c *composer) margin() int { return 4 * c.unit }

// center puts lines one under the other in the middle of what is above the bottom line.
func (c *composer) center(l *layout, lines ...line) {
	area := image.Rectangle{Max: c.size}.Inset(c.margin())
	area.Max.Y -= lineHeight(c.em(3.2))
	gap := 3 * c.unit
	var blocks []block
	height := -gap
	for _, t := range lines {
		b := c.face.fit(t.text, t.w, t.size, c.em(3), area.Dx(), t.max)
		blocks = append(blocks, b)
		if len(b.lines) > 0 {
			height += b.height + gap
		}
	}
	y := area.Min.Y + (area.Dy()-height)/2
	for i, b := range blocks {
		if len(b.lines) == 0 {
			continue
		}
		c.put(l, b, image.Rect(area.Min.X, y, area.Max.X, y+b.height), lines[i].colour, true)
		y += b.height + gap
	}
}

// put adds a block as one element; its rectangle is as wide as the area, so that a change of text stays inside it.
func (c *composer) put(l *layout, b block, rect image.Rectangle, colour color.RGBA, centered bool) {
	key := strings.Join(b.lines, "\n") + "|" + strconv.Itoa(b.size) + "|" + strconv.Itoa(int(b.w)) + "|" + strconv.Itoa(int(colour.R)<<8|int(colour.G))
	l.elements = append(l.elements, element{rect: rect, key: key, text: true, draw: func(img *image.RGBA) {
		for i, s := range b.lines {
			x := rect.Min.X
			if centered {
				x += (rect.Dx() - c.face.width(s, b.w, b.size)) / 2
			}
			c.face.draw(img, s, b.w, b.size, x, rect.Min.Y+i*lineHeight(b.size)+b.size, colour)
		}
	}})
}

// bottomLine says on the left how it is, and on the right what a helper should know. The code behind it, for a technician on the telephone,
// stands last and small, and only where nobody is in a call: it is no part of what the person at home is told.
func (c *composer) bottomLine(l *layout, s Scene) {
	area := image.Rectangle{Max: c.size}.Inset(c.margin())
	size := c.em(3.2)
	area.Min.Y = area.Max.Y - lineHeight(size)
	word, colour := "", soft
	if s.Kind == Ready && !s.Offline {
		word = c.lang.Text.Ready
	}
	split := area.Min.X
	if word != "" {
		dot := size * 3 / 10
		b := c.face.fit(word, bold, size, size, area.Dx()/3, 1)
		split += 3*dot + b.width + 4*c.unit
		rect := image.Rect(area.Min.X, area.Min.Y, split-4*c.unit, area.Max.Y)
		l.elements = append(l.elements, element{rect: rect, key: "ready|" + word, text: true, draw: func(img *image.RGBA) {
			disc(img, rect.Min.X+dot, rect.Min.Y+size*2/3, dot, calm)
			c.face.draw(img, word, bold, size, rect.Min.X+3*dot, rect.Min.Y+size, white)
		}})
	}
	if len(s.Faults) == 0 {
		return
	}
	if s.Kind == Resting {
		colour = dim
	}
	if s.Kind != Ended {
		small := min(c.em(2.2), size*7/10)
		b := c.face.fit(string(s.Faults[0]), regular, small, min(small, 10), (area.Max.X-split)/3, 1)
		c.put(l, b, image.Rect(area.Max.X-b.width, area.Max.Y-b.height, area.Max.X, area.Max.Y), colour, false)
		area.Max.X -= b.width + 2*c.unit
	}
	b := c.face.fit(c.lang.fault(s.Faults[0]), regular, size, 12, area.Max.X-split, 1)
	c.put(l, b, image.Rect(area.Max.X-b.width, area.Min.Y, area.Max.X, area.Max.Y), colour, false)
}

// column places texts one under the other. cut says that one had no room, or not for all of it; out, that one had none.
type column struct {
	c        *composer
	l        *layout
	area     image.Rectangle
	y        int
	cut, out bool
}

func (col *column) add(t line, gap int) {
	if t.text == "" {
		return
	}
	b := col.c.face.fit(t.text, t.w, t.size, min(t.size, col.c.em(2.8)), col.area.Dx(), t.max)
	y := col.y + gap
	if y+b.height > col.area.Max.Y {
		col.cut, col.out = true, true
		return
	}
	if len(b.lines) > 0 && strings.HasSuffix(b.lines[len(b.lines)-1], "…") {
		col.cut = true
	}
	col.c.put(col.l, b, image.Rect(col.area.Min.X, y, col.area.Max.X, y+b.height), t.colour, false)
	col.y = y + b.height
}

// spare is what may be cut short before everything else is made smaller, but not left out.
func (col *column) spare(t line, gap int) {
	was, y := col.cut, col.y
	col.add(t, gap)
	if t.text == "" || col.y > y {
		col.cut = was
	}
}
