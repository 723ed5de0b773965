package protocol

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files in testdata anew")

// testKey is a fixed key: golden messages name its hash. It protects nothing.
func testKey(d int64) *ecdsa.PrivateKey {
	k := new(ecdsa.PrivateKey)
	k.Curve = elliptic.P256()
	k.D = big.NewInt(d)
	k.X, k.Y = k.Curve.ScalarBaseMult(k.D.Bytes())
	return k
}

func fill[T ~[16]byte | ~[32]byte](b byte) (t T) {
	v := reflect.ValueOf(&t).Elem()
	for i := range v.Len() {
		v.Index(i).SetUint(uint64(b))
	}
	return t
}

// messages has one well-formed message of every kind.
func messages(t testing.TB) map[string]validator {
	t.Helper()
	hash, err := HashKey(testKey(7).Public())
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(testKey(7).Public())
	if err != nil {
		t.Fatal(err)
	}
	call := fill[CallID](0xc1)
	body := func(m validator) []byte {
		b, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	event := func(kind string, m validator) *Event {
		return &Event{Version: 1, Epoch: fill[Nonce](0xe0), Seq: 9, At: 1_800_000_000_000, Kind: kind, Body: body(m)}
	}
	record := &CallRecord{
		Version: 1, Call: call, By: SideTerminal, Began: 1_800_000_000_000, Outcome: EndCallerHungUp, Duration: 61_000,
		Stages: []StageTime{{"verifying", 0}, {"ringing", 4}}, Crypto: Crypto{Suite: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", SRTP: "SRTP_AEAD_AES_256_GCM", Local: fill[Fingerprint](1), Remote: fill[Fingerprint](2)},
		LocalPath: "host", RemotePath: "prflx", Camera: "v4l2", Sound: "alsa", Quality: Quality{RTT: 3, FramesSent: 900},
		CameraOpen: 1_800_000_000_500, CameraClosed: 1_800_000_061_500,
	}
	measured := *record
	measured.Quality = Quality{RTT: 3, FramesSent: 900, Frozen: 1_400, Grade: 428, Worst: 391, ERLE: 38, CPU: 412, Heat: 71, CodecOut: "VP8", CodecIn: "H264"}
	measured.Series = &Series{Every: 1, RTT: []uint64{3}, Loss: []uint64{0}, Jitter: []uint64{1}, Out: []uint64{900}, In: []uint64{800}, Frames: []uint64{30},
		Frozen: []uint64{0}, Concealed: []uint64{4}, Grade: []uint64{428}, ERLE: []uint64{38}, CPU: []uint64{412}, Heat: []uint64{71}}
	rehearsal := &Rehearsal{Version: 1, At: 1_800_000_000_000, Parts: []RehearsalPart{
		{Name: "call.direct", At: 1_800_000_000_000, State: CheckFailed, Code: ICEFailed}, {Name: "call.relayed", At: 1_800_000_000_000, State: CheckPassed, Took: 310, Loss: 2},
		{Name: "loudspeaker", At: 1_799_990_000_000, State: CheckSkipped, Code: AnswerQuiet},
	}}
	handOver := &HandOver{Version: 1, ID: fill[Nonce](8), Terminal: hash, Organisation: "Kommunen", Home: "Home 17", Technician: Party{"Bo Dahl", "technician", "Kommunen"}, Software: "1.0",
		KeyGrade: "hardware", Checks: []Check{{"camera.brightness", CheckPassed, "41 %", ""}, {"network.udp", CheckFailed, "", EgressUDP}}, At: 1_800_000_000_000}
	return map[string]validator{
		"invitation": &Invitation{Version: 1, Call: call, Terminal: hash, Caller: fill[Fingerprint](1), Offer: HashOf("v=0"), Parties: []Party{{"Åse Bø", "nurse", "Kommunen"}}, Errand: "Medisin", Issued: 1_800_000_000_000, Expires: 1_800_000_060_000, Nonce: fill[Nonce](3),
			Key: spki, Authorisation: fill[Hash](6), RelayOnly: true},
		"answer":  &Answer{Version: 1, Call: call, Terminal: hash, Invitation: fill[Hash](5), Key: fill[Fingerprint](2), Answer: HashOf("v=0"), Decision: Ringing, Software: "1.0", At: 1_800_000_000_004},
		"refusal": &Answer{Version: 1, Call: call, Terminal: hash, Invitation: fill[Hash](5), Decision: Busy, Software: "1.0", At: 1_800_000_000_004},
		"end":     &End{Version: 1, Call: call, Terminal: hash, Invitation: fill[Hash](5), By: SideTerminal, Reason: EndPatientHungUp, Duration: 5000, CameraClosed: 1_800_000_005_000, MicrophoneClosed: 1_800_000_005_001, At: 1_800_000_005_002},
		"curtain": &Curtain{Version: 1, Call: call, Terminal: hash, Invitation: fill[Hash](5), By: SideTerminal, Drawn: true, Number: 3, CameraClosed: 1_800_000_003_000, MicrophoneClosed: 1_800_000_003_001, At: 1_800_000_003_002},
		"call-in invite": &CallIn{Version: 1, Call: call, Kind: KindInvite, Invite: &Invite{Invitation: []byte{0xae, 0x01}, Offer: "v=0\r\n",
			Assertion: &Assertion{Credential: []byte{1}, AuthenticatorData: make([]byte, 37), ClientData: []byte("{}"), Signature: []byte{0x30}}, Authorisation: []byte{0xd2, 0x84},
			ICE: []ICEServer{{URLs: []string{"turn:127.0.0.1:3478"}, Username: "1800000000:c1", Credential: "x"}}}},
		"call-in candidates": &CallIn{Version: 1, Call: call, Kind: KindCandidates, Candidates: []byte{0xd2, 0x84}},
		"candidates":         &Candidates{Version: 1, Call: call, Terminal: hash, Invitation: fill[Hash](5), Number: 1, List: []Candidate{{Line: "candidate:1 1 udp 1 192.0.2.1 9 typ host", Mid: "0"}, {}}},
		"call-in hang-up":    &CallIn{Version: 1, Call: call, Kind: KindHangUp, HangUp: &HangUp{End: []byte{0xd2, 0x84}}},
		"restart":            &Restart{Version: 1, Call: call, Terminal: hash, Invitation: fill[Hash](5), By: SideCaller, N: 2, SDP: HashOf("v=0"), At: 1_800_000_002_002},
		"call-in restart":    &CallIn{Version: 1, Call: call, Kind: KindRestart, Restart: &CallRestart{Restart: []byte{0xd2, 0x84}, SDP: "v=0\r\n"}},
		"call-out restart":   &CallOut{Version: 1, Call: call, Kind: KindRestart, Restart: &CallRestart{Restart: []byte{0xd2, 0x84}, SDP: "v=0\r\n"}},
		"call-in curtain":    &CallIn{Version: 1, Call: call, Kind: KindCurtain, Curtain: &CallCurtain{Curtain: []byte{0xd2, 0x84}}},
		"call-out curtain":   &CallOut{Version: 1, Call: call, Kind: KindCurtain, Curtain: &CallCurtain{Curtain: []byte{0xd2, 0x84}}},
		"call-out answer":    &CallOut{Version: 1, Call: call, Kind: KindAnswer, Answer: &CallAnswer{Answer: []byte{0xd2}, SDP: "v=0\r\n"}},
		"call-out candidate": &CallOut{Version: 1, Call: call, Kind: KindCandidate, Candidate: &Candidate{}},
		"call-out end":       &CallOut{Version: 1, Call: call, Kind: KindEnd, End: &CallEnd{End: []byte{0xd2}}},
		"call-out refusal":   &CallOut{Version: 1, Call: call, Kind: KindRefusal, Refusal: AuthReplayed},
		"presence":           &Presence{Version: 1, Online: true, Session: fill[Nonce](4), Since: 1_800_000_000_000, Software: "1.0"},
		"health": &Health{Version: 1, At: 1_800_000_000_000, Uptime: 60, Software: "1.0", KeyGrade: "file", Camera: DeviceState{"v4l2", "vivid"}, Microphone: DeviceState{"none", ""},
			Speaker: DeviceState{"alsa", "HDA"}, Screen: DeviceState{"drm", "card0"}, Conditions: []Condition{{Code: CaptureNoMicrophone, Since: 1_800_000_000_000}}},
		"call proof": &CallProof{Version: 1, Invitation: []byte{0xae, 0x01}, Assertion: &Assertion{Credential: []byte{1}, AuthenticatorData: make([]byte, 37), ClientData: []byte("{}"), Signature: []byte{0x30}},
			Authorisation: []byte{0xd2, 0x84}},
		"event call":    event(EventCall, record),
		"event end":     event(EventEnd, &EndReceipt{Version: 1, Call: call, End: []byte{0xd2}}),
		"event opening": event(EventOpening, &Opening{Version: 1, Device: "camera", Open: true, Call: call, At: 1_800_000_000_500}),
		"event link": &Event{Version: 1, Epoch: fill[Nonce](0xe0), Seq: 10, At: 1_800_000_000_500, Kind: EventOpening, Link: &Link{2, fill[Hash](7)},
			Body: body(&Opening{Version: 1, Device: "camera", Call: call, At: 1_800_000_000_500})},
		"event check":                  event(EventOpening, &Opening{Version: 1, Device: "microphone", At: 1_800_000_000_500, Reason: OpeningCheck, Mandate: bytes.Repeat([]byte{8}, 16)}),
		"relay servers":                &RelayServers{Version: 1, Servers: []ICEServer{{URLs: []string{"turn:192.0.2.1:3478?transport=udp"}, Username: "1800000000:c1", Credential: "x"}}},
		"event rehearsing":             event(EventOpening, &Opening{Version: 1, Device: "microphone", Open: true, At: 1_800_000_000_500, Reason: OpeningRehearsal}),
		"test call request":            &TestCallRequest{Version: 1, Call: call},
		"test call request for a path": &TestCallRequest{Version: 1, Call: call, Path: RelayedPath},
		"event rehearsal":              event(EventRehearsal, rehearsal),
		"health rehearsed": &Health{Version: 1, At: 1_800_000_000_000, Software: "1.0", Camera: DeviceState{"none", ""}, Microphone: DeviceState{"none", ""},
			Speaker: DeviceState{"none", ""}, Screen: DeviceState{"none", ""}, Conditions: []Condition{}, Rehearsed: rehearsal},
		"command rehearse":       &Command{Version: 1, Kind: CommandRehearse},
		"settings that rehearse": &Settings{Version: 1, Organisation: "Kommunen", Home: "Home 17", Authorities: [][]byte{{0x30, 0}}, At: 1_800_000_000_000, Rehearse: &Window{120, 240}},
		"test call":              &TestCall{Version: 1, Call: call, Ended: true, Outcome: EndCallerHungUp, Pictures: 60, Keys: 2, Sounds: 200, Lost: 1},
		"health with a figure": &Health{Version: 1, At: 1_800_000_000_000, Software: "1.0", Camera: DeviceState{"none", ""}, Microphone: DeviceState{"none", ""},
			Speaker: DeviceState{"none", ""}, Screen: DeviceState{"none", ""}, Conditions: []Condition{{HeatHot, 1_800_000_000_000, "81 °C"}}},
		"health with all it can tell": &Health{Version: 1, At: 1_800_000_000_000, Software: "1.0", Camera: DeviceState{"none", ""}, Microphone: DeviceState{"none", ""},
			Speaker: DeviceState{"none", ""}, Screen: DeviceState{"none", ""}, Figures: &Figures{Signal: 61, Trip: 34, Heat: 52, Memory: 41, Written: 2300}, Quiet: true, Covered: true,
			About: &About{Board: "Raspberry Pi 4 Model B Rev 1.5", Kernel: "6.12.20-v8", Coders: []CoderCost{{"openh264", 9000, 2100}, {"libvpx", 14000, 3000}}}},
		"presence that asks":    &Presence{Version: 1, Online: true, Session: fill[Nonce](4), Since: 1_800_000_000_000, Software: "1.0", Beat: 70_000, Heard: 69_999},
		"command heard":         &Command{Version: 1, Kind: CommandHeard, Beat: 70_000},
		"event condition":       event(EventCondition, &ConditionChange{Version: 1, Code: HeatHot, Since: 1_800_000_000_000, Figure: "81 °C"}),
		"report":                &Report{Version: 1, Events: []Event{*event(EventNotice, &Notice{Version: 1, Code: AuthReplayed, Call: call, At: 1_800_000_000_500})}},
		"reported":              &Reported{Version: 1, Acks: [][]byte{{0xd2, 0x84}}},
		"event condition over":  event(EventCondition, &ConditionChange{Version: 1, Code: HeatHot, Since: 1_800_000_000_000, Until: 1_800_000_100_000}),
		"event notice":          event(EventNotice, &Notice{Version: 1, Code: AuthReplayed, Call: call, At: 1_800_000_000_500}),
		"call record":           record,
		"call record, measured": &measured,
		"ack":                   &Ack{Version: 1, Terminal: hash, Epoch: fill[Nonce](0xe0), Seq: 9},
		"command":               &Command{Version: 1, Kind: CommandReport},
		"command decommission":  &Command{Version: 1, Kind: CommandDecommission, Order: []byte{0xd2, 0x84}},
		"authorisation": &Authorisation{Version: 1, ID: fill[Nonce](8), Person: "p7", Party: Party{"Åse Bø", "nurse", "Kommunen"}, Employment: "employed", Group: "home care",
			Credentials: []Credential{{ID: []byte{1, 2}, Key: spki}}, Scope: Scope{Homes: []string{"h17"}, Groups: []string{"north", "south"}}, From: 1_800_000_000_000, To: 1_800_086_400_000},
		"trust": &Trust{Version: 1, Serial: 2, Authorities: [][]byte{spki}, Service: [][]byte{spki}, RelyingParty: RelyingParty{"clinic.example", []string{"https://video.clinic.example"}}, Issued: 1_800_000_000_000},
		"policy": &Policy{Version: 1, Serial: 3, Terminal: hash, Home: "h17", Groups: []string{"north"}, Rules: []Rule{{"doctor", ModeAsk, 60, true}, {"home care", ModeRing, 20, false}, {"support", ModeRefuse, 0, false}},
			Quiet: []Span{{0x1f, 22 * 60, 7 * 60}}, Zone: "Europe/Oslo", Longest: 3600, Volume: 80, Issued: 1_800_000_000_000},
		"mandate":              &Mandate{Version: 1, ID: fill[Nonce](8), Person: Party{"Bo Dahl", "technician", "Kommunen"}, Key: []byte{0x30, 0}, From: 1_800_000_000_000, To: 1_800_086_400_000},
		"session":              &Session{Version: 1, Transcript: fill[Hash](5), Terminal: hash, By: SideTechnician, At: 1_800_000_000_000},
		"hand-over":            handOver,
		"event hand-over":      event(EventHandOver, &HandOverEvent{Version: 1, Terminal: []byte{0xd2}, Technician: []byte{0xd2, 1}, Authorisation: []byte{0xd2, 2}}),
		"decommission":         &Decommission{Version: 1, Terminal: hash, Nonce: fill[Nonce](9), Issued: 1_800_000_000_000, Expires: 1_800_086_400_000},
		"decommissioned":       &Decommissioned{Version: 1, Terminal: hash, Order: fill[Hash](5), KeyGrade: "file", At: 1_800_000_000_000},
		"event decommissioned": event(EventReceipt, &ReceiptEvent{Version: 1, Receipt: []byte{0xd2}}),
		"clock":                &Clock{Version: 1, Nonce: fill[Nonce](3), At: 1_800_000_000_000},
		"voucher":              &Voucher{Version: 1, ID: fill[Nonce](6), Secret: bytes.Repeat([]byte{7}, 32), Address: "clinic.example:443", ServerName: "terminals.clinic.example", Root: []byte{0x30, 0}, Expires: 1_800_000_000_000, Authority: []byte{0x30, 1}},
		"settings":             &Settings{Version: 1, Organisation: "Kommunen", Home: "Home 17", Authorities: [][]byte{{0x30, 0}}, At: 1_800_000_000_000, Roots: [][]byte{{0x30, 2}, {0x30, 3}, {0x30, 4}}, KeyOrder: []byte{0xd2, 0x84}, Withdrawn: []Nonce{fill[Nonce](8)}},
		"key order":            &KeyOrder{Version: 1, Terminal: hash, At: 1_800_000_000_000},
	}
}

func fresh(m validator) validator {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(validator)
}

// The bytes of version 1 never change: testdata/messages.json holds them, made by this test with -update.
func TestGoldenMessages(t *testing.T) {
	path := filepath.Join("testdata", "messages.json")
	golden := map[string]string{}
	if *update {
		for name, m := range messages(t) {
			b, err := Encode(m)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			golden[name] = hex.EncodeToString(b)
		}
		b, err := json.MarshalIndent(golden, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	all := messages(t)
	if len(golden) != len(all) {
		t.Errorf("%d golden messages for %d kinds", len(golden), len(all))
	}
	for name, m := range all {
		t.Run(name, func(t *testing.T) {
			b, err := Encode(m)
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(b); got != golden[name] {
				t.Errorf("encoding changed:\n got %s\nwant %s", got, golden[name])
			}
			back := fresh(m)
			if err := Decode(b, back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, m) {
				t.Errorf("decoded %+v, want %+v", back, m)
			}
		})
	}
}

func TestDecodeRefusesOtherEncodings(t *testing.T) {
	for name, m := range messages(t) {
		good, err := Encode(m)
		if err != nil {
			t.Fatal(err)
		}
		n := int(good[0] &^ 0xa0) // pairs of the outer map; all our messages have fewer than 24
		if good[0]&0xe0 != 0xa0 || n >= 23 {
			t.Fatalf("%s: not a short map: %x", name, good[0])
		}
		unknown := append([]byte{good[0] + 1}, good[1:]...)
		unknown = append(unknown, 0x18, 0x63, 0x00) // key 99
		repeated := append([]byte{good[0] + 1}, good[1:3]...)
		repeated = append(repeated, good[1:]...)
		long := append([]byte{0xb8, byte(n)}, good[1:]...)
		indefinite := append(append([]byte{0xbf}, good[1:]...), 0xff)
		wrongVersion := bytes.Clone(good)
		wrongVersion[2] = 2
		for _, c := range []struct {
			what string
			b    []byte
			want error
		}{
			{"unknown key", unknown, ErrMalformed},
			{"repeated key", repeated, ErrMalformed},
			{"longer length than needed", long, ErrMalformed},
			{"indefinite length", indefinite, ErrMalformed},
			{"trailing byte", append(bytes.Clone(good), 0), ErrMalformed},
			{"truncated", good[:len(good)-1], ErrMalformed},
			{"empty", nil, ErrMalformed},
			{"version 2", wrongVersion, ErrVersion},
			{"too large", make([]byte, MaxMessage+1), ErrTooLarge},
		} {
			if err := Decode(c.b, fresh(m)); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v, want %v", name, c.what, err, c.want)
			}
		}
	}
}

func TestInvalidMessages(t *testing.T) {
	base := messages(t)
	inv := func(change func(*Invitation)) validator {
		i := *base["invitation"].(*Invitation)
		change(&i)
		return &i
	}
	told := func(change func(*Health)) validator { h := *base["health"].(*Health); change(&h); return &h }
	ans := func(change func(*Answer)) validator { i := *base["answer"].(*Answer); change(&i); return &i }
	end := func(change func(*End)) validator { i := *base["end"].(*End); change(&i); return &i }
	curtain := func(change func(*Curtain)) validator { c := *base["curtain"].(*Curtain); change(&c); return &c }
	in := func(change func(*CallIn)) validator { i := *base["call-in hang-up"].(*CallIn); change(&i); return &i }
	opening := func(reason string, mandate []byte, call CallID) validator {
		return &Opening{Version: 1, Device: "camera", Open: true, Call: call, At: 1_800_000_000_500, Reason: reason, Mandate: mandate}
	}
	coming := func(c Coming) validator { s := *base["settings"].(*Settings); s.Coming = &c; return &s }
	rehearsed := func(parts ...RehearsalPart) validator { return &Rehearsal{Version: 1, At: 5, Parts: parts} }
	for name, m := range map[string]validator{
		"announced call without a time":           coming(Coming{Name: "Anne", Role: "nurse"}),
		"announced call by nobody":                coming(Coming{Role: "nurse", At: 1}),
		"announced call without a role":           coming(Coming{Name: "Anne", At: 1}),
		"announced call with turned text":         coming(Coming{Name: "a\u202eb", Role: "nurse", At: 1}),
		"opening for no reason that is known":     opening("curiosity", make([]byte, 16), CallID{}),
		"opening of a check without a mandate":    opening(OpeningCheck, nil, CallID{}),
		"opening of a check with half a mandate":  opening(OpeningCheck, make([]byte, 8), CallID{}),
		"opening of a check in a call":            opening(OpeningCheck, make([]byte, 16), CallID{1}),
		"opening of a call with a mandate":        opening("", make([]byte, 16), CallID{1}),
		"test call that ended without an outcome": &TestCall{Version: 1, Call: CallID{1}, Ended: true},
		"test call that runs and has an outcome":  &TestCall{Version: 1, Call: CallID{1}, Outcome: EndCallerHungUp},
		"test call without a name":                &TestCall{Version: 1},
		"request for no test call":                &TestCallRequest{Version: 1},
		"request for a test call by a way round":  &TestCallRequest{Version: 1, Call: CallID{1}, Path: "scenic"},
		"opening of a camera in a rehearsal":      opening(OpeningRehearsal, nil, CallID{}),
		"opening of a rehearsal with a mandate":   &Opening{Version: 1, Device: "microphone", At: 1, Reason: OpeningRehearsal, Mandate: make([]byte, 16)},
		"opening of a rehearsal in a call":        &Opening{Version: 1, Device: "microphone", At: 1, Reason: OpeningRehearsal, Call: CallID{1}},
		"rehearsal of nothing":                    &Rehearsal{Version: 1, At: 1},
		"rehearsal without a time":                &Rehearsal{Version: 1, Parts: []RehearsalPart{{Name: "microphone", At: 1, State: CheckPassed}}},
		"rehearsal of a part that is not one":     rehearsed(RehearsalPart{Name: "camera", At: 1, State: CheckPassed}),
		"rehearsal of a part twice":               rehearsed(RehearsalPart{Name: "microphone", At: 1, State: CheckPassed}, RehearsalPart{Name: "microphone", At: 1, State: CheckPassed}),
		"rehearsal out of order":                  rehearsed(RehearsalPart{Name: "microphone", At: 1, State: CheckPassed}, RehearsalPart{Name: "call.direct", At: 1, State: CheckPassed}),
		"rehearsal with a part of later":          rehearsed(RehearsalPart{Name: "microphone", At: 6, State: CheckPassed}),
		"rehearsal with a part of never":          rehearsed(RehearsalPart{Name: "microphone", State: CheckPassed}),
		"rehearsal that passed by a cause":        rehearsed(RehearsalPart{Name: "microphone", At: 1, State: CheckPassed, Code: CaptureSilent}),
		"rehearsal that failed without a cause":   rehearsed(RehearsalPart{Name: "microphone", At: 1, State: CheckFailed}),
		"rehearsal that went somehow":             rehearsed(RehearsalPart{Name: "microphone", At: 1, State: "well", Code: CaptureSilent}),
		"rehearsal with a free cause":             rehearsed(RehearsalPart{Name: "microphone", At: 1, State: CheckFailed, Code: "because I say so"}),
		"rehearsal that lost more than all":       rehearsed(RehearsalPart{Name: "call.direct", At: 1, State: CheckPassed, Loss: 1001}),
		"rehearsal that took for ever":            rehearsed(RehearsalPart{Name: "call.direct", At: 1, State: CheckPassed, Took: 600_001}),
		"health with such a rehearsal": func() validator {
			h := *base["health"].(*Health)
			h.Rehearsed = &Rehearsal{Version: 1, At: 1}
			return &h
		}(),
		"window of no time":     func() validator { s := *base["settings"].(*Settings); s.Rehearse = &Window{60, 60}; return &s }(),
		"window beyond the day": func() validator { s := *base["settings"].(*Settings); s.Rehearse = &Window{60, 1440}; return &s }(),
		"order to rehearse":     &Command{Version: 1, Kind: CommandRehearse, Order: []byte{0xd2}},
		"nine relays":           &RelayServers{Version: 1, Servers: make([]ICEServer, 9)},

		"invitation without parties":   inv(func(i *Invitation) { i.Parties = nil }),
		"invitation with five parties": inv(func(i *Invitation) { i.Parties = make([]Party, 5) }),
		"invitation without a name":    inv(func(i *Invitation) { i.Parties = []Party{{"", "a", "b"}} }),
		"invitation with a line break": inv(func(i *Invitation) { i.Errand = "a\nb" }),
		"invitation with turned text":  inv(func(i *Invitation) { i.Parties = []Party{{"a\u202eb", "a", "b"}} }),
		"invitation that is not UTF-8": inv(func(i *Invitation) { i.Errand = "a\xff" }),
		"health with a turned key grade": func() validator {
			h := *base["health"].(*Health)
			h.KeyGrade = "\u202e"
			return &h
		}(),
		"health with a signal out of bounds":             told(func(h *Health) { h.Figures = &Figures{Signal: 128} }),
		"health with a trip of an hour":                  told(func(h *Health) { h.Figures = &Figures{Trip: 3_600_000} }),
		"health hotter than any board":                   told(func(h *Health) { h.Figures = &Figures{Heat: 251} }),
		"health of a disk that is written for ever":      told(func(h *Health) { h.Figures = &Figures{Written: 1<<32 + 1} }),
		"health with more memory than all":               told(func(h *Health) { h.Figures = &Figures{Memory: 101} }),
		"health of a turned board":                       told(func(h *Health) { h.About = &About{Board: "a\u202eb"} }),
		"health of a long kernel":                        told(func(h *Health) { h.About = &About{Kernel: strings.Repeat("x", MaxText+1)} }),
		"health with nine coders":                        told(func(h *Health) { h.About = &About{Coders: make([]CoderCost, 9)} }),
		"health with a nameless coder":                   told(func(h *Health) { h.About = &About{Coders: make([]CoderCost, 1)} }),
		"health with a costly coder":                     told(func(h *Health) { h.About = &About{Coders: []CoderCost{{"a", 1, 60_000_001}}} }),
		"invitation with a long errand":                  inv(func(i *Invitation) { i.Errand = strings.Repeat("x", MaxText+1) }),
		"invitation that lives too long":                 inv(func(i *Invitation) { i.Expires = i.Issued + 120_001 }),
		"invitation that ends before":                    inv(func(i *Invitation) { i.Expires = i.Issued }),
		"invitation without a nonce":                     inv(func(i *Invitation) { i.Nonce = Nonce{} }),
		"invitation without a terminal":                  inv(func(i *Invitation) { i.Terminal = KeyHash{} }),
		"answer without a key":                           ans(func(a *Answer) { a.Key = Fingerprint{} }),
		"answer of an unknown decision":                  ans(func(a *Answer) { a.Decision = "maybe" }),
		"refusal with a key":                             ans(func(a *Answer) { a.Decision = Busy }),
		"end with a free reason":                         end(func(e *End) { e.Reason = "because I say so" }),
		"end by nobody":                                  end(func(e *End) { e.By = "relay" }),
		"caller who closed the camera":                   end(func(e *End) { e.By = SideCaller }),
		"call message with two bodies":                   in(func(c *CallIn) { c.Candidates = []byte{1} }),
		"call message of another kind":                   in(func(c *CallIn) { c.Kind = KindInvite }),
		"restart without a description":                  in(func(c *CallIn) { c.Kind, c.HangUp, c.Restart = KindRestart, nil, &CallRestart{Restart: []byte{1}} }),
		"restart that nobody has signed":                 in(func(c *CallIn) { c.Kind, c.HangUp, c.Restart = KindRestart, nil, &CallRestart{SDP: "v=0"} }),
		"restart that is none":                           in(func(c *CallIn) { c.Kind = KindRestart }),
		"call message without a call":                    in(func(c *CallIn) { c.Call = CallID{} }),
		"voucher with a short secret":                    &Voucher{Version: 1, ID: Nonce{1}, Secret: []byte{1}, Address: "a", ServerName: "b", Root: []byte{1}, Expires: 1},
		"event whose body is another kind":               &Event{Version: 1, Epoch: Nonce{1}, Seq: 1, At: 1, Kind: EventEnd, Body: base["event notice"].(*Event).Body},
		"curtain of the clinic's server":                 curtain(func(c *Curtain) { c.By, c.CameraClosed, c.MicrophoneClosed = SideClinic, 0, 0 }),
		"curtain of the caller's that closed the camera": curtain(func(c *Curtain) { c.By = SideCaller }),
		"curtain that left the microphone":               curtain(func(c *Curtain) { c.MicrophoneClosed = 0 }),
		"curtain that closes later":                      curtain(func(c *Curtain) { c.CameraClosed = c.At + 1 }),
		"curtain without a number":                       curtain(func(c *Curtain) { c.Number = 0 }),
		"curtain without an invitation":                  curtain(func(c *Curtain) { c.Invitation = Hash{} }),
		"curtain that is none":                           in(func(c *CallIn) { c.Kind = KindCurtain }),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Encode(m); !errors.Is(err, ErrMalformed) {
				t.Errorf("encode: %v, want ErrMalformed", err)
			}
			if b, err := encMode.Marshal(m); err != nil {
				t.Fatal(err)
			} else if err := Decode(b, fresh(m)); !errors.Is(err, ErrMalformed) {
				t.Errorf("decode: %v, want ErrMalformed", err)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	key, other := testKey(7), testKey(8)
	inv := messages(t)["invitation"].(*Invitation)
	good, err := Sign(inv, key)
	if err != nil {
		t.Fatal(err)
	}
	var back Invitation
	if err := Verify(good, &key.PublicKey, &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(&back, inv) {
		t.Errorf("verified %+v, want %+v", back, inv)
	}
	for i := range good { // no byte of a statement may be changed
		b := bytes.Clone(good)
		b[i] ^= 1
		if err := Verify(b, &key.PublicKey, new(Invitation)); err == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
	}
	end, err := Sign(messages(t)["end"].(*End), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		b    []byte
		key  *ecdsa.PrivateKey
		want error
	}{
		"another key":       {good, other, ErrSignature},
		"another kind":      {end, key, ErrKind},
		"untagged":          {good[1:], key, ErrMalformed},
		"trailing":          {append(bytes.Clone(good), 0), key, ErrMalformed},
		"too large":         {make([]byte, MaxStatement+1), key, ErrTooLarge},
		"nothing":           {nil, key, ErrMalformed},
		"malleated (r, -s)": {malleate(t, good), key, nil},
	} {
		t.Run(name, func(t *testing.T) {
			err := Verify(c.b, &c.key.PublicKey, new(Invitation))
			if c.want == nil { // ECDSA allows it; replay protection therefore goes by nonce, never by bytes
				if err != nil {
					t.Errorf("got %v", err)
				}
				return
			}
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func malleate(t *testing.T, signed []byte) []byte {
	t.Helper()
	b := bytes.Clone(signed)
	s := new(big.Int).SetBytes(b[len(b)-32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(b[len(b)-32:])
	return b
}

func TestSignNeedsP256(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Sign(messages(t)["invitation"].(*Invitation), k); err == nil {
		t.Error("signed with P-384")
	}
}

func TestNames(t *testing.T) {
	k := HashSPKI([]byte("a key"))
	if len(k.Name()) != 52 || k.Name() != strings.ToLower(k.Name()) {
		t.Errorf("name %q", k.Name())
	}
	if want := strings.ToUpper(k.Name()[:16]); strings.ReplaceAll(k.Code(), "-", "") != want || len(k.Code()) != 19 {
		t.Errorf("code %q does not begin the name", k.Code())
	}
	if got, err := ParseName(k.Name()); err != nil || got != k {
		t.Errorf("ParseName: %v %v", got, err)
	}
	for _, s := range []string{"", "abc", strings.ToUpper(k.Name()), k.Name() + "a", k.Name()[:51] + "1", k.Name()[:51] + "b", strings.Repeat("/", 52)} {
		if _, err := ParseName(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseName(%q): %v", s, err)
		}
	}
	c := NewCallID()
	if got, err := ParseCallID(c.String()); err != nil || got != c {
		t.Errorf("ParseCallID: %v %v", got, err)
	}
	for _, s := range []string{"", "zz", strings.ToUpper("ab" + c.String()[2:]), c.String() + "00"} {
		if _, err := ParseCallID(s); err == nil {
			t.Errorf("ParseCallID(%q) accepted", s)
		}
	}
}

func TestTopics(t *testing.T) {
	k := HashSPKI([]byte("a key"))
	for _, ch := range []string{OutPresence, OutHealth, OutEvent, OutCall} {
		got, c, err := ParseOutTopic(OutTopic(k, ch))
		if err != nil || got != k || c != ch {
			t.Errorf("%s: %v %q %v", ch, got, c, err)
		}
		if _, _, err := ParseInTopic(OutTopic(k, ch)); err == nil {
			t.Errorf("%s: taken for an in topic", ch)
		}
	}
	for _, ch := range []string{InAck, InCommand, InCall} {
		if got, c, err := ParseInTopic(InTopic(k, ch)); err != nil || got != k || c != ch {
			t.Errorf("%s: %v %q %v", ch, got, c, err)
		}
	}
	for _, s := range []string{"", "vindu/v1/", "vindu/v2/" + k.Name() + "/out/call", "vindu/v1/+/out/call", OutTopic(k, "other"), OutTopic(k, "call/x"), OutTopic(k, "")} {
		if _, _, err := ParseOutTopic(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("ParseOutTopic(%q): %v", s, err)
		}
	}
}

func TestRegister(t *testing.T) {
	stages := map[string]bool{}
	for _, s := range Stages {
		stages[s] = true
	}
	seen := map[Code]bool{}
	for _, f := range Register {
		stage, _, _ := strings.Cut(string(f.Code), ".")
		switch {
		case seen[f.Code]:
			t.Errorf("%s twice", f.Code)
		case f.Code.valid() != nil || !stages[stage]:
			t.Errorf("%s is not stage.cause", f.Code)
		case !strings.HasSuffix(f.Sentence, "."):
			t.Errorf("%s: not a sentence: %q", f.Code, f.Sentence)
		case f.Who != Nobody && f.Next == "":
			t.Errorf("%s: %s is to act, but on what?", f.Code, f.Who)
		}
		seen[f.Code] = true
		if !reflect.DeepEqual(Explain(f.Code), f) {
			t.Errorf("%s explained by another", f.Code)
		}
	}
	if f := Explain("dtls.from_the_future"); f.Code != "dtls.from_the_future" || f.Sentence != Explain(Unknown).Sentence {
		t.Errorf("unknown code explained as %+v", f)
	}
	for _, d := range []Decision{Declined, Busy, Quiet, Shutter, Refused} {
		if d.Outcome() == Unknown {
			t.Errorf("%s has no outcome", d)
		}
	}
}

func TestNothingSecretInLogs(t *testing.T) {
	const planted = "planted-value"
	var b bytes.Buffer
	l := slog.New(slog.NewTextHandler(&b, nil))
	l.Info("x", "offer", SDP(planted), "candidate", CandidateLine(planted), "secret", Secret(planted), "server", ICEServer{Credential: planted})
	l.Info(fmt.Sprintf("%v %s %+v", Secret(planted), Secret(planted), ICEServer{Credential: planted}))
	if strings.Contains(b.String(), planted) {
		t.Errorf("log shows it: %s", b.String())
	}
}

// What Printable leaves of any text goes into a message, and of a good one it leaves everything.
func TestPrintable(t *testing.T) {
	for r := range rune(0xe0100) {
		s := "a" + string(r) + "b"
		got := Printable(s)
		if err := checkText("text", got, true); err != nil {
			t.Fatalf("%U: %v", r, err)
		}
		if checkText("text", s, true) == nil && got != s && r != 0xfffd && (r < 0xd800 || r > 0xdfff) { // no characters: string makes U+FFFD of them
			t.Fatalf("%U was taken out", r)
		}
	}
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", ""},
		{"a camera", "HD Webcam C615", "HD Webcam C615"},
		{"not UTF-8", "Webcam\xff\xfe 2", "Webcam 2"},
		{"a name cut by its driver", "Kamera Gr\xc3", "Kamera Gr"},
		{"too long", strings.Repeat("ø", 200), strings.Repeat("ø", 128)},
		{"too long by one byte", "a" + strings.Repeat("ø", 128), "a" + strings.Repeat("ø", 127)},
	} {
		if got := Printable(test.text); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
