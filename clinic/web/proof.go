package web

import (
	"bytes"
	"encoding/hex"
	"slices"
	"time"

	"vindu/clinic/calls"
	"vindu/clinic/passkey"
	"vindu/protocol"
)

// claim is something that was proven of a call, or was not, in plain words.
type claim struct {
	Holds bool
	Text  string
}

// proofView is what there is to show of a call: for people first, then for who wants to compare it (R8, R15).
type proofView struct {
	Claims []claim
	Facts  []fact
}

// evidence is what a call's record holds, decoded. What is nil was not there, or cannot be read.
type evidence struct {
	invitation               *protocol.Invitation
	assertion                *protocol.Assertion
	authorisation            *protocol.Authorisation
	issuer                   protocol.KeyHash // of the authorisation
	terminalEnd, callerEnd   *protocol.End    // verified
	terminal, caller         *protocol.Crypto // of the two halves
	raw                      protocol.CallProof
	terminalSeen, terminalOK bool // the terminal tells by which certificates it spoke; they are the ones that the two ends have signed for
}

func present[T any](ok bool, v *T) *T {
	if !ok {
		return nil
	}
	return v
}

func examine(r calls.Record) evidence {
	var e evidence
	inv, a := new(protocol.Invitation), new(protocol.Authorisation)
	if protocol.Decode(r.Proof, &e.raw) == nil {
		e.assertion = e.raw.Assertion
		e.invitation = present(protocol.Decode(e.raw.Invitation, inv) == nil, inv)
		var err error
		e.issuer, err = protocol.Unverified(e.raw.Authorisation, a)
		e.authorisation = present(err == nil, a)
	}
	end := func(signed, spki []byte, by protocol.Side) *protocol.End {
		key, err := protocol.ParseKey(spki)
		if err != nil {
			return nil
		}
		end := new(protocol.End)
		ok := protocol.Verify(signed, key, end) == nil && end.Call == r.Call && end.By == by
		return present(ok, end)
	}
	e.terminalEnd = end(r.TerminalEnd, r.SPKI, protocol.SideTerminal)
	if e.invitation != nil {
		e.callerEnd = end(r.CallerEnd, e.invitation.Key, protocol.SideCaller)
	}
	if h := r.TerminalHalf; h != nil {
		e.terminal = &h.Crypto
		e.terminalSeen = h.Crypto.Local != protocol.Fingerprint{} && h.Crypto.Remote != protocol.Fingerprint{}
		e.terminalOK = e.terminalSeen && e.invitation != nil && h.Crypto.Remote == e.invitation.Caller
	}
	if h := r.CallerHalf; h != nil {
		e.caller = &h.Crypto
	}
	return e
}

// sealed says whether the call was encrypted as it has to be; known is false if it was not encrypted because nothing was connected.
func (e evidence) sealed() (ok bool, flaw string, known bool) {
	for _, c := range []*protocol.Crypto{e.terminal, e.caller} {
		if c == nil || c.SRTP == "" {
			continue
		}
		known = true
		if flaw := c.Flaw(); flaw != "" {
			return false, flaw, true
		}
	}
	if known && e.terminalSeen && !e.terminalOK {
		return false, "the terminal spoke with another certificate than the caller's", true
	}
	return known, "", known
}

// proof says what was proven of a call. passkeys are all that the caller ever had.
func (w words) proof(r calls.Record, passkeys []passkey.Passkey, rp protocol.RelyingParty) proofView {
	e := examine(r)
	var v proofView
	say := func(holds bool, key string, n names) {
		v.Claims = append(v.Claims, claim{holds, w.say(key, n)})
	}
	who := names{"name": r.Person.Party.Name, "role": r.Person.Party.Role, "organisation": r.Person.Party.Organisation, "home": r.HomeLabel}
	if e.assertion == nil || e.invitation == nil {
		say(false, "evidence.none", who)
		return v
	}
	i := slices.IndexFunc(passkeys, func(p passkey.Passkey) bool { return bytes.Equal(p.ID, e.assertion.Credential) })
	if i >= 0 {
		who["passkey"], who["made"] = passkeys[i].Name, w.full(passkeys[i].Created)
		say(true, "evidence.caller", who)
	} else {
		say(true, "evidence.caller.unlisted", who)
	}
	if a := e.authorisation; a != nil {
		say(true, "evidence.right", names{"home": r.HomeLabel, "number": number(a.ID), "key": e.issuer.Code(), "from": w.full(a.From.Time()), "to": w.full(a.To.Time())})
	}
	say(!r.RangAt.IsZero(), map[bool]string{true: "evidence.terminal", false: "evidence.terminal.no"}[!r.RangAt.IsZero()], who)
	if !r.RangAt.IsZero() {
		say(true, "evidence.home", names{"home": r.HomeLabel, "code": r.Terminal.Code()})
	}
	code := ""
	if e.terminalSeen {
		code = protocol.CallCode(protocol.HashOf(e.raw.Invitation), e.terminal.Local)
		say(true, "evidence.code", names{"code": code})
	}
	if ok, flaw, known := e.sealed(); known {
		say(ok, map[bool]string{true: "evidence.sealed", false: "evidence.unsealed"}[ok], names{"flaw": flaw})
	}
	v.Claims = append(v.Claims, w.ends(r, e)...)
	v.Facts = w.evidence(e, code, rp)
	return v
}

// ends says what the two ends have signed of the call's end.
func (w words) ends(r calls.Record, e evidence) (claims []claim) {
	if r.EndedAt.IsZero() {
		return nil
	}
	switch end := e.terminalEnd; {
	case end == nil && !r.RangAt.IsZero():
		claims = append(claims, claim{false, w["evidence.end.terminal.no"]})
	case end == nil:
	case end.CameraClosed == 0 && end.MicrophoneClosed == 0:
		claims = append(claims, claim{true, w.say("evidence.end.terminal.never", names{"sentence": w.outcome(end.Reason)})})
	default:
		claims = append(claims, claim{true, w.say("evidence.end.terminal", names{"sentence": w.outcome(end.Reason), "time": w.full(max(end.CameraClosed, end.MicrophoneClosed).Time())})})
	}
	if end := e.callerEnd; end != nil {
		claims = append(claims, claim{true, w.say("evidence.end.caller", names{"sentence": w.outcome(end.Reason)})})
	}
	return claims
}

// evidence lists what the claims rest on, to compare character by character.
func (w words) evidence(e evidence, code string, rp protocol.RelyingParty) (facts []fact) {
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, fact{Name: w[key], Value: value, Mono: true})
		}
	}
	long := func(key, value string) {
		facts = append(facts, fact{Name: w[key], Value: short(value), Mono: true, Whole: value})
	}
	add("evidence.code.name", code)
	for _, half := range []struct {
		key string
		c   *protocol.Crypto
	}{{"evidence.crypto.terminal", e.terminal}, {"evidence.crypto.caller", e.caller}} {
		if half.c != nil && half.c.SRTP != "" {
			add(half.key, half.c.SRTP+" · "+half.c.Suite)
		}
	}
	long("evidence.fingerprint.caller", e.invitation.Caller.String())
	if e.terminalSeen {
		long("evidence.fingerprint.terminal", e.terminal.Local.String())
	}
	invitation := protocol.HashOf(e.raw.Invitation)
	long("evidence.invitation", hex.EncodeToString(invitation[:]))
	add("evidence.asked", e.invitation.Issued.Time().UTC().Format(time.RFC3339Nano))
	long("evidence.passkey.id", hex.EncodeToString(e.assertion.Credential))
	add("evidence.site", rp.ID)
	if a := e.authorisation; a != nil {
		long("evidence.authorisation.id", hex.EncodeToString(a.ID[:]))
		long("evidence.issuer", e.issuer.Name())
		add("evidence.callers", a.Employment+" · "+a.Group)
	}
	return facts
}

// number is how people call an authorisation.
func number(id protocol.Nonce) string { return hex.EncodeToString(id[:4]) }

// short leaves out the middle.
func short(text string) string {
	const most, edge = 30, 11
	if len(text) <= most {
		return text
	}
	return text[:edge] + "…" + text[len(text)-edge:]
}
