package protocol

import (
	"bytes"
	"testing"
)

// fuzzMessage feeds one decoder. Whatever it accepts has to encode to the very same bytes.
func fuzzMessage[T any, P interface {
	*T
	validator
}](f *testing.F, seeds ...string) {
	all := messages(f)
	for _, name := range seeds {
		b, err := Encode(all[name])
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := P(new(T))
		if Decode(b, m) != nil {
			return
		}
		again, err := Encode(m)
		if err != nil {
			t.Fatalf("accepted, but refused to encode: %v", err)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("accepted %x, encoded %x", b, again)
		}
	})
}

func FuzzCallIn(f *testing.F) {
	fuzzMessage[CallIn](f, "call-in invite", "call-in candidates", "call-in hang-up")
}

func FuzzCallOut(f *testing.F) {
	fuzzMessage[CallOut](f, "call-out answer", "call-out candidate", "call-out end", "call-out refusal")
}
func FuzzPresence(f *testing.F) { fuzzMessage[Presence](f, "presence", "presence that asks") }
func FuzzHealth(f *testing.F)   { fuzzMessage[Health](f, "health", "health rehearsed") }
func FuzzAck(f *testing.F)      { fuzzMessage[Ack](f, "ack") }
func FuzzCommand(f *testing.F) {
	fuzzMessage[Command](f, "command", "command decommission", "command heard", "command rehearse")
}
func FuzzReport(f *testing.F)   { fuzzMessage[Report](f, "report") }
func FuzzReported(f *testing.F) { fuzzMessage[Reported](f, "reported") }
func FuzzTestCall(f *testing.F) { fuzzMessage[TestCall](f, "test call") }
func FuzzTestCallRequest(f *testing.F) {
	fuzzMessage[TestCallRequest](f, "test call request", "test call request for a path")
}
func FuzzRelayServers(f *testing.F)  { fuzzMessage[RelayServers](f, "relay servers") }
func FuzzAuthorisation(f *testing.F) { fuzzMessage[Authorisation](f, "authorisation") }
func FuzzCallProof(f *testing.F)     { fuzzMessage[CallProof](f, "call proof") }
func FuzzTrust(f *testing.F)         { fuzzMessage[Trust](f, "trust") }
func FuzzPolicy(f *testing.F)        { fuzzMessage[Policy](f, "policy") }
func FuzzSettings(f *testing.F)      { fuzzMessage[Settings](f, "settings", "settings that rehearse") }
func FuzzEvent(f *testing.F) {
	fuzzMessage[Event](f, "event call", "event end", "event opening", "event check", "event link", "event notice", "event hand-over", "event decommissioned", "event rehearsal", "event rehearsing")
}

// FuzzVerify: nothing but what this key signed is accepted, whatever the bytes.
func FuzzVerify(f *testing.F) {
	key := testKey(7)

	for _, name := range []string{"invitation", "answer", "refusal", "end", "mandate", "session", "hand-over", "decommission", "decommissioned", "clock", "ack", "candidates", "authorisation", "trust", "policy"} {
		b, err := Sign(messages(f)[name].(statement), key)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	payloads := func() (p [][]byte) {
		for _, name := range []string{"invitation", "answer", "refusal", "end", "mandate", "session", "hand-over", "decommission", "decommissioned", "clock", "ack", "candidates", "authorisation", "trust", "policy"} {
			b, err := Encode(messages(f)[name])
			if err != nil {
				f.Fatal(err)
			}
			p = append(p, b)
		}
		return p
	}()
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range []statement{new(Invitation), new(Answer), new(End), new(Curtain), new(Restart), new(Mandate), new(Session), new(HandOver), new(Decommission), new(Decommissioned), new(Clock), new(Ack), new(Candidates), new(KeyOrder), new(Authorisation), new(Trust), new(Policy)} {
			if Verify(b, &key.PublicKey, s) != nil {
				continue
			}
			got, err := Encode(s)
			if err != nil {
				t.Fatal(err)
			}
			known := false
			for i := range payloads {
				known = known || bytes.Equal(got, payloads[i])
			}
			if !known {
				t.Fatalf("accepted a statement that was never signed: %x", b)
			}
		}
	})
}

func FuzzParseVoucher(f *testing.F) {
	text, err := messages(f)["voucher"].(*Voucher).Text()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("vindu-voucher-1.oA")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVoucher(s)
		if err != nil {
			return
		}
		if _, err := v.Text(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeCerts(f *testing.F) {
	body, err := EncodeCerts(testCert(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, b []byte) {
		certs, err := DecodeCerts(b)
		if err != nil {
			return
		}
		if _, err := EncodeCerts(certs...); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzTopic(f *testing.F) {
	f.Add(OutTopic(HashSPKI(nil), OutEvent))
	f.Add(InTopic(HashSPKI(nil), InCall))
	f.Fuzz(func(t *testing.T, s string) {
		if k, ch, err := ParseOutTopic(s); err == nil && OutTopic(k, ch) != s {
			t.Fatalf("out topic %q read as %s %s", s, k, ch)
		}
		if k, ch, err := ParseInTopic(s); err == nil && InTopic(k, ch) != s {
			t.Fatalf("in topic %q read as %s %s", s, k, ch)
		}
	})
}
