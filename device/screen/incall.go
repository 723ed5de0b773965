package screen

import (
	"image"
	"strconv"
	"strings"
	"time"
	"unicode"

	"vindu/protocol"
)

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
