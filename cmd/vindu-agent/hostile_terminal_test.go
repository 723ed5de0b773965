package main

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"vindu/protocol"
	"vindu/protocol/passkeytest"
)

// hostilities are all cases, in the order in which they are played.
func hostilities() []hostility {
	return slices.Concat(againstTerminal(), inCalls(), onTheLine(), againstPage(), againstSettings())
}

// otherPrint is a certificate's fingerprint in a session description, changed in one digit.
func otherPrint(sdp protocol.SDP) protocol.SDP {
	const mark = "a=fingerprint:sha-256 "
	head, tail, _ := strings.Cut(string(sdp), mark)
	digit := "A"
	if strings.HasPrefix(tail, "A") {
		digit = "B"
	}
	return protocol.SDP(head + mark + digit + tail[1:])
}

func againstTerminal() []hostility {
	at := func(d time.Duration) protocol.Time { return protocol.At(time.Now().Add(d)) }
	use := func(f func(*passkeytest.Use)) func(*bench, hostility) {
		return touches(func(_ *bench, d *draft) { d.use = f })
	}
	inv := func(f func(*protocol.Invitation)) func(*bench, hostility) {
		return touches(func(_ *bench, d *draft) { f(d.inv) })
	}
	auth := func(f func(*protocol.Authorisation)) func(*bench, hostility) {
		return touches(func(_ *bench, d *draft) {
			f(d.auth)
			d.signed = nil
		})
	}
	return []hostility{
		{has: theBroker, does: "writes his fingerprint into the offer", refuses: theTerminal, code: protocol.AuthFingerprint, run: invites(func(_ *bench, m *protocol.CallIn) *protocol.CallIn {
			m.Invite.Offer = otherPrint(m.Invite.Offer)
			return m
		})},
		{has: theBroker, does: "puts his own offer in place of the caller's and keeps the proof", refuses: theTerminal, code: protocol.AuthFingerprint, run: invites(func(x *bench, m *protocol.CallIn) *protocol.CallIn {
			m.Invite.Offer = x.ownOffer()
			return m
		})},
		{has: theBroker, does: "writes his ICE credentials into the offer", refuses: theTerminal, code: protocol.AuthFingerprint, run: invites(func(_ *bench, m *protocol.CallIn) *protocol.CallIn {
			ufrag, _ := credentials(string(m.Invite.Offer))
			m.Invite.Offer = protocol.SDP(strings.ReplaceAll(string(m.Invite.Offer), "a=ice-ufrag:"+ufrag, "a=ice-ufrag:evil"))
			return m
		})},
		{has: theBroker, does: "writes the invitation anew for his own offer and keeps the touch", refuses: theTerminal, code: protocol.AuthPasskey, run: invites(func(x *bench, m *protocol.CallIn) *protocol.CallIn {
			touch := m.Invite.Assertion
			m = x.forge(m, func(d *draft) {
				d.offer = x.ownOffer()
				d.inv.Offer, d.inv.Caller = protocol.HashOf(d.offer), printOf(d.offer)
			})
			m.Invite.Assertion = touch
			return m
		})},
		{has: recorder, does: "sends the proof of a call that was over under this call's name", refuses: theTerminal, code: protocol.AuthUnproven, run: invites(func(x *bench, m *protocol.CallIn) *protocol.CallIn {
			m.Invite = x.spent.Invite
			return m
		})},
		{has: phisher, does: "has the person sign in, and uses that touch for a call", refuses: theTerminal, code: protocol.AuthPasskey, run: touches(func(_ *bench, d *draft) {
			d.challenge = protocol.HashOf("a challenge of a sign-in")
		})},
		{has: phisher, does: "has the person touch the passkey on his own site", refuses: theTerminal, code: protocol.AuthOrigin, run: use(func(u *passkeytest.Use) { u.Origin = "https://localhost.example" })},
		{has: phisher, does: "has it touched for another relying party", refuses: theTerminal, code: protocol.AuthOrigin, run: use(func(u *passkeytest.Use) { u.RPID = "example" })},
		{has: phisher, does: "shows the clinic's page inside his own", refuses: theTerminal, code: protocol.AuthOrigin, run: use(func(u *passkeytest.Use) { u.CrossOrigin, u.TopOrigin = true, "https://example" })},
		{has: thief, does: "uses the passkey without PIN, finger or face", refuses: theTerminal, code: protocol.AuthUnverified, run: use(func(u *passkeytest.Use) { u.Flags &^= 0x04 })},
		{has: thief, does: "uses it without a touch", refuses: theTerminal, code: protocol.AuthUnverified, run: use(func(u *passkeytest.Use) { u.Flags &^= 0x01 })},
		{has: thief, does: "uses a copy whose counter the terminal has seen", refuses: theTerminal, code: protocol.AuthCounter, run: touches(func(x *bench, d *draft) { d.passkey.Counter = counterOf(x.spent) })},
		{has: thief, does: "uses a copy that does not count", refuses: theTerminal, code: protocol.AuthCounter, run: use(func(u *passkeytest.Use) { u.Counter = 0 })},
		{has: theBroker, does: "spoils the passkey's signature", refuses: theTerminal, code: protocol.AuthPasskey, run: invites(func(_ *bench, m *protocol.CallIn) *protocol.CallIn {
			m.Invite.Assertion.Signature = append([]byte{0x30}, bytes.Repeat([]byte{0xff}, 70)...)
			return m
		})},
		{has: thief, does: "has it sign as for a registration", refuses: theTerminal, code: protocol.AuthPasskey, run: use(func(u *passkeytest.Use) { u.Type = "webauthn.create" })},
		{has: colleague, does: "proves this person's call by it", refuses: theTerminal, code: protocol.AuthPasskey, run: touches(func(x *bench, d *draft) {
			d.passkey = passkeytest.New(x.t, passkeytest.ES256)
		})},
		{has: otherKey, does: "authorises himself by its key", refuses: theTerminal, code: protocol.AuthIssuer, run: touches(func(x *bench, d *draft) {
			signed, err := protocol.Sign(d.auth, x.key)
			x.c.check(err)
			d.signed = signed
		})},
		{has: theBroker, does: "widens the authorisation and keeps its signature", refuses: theTerminal, code: protocol.AuthIssuer, run: touches(func(_ *bench, d *draft) {
			d.signed = bytes.Replace(d.signed, []byte("staff"), []byte("stuff"), 1)
		})},
		{has: insider, does: "presents an authorisation that is over", refuses: theTerminal, code: protocol.AuthLapsed, run: auth(func(a *protocol.Authorisation) { a.From, a.To = at(-48*time.Hour), at(-time.Second) })},
		{has: insider, does: "presents one that is not valid yet", refuses: theTerminal, code: protocol.AuthLapsed, run: auth(func(a *protocol.Authorisation) { a.From, a.To = at(time.Hour), at(48*time.Hour) })},
		{has: insider, does: "presents one for another home", refuses: theTerminal, code: protocol.AuthScope, run: auth(func(a *protocol.Authorisation) { a.Scope = protocol.Scope{Homes: []string{"4711"}} })},
		{has: insider, does: "presents another authorisation than the signed invitation names", refuses: theTerminal, code: protocol.AuthUnproven, run: touches(func(_ *bench, d *draft) {
			d.inv.Authorisation = protocol.HashOf("another")
		})},
		{has: webProcess, does: "gives the page the authorisation of somebody else to call by", refuses: theTerminal, code: protocol.AuthPasskey, run: lies(func(x *bench, a *protocol.Authorisation) []byte {
			other := *a
			other.Person, other.Party.Name, other.Credentials = "4711", "Kari Nordmann", []protocol.Credential{passkeytest.New(x.t, passkeytest.ES256).Credential(x.t)}
			signed, err := x.c.offline.SignAuthorisation(&other)
			x.c.check(err)
			a.Party.Name = other.Party.Name
			return signed
		})},
		{has: webProcess, does: "tells the page another name of the person than the authorisation has", refuses: theTerminal, code: protocol.AuthRoster, run: lies(func(_ *bench, a *protocol.Authorisation) []byte {
			a.Party.Name = "Kari Nordmann"
			return nil
		})},
		{has: theBroker, does: "brings the call of another home's terminal here", refuses: theTerminal, code: protocol.AuthOtherTerminal, run: inv(func(i *protocol.Invitation) { i.Terminal[31] ^= 1 })},
		{has: insider, does: "adds a person to the roster", refuses: theTerminal, code: protocol.AuthRoster, run: inv(func(i *protocol.Invitation) {
			i.Parties = append(i.Parties, protocol.Party{Name: "Nobody", Role: "interpreter", Organisation: "Solvik clinic"})
		})},
		{has: insider, does: "empties the roster", refuses: theTerminal, code: protocol.AuthUnproven, run: touches(func(x *bench, d *draft) { d.bytes = x.withoutParties(d.inv) })},
		{has: insider, does: "names somebody else on the roster", refuses: theTerminal, code: protocol.AuthRoster, run: inv(func(i *protocol.Invitation) { i.Parties[0].Name = "Kari Nordmann" })},
		{has: insider, does: "gives the caller another role", refuses: theTerminal, code: protocol.AuthRoster, run: inv(func(i *protocol.Invitation) { i.Parties[0].Role = "doctor" })},
		{has: insider, does: "gives the caller another organisation", refuses: theTerminal, code: protocol.AuthRoster, run: inv(func(i *protocol.Invitation) { i.Parties[0].Organisation = "Police" })},
		{has: insider, does: "has a second call signed with the nonce of a first", refuses: theTerminal, code: protocol.AuthReplayed, run: touches(func(x *bench, d *draft) {
			used := new(protocol.Invitation)
			x.c.check(protocol.Decode(x.spent.Invite.Invitation, used))
			d.inv.Nonce = used.Nonce
		})},
		{has: theBroker, does: "holds a call back beyond its time", refuses: theTerminal, code: protocol.AuthExpired, run: inv(func(i *protocol.Invitation) { i.Issued, i.Expires = at(-4*time.Minute), at(-150*time.Second) })},
		{has: insider, does: "has a call signed for tomorrow and brings it today", refuses: theTerminal, code: protocol.AuthExpired, run: inv(func(i *protocol.Invitation) { i.Issued, i.Expires = at(24*time.Hour), at(24*time.Hour+90*time.Second) })},
		{has: server, does: "takes the proof away and vouches for the caller by the server's key", refuses: theTerminal, code: protocol.AuthUnproven, run: invites(func(x *bench, m *protocol.CallIn) *protocol.CallIn {
			i := new(protocol.Invitation)
			x.c.check(protocol.Decode(m.Invite.Invitation, i))
			signed, err := x.c.offline.SignTestCall(i)
			x.c.check(err)
			m.Invite.Invitation, m.Invite.Assertion, m.Invite.Authorisation = signed, nil, nil
			return m
		})},
	}
}
