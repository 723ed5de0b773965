package main

import (
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the driver, to write past the program

	"vindu/clinic/config"
	"vindu/protocol"
)

const plantedWord = "PLANTED"

// TestSupport plants a word in every text of the configuration, in every file that it names, and in every column of every table, and looks for it in the bundle. What is of use to who supports the
// clinic is there.
func TestSupport(t *testing.T) {
	dir := newClinic(t)
	start(t, dir).stop() // every table is there afterwards
	must(t, "person", "-dir", dir, "-person", "PLANTED Berg", "-role", "PLANTED nurse", "-duty", "clinician", "-by", "PLANTED by")
	must(t, "voucher", "-dir", dir, "-home", "PLANTED home, Storgata", "-by", "PLANTED by")
	secret := filepath.Join(dir, "PLANTED-secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("PLANTED", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, config.FileName)
	written := `organisation = "PLANTED kommune"
[terminals]
address = "planted.example:443"
name = "planted.example"
[web]
plain = "localhost:0"
names = ["planted.example"]
passkey_site = "planted.example"
passkey_origins = ["https://planted.example"]
[relay]
listen = "127.0.0.1:0"
address = "203.0.113.77"
[oidc]
issuer = "https://planted.example"
name = "PLANTED"
client_id = "PLANTED"
key = "PLANTED-secret"
key_id = "PLANTED"
scopes = ["PLANTED"]
[metrics]
listen = "127.0.0.1:1"
token = "PLANTED-secret"
[alerts]
webhook = "https://planted.example/PLANTED"
secret = "PLANTED-secret"
[log]
level = "warn"
`
	if err := os.WriteFile(file, []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	var whole supportBundle
	if err := json.Unmarshal([]byte(must(t, "support", "-dir", dir)), &whole); err != nil || !whole.Whole {
		t.Errorf("before: %v, %v", err, whole.Whole)
	}
	tables := plant(t, filepath.Join(dir, fileDatabase))
	if len(tables) < 25 {
		t.Errorf("planted in %d tables only: %q", len(tables), tables)
	}
	code, out, errs := do(t, "support", "-dir", dir)
	if code != 0 {
		t.Fatalf("%d %s", code, errs)
	}
	low := strings.ToLower(out)
	for what, text := range map[string]string{
		"the word": "planted", "in hexadecimal": hex.EncodeToString([]byte(plantedWord)), "in base64": strings.ToLower(strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(plantedWord)), "=")[:9]),
		"an address": "203.0.113", "a folder": strings.ToLower(dir), "another address": "example", "an SDP": "v=0", "a key": "-----begin",
	} {
		if strings.Contains(low, text) {
			i := strings.Index(low, text)
			t.Errorf("%s is in the bundle: …%s…", what, out[max(i-80, 0):min(i+80, len(out))])
		}
	}
	if strings.Contains(errs, plantedWord) {
		t.Errorf("said beside it: %s", errs)
	}
	var b supportBundle
	if err := json.Unmarshal([]byte(out), &b); err != nil {
		t.Fatal(err)
	}
	if b.Software == "" || b.Database.Steps["calls"] == 0 || b.Database.Rows["calls"] < 2 || b.Database.Bytes == 0 || b.Homes < 1 || b.People["clinician"] < 1 || b.Authority["root"].IsZero() {
		t.Errorf("%+v", b)
	}
	if b.Config["log.level"] != "warn" || b.Config["organisation"] != "set" || b.Config["relay.address"] != "set" || b.Config["web.names"] != 1.0 || b.Config["terminals.key_days"] != 730.0 || b.Config["web.certificate"] != "not set" {
		t.Errorf("configuration: %v", b.Config)
	}
	if b.Conditions[protocol.HeatHot] != 1 || b.Conditions[protocol.Unknown] == 0 || b.Terminals.Software["other"] == 0 || b.Terminals.Keys["other"] == 0 || b.Terminals.Figures != 1 {
		t.Errorf("terminals: %+v %v", b.Terminals, b.Conditions)
	}
	if len(b.Failed) == 0 || b.Outcomes[protocol.ICEFailed] != 1 || !slices.ContainsFunc(b.Failed, func(f failedCall) bool {
		return f.Outcome == protocol.ICEFailed && f.Rule != "" && slices.Equal(f.Ends["terminal"].Stages, []string{"ringing 900 ms", "other 901 ms"}) && f.Ends["terminal"].Path == "host other"
	}) {
		t.Errorf("calls: %v %+v", b.Outcomes, b.Failed)
	}
	if len(b.Missing) != 1 {
		t.Errorf("missing: %q", b.Missing)
	}
}

// plant writes the word into every column of every table, past the program, and what a hostile terminal or page could tell into those that are decoded. It returns the tables.
func plant(t *testing.T, path string) []string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=foreign_keys(OFF)&_pragma=ignore_check_constraints(ON)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	rows, err := db.QueryContext(t.Context(), `SELECT m.name, c.name, c.type FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name NOT LIKE 'audit_%' ORDER BY m.name, c.cid`) // the audit log was planted by -by; it proves itself
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for rows.Next() {
		var table, column, kind string
		if err := rows.Scan(&table, &column, &kind); err != nil {
			t.Fatal(err)
		}
		v := "1"
		switch kind {
		case "TEXT":
			v = "'PLANTED-" + column + " v=0 203.0.113.7'"
		case "BLOB":
			v = "CAST('PLANTED-" + column + "-0123456789abcdef' AS BLOB)"
		}
		values[table] = append(values[table], v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	var planted []string
	for table, row := range values {
		if _, err := db.ExecContext(t.Context(), "INSERT INTO "+table+" VALUES ("+strings.Join(row, ", ")+")"); err != nil {
			t.Logf("%s: %v", table, err)
			continue
		}
		planted = append(planted, table)
	}
	encode := func(m any) []byte {
		t.Helper()
		var b []byte
		var err error
		switch m := m.(type) {
		case *protocol.Health:
			b, err = protocol.Encode(m)
		case *protocol.CallRecord:
			b, err = protocol.Encode(m)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	device := protocol.DeviceState{Kind: "PLANTED", Name: "PLANTED"}
	health := encode(&protocol.Health{Version: protocol.Version, At: 1, Software: "PLANTED", KeyGrade: "PLANTED", Camera: device, Microphone: device, Speaker: device, Screen: device,
		Figures: &protocol.Figures{Heat: 50}, About: &protocol.About{Board: "PLANTED", Kernel: "PLANTED", Coders: []protocol.CoderCost{{Name: "PLANTED"}}},
		Conditions: []protocol.Condition{{Code: protocol.HeatHot, Figure: "PLANTED"}, {Code: "planted.name"}}})
	half := encode(&protocol.CallRecord{Version: protocol.Version, Call: protocol.CallID{1}, By: protocol.SideTerminal, Began: 1, Outcome: protocol.ICEFailed, LocalPath: "host", RemotePath: "PLANTED", Camera: "PLANTED",
		Stages: []protocol.StageTime{{Stage: "ringing", After: 900}, {Stage: "PLANTED", After: 901}}})
	key := slices.Repeat([]byte{7}, 32)
	if _, err := db.ExecContext(t.Context(), "INSERT INTO fleet_terminals (terminal, heard, software, health) VALUES (?, ?, 'PLANTED', ?)", key, time.Now().UnixMilli(), health); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `INSERT INTO calls (call, person, name, role, organisation, home, home_label, terminal, spki, errand, relay_only, began, ended, outcome, terminal_half)
		VALUES (?, 'PLANTED', 'PLANTED', 'PLANTED', 'PLANTED', 'PLANTED', 'PLANTED', ?, x'00', 'PLANTED', 1, ?, ?, ?, ?)`, key[:16], key, time.Now().UnixMilli(), time.Now().UnixMilli(), string(protocol.ICEFailed), half); err != nil {
		t.Fatal(err)
	}
	slices.Sort(planted)
	return planted
}

// TestSupportAsksTheServer: what the running server counts is in the bundle too, and of it what this program writes alone.
func TestSupportAsksTheServer(t *testing.T) {
	dir := newClinic(t)
	withMetrics(t, dir)
	start(t, dir)
	var b supportBundle
	if err := json.Unmarshal([]byte(must(t, "support", "-dir", dir)), &b); err != nil {
		t.Fatal(err)
	}
	if len(b.Missing) != 0 || !slices.ContainsFunc(b.Metrics, func(l string) bool { return strings.HasPrefix(l, "vindu_goroutines ") }) {
		t.Errorf("missing %q, %d metrics", b.Missing, len(b.Metrics))
	}
	if keys := slices.Sorted(maps.Keys(b.Database.Steps)); !slices.Contains(keys, "series") {
		t.Errorf("components %q", keys)
	}
}

// withMetrics has a clinic that listens on ports of the system's choice answer Prometheus, and returns where.
func withMetrics(t *testing.T, dir string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(strings.Repeat("a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	written := fmt.Sprintf("organisation = \"Fjordbyen kommune\"\n[terminals]\naddress = \"127.0.0.1:443\"\n[front]\nlisten = \"127.0.0.1:0\"\n[web]\nplain = \"localhost:0\"\n[relay]\nlisten = \"127.0.0.1:0\"\n"+
		"[metrics]\nlisten = \"127.0.0.1:%d\"\ntoken = \"token\"\n[log]\nformat = \"json\"\n", port)
	if err := os.WriteFile(filepath.Join(dir, config.FileName), []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}
