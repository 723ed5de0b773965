package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"vindu/clinic/authority"
	"vindu/clinic/calls"
	"vindu/clinic/config"
	"vindu/clinic/fleet"
	"vindu/clinic/register"
	"vindu/clinic/store"
	"vindu/protocol"
)

// Bounds of what goes into a bundle.
const (
	bundledCalls  = 500 // that are looked at
	bundledFailed = 50  // of them, that are told
	metricsWait   = 5 * time.Second
	metricsLines  = 2000
)

// supportBundle is what goes to whoever supports the clinic. It is made of numbers, of times, and of words that this program knows: nothing that anybody has typed or told is in it, neither names
// nor addresses, keys, or what a home is called. Where a text could be something else it is compared with what it may be, and "other" stands in its place.
type supportBundle struct {
	Made       time.Time             `json:"made"`
	Software   string                `json:"software"`
	Go         string                `json:"go"`
	System     string                `json:"system"`
	Protocol   uint                  `json:"protocol"`
	Config     map[string]any        `json:"config"` // texts as whether they are set, lists as how many
	Database   store.Shape           `json:"database"`
	Whole      bool                  `json:"database_whole"`
	Authority  map[string]time.Time  `json:"authority_ends"`
	People     map[string]int        `json:"people"` // by duty
	Homes      int                   `json:"homes"`
	Terminals  terminalCounts        `json:"terminals"`
	Conditions map[protocol.Code]int `json:"conditions"`
	Alarms     map[protocol.Code]int `json:"alarms_open"`
	Outcomes   map[protocol.Code]int `json:"call_outcomes"` // of the last calls
	Failed     []failedCall          `json:"failed_calls"`
	Metrics    []string              `json:"metrics"` // of the running server
	Missing    []string              `json:"missing"` // what could not be had
	Log        string                `json:"log"`
}

type terminalCounts struct {
	Known    int            `json:"known"`
	Software map[string]int `json:"software"`
	Keys     map[string]int `json:"key_grades"`
	Heard    map[string]int `json:"heard"` // how long ago
	InCall   int            `json:"in_call"`
	Figures  int            `json:"with_figures"`
}

// failedCall is what became of a call, without whose it was.
type failedCall struct {
	Began   time.Time      `json:"began"` // to the minute
	Outcome protocol.Code  `json:"outcome"`
	Rule    string         `json:"rule"`
	Where   string         `json:"where"`
	Who     protocol.Who   `json:"who_acts"`
	Sure    string         `json:"sure"`
	Relay   bool           `json:"relay_only"`
	Ends    map[string]end `json:"ends"`
}

// end is one end's half of it.
type end struct {
	Outcome protocol.Code `json:"outcome"`
	Stages  []string      `json:"stages"` // with when they were reached
	Path    string        `json:"path"`
	Pairs   int           `json:"pairs_tried"`
	RTT     uint64        `json:"rtt_ms"`
	Lost    uint64        `json:"packets_lost"`
	Got     uint64        `json:"packets_received"`
}

var (
	releases = regexp.MustCompile(`^(vindu-agent|vindu-clinic) [0-9]{1,4}\.[0-9]{1,4}\.[0-9]{1,4}(\+[0-9a-f]{12})?(-dirty)?$`)
	coded    = regexp.MustCompile(`[{,]code="([^"]*)"`)
	lines    = regexp.MustCompile(`^vindu_[a-z0-9_]{1,80}(\{[a-z]{1,12}="[a-zA-Z0-9_.+-]{1,60}"(,[a-z]{1,12}="[a-zA-Z0-9_.+-]{1,60}")*\})? [-+0-9.eE]{1,30}$`)
)

// support is the command that writes a bundle.
func support(ctx context.Context, c *call) (err error) {
	dir := c.dir()
	if err := c.parse("dir"); err != nil {
		return err
	}
	clinic, err := c.openDir(ctx, *dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clinic.close()) }()
	b, err := clinic.support(ctx)
	if err != nil {
		return err
	}
	out := json.NewEncoder(c.stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(b); err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	fmt.Fprintln(c.stderr, "No name, address or key is in it. Read it before you send it.")
	return nil
}

func (c *clinic) support(ctx context.Context) (*supportBundle, error) {
	now := time.Now()
	b := &supportBundle{
		Made: now.UTC().Truncate(time.Second), Software: software(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, Protocol: protocol.Version,
		Config: shapeOf(c.config), Whole: c.store.Check(ctx) == nil, Authority: endsOf(c.authority), People: map[string]int{}, Conditions: map[protocol.Code]int{}, Alarms: map[protocol.Code]int{},
		Outcomes: map[protocol.Code]int{}, Failed: []failedCall{}, Metrics: []string{}, Missing: []string{},
		Log: "not kept by this program: journalctl -u vindu-clinic has it, where systemd runs it",
	}
	silent := slog.New(slog.DiscardHandler)
	var err error
	if b.Database, err = c.store.Shape(ctx); err != nil {
		return nil, err
	}
	if err := c.countRegister(ctx, b); err != nil {
		return nil, err
	}
	f, err := fleet.New(ctx, fleet.Config{Store: c.store, Audit: c.audit}, silent) // it is not run: this is what the server has stored
	if err != nil {
		return nil, err
	}
	b.Terminals = count(f.States(), b.Conditions, now)
	records, err := calls.ReadRecords(ctx, c.store, f.Held, silent)
	if err != nil {
		return nil, err
	}
	list, err := records.Latest(ctx, bundledCalls)
	if err != nil {
		return nil, err
	}
	for _, r := range list {
		b.Outcomes[known(r.Outcome)]++
		if r.Diagnosis.Who != protocol.Nobody && len(b.Failed) < bundledFailed {
			b.Failed = append(b.Failed, failed(r))
		}
	}
	if b.Metrics, err = c.askMetrics(ctx); err != nil {
		b.Missing = append(b.Missing, "metrics: not set up, or the server does not run") // why may be said by somebody else, who may say anything
	}
	return b, nil
}

// shapeOf says of each setting whether it is set. Numbers and yes or no are told; of texts those alone that can be only a word of a list.
func shapeOf(c config.Config) map[string]any {
	out := map[string]any{}
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			key, value := prefix+v.Type().Field(i).Tag.Get("toml"), v.Field(i)
			switch value.Kind() {
			case reflect.Struct:
				walk(key+".", value)
			case reflect.Slice:
				out[key] = value.Len()
			case reflect.Bool, reflect.Int, reflect.Uint16:
				out[key] = value.Interface()
			default:
				out[key] = map[bool]string{true: "set", false: "not set"}[!value.IsZero()]
			}
		}
	}
	walk("", reflect.ValueOf(c))
	out["log.level"], out["log.format"] = c.Log.Level, c.Log.Format // config.Check lets only the words of a list through
	return out
}

func endsOf(a *authority.Authority) map[string]time.Time {
	return map[string]time.Time{"issuing": a.Expires().UTC(), "root": a.RootExpires().UTC()}
}

func (c *clinic) countRegister(ctx context.Context, b *supportBundle) error {
	homes, err := c.register.Homes(ctx)
	persons, personsErr := c.register.Persons(ctx)
	alarms, alarmsErr := c.register.Alarms(ctx, 0)
	if err := errors.Join(err, personsErr, alarmsErr); err != nil {
		return err
	}
	b.Homes = len(homes)
	for _, p := range persons {
		switch p.Duty {
		case register.Clinician, register.Technician, register.Operator, register.Administrator:
			b.People[string(p.Duty)]++
		default:
			b.People["none"]++
		}
	}
	for _, a := range alarms {
		b.Alarms[known(a.Code)]++
	}
	return nil
}

// known is a code of the register, or the one for all others: ends can say anything.
func known(c protocol.Code) protocol.Code {
	if protocol.Registered(c) {
		return c
	}
	return protocol.Unknown
}

func count(states map[protocol.KeyHash]fleet.State, conditions map[protocol.Code]int, now time.Time) terminalCounts {
	t := terminalCounts{Known: len(states), Software: map[string]int{}, Keys: map[string]int{}, Heard: map[string]int{}}
	for _, s := range states {
		version := "other"
		if releases.MatchString(s.Software) {
			version = s.Software
		}
		t.Software[version]++
		t.Heard[ago(now.Sub(s.Heard))]++
		h := s.Health
		if h == nil {
			continue
		}
		if h.InCall {
			t.InCall++
		}
		if h.Figures != nil {
			t.Figures++
		}
		grade := "other"
		if h.KeyGrade == "file" || h.KeyGrade == "hardware" {
			grade = h.KeyGrade
		}
		t.Keys[grade]++
		for _, held := range h.Conditions {
			conditions[known(held.Code)]++
		}
	}
	return t
}

func ago(d time.Duration) string {
	switch {
	case d < 2*time.Minute: // what is stored is a minute late
		return "now"
	case d < time.Hour:
		return "within an hour"
	case d < 24*time.Hour:
		return "within a day"
	}
	return "longer ago"
}

func failed(r calls.Record) failedCall {
	d := r.Diagnosis
	f := failedCall{
		Began: r.Began.UTC().Truncate(time.Minute), Outcome: known(r.Outcome), Rule: d.Rule, Where: string(d.Where), Who: d.Who, Sure: string(d.Sure), Relay: r.RelayOnly, Ends: map[string]end{},
	}
	for side, half := range map[string]*protocol.CallRecord{"caller": r.CallerHalf, "terminal": r.TerminalHalf} {
		if half == nil {
			continue
		}
		e := end{Outcome: known(half.Outcome), Stages: []string{}, Pairs: len(half.Pairs), RTT: half.Quality.RTT, Lost: half.Quality.PacketsLost, Got: half.Quality.PacketsReceived}
		for _, s := range half.Stages {
			e.Stages = append(e.Stages, fmt.Sprintf("%s %d ms", word(s.Stage), s.After))
		}
		if half.LocalPath != "" {
			e.Path = candidate(half.LocalPath) + " " + candidate(half.RemotePath)
		}
		f.Ends[side] = e
	}
	return f
}

// reached are the stages that ends tell of; a page can say anything.
var reached = []string{"invited", "proven", "prepared", "ringing", "answered", "ice", "dtls", "connected", "picture", "sound", "camera", "talking", "sending", "heard", "seen", "disconnected", "closed", "ended"}

func word(stage string) string {
	if slices.Contains(reached, stage) {
		return stage
	}
	return "other"
}

// candidate is a type of ICE candidates (RFC 8445 §4).
func candidate(kind string) string {
	if slices.Contains([]string{"host", "srflx", "prflx", "relay"}, kind) {
		return kind
	}
	return "other"
}

// askMetrics asks the running server, as Prometheus does. What comes is told line by line if it is what this program writes.
func (c *clinic) askMetrics(ctx context.Context) ([]string, error) {
	found := []string{}
	m := c.config.Metrics
	if m.Listen == "" {
		return found, errors.New("metrics.listen is not set")
	}
	token, err := os.ReadFile(m.Token)
	if err != nil {
		return found, err
	}
	ctx, cancel := context.WithTimeout(ctx, metricsWait)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+m.Listen+"/metrics", nil)
	if err != nil {
		return found, err
	}
	r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	if err != nil {
		return found, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return found, fmt.Errorf("status %d", answer.StatusCode)
	}
	scan := bufio.NewScanner(io.LimitReader(answer.Body, 1<<20))
	for scan.Scan() && len(found) < metricsLines {
		code := coded.FindStringSubmatch(scan.Text())
		if lines.MatchString(scan.Text()) && (code == nil || protocol.Registered(protocol.Code(code[1]))) {
			found = append(found, scan.Text())
		}
	}
	return found, scan.Err()
}
