package screen

import (
	"image"
	"image/color"
	"strconv"
	"strings"
	"time"
	"unicode"

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

// split divides the screen into the far picture and the area of the words: beside it, or in portrait below it.
func (c *composer) split() (far, words image.Rectangle) {
	m := c.margin()
	if c.portrait() {
		h := min(c.size.X*3/4, c.size.Y*6/10)
		return image.Rect(0, 0, c.size.X, even(h)), image.Rect(m, h+m, c.size.X-m, c.size.Y-m)
	}
	w := min(c.size.Y*4/3, c.size.X*3/4)
	return image.Rect(0, 0, even(w), c.size.Y), image.Rect(w+m, m, c.size.X-m, c.size.Y-m)
}

func even(n int) int { return n &^ 1 }

func (c *composer) ringing(l *layout, s Scene, now time.Time) {
	t := c.lang.text(s)
	far, words := c.split()
	l.far = far
	caller := first(s.Parties)
	c.placeholder(l, far, caller.Name)

	left := 0
	if !s.AnswersAt.IsZero() {
		left = int((s.AnswersAt.Sub(now) + time.Second - 1) / time.Second)
	}
	text := t.Answering
	switch {
	case left == 1:
		text = t.AnswersInOne
	case left > 1:
		text = fill(t.AnswersIn, "seconds", strconv.Itoa(left))
	}
	below, widest := []line{{text, regular, c.em(4.2), soft, 4}, {t.NothingToDo, regular, c.em(4.2), calm, 3}}, fill(t.AnswersIn, "seconds", "88")
	if s.Ask {
		below, widest = []line{{t.Take, regular, c.em(4.2), calm, 4}}, ""
	}
	if s.Covered { // before anything opens, and where no voice says it
		below = append([]line{{t.Covered, regular, c.em(4.2), white, 3}}, below...)
	}
	no := c.button(s, t.SayNo)
	if s.Ask { // one thing to do at a time: where it has to be taken, nothing is needed to say no
		no = ""
	}
	words.Max.Y = c.below(l, words, append(below,
		line{no, regular, c.em(4.2), white, 3},
		line{c.callCode(s), regular, c.em(2.8), soft, 2},
	), widest)
	c.above(l, words, func(col *column, scale float64, lines int) {
		col.add(line{fill(t.Calling, "name", caller.Name), bold, c.em(7.5 * scale), warm, lines + 1}, 0)
		if s.Urgent {
			col.add(line{t.Urgent, bold, c.em(4.2 * scale), warm, lines}, c.unit)
		}
		col.add(line{fill(t.From, "role", caller.Role, "organisation", caller.Organisation), regular, c.em(4.2 * scale), white, lines}, 2*c.unit)
		for _, p := range rest(s.Parties) {
			col.add(line{p.Name + ", " + p.Role, regular, c.em(3.6 * scale), white, lines}, c.unit)
		}
		col.spare(line{s.Errand, bold, c.em(4.2 * scale), white, lines}, 3*c.unit)
	})
}

func (c *composer) inCall(l *layout, s Scene) {
	far, words := c.split()
	if s.Curtain == NoCurtain {
		l.far = far
		c.placeholder(l, far, first(s.Parties).Name)
	} else {
		c.curtain(l, far, s)
	}

	m := c.margin()
	var self image.Rectangle
	switch {
	case s.NoSelf || s.Curtain != NoCurtain:
	case c.portrait():
		w := even(words.Dx() * 2 / 5)
		self = image.Rect(0, 0, w, even(w*3/4)).Add(image.Pt(even(words.Max.X-w), even(words.Min.Y)))
		words.Max.X = self.Min.X - m
	default:
		w := even(words.Dx())
		self = image.Rect(0, 0, w, even(w*3/4)).Add(image.Pt(even(words.Min.X), even(words.Min.Y)))
		words.Min.Y = self.Max.Y + 2*c.unit
	}
	if s.Camera && !s.NoSelf && s.Curtain == NoCurtain {
		l.self = self
		l.elements = append(l.elements, element{rect: self, key: "self", draw: func(img *image.RGBA) { fillRect(img, self, panel) }})
	}

	t := c.lang.text(s)
	below := []line{{c.lang.devices(s), bold, c.em(4.2), warm, 4}}
	for _, f := range s.Faults {
		// That something is a test has been said.
		if f != protocol.CaptureTestPicture && f != protocol.CaptureTestSound && len(below) < 3 {
			below = append(below, line{c.lang.fault(f), regular, c.em(2.8), soft, 3})
		}
	}
	deed := c.button(s, t.EndCall)
	if s.Curtain == DrawnHere { // one thing to do at a time
		deed = t.OpenCurtain
	}
	below = append(below, line{deed, regular, c.em(3.6), white, 3}, line{c.callCode(s), regular, c.em(2.8), soft, 2})
	words.Max.Y = c.below(l, words, below, "")
	c.above(l, words, func(col *column, scale float64, lines int) {
		if scale == 1 {
			col.add(line{t.TalkingWith, regular, c.em(3.6), soft, 2}, 0)
		}
		for i, p := range s.Parties {
			size := 5.6
			if i > 0 {
				size = 4.2
			}
			col.add(line{p.Name, bold, c.em(size * scale), white, lines}, c.unit)
			role := p.Role
			if i == 0 || p.Organisation != s.Parties[0].Organisation {
				role = fill(t.From, "role", p.Role, "organisation", p.Organisation)
			}
			if scale > 0.6 || i == 0 {
				col.add(line{role, regular, c.em(3.6 * scale), soft, lines}, 0)
			}
		}
	})
}

// below places lines at the lower end of area and returns where the rest ends. They always fit. The first has room for widest, so
// that nothing moves while it changes.
func (c *composer) below(l *layout, area image.Rectangle, lines []line, widest string) int {
	probe := &column{c: c, l: &layout{}, area: area, y: area.Min.Y}
	for i, t := range lines {
		if i == 0 && len(widest) > len(t.text) {
			t.text = widest
		}
		probe.add(t, c.unit)
	}
	top := area.Max.Y - (probe.y - area.Min.Y)
	col := &column{c: c, l: l, area: area, y: top}
	for _, t := range lines {
		col.add(t, c.unit)
	}
	return top - c.unit
}

// above places what texts adds from the upper end of area, in smaller type and fewer lines until all of it is there; if it never is, until at least nothing is left out.
func (c *composer) above(l *layout, area image.Rectangle, texts func(col *column, scale float64, lines int)) {
	place := func(l *layout, scale float64, lines int) *column {
		col := &column{c: c, l: l, area: area, y: area.Min.Y}
		texts(col, scale, lines)
		return col
	}
	for _, good := range []func(*column) bool{func(col *column) bool { return !col.cut }, func(col *column) bool { return !col.out }} {
		for _, scale := range []float64{1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3} {
			for lines := 4; lines > 0; lines-- {
				if good(place(&layout{}, scale, lines)) {
					place(l, scale, lines)
					return
				}
			}
		}
	}
	place(l, 0.3, 1)
}

// curtain is what is seen in place of the pictures while one is drawn: folds, and whose it is.
func (c *composer) curtain(l *layout, rect image.Rectangle, s Scene) {
	said := c.lang.curtain(s)
	key := "curtain|" + strings.Join(said, "|")
	var blocks []block
	height, gap := 0, 3*c.unit
	for i, text := range said {
		w, size := bold, c.em(7)
		if i > 0 {
			w, size = regular, c.em(4.5)
		}
		b := c.face.fit(text, w, size, c.em(3), rect.Dx()-2*c.margin(), 4)
		blocks = append(blocks, b)
		height += b.height + gap
	}
	l.elements = append(l.elements, element{rect: rect, key: key, draw: func(img *image.RGBA) {
		fillRect(img, rect, farGround)
		fold := max(rect.Dx()/14, 2)
		for x := rect.Min.X; x < rect.Max.X; x += 2 * fold {
			fillRect(img, image.Rect(x, rect.Min.Y, min(x+fold, rect.Max.X), rect.Max.Y), ground)
		}
		y := rect.Min.Y + (rect.Dy()-height+gap)/2
		for _, b := range blocks {
			for i, text := range b.lines {
				c.face.draw(img, text, b.w, b.size, rect.Min.X+(rect.Dx()-c.face.width(text, b.w, b.size))/2, y+i*lineHeight(b.size)+b.size, white)
			}
			y += b.height + gap
		}
	}})
}

// placeholder is what is seen until the picture comes: the caller's initials.
func (c *composer) placeholder(l *layout, rect image.Rectangle, name string) {
	initials := initials(name)
	size := min(rect.Dx(), rect.Dy()) / 6
	l.elements = append(l.elements, element{rect: rect, key: "placeholder|" + initials, draw: func(img *image.RGBA) {
		fillRect(img, rect, farGround)
		centre := rect.Min.Add(rect.Size().Div(2))
		disc(img, centre.X, centre.Y, size*3/2, panel)
		w := c.face.width(initials, bold, size)
		c.face.draw(img, initials, bold, size, centre.X-w/2, centre.Y+size*35/100, soft)
	}})
}

func first(p []protocol.Party) protocol.Party {
	if len(p) == 0 {
		return protocol.Party{}
	}
	return p[0]
}

func rest(p []protocol.Party) []protocol.Party {
	if len(p) == 0 {
		return nil
	}
	return p[1:]
}

func initials(name string) string {
	words := strings.Fields(name)
	if len(words) > 2 {
		words = []string{words[0], words[len(words)-1]}
	}
	var b strings.Builder
	for _, w := range words {
		for _, r := range w {
			b.WriteRune(unicode.ToUpper(r))
			break
		}
	}
	return b.String()
}
