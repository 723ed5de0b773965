package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"vindu/device/agent"
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
	Uptime     uint64            `json:"uptime_seconds"`
	InCall     bool              `json:"in_call"`
	Devices    map[string]string `json:"devices"` // kinds; what drivers call them is not in it
	Pending    uint64            `json:"events_pending"`
	Dropped    uint64            `json:"events_dropped"`
	Malformed  uint64            `json:"messages_refused"`
	Conditions []finding         `json:"conditions"`
}

func bundleOf(h *protocol.Health) bundle {
	b := bundle{
		Software: h.Software, KeyGrade: h.KeyGrade, At: h.At.Time().UTC(), Uptime: h.Uptime, InCall: h.InCall, Pending: h.Pending, Dropped: h.Dropped, Malformed: h.Malformed,
		Devices:    map[string]string{"camera": h.Camera.Kind, "microphone": h.Microphone.Kind, "speaker": h.Speaker.Kind, "screen": h.Screen.Kind},
		Conditions: []finding{},
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
		f := protocol.Explain(c.Code)
		b.Conditions = append(b.Conditions, finding{c.Code, f.Severity, f.Who, c.Since.Time().UTC(), c.Figure, !shown[c.Code]})
	}
	return b
}

// diagnose prints what the terminal says of itself: the conditions that its screen, its clinic and a technician's laptop show. asJSON: the same for a program, or for who supports
// it.
func diagnose(cfg agent.Config, asJSON bool, out io.Writer) error {
	h, err := agent.LastHealth(cfg)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("the terminal has not told anything of itself yet: it is not set up, or was not started since: %w", err)
	}
	if err != nil {
		return err
	}
	b := bundleOf(h)
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(b)
	}
	fmt.Fprintf(out, "%s, as of %s\n", b.Software, b.At.Local().Format("2006-01-02 15:04:05"))
	for _, d := range []string{"camera", "microphone", "speaker", "screen"} {
		fmt.Fprintf(out, "  %-11s %s\n", d, b.Devices[d])
	}
	hidden := 0
	for _, c := range b.Conditions {
		if c.Hidden {
			hidden++
			continue
		}
		text := c.Code.In(cfg.Language)
		fmt.Fprintf(out, "\n%s  %s\n  %s", c.Code, c.Severity, text.Sentence)
		if c.Figure != "" {
			fmt.Fprintf(out, " (%s)", c.Figure)
		}
		if text.Next != "" {
			fmt.Fprintf(out, "\n  %s", text.Next)
		}
		fmt.Fprintf(out, "\n  %s\n", c.Since.Local().Format("2006-01-02 15:04:05"))
	}
	if hidden > 0 {
		fmt.Fprintf(out, "\n+ %d\n", hidden)
	}
	if len(b.Conditions) == 0 {
		fmt.Fprintln(out, "\nok")
	}
	return nil
}
