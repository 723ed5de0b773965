package screen

import (
	"bytes"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var update = flag.Bool("update", false, "write the golden images anew; look at each of them before committing")

var noon = time.Date(2026, 11, 24, 10, 24, 30, 0, time.UTC) // a Tuesday

var (
	anne   = protocol.Party{Name: "Anne Berg", Role: "nurse", Organisation: "Åsane home care"}
	relief = protocol.Party{Name: "Øystein Håkonsen-Sjursæther", Role: "interpreter, Tigrinya", Organisation: "Tolketjenesten"}
	son    = protocol.Party{Name: "Per Aasen", Role: "relative", Organisation: "Åsane home care"}
	long   = protocol.Party{
		Name: "Bartholomeus Konstantin Wilhelmsen-Fredriksborg the Third of Nordfjordeid", Role: "senior consultant in geriatric medicine and rehabilitation",
		Organisation: "Helse Bergen Haukeland University Hospital, Department of Geriatrics",
	}
)

func scenes() map[string]Scene {
	return map[string]Scene{
		"starting":      {},
		"resting":       {Kind: Resting},
		"resting-fault": {Kind: Resting, Faults: []protocol.Code{protocol.LinkUnreachable}},
		"ready-coming":  {Kind: Ready, Coming: Coming{Name: "Anne Berg", Role: "nurse", At: time.Date(2026, 11, 24, 15, 0, 0, 0, time.UTC)}},
		"ready-coming-long": {Kind: Ready, Faults: []protocol.Code{protocol.LinkUnreachable}, Offline: true, Coming: Coming{
			Name: long.Name, Role: long.Role, At: time.Date(2026, 11, 24, 14, 20, 0, 0, time.UTC),
		}},
		"in-call-no-self": {Kind: InCall, Parties: []protocol.Party{anne}, Camera: true, Microphone: true, NoSelf: true},
		"not-set-up":      {Kind: NotSetUp, Code: "ABCD-EFGH-IJKL-MNOP", Faults: []protocol.Code{protocol.IdentityNone}},
		"returned":        {Kind: Returned},
		"lost":            {Kind: Lost, Faults: []protocol.Code{protocol.IdentityTPMCleared}},
		"lost-hold":       {Kind: Lost, Code: "ABCD-EFGH-IJKL-MNOP", Faults: []protocol.Code{protocol.IdentityDamaged}},
		"ready":           {Kind: Ready},
		"ready-offline":   {Kind: Ready, Offline: true, Faults: []protocol.Code{protocol.LinkUnreachable}},
		"ready-test":      {Kind: Ready, Faults: []protocol.Code{protocol.CaptureTestPicture}},
		"ringing":         {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", AnswersAt: noon.Add(5 * time.Second)},
		"told-what":       {Kind: Ringing, Parties: []protocol.Party{anne}, AnswersAt: noon.Add(33 * time.Second), Notice: 28 * time.Second, NoticeEnds: noon.Add(28 * time.Second)},
		"told-how":        {Kind: Ringing, Parties: []protocol.Party{anne}, AnswersAt: noon.Add(26 * time.Second), Notice: 28 * time.Second, NoticeEnds: noon.Add(21 * time.Second)},
		"told-private":    {Kind: Ringing, Parties: []protocol.Party{long}, AnswersAt: noon.Add(19 * time.Second), Notice: 28 * time.Second, NoticeEnds: noon.Add(14 * time.Second), Button: true},
		"told-no":         {Kind: Ringing, Parties: []protocol.Party{anne}, AnswersAt: noon.Add(12 * time.Second), Notice: 28 * time.Second, NoticeEnds: noon.Add(7 * time.Second)},
		"told-no-button":  {Kind: Ringing, Parties: []protocol.Party{anne}, AnswersAt: noon.Add(6 * time.Second), Notice: 28 * time.Second, NoticeEnds: noon.Add(time.Second), Button: true},
		"told-no-ask":     {Kind: Ringing, Parties: []protocol.Party{anne}, Notice: 28 * time.Second, NoticeEnds: noon.Add(time.Second), Button: true, Ask: true},
		"told-ask":        {Kind: Ringing, Parties: []protocol.Party{anne}, Notice: 28 * time.Second, NoticeEnds: noon.Add(20 * time.Second), Button: true, Ask: true},
		"ringing-now":     {Kind: Ringing, Parties: []protocol.Party{anne}},
		"ringing-long":    {Kind: Ringing, Parties: []protocol.Party{long, relief, son}, Errand: strings.Repeat("A talk about the medicine and the stairs. ", 5), AnswersAt: noon.Add(15 * time.Second)},
		"in-call":         {Kind: InCall, Parties: []protocol.Party{anne}, Camera: true, Microphone: true},
		"in-call-fault":   {Kind: InCall, Parties: []protocol.Party{anne}, Microphone: true, Faults: []protocol.Code{protocol.CaptureCameraGone}},
		"in-call-test": {Kind: InCall, Parties: []protocol.Party{anne, relief}, Camera: true, Microphone: true, Faults: []protocol.Code{
			protocol.CaptureTestPicture, protocol.CaptureTestSound,
		}},
		"in-call-long":           {Kind: InCall, Parties: []protocol.Party{long, relief, son, long}, Camera: true, Microphone: true, Faults: []protocol.Code{"quality.unheard_of"}},
		"ended":                  {Kind: Ended},
		"ended-hung":             {Kind: Ended, Parties: []protocol.Party{anne}, HungUp: true},
		"ended-lost":             {Kind: Ended, Parties: []protocol.Party{anne}, Faults: []protocol.Code{protocol.ICELost}},
		"ended-no":               {Kind: Ended, SaidNo: true},
		"checking":               {Kind: Checking, Parties: []protocol.Party{{Name: "Bo Dahl", Role: "technician", Organisation: "Åsane home care"}}},
		"checking-button":        {Kind: Checking, Parties: []protocol.Party{anne}, Camera: true, Microphone: true, Button: true},
		"ringing-button":         {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", AnswersAt: noon.Add(5 * time.Second), Button: true},
		"ringing-long-button":    {Kind: Ringing, Parties: []protocol.Party{long, relief, son}, Errand: strings.Repeat("A talk about the medicine and the stairs. ", 5), Button: true},
		"in-call-button":         {Kind: InCall, Parties: []protocol.Party{anne}, Camera: true, Microphone: true, Button: true},
		"in-call-long-button":    {Kind: InCall, Parties: []protocol.Party{long, relief, son, long}, Camera: true, Faults: []protocol.Code{protocol.CaptureNoMicrophone, "quality.unheard_of"}, Button: true},
		"ringing-urgent":         {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", AnswersAt: noon.Add(5 * time.Second), Button: true, Urgent: true, CallCode: "482 193"},
		"ringing-covered":        {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", AnswersAt: noon.Add(5 * time.Second), Button: true, Covered: true, CallCode: "482 193"},
		"ringing-ask-covered":    {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", Button: true, Ask: true, Covered: true, CallCode: "482 193"},
		"ringing-ask":            {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", Button: true, Ask: true, CallCode: "482 193"},
		"ringing-long-urgent":    {Kind: Ringing, Parties: []protocol.Party{long, relief, son}, Errand: strings.Repeat("A talk about the medicine and the stairs. ", 5), Button: true, Ask: true, Urgent: true, CallCode: "482 193"},
		"in-call-code":           {Kind: InCall, Parties: []protocol.Party{anne}, Camera: true, Microphone: true, Button: true, CallCode: "482 193"},
		"in-call-long-code":      {Kind: InCall, Parties: []protocol.Party{long, relief, son, long}, Camera: true, Faults: []protocol.Code{protocol.CaptureNoMicrophone, "quality.unheard_of"}, Button: true, CallCode: "482 193"},
		"in-call-curtain":        {Kind: InCall, Parties: []protocol.Party{anne}, Button: true, CallCode: "482 193", Curtain: DrawnHere},
		"in-call-curtain-caller": {Kind: InCall, Parties: []protocol.Party{anne}, Button: true, CallCode: "482 193", Curtain: DrawnByCaller},
		"in-call-curtain-long":   {Kind: InCall, Parties: []protocol.Party{long, relief, son, long}, Button: true, CallCode: "482 193", Curtain: DrawnByCaller},
		"in-call-lifting":        {Kind: InCall, Parties: []protocol.Party{anne}, Button: true, CallCode: "482 193", Curtain: Lifting},
		"pressing":               {Kind: Pressing, Code: "ABCD-EFGH-IJKL-MNOP", Parties: []protocol.Party{{Name: "Bo Dahl", Role: "technician", Organisation: "Åsane home care"}}},
		"ringing-sami": {Kind: Ringing, Parties: []protocol.Party{{Name: "Áilu Guoŧŧol-Skáŋka", Role: "buohccidivššár", Organisation: "Deanu gielda, Ŋ-ŋ Ŧ-ŧ Čč Đđ Šš Žž"}}, Errand: "Buorre beaivi",
			AnswersAt: noon.Add(5 * time.Second)},
		"pressing-long":      {Kind: Pressing, Code: "ABCD-EFGH-IJKL-MNOP", Parties: []protocol.Party{long}},
		"told-no-panel":      {Kind: Ringing, Parties: []protocol.Party{anne}, AnswersAt: noon.Add(6 * time.Second), Notice: 28 * time.Second, NoticeEnds: noon.Add(time.Second), Button: true, Panel: true},
		"ringing-panel":      {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", AnswersAt: noon.Add(5 * time.Second), Button: true, Panel: true},
		"ringing-ask-panel":  {Kind: Ringing, Parties: []protocol.Party{anne}, Errand: "Morning medicine", Button: true, Ask: true, CallCode: "482 193", Panel: true},
		"in-call-panel":      {Kind: InCall, Parties: []protocol.Party{anne}, Camera: true, Microphone: true, Button: true, Panel: true},
		"in-call-long-panel": {Kind: InCall, Parties: []protocol.Party{long, relief, son, long}, Camera: true, Faults: []protocol.Code{protocol.CaptureNoMicrophone, "quality.unheard_of"}, Button: true, CallCode: "482 193", Panel: true},
		"pressing-panel":     {Kind: Pressing, Code: "ABCD-EFGH-IJKL-MNOP", Parties: []protocol.Party{{Name: "Bo Dahl", Role: "technician", Organisation: "Åsane home care"}}, Panel: true},
		"checking-panel":     {Kind: Checking, Parties: []protocol.Party{anne}, Camera: true, Microphone: true, Button: true, Panel: true},
		"lost-panel":         {Kind: Lost, Faults: []protocol.Code{protocol.IdentityTPMCleared}, Panel: true},
		"lost-hold-panel":    {Kind: Lost, Code: "ABCD-EFGH-IJKL-MNOP", Faults: []protocol.Code{protocol.IdentityDamaged}, Panel: true},
		"returned-panel":     {Kind: Returned, Panel: true},
		"checking-on":        {Kind: Checking, Parties: []protocol.Party{long}, Camera: true},
	}
}

var sizes = []image.Point{{800, 480}, {1024, 600}, {1280, 720}, {1280, 800}, {1920, 1080}, {480, 800}, {720, 1280}, {1080, 1920}}

// golden are the pairs of scenes and looks that are kept as images. Every one was looked at. They are a sample: each scene is there in each language at one size, the largest size has some
// of a call, and all scenes in all languages at all of sizes are held by TestLayout, which knows what may not be on a screen, but not how it looks.
var golden = []struct {
	tag  string
	size image.Point
	only string // scenes whose names begin so
}{
	{"en", image.Pt(1280, 720), ""},
	{"nb", image.Pt(800, 480), ""},
	{"nn", image.Pt(720, 1280), ""},
	{"nb", image.Pt(1920, 1080), "ready-coming"},
	{"nb", image.Pt(1920, 1080), "ringing"},
	{"nb", image.Pt(1920, 1080), "told-no"},
	{"nb", image.Pt(1920, 1080), "in-call-long"},
	{"nb", image.Pt(1920, 1080), "ended"},
}

func TestGolden(t *testing.T) {
	for _, g := range golden {
		lang := load(t, g.tag)
		for name, scene := range scenes() {
			if !strings.HasPrefix(name, g.only) {
				continue
			}
			file := fmt.Sprintf("%s-%s-%dx%d.png", name, g.tag, g.size.X, g.size.Y)
			t.Run(file, func(t *testing.T) {
				p, err := newPainter(lang, g.size.X, g.size.Y)
				if err != nil {
					t.Fatal(err)
				}
				img, _, _ := p.paint(scene, noon)
				compare(t, file, img)
			})
		}
	}
}

func compare(t *testing.T, file string, img *image.RGBA) {
	t.Helper()
	path := filepath.Join("testdata", "golden", file)
	different, err := differs(path, img)
	if *update && (err != nil || different > 20) { // what looks as before is not written again: the repository keeps each for ever
		var b bytes.Buffer
		if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&b, paletted(img)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		different, err = differs(path, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	if different > 20 {
		out := filepath.Join(t.ArtifactDir(), file)
		f, err := os.Create(out)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := png.Encode(f, img); err != nil {
			t.Fatal(err)
		}
		t.Errorf("%d values differ from %s; what was drawn is in %s. If it is right, look at it and run with -update", different, path, out)
	}
}

// paletted is img in at most 256 colours, each as near as that allows: letters have a few colours and what lies between.
func paletted(img *image.RGBA) image.Image {
	for _, step := range []int{1, 4, 8, 16} {
		round := func(v uint8) uint8 { return uint8(min((int(v)+step/2)/step*step, 255)) }
		p := image.NewPaletted(img.Rect, nil)
		index := map[color.RGBA]int{}
		for y := range img.Rect.Dy() {
			for x := range img.Rect.Dx() {
				c := img.RGBAAt(x, y)
				c = color.RGBA{round(c.R), round(c.G), round(c.B), 0xff}
				i, ok := index[c]
				if !ok {
					i = len(index)
					index[c] = i
					p.Palette = append(p.Palette, c)
				}
				p.Pix[y*p.Stride+x] = uint8(i)
			}
		}
		if len(index) <= 256 {
			return p
		}
	}
	return img
}

// differs counts the values in which img differs from a file.
func differs(path string, img *image.RGBA) (int, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	decoded, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		return 0, err
	}
	if decoded.Bounds() != img.Rect {
		return 0, fmt.Errorf("%s: size %v, want %v", path, decoded.Bounds(), img.Rect)
	}
	// Rasterizers of different processors round differently: a shade is nothing, a changed picture is many pixels.
	want := image.NewRGBA(img.Rect)
	draw.Draw(want, want.Rect, decoded, image.Point{}, draw.Src)
	different := 0
	for y := range img.Rect.Dy() {
		got, want := img.Pix[y*img.Stride:(y+1)*img.Stride], want.Pix[y*want.Stride:(y+1)*want.Stride]
		if bytes.Equal(got, want) {
			continue
		}
		for i, v := range got {
			if absDiff(v, want[i]) > 16 {
				different++
			}
		}
	}
	return different, nil
}

func absDiff(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }

func load(t *testing.T, tag string) *Language {
	t.Helper()
	l, err := LoadLanguage(tag)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestLayout checks each scene in each language and size for what a person would notice at once.
func TestLayout(t *testing.T) {
	for _, tag := range Languages() {
		lang := load(t, tag)
		for _, size := range sizes {
			c, err := newComposer(lang, size.X, size.Y)
			if err != nil {
				t.Fatal(err)
			}
			screen := image.Rectangle{Max: size}
			for name, scene := range scenes() {
				t.Run(fmt.Sprintf("%s %s %v", name, tag, size), func(t *testing.T) {
					l := c.compose(scene, noon)
					for i, e := range l.elements {
						if !e.rect.In(screen) || e.rect.Empty() {
							t.Errorf("%q at %v is not on the screen", e.key, e.rect)
						}
						if e.text && (e.rect.Overlaps(l.far) || e.rect.Overlaps(l.self)) {
							t.Errorf("%q at %v lies over a picture", e.key, e.rect)
						}
						for _, other := range l.elements[:i] {
							if e.rect.Overlaps(other.rect) {
								t.Errorf("%q at %v lies over %q at %v", e.key, e.rect, other.key, other.rect)
							}
						}
					}
					if scene.Kind == Ringing || scene.Kind == InCall {
						_, told := scene.card(noon) // then words have the screen, and the picture comes after them
						if scene.Curtain != NoCurtain {
							if !l.far.Empty() || !l.self.Empty() {
								t.Errorf("pictures at %v and %v behind a curtain", l.far, l.self)
							}
						} else if told != l.far.Empty() || !told && l.far.Dx()*l.far.Dy() < size.X*size.Y*35/100 {
							t.Errorf("the far picture has %v", l.far.Size())
						}
						if !strings.Contains(all(l), strings.Fields(scene.Parties[0].Name)[0]) {
							t.Error("the caller's name is not there")
						}
					}
					if scene.CallCode != "" && !strings.Contains(all(l), scene.CallCode) {
						t.Error("the call's code is not there")
					}
					if clock := strings.ReplaceAll(lang.clock(scene.Coming.At), " ", "\u00a0"); scene.Coming.Name != "" && !strings.Contains(all(l), clock) {
						t.Errorf("%q is not there, or on two lines", clock)
					}
					if scene.Kind == Ringing && scene.Errand != "" && !strings.Contains(all(l), strings.Fields(scene.Errand)[0]) {
						t.Error("it is not said why somebody calls")
					}
					if scene.Urgent && !strings.Contains(all(l), strings.Fields(lang.Text.Urgent)[1]) {
						t.Error("it is not said that the call is urgent")
					}
					if scene.Ask && (!strings.Contains(all(l), strings.Fields(lang.text(scene).Take)[0]) || strings.Contains(all(l), lang.Text.NothingToDo)) {
						t.Error("it is not said that the call has to be taken")
					}
					if scene.Kind == InCall {
						if got := !l.self.Empty(); got != (scene.Camera && !scene.NoSelf) {
							t.Errorf("own picture: %v, camera: %v", got, scene.Camera)
						}
						for _, word := range strings.Fields(lang.devices(scene)) {
							if !strings.Contains(all(l), word) {
								t.Errorf("it is not said in words what is on: %q is missing", word)
							}
						}
						for _, p := range scene.Parties { // everybody, always (R12)
							if !strings.Contains(all(l), strings.Fields(p.Name)[0]) {
								t.Errorf("%s is not on the screen", p.Name)
							}
						}
					} else if !l.self.Empty() {
						t.Error("the own picture is shown outside a call")
					}
					// Codes are for technicians: on the service line of a terminal at rest, by themselves, smaller than all sentences.
					for _, e := range l.elements {
						text, _, _ := strings.Cut(e.key, "|")
						code := looksLikeCode.FindString(text)
						atRest := scene.Kind == Starting || scene.Kind == NotSetUp || scene.Kind == Ready || scene.Kind == Returned || scene.Kind == Lost || scene.Kind == Resting
						if e.text && code != "" && (!atRest || code != text || e.rect.Max.Y != size.Y-c.margin() || e.rect.Dy() > lineHeight(c.em(2.2))) {
							t.Errorf("%q is told to the person at home", text)
						}
					}
				})
			}
		}
	}
}

// TestFaultsHaveWords: what a terminal shows while nobody can call it is said in words in every language.
func TestFaultsHaveWords(t *testing.T) {
	for _, tag := range Languages() {
		lang := load(t, tag)
		for _, code := range []protocol.Code{
			protocol.IdentityNone, protocol.IdentityTPMGone, protocol.IdentityTPMCleared, protocol.IdentityTPMLocked, protocol.IdentityDamaged,
			protocol.IdentityOtherClinic, protocol.IdentityExpired, protocol.IdentityPin, protocol.TimeUnknown, protocol.TimeOff,
			protocol.StorageUnreadable, protocol.StorageFull, protocol.LinkUnreachable, protocol.LinkRefused,
			protocol.TimeZone, protocol.EndLapsed, protocol.AuthRevoked, protocol.EndWithdrawn, protocol.EndPasskeyRemoved, protocol.EndCutOff,
		} {
			if lang.fault(code) == lang.fault(protocol.Unknown) {
				t.Errorf("%s: no words for %s", tag, code)
			}
		}
	}
}

var looksLikeCode = regexp.MustCompile(`[a-z]+\.[a-z]+_?[a-z_]*|E_[A-Z]+`)

// TestDevicesInWords asks that what is on and what only stands in for it are never both said of one device.
func TestDevicesInWords(t *testing.T) {
	test := []protocol.Code{protocol.CaptureTestPicture, protocol.CaptureTestSound}
	for _, c := range []struct {
		scene  Scene
		en, nb string
	}{
		{Scene{Camera: true, Microphone: true}, "Camera and microphone are on", "Kamera og mikrofon er på"},
		{Scene{}, "Camera and microphone are off", "Kamera og mikrofon er av"},
		{Scene{Microphone: true}, "Microphone is on. Camera is off.", "Mikrofonen er på. Kameraet er av."},
		{Scene{Camera: true}, "Camera is on. Microphone is off.", "Kameraet er på. Mikrofonen er av."},
		{
			Scene{Camera: true, Microphone: true, Faults: test}, "A test picture and test sound are sent. Camera and microphone are not in use.",
			"Det sendes testbilde og testlyd. Kamera og mikrofon er ikke i bruk.",
		},
		{
			Scene{Camera: true, Microphone: true, Faults: test[:1]}, "Microphone is on. A test picture is sent. No camera is in use.",
			"Mikrofonen er på. Det sendes et testbilde. Kamera er ikke i bruk.",
		},
		{
			Scene{Camera: true, Microphone: true, Faults: test[1:]}, "Camera is on. Test sound is sent. No microphone is in use.",
			"Kameraet er på. Det sendes testlyd. Mikrofon er ikke i bruk.",
		},
	} {
		c.scene.Kind = InCall
		for tag, want := range map[string]string{"en": c.en, "nb": c.nb} {
			if got := load(t, tag).devices(c.scene); got != want {
				t.Errorf("%+v in %s: %q, want %q", c.scene, tag, got, want)
			}
		}
	}
}

// TestSay reads scenes to those who do not see them.
func TestSay(t *testing.T) {
	all := scenes()
	for name, want := range map[string]string{
		"starting": "Starter opp", "not-set-up": "Denne skjermen er ikke klar til bruk ennå: ABCD-EFGH-IJKL-MNOP", "ready": "Klar",
		"ready-offline": "Får ikke kontakt med klinikken. Prøver igjen.", "ringing": "Anne Berg ringer (nurse, Åsane home care)",
		"in-call":         "Du snakker med Anne Berg, nurse. Kamera og mikrofon er på",
		"in-call-code":    "Du snakker med Anne Berg, nurse. Kamera og mikrofon er på. Trykk på knappen for å avslutte samtalen. Samtalekode: 482 193",
		"ringing-ask":     "Anne Berg ringer (nurse, Åsane home care). Trykk på svartasten for å svare. Samtalen starter ikke av seg selv. Samtalekode: 482 193",
		"ringing-covered": "Anne Berg ringer (nurse, Åsane home care). Kameraet er dekket til. Du kan bare høres. Trykk på knappen for å si nei. Samtalekode: 482 193",
		"ringing-urgent":  "Anne Berg ringer (nurse, Åsane home care). Det haster. Trykk på knappen for å si nei. Samtalekode: 482 193",
		"ended-no":        "Du sa nei til samtalen. Kameraet er av. Noen kan ringe deg senere.", "ended-hung": "Samtalen er slutt. Anne Berg har lagt på. Kameraet er av.",
	} {
		if got := load(t, "nb").Say(all[name]); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// TestSayAsks: who is told before a first call, and has to take it, is told how; and not how to do what needs nothing.
func TestSayAsks(t *testing.T) {
	lang := load(t, "en")
	if got := lang.Say(scenes()["told-no-ask"]); !strings.HasSuffix(got, lang.Notice.NoAsked+" "+lang.Text.Take) {
		t.Errorf("%q", got)
	}
}

// all is every text of a layout.
func all(l layout) string {
	var b strings.Builder
	for _, e := range l.elements {
		if e.text {
			b.WriteString(strings.ReplaceAll(e.key, "\n", " ") + " ")
		}
	}
	return b.String()
}

// TestContrast computes WCAG 2.2's contrast ratio of every text colour.
func TestContrast(t *testing.T) {
	luminance := func(c color.RGBA) float64 {
		f := func(v uint8) float64 {
			x := float64(v) / 255
			if x <= 0.04045 {
				return x / 12.92
			}
			return math.Pow((x+0.055)/1.055, 2.4)
		}
		return 0.2126*f(c.R) + 0.7152*f(c.G) + 0.0722*f(c.B)
	}
	for name, pair := range map[string][2]color.RGBA{
		"white": {white, ground}, "soft": {soft, ground}, "warm": {warm, ground}, "calm": {calm, ground}, "initials": {soft, panel}, "in quiet hours": {dim, black},
	} {
		if ratio := (luminance(pair[0]) + 0.05) / (luminance(pair[1]) + 0.05); ratio < 7 {
			t.Errorf("%s: %.1f:1", name, ratio)
		}
	}
}

// TestPartialPaint compares a painter that goes from scene to scene, and forgets the image between them, with one that begins anew: on the
// display, which takes over what is dirty, both look the same.
func TestPartialPaint(t *testing.T) {
	lang := load(t, "nb")
	p, err := newPainter(lang, 1280, 720)
	if err != nil {
		t.Fatal(err)
	}
	all := scenes()
	at := noon
	shown := image.NewRGBA(p.img.Rect)
	step := func(name string, s Scene, full bool) {
		t.Helper()
		img, _, dirty := p.paint(s, at)
		for _, r := range dirty {
			draw.Draw(shown, r, img, r.Min, draw.Src)
		}
		clear(img.Pix)
		fresh, err := newPainter(lang, 1280, 720)
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := fresh.paint(s, at)
		if !bytes.Equal(shown.Pix, want.Pix) {
			t.Errorf("%s: showing what changed is not the same as showing all", name)
		}
		if !full && len(dirty) > 0 && dirty[0] == img.Rect {
			t.Errorf("%s: all was painted", name)
		}
	}
	step("ready", all["ready"], true)
	at = at.Add(time.Minute)
	step("a minute later", all["ready"], false)
	step("offline", all["ready-offline"], true)
	ringing := all["ringing"]
	ringing.AnswersAt = at.Add(12 * time.Second)
	step("ringing", ringing, true)
	for range 12 {
		at = at.Add(time.Second)
		step("a second later", ringing, false)
	}
	step("in call", all["in-call"], true)
	step("fault", all["in-call-fault"], true)
	if _, _, dirty := p.paint(all["in-call-fault"], at); len(dirty) != 0 {
		t.Errorf("nothing changed, painted %v", dirty)
	}
}

func TestWrap(t *testing.T) {
	face, err := newTypeface()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, text string
		lines      int
	}{
		{"empty", "", 2}, {"one word", "Anne", 2}, {"a word too long", strings.Repeat("a", 256), 3}, {"wide runes", strings.Repeat("Ø", 200), 2},
		{"unknown runes", strings.Repeat("漢", 50), 2}, {"spaces", "  a   b  ", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, width := range []int{1, 7, 40, 300} {
				b := face.fit(test.text, bold, 30, 10, width, test.lines)
				if len(b.lines) > test.lines {
					t.Errorf("%d lines in %d pixels", len(b.lines), width)
				}
				for _, l := range b.lines {
					if w := face.width(l, bold, b.size); w > width && len([]rune(l)) > 2 {
						t.Errorf("%q is %d wide, at most %d", l, w, width)
					}
				}
			}
		})
	}
}
