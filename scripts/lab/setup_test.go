package lab

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"vindu/device/acceptance"
	"vindu/device/screen"
	"vindu/protocol"
	"vindu/scripts/lab/control"
)

// setUpConfig is that of a terminal from the factory.
const setUpConfig = agentConfig + `[serial]
port = "/dev/ttyS0"
`

// tpmHandle is where the terminal's key is in its TPM.
const tpmHandle = 0x81025644

// TestSetUp is a terminal's life. A technician sets it up over its serial port, with what the clinic's page gives out; it is called, and
// revoked in the middle of that. Then it comes from the factory again, is enrolled through the laptop, and taken out of use. Its
// key is in its TPM, nowhere else, and in the end not there either.
// How fast pictures come is not judged here.
func TestSetUp(t *testing.T) {
	program, err := Build(t.Context(), "./cmd/vindu-agent", false)
	if err != nil {
		t.Fatal(err)
	}
	guest := Boot(t, Options{
		SetUp:    true,
		Programs: map[string][]byte{"/usr/bin/vindu-agent": program},
		Files:    map[string][]byte{"/etc/vindu/agent.toml": []byte(setUpConfig)},
	})
	clinic := StartClinic(t, guest)
	laptop := NewLaptop(t, guest)
	port, err := guest.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	furnish(t, guest)

	first := fresh(t, guest, "1")
	browser := NewBrowser(t, guest.Net)
	voucher := authorise(t, clinic, guest, laptop, browser)
	handOver(t, guest, laptop, port, first.code, voucher)
	keyNowhereElse(t, guest)
	recorded(t, clinic, guest, browser)
	revokedInCall(t, clinic, guest, browser)
	first.stop(t)

	if err := guest.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := fresh(t, guest, "2")
	if second.code == first.code {
		t.Error("a terminal that lost its state has the key of before")
	}
	throughLaptop(t, clinic, guest, laptop, port, second.code)
	takenOutOfUse(t, clinic, guest, browser, laptop, port)
	second.stop(t)
}

// furnish puts the terminal where it can see and hear something.
func furnish(t *testing.T, guest *Guest) {
	t.Helper()
	if err := guest.SetCamera(t.Context(), control.CameraControl{Device: "/dev/video0", ID: VividHorizontal, Value: VividMovesLeftFast}); err != nil {
		t.Fatal(err)
	}
	if err := guest.Echo(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// running is an agent in the guest.
type running struct {
	code string
	stop func(t *testing.T)
}

// fresh starts the agent of a terminal that is not set up, and reads the code from its screen.
func fresh(t *testing.T, guest *Guest, name string) running {
	t.Helper()
	pid, err := guest.Start(t.Context(), control.Command{Args: []string{"/usr/bin/vindu-agent", "run", "-config", "/etc/vindu/agent.toml"}, Log: agentLog})
	if err != nil {
		t.Fatal(err)
	}
	stopped := false
	r := running{stop: func(t *testing.T) {
		if stopped {
			return
		}
		stopped = true
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		result, err := guest.Signal(ctx, control.Signal{PID: pid, Signal: int(syscall.SIGTERM), Wait: 15 * time.Second})
		if err != nil || result.Code != 0 {
			t.Errorf("the agent ended with %s, %v", result.State, err)
		}
		log, err := guest.ReadFile(ctx, agentLog)
		if err != nil {
			t.Errorf("read the agent's log: %v", err)
		}
		if err := os.WriteFile(filepath.Join(guest.Artefacts, "agent-"+name+".log"), log, 0o644); err != nil {
			t.Error(err)
		}
		if strings.Contains(string(log), `"level":"ERROR"`) {
			t.Errorf("the agent said that a person must act:\n%s", log)
		}
		for _, secret := range []string{"vindu-voucher-1.", "vindu-mandate-1.", "a=candidate", "PRIVATE KEY"} {
			if strings.Contains(string(log), secret) {
				t.Errorf("the agent's log holds %q", secret)
			}
		}
	}}
	t.Cleanup(func() { r.stop(t) })
	err = guest.Until(t.Context(), 30*time.Second, func() error {
		codes, err := factoryCodes(t.Context(), guest)
		if err == nil && len(codes) == 0 {
			return errors.New("the agent does not say that it is not set up")
		}
		if err == nil {
			r.code = codes[0]
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	seeScene(t, guest, "not-set-up-"+name, "en", screen.Scene{Kind: screen.NotSetUp, Code: r.code, Faults: []protocol.Code{protocol.IdentityNone}})
	guest.Log("a terminal from the factory shows %s", r.code)
	return r
}

// factoryCodes are the codes with which the agent has said that it is not set up.
func factoryCodes(ctx context.Context, guest *Guest) (codes []string, err error) {
	log, err := guest.ReadFile(ctx, agentLog)
	for line := range strings.Lines(string(log)) {
		var said struct{ Msg, Terminal string }
		if json.Unmarshal([]byte(line), &said) == nil && strings.HasPrefix(said.Msg, "not set up") {
			codes = append(codes, said.Terminal)
		}
	}
	return codes, err
}

// seeScene waits until the screen shows a scene, pixel by pixel.
func seeScene(t *testing.T, guest *Guest, name, language string, scene screen.Scene) {
	t.Helper()
	err := guest.Until(t.Context(), 10*time.Second, func() error {
		shown, err := guest.Screendump(t.Context())
		if err != nil {
			return err
		}
		guest.Keep("screen-"+name+".png", shown)
		if differ := sceneDiffers(t, guest, shown, scene, language, name); differ > 0.1 {
			return fmt.Errorf("%.2f %% of the screen is not what it should be", differ)
		}
		return nil
	})
	if err != nil {
		t.Errorf("screen %s: %v", name, err)
	}
}

// authorise signs the technician in at the clinic's page, which gives out a voucher for the home and an authorisation for the laptop.
func authorise(t *testing.T, clinic *Clinic, guest *Guest, laptop *Laptop, browser *Browser) (voucher string) {
	t.Helper()
	key, err := laptop.Run(t.Context(), nil, "key")
	if err != nil {
		t.Fatal(err)
	}
	open(t, clinic, browser, Technician, "technician")
	file := func(name string) string {
		text, err := Evaluate[string](browser, 10*time.Second, `document.querySelector("#text").value`)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	enter := func(field, value, button string) {
		t.Helper()
		if _, err := Evaluate[bool](browser, 10*time.Second, fmt.Sprintf("(document.querySelector(%q).value = %q, true)", field, value)); err != nil {
			t.Fatal(err)
		}
		press(t, browser, button)
		if err := browser.WaitFor(10*time.Second, `document.querySelector("#text")`); err != nil {
			t.Fatal(err)
		}
	}
	enter("#laptop", key.LaptopKey, "Issue an authorisation")
	screenshot(t, guest, browser, "page-authorisation.png")
	if _, err := laptop.Run(t.Context(), nil, "mandate", file("mandate.txt")); err != nil {
		t.Fatal(err)
	}
	if err := browser.Do(10*time.Second, chromedp.Navigate(clinic.Pages+"/technician")); err != nil {
		t.Fatal(err)
	}
	enter("#label", Home, "Issue a voucher")
	screenshot(t, guest, browser, "page-voucher.png")
	guest.Log("the clinic's page gave a voucher and an authorisation")
	return file("voucher.txt")
}

// open opens the page that somebody signs in to.
func open(t *testing.T, clinic *Clinic, browser *Browser, person, duty string) {
	t.Helper()
	link, err := clinic.LinkFor(t.Context(), person, duty, duty)
	if err != nil {
		t.Fatal(err)
	}
	if err := browser.Do(30*time.Second, chromedp.Navigate(link)); err != nil {
		t.Fatal(err)
	}
}

// handOver sets the terminal up, from its code to the sheet that stays in the home.
func handOver(t *testing.T, guest *Guest, laptop *Laptop, port, code, voucher string) {
	t.Helper()
	party := protocol.Party{Name: Technician, Role: "technician", Organisation: Organisation}
	presses := 0
	said := func(line string) {
		if !strings.Contains(line, "Press the button") {
			return
		}
		presses++
		seeScene(t, guest, "press-the-button", "nb", screen.Scene{Kind: screen.Pressing, Parties: []protocol.Party{party}, Code: code})
		noCapture(t, guest, "before the button is pressed")
		if err := guest.Press(t.Context(), "ret"); err != nil {
			t.Error(err)
		}
	}
	sheet := filepath.Join(guest.Artefacts, "sheet.html")
	done, err := laptop.Run(t.Context(), said, "setup", "--port", port, "--code", code, "--language", "nb", "--ethernet", "--voucher-file", voucher,
		"--sheet", sheet, "--telephone", "55 00 00 00")
	guest.Log("vindu-provision: enrolled by %q, checks %v", done.EnrolledBy, done.Checks)
	if err != nil {
		t.Fatal(err)
	}
	if presses == 0 {
		t.Error("camera and microphone were checked without a press of the button")
	}
	if done.Terminal.Code != code || done.Info.State != "set_up" || done.Info.Home != Home || done.Info.Organisation != Organisation || done.EnrolledBy != "terminal" {
		t.Errorf("set up as %+v", done)
	}
	if done.Info.KeyGrade != "hardware" || done.Info.Language != "nb" {
		t.Errorf("key in %q, language %q", done.Info.KeyGrade, done.Info.Language)
	}
	var names []string
	for _, c := range done.Checks {
		names = append(names, c.Name)
		absent := c.Name == "panel" || c.Name == "wifi.signal" || c.Name == "screen" // nobody is there to compare the code on it; the test does
		if c.State != protocol.CheckPassed && !absent || absent && c.State != protocol.CheckSkipped {
			t.Errorf("check %s: %s %s %s", c.Name, c.State, c.Figure, c.Sentence)
		}
	}
	if !slices.Equal(names, acceptance.Names()) {
		t.Errorf("checked %v", names)
	}
	page, err := os.ReadFile(sheet)
	if err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{Home, Organisation, Technician, code, "55 00 00 00"} {
		if !strings.Contains(string(page), words) {
			t.Errorf("the sheet does not say %q", words)
		}
	}
	noCapture(t, guest, "after the hand-over")
	guest.Log("handed over")
}

// keyNowhereElse looks for a private key on all of the terminal's disk, where none may be, and for the key in the TPM.
func keyNowhereElse(t *testing.T, guest *Guest) {
	t.Helper()
	found, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c",
		"ls -lR /var/lib/vindu; ls /var/lib/vindu/identity/tpm.pem && ! find / -xdev -name key.pem | grep . && ! grep -rlE 'PRIVATE KEY|SEALED KEY' /etc /var /tmp /run /root 2>/dev/null"}})
	guest.Log("the state folder:\n%s", found.Output)
	if err != nil {
		t.Errorf("a key on the disk, or no word of that in the TPM: %v\n%s", err, found.Output)
	}
	if handles := persistent(t, guest); !slices.Contains(handles, tpmHandle) {
		t.Errorf("the TPM keeps %x, and not the terminal's key %x", handles, tpmHandle)
	}
}

// persistent asks the TPM for the handles of what it keeps: TPM2_GetCapability (TCG TPM 2.0 Library 1.59, Part 3 §30.2).
func persistent(t *testing.T, guest *Guest) (handles []uint32) {
	t.Helper()
	result, err := guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c",
		// tag, size, command; TPM_CAP_HANDLES, first handle, how many
		`exec 3<>/dev/tpmrm0; printf '\x80\x01\x00\x00\x00\x16\x00\x00\x01\x7a\x00\x00\x00\x01\x81\x00\x00\x00\x00\x00\x00\x40' >&3; dd bs=4096 count=1 <&3 2>/dev/null`}})
	if err != nil {
		t.Fatal(err)
	}
	answer := result.Output
	// header of ten bytes, more data, capability, count
	if len(answer) < 19 || binary.BigEndian.Uint32(answer[6:]) != 0 || len(answer) != 19+4*int(binary.BigEndian.Uint32(answer[15:])) {
		t.Fatalf("the TPM says %x", answer)
	}
	for answer = answer[19:]; len(answer) > 0; answer = answer[4:] {
		handles = append(handles, binary.BigEndian.Uint32(answer))
	}
	return handles
}

// recorded sees the hand-over record on the operator's page.
func recorded(t *testing.T, clinic *Clinic, guest *Guest, browser *Browser) {
	t.Helper()
	text := history(t, clinic, guest, browser, "Hand-over record")
	screenshot(t, guest, browser, "page-hand-over.png")
	for _, words := range []string{Technician + ", " + Organisation, Home, "security hardware", "Picture, sharp", "Test call"} {
		if !strings.Contains(text, words) {
			t.Errorf("the operator's page does not say %q:\n%s", words, text)
		}
	}
	if strings.Contains(text, "does not prove") {
		t.Errorf("the hand-over record has a flaw:\n%s", text)
	}
	guest.Log("the hand-over record is at the clinic")
}

// history opens the home's page of the operator and waits until it says something.
func history(t *testing.T, clinic *Clinic, guest *Guest, browser *Browser, words string) (text string) {
	t.Helper()
	open(t, clinic, browser, "Ida Moe", "operator")
	press := fmt.Sprintf(`([...document.querySelectorAll("a")].find(a => a.textContent.trim() === %q).click(), true)`, Home)
	if _, err := Evaluate[bool](browser, 10*time.Second, press); err != nil {
		t.Fatal(err)
	}
	if err := browser.WaitFor(10*time.Second, `document.location.pathname.startsWith("/operator/homes/")`); err != nil {
		t.Fatal(err)
	}
	err := guest.Until(t.Context(), 20*time.Second, func() (err error) {
		if err = browser.Do(10*time.Second, chromedp.Reload()); err != nil {
			return err
		}
		text, err = Evaluate[string](browser, 10*time.Second, "document.body.innerText")
		if err == nil && !strings.Contains(text, words) {
			err = fmt.Errorf("the operator's page does not say %q:\n%s", words, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// revokedInCall calls the terminal, sees and hears that it works, and revokes it.
func revokedInCall(t *testing.T, clinic *Clinic, guest *Guest, browser *Browser) {
	t.Helper()
	signIn(t, clinic, browser)
	press(t, browser, "Ring")
	if err := browser.WaitForFarEnd(30 * time.Second); err != nil {
		t.Fatal(err)
	}
	guest.Log("the page shows the terminal's picture")
	if err := browser.WaitFor(10*time.Second, status("In call")); err != nil {
		t.Error(err)
	}
	seeCaller(t, guest)
	end, err := browser.Watch()
	if err != nil {
		t.Fatal(err)
	}
	<-time.After(4 * time.Second)
	watched, err := end()
	if err != nil {
		t.Fatal(err)
	}
	bars := watched.Bars(sizes...)
	if len(bars.at) < 4 || distinct(bars.phase) < 2 {
		t.Errorf("the page showed %d pictures of the moving bars, %d others: %v", len(bars.at), bars.bad, bars.err)
	}
	// There and back: the terminal plays it into the room, and hears it there.
	heard := Listen(watched.Sound, SampleRate, CallerTone)
	if heard.Tone < heard.Windows/10 {
		t.Errorf("of the tone that was sent into the terminal's room there came back %s", heard)
	}
	guest.Log("the call works: %d pictures of the bars, tone there and back: %s", len(bars.at), heard)
	screenshot(t, guest, browser, "page-call.png")

	began := time.Now()
	if _, err := clinic.run(t.Context(), "revoke", "-home", Home, "-reason", "stolen"); err != nil {
		t.Fatal(err)
	}
	if err := browser.WaitFor(5*time.Second, `document.body.innerText.includes("The clinic has cut the home's terminal off.")`); err != nil {
		t.Error(err)
	}
	guest.Log("revoked: the page says so after %s", time.Since(began).Round(time.Millisecond))
	err = guest.Until(t.Context(), 5*time.Second-time.Since(began), func() error {
		holders, err := guest.Holders(t.Context(), capturing...)
		if err == nil && len(holders) > 0 {
			err = fmt.Errorf("%v", holders)
		}
		return err
	})
	if err != nil {
		t.Errorf("5 s after the terminal was revoked camera and microphone are open: %v", err)
	}
	screenshot(t, guest, browser, "page-revoked.png")
	screendump(t, guest, "screen-revoked.png")
	if err := browser.WaitFor(15*time.Second, "!"+button("Ring")); err != nil {
		t.Errorf("a revoked terminal can be called: %v", err)
	}
	guest.Log("camera and microphone are closed %s after the order", time.Since(began).Round(time.Millisecond))
}

// throughLaptop enrols a terminal that does not use its network, and ends there: the cable is pulled when the check would begin.
func throughLaptop(t *testing.T, clinic *Clinic, guest *Guest, laptop *Laptop, port, code string) {
	t.Helper()
	voucher, err := clinic.Voucher(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "voucher.txt")
	if err := os.WriteFile(path, []byte(voucher), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	done, err := laptop.Run(ctx, func(line string) {
		if strings.Contains(line, "Press the button") {
			interrupt()
		}
	}, "setup", "--port", port, "--code", code, "--no-network", "--via", "laptop", "--voucher-file", path)
	if err == nil || done.Failure.Code != "tool.stopped" || done.EnrolledBy != "laptop" || done.Info.State != "set_up" || done.Info.Home != Home {
		t.Fatalf("through the laptop: %+v, %v", done, err)
	}
	guest.Log("enrolled through the laptop")
	err = guest.Until(t.Context(), 30*time.Second, func() error {
		log, err := guest.ReadFile(t.Context(), agentLog)
		if err == nil && !strings.Contains(string(log), `"msg":"ready"`) {
			err = fmt.Errorf("the agent is not ready: %s", log)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	guest.Log("terminal ready")
}

// takenOutOfUse orders the terminal to destroy itself, and looks for what is left of it.
func takenOutOfUse(t *testing.T, clinic *Clinic, guest *Guest, browser *Browser, laptop *Laptop, port string) {
	t.Helper()
	keyNowhereElse(t, guest)
	if _, err := clinic.run(t.Context(), "decommission", "-home", Home, "-reason", "returned"); err != nil {
		t.Fatal(err)
	}
	text := history(t, clinic, guest, browser, "that it destroys its keys and state")
	screenshot(t, guest, browser, "page-receipt.png")
	if !strings.Contains(text, "security hardware") {
		t.Errorf("the receipt does not say where the key was:\n%s", text)
	}
	guest.Log("the signed receipt is at the clinic")
	seeScene(t, guest, "returned", "en", screen.Scene{Kind: screen.Returned})
	// The receipt comes first, and what it tells of next.
	var found control.Result
	err := guest.Until(t.Context(), 20*time.Second, func() (err error) {
		found, err = guest.Exec(t.Context(), control.Command{Args: []string{"sh", "-c",
			"find /var/lib/vindu -type f; ! find / -xdev \\( -name key.pem -o -name tpm.pem -o -name clinic.pem \\) | grep . && ! grep -rlE 'PRIVATE KEY|SEALED KEY|BEGIN CERTIFICATE' /etc /var /tmp /run /root 2>/dev/null"}})
		return err
	})
	if err != nil {
		t.Errorf("left on the disk: %v\n%s", err, found.Output)
	}
	guest.Log("left in the state folder:\n%s", found.Output)
	if handles := persistent(t, guest); slices.Contains(handles, tpmHandle) {
		t.Error("the terminal's key is still in its TPM")
	}
	if done, err := laptop.Run(t.Context(), nil, "info", "--port", port); err == nil || done.Failure.Code != string(protocol.IdentityReturned) {
		t.Errorf("over the cable the terminal says %+v, %v", done, err)
	}
	guest.Log("taken out of use")

	// Whoever has it in hand and means it can make it one from the factory again.
	if err := guest.Hold(t.Context(), "ret", 4*time.Second); err != nil {
		t.Fatal(err)
	}
	err = guest.Until(t.Context(), 20*time.Second, func() error {
		codes, err := factoryCodes(t.Context(), guest)
		if err == nil && len(codes) < 2 {
			err = fmt.Errorf("after a long press of the button the agent says only of %v that they are not set up", codes)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	screendump(t, guest, "screen-anew.png")
	guest.Log("ready to be set up anew")
}
