package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"vindu/device/agent"
	"vindu/device/state"
	"vindu/protocol"
)

// finding is a condition as diagnose prints it.
type finding struct {
	Code     protocol.Code     `json:"code"`
	Severity protocol.Severity `json:"severity"`
	Who      protocol.Who      `json:"who"`
	Since    time.Time         `json:"since"`
	Figure   string            `json:"figure,omitempty"`
	Hidden   bool              `json:"follows_from_another"`
}

// bundle is what goes to whoever supports the terminal. Nothing in it is a key, a name, an address or about a person: neither is the terminal's own name, by which
// a home could be found.
type bundle struct {
	Software   string            `json:"software"`
	KeyGrade   string            `json:"key_grade"`
	At         time.Time         `json:"at"`
	Running    bool              `json:"running"` // the agent, now; what follows is as it was at
	Silent     bool              `json:"silent"`  // it runs, but has told nothing for longer than it should
	Uptime     uint64            `json:"uptime_seconds"`
	InCall     bool              `json:"in_call"`
	Devices    map[string]string `json:"devices"` // kinds; what drivers call them is not in it
	Pending    uint64            `json:"events_pending"`
	Dropped    uint64            `json:"events_dropped"`
	Malformed  uint64            `json:"messages_refused"`
	Conditions []finding         `json:"conditions"`
	Quiet      bool              `json:"quiet_hours"`
	Covered    bool              `json:"shutter_closed"`
	Kernel     string            `json:"kernel,omitempty"`
	Figures    map[string]uint64 `json:"figures,omitempty"` // what is known of them
}

var (
	releases = regexp.MustCompile(`^vindu-agent [0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}(\+[0-9a-f]{12})?(-dirty)?$`)
	kernels  = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,4})?`) // without what a builder has put behind it
	figured  = regexp.MustCompile(`^((step|status) )?[-+]?[0-9]{1,9}([.,][0-9]{1,3})? ?([°%a-z/A-Z ]{0,32})$`)
)

// among is s if it is one of the words that there can be.
func among(s string, words ...string) string {
	if slices.Contains(words, s) {
		return s
	}
	return "other"
}

// deviceKind is what a device is by; drivers say anything.
func deviceKind(d protocol.DeviceState) string {
	return among(d.Kind, "v4l2", "alsa", "drm", "memory", "synthetic", "none")
}

func bundleOf(h *protocol.Health) bundle {
	b := bundle{
		Software: "other", KeyGrade: among(h.KeyGrade, "file", "hardware"), Quiet: h.Quiet, Covered: h.Covered, At: h.At.Time().UTC(), Uptime: h.Uptime, InCall: h.InCall, Pending: h.Pending, Dropped: h.Dropped, Malformed: h.Malformed,
		Devices:    map[string]string{"camera": deviceKind(h.Camera), "microphone": deviceKind(h.Microphone), "speaker": deviceKind(h.Speaker), "screen": deviceKind(h.Screen)},
		Conditions: []finding{},
	}
	if releases.MatchString(h.Software) {
		b.Software = h.Software
	}
	if h.About != nil {
		b.Kernel = kernels.FindString(h.About.Kernel)
	}
	if f := h.Figures; f != nil {
		b.Figures = map[string]uint64{}
		for name, n := range map[string]uint64{"signal_minus_dbm": f.Signal, "round_trip_ms": f.Trip, "temperature_celsius": f.Heat, "memory_percent": f.Memory, "written_kib_day": f.Written} {
			if n > 0 {
				b.Figures[name] = n
			}
		}
	}
	var raised []protocol.Code
	for _, c := range h.Conditions {
		raised = append(raised, c.Code)
	}
	shown := map[protocol.Code]bool{}
	for _, c := range protocol.Showing(raised) {
		shown[c] = true
	}
	for _, c := range h.Conditions {
		f, figure := protocol.Explain(c.Code), ""
		code := c.Code
		if !protocol.Registered(code) {
			code = protocol.Unknown
		}
		if figured.MatchString(c.Figure) {
			figure = c.Figure
		}
		b.Conditions = append(b.Conditions, finding{code, f.Severity, f.Who, c.Since.Time().UTC(), figure, !shown[c.Code]})
	}
	return b
}

// diagnose prints what the terminal says of itself: the conditions that its screen, its clinic and a technician's laptop show, and whether that is of now. asJSON: the same for a
// program, or for who supports it.
func diagnose(cfg agent.Config, asJSON bool, out io.Writer) error {
	h, written, err := agent.LastHealth(cfg)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the terminal has not told anything of itself yet: it is not set up, or was not started since: %w", err)
	}
	if err != nil {
		return err
	}
	b := bundleOf(h)
	if b.Running, err = state.Running(cfg.State); err != nil {
		return err
	}
	b.Silent = b.Running && time.Since(written) > agent.TellsWithin
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(b)
	}
	w, err := loadWords(cfg.Language)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, b.text(w, cfg.Language, time.Local))
	return err
}

// text is what people read, with times as clocks are there.
func (b bundle) text(w words, language string, there *time.Location) string {
	const clock = "2006-01-02 15:04:05"
	var out strings.Builder
	at := b.At.In(there)
	_, offset := at.Zone()
	zone := time.FixedZone("", offset) // that of the first line, whatever the hour: the zone is said once
	fmt.Fprintln(&out, strings.NewReplacer("{software}", b.Software, "{time}", at.Format(clock), "{zone}", at.Format("UTC-07:00")).Replace(w["as_of"]))
	switch {
	case !b.Running:
		fmt.Fprintln(&out, w["stopped"])
	case b.Silent:
		fmt.Fprintln(&out, w["silent"])
	default:
		fmt.Fprintln(&out, w["running"])
	}
	if old := time.Since(b.At); old >= 2*time.Minute {
		fmt.Fprintln(&out, w.say("old", "minutes", strconv.Itoa(int(old/time.Minute))))
	}
	for _, d := range []string{"camera", "microphone", "speaker", "screen"} {
		fmt.Fprintf(&out, "  %-11s %s\n", w["device."+d], cmp.Or(w["kind."+b.Devices[d]], b.Devices[d]))
	}
	hidden := 0
	for _, c := range b.Conditions {
		if c.Hidden {
			hidden++
			continue
		}
		text := c.Code.In(language)
		fmt.Fprintf(&out, "\n%s  %s, %s\n  %s", c.Code, w["severity."+string(c.Severity)], w.say("since", "time", c.Since.In(zone).Format(clock)), text.Sentence)
		if c.Figure != "" {
			fmt.Fprintf(&out, " (%s)", c.Figure)
		}
		out.WriteString("\n")
		if next := strings.TrimSpace(text.Next + " " + w["who."+string(c.Who)]); next != "" {
			fmt.Fprintf(&out, "  %s\n", next)
		}
	}
	switch {
	case hidden == 1:
		fmt.Fprintf(&out, "\n%s\n", w["hidden.one"])
	case hidden > 1:
		fmt.Fprintf(&out, "\n%s\n", w.say("hidden", "count", strconv.Itoa(hidden)))
	case len(b.Conditions) > 0:
	case b.Running && !b.Silent:
		fmt.Fprintf(&out, "\n%s\n", w["none"])
	default:
		fmt.Fprintf(&out, "\n%s\n", w["none.then"])
	}
	return out.String()
}
