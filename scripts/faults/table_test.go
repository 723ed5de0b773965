package faults

import (
	"fmt"
	"strings"
	"time"

	"vindu/protocol"
)

// through has the home's router treat packets on their way out so.
func through(rules ...string) func(*home) {
	return func(h *home) {
		h.t.Helper()
		h.rules("chain through { type filter hook forward priority -1; iifname \"lan0\" jump out; }\nchain out { " + strings.Join(rules, "; ") + "; }")
	}
}

// redirected has somebody in the home's network answer in the place of whoever is asked at a port.
func redirected(ports map[int]int) func(*home) {
	return func(h *home) {
		h.t.Helper()
		var rules []string
		for from, to := range ports {
			rules = append(rules, fmt.Sprintf("tcp dport %d redirect to :%d", from, to))
		}
		h.rules("chain in { type nat hook prerouting priority -101; iifname \"lan0\" jump to_us; }\nchain to_us { " + strings.Join(rules, "; ") + "; }")
	}
}

func (h *home) clear() { h.t.Helper(); h.rules("") }

// named has the home's router answer so for names.
func named(how naming, lies string, delay time.Duration) func(*home) {
	return func(h *home) { h.names.set(how, lies, delay) }
}

// worse has the home's line be so.
func worse(q quality) func(*home) { return func(h *home) { h.line.set(q) } }

// talks is a call that is hung up after so long.
func talks(d time.Duration) func(*home) func() {
	return func(h *home) func() { return h.talkAndHangUp(d) }
}

// meanwhile is a call in which something happens after five seconds, and which is hung up so long after that; 0: it has to end by itself.
func meanwhile(happens func(*home), then time.Duration) func(*home) func() {
	return func(h *home) func() {
		return func() {
			h.t.Helper()
			h.talk(5 * time.Second)
			happens(h)
			if then > 0 {
				h.talk(then)
				h.w.hangUp(h.t)
			}
		}
	}
}

const udpOff = "meta l4proto udp drop"

// faults is the table of what is provoked.
func faults() []fault {
	six := func(h *home) string { return fmt.Sprintf("2001:db8:%d:", 100+h.number) }
	return []fault{
		{name: "a good call through a router", often: true, rule: "hung-up", call: talks(2 * time.Second)},

		// The terminal's own cable, address and router.
		{name: "the terminal's cable is unplugged", often: true, condition: protocol.IPNoCarrier, rule: "offline-cable", later: true,
			provoke: func(h *home) { ip(h.t, h.router, "link", "set", "lan0", "down") },
			relieve: func(h *home) { ip(h.t, h.router, "link", "set", "lan0", "up") }},
		{name: "nobody gives the terminal an address", often: true, condition: protocol.IPNone, rule: "offline-address", later: true,
			provoke: func(h *home) { ip(h.t, h.room, "addr", "flush", "dev", "eth0") }, relieve: (*home).four},
		{name: "the terminal is told no way out", condition: protocol.IPNoGateway, rule: "offline-gateway", later: true,
			provoke: func(h *home) { ip(h.t, h.room, "route", "del", "default") }, relieve: (*home).four},
		{name: "the home's router does not answer", early: true, condition: protocol.IPGatewaySilent, within: 3 * time.Minute,
			provoke: func(h *home) { ip(h.t, h.router, "link", "set", "lan0", "arp", "off") },
			relieve: func(h *home) { ip(h.t, h.router, "link", "set", "lan0", "arp", "on") }},

		// Names.
		{name: "the server for names is dead", often: true, early: true, condition: protocol.IPDNS, provoke: named(namesDead, "", 0), relieve: named(namesWell, "", 0)},
		{name: "the server for names knows no such name", early: true, condition: protocol.IPDNS, rule: "offline-names", later: true, provoke: named(namesUnknown, "", 0), relieve: named(namesWell, "", 0)},
		{name: "the server for names leads to an address that nobody has", early: true, condition: protocol.LinkUnreachable, provoke: named(namesLie, nowhere, 0), relieve: named(namesWell, "", 0)},
		{name: "the server for names leads to somebody else", often: true, early: true, condition: protocol.EgressIntercepted,
			provoke: func(h *home) {
				listener(h.t, h.w.caller, callerFour+":443", intercept(foreign(h.t)))
				h.names.set(namesLie, callerFour, 0)
			}, relieve: named(namesWell, "", 0)},
		{name: "the server for names takes three seconds", early: true, rule: "hung-up", call: talks(2 * time.Second), provoke: named(namesWell, "", 3*time.Second), relieve: named(namesWell, "", 0)},

		// What stands in the way to port 443.
		{name: "a captive portal", often: true, early: true, condition: protocol.IPPortal, rule: "offline-portal", later: true,
			provoke: func(h *home) {
				listener(h.t, h.router, ":8080", portal)
				redirected(map[int]int{80: 8080, 443: 9})(h)
			}, relieve: (*home).clear},
		{name: "a captive portal that answers TLS", early: true, condition: protocol.IPPortal,
			provoke: func(h *home) {
				listener(h.t, h.router, ":8080", portal)
				listener(h.t, h.router, ":8443", intercept(foreign(h.t)))
				redirected(map[int]int{80: 8080, 443: 8443})(h)
			}, relieve: (*home).clear},
		{name: "443 is intercepted by another CA", often: true, early: true, condition: protocol.EgressIntercepted, rule: "offline-intercepted", later: true,
			provoke: func(h *home) {
				listener(h.t, h.router, ":8443", intercept(foreign(h.t)))
				redirected(map[int]int{443: 8443})(h)
			}, relieve: (*home).clear},
		{name: "a middlebox resets TLS", early: true, condition: protocol.LinkUnreachable, rule: "offline-unreachable", later: true,
			provoke: func(h *home) {
				listener(h.t, h.router, ":8443", reset)
				redirected(map[int]int{443: 8443})(h)
			}, relieve: (*home).clear},
		{name: "port 443 is closed in the home's network", early: true, condition: protocol.LinkUnreachable, provoke: through("tcp dport 443 drop"), relieve: (*home).clear},
		{name: "nothing listens at the clinic", early: true, condition: protocol.LinkUnreachable, provoke: redirected(map[int]int{443: 9}), relieve: (*home).clear},
		{name: "large packets vanish (a black hole for the MTU)", early: true, condition: protocol.LinkUnreachable, provoke: worse(quality{longest: 1400}), relieve: worse(quality{})},

		// UDP, and ways around it.
		{name: "UDP is blocked in the home", often: true, condition: protocol.EgressUDP, rule: "hung-up", first: true, again: true, call: talks(2 * time.Second), provoke: through(udpOff), relieve: (*home).clear},
		{name: "everything but 443 is blocked in the home", condition: protocol.EgressUDP, rule: "hung-up", first: true, again: true, call: talks(2 * time.Second),
			provoke: through("tcp dport 443 accept", "ct state established accept", "drop"), relieve: (*home).clear},
		{name: "UDP is blocked, and a firewall lets no TURN into TLS", condition: protocol.EgressRelay, rule: "path-home-relay", first: true, again: true,
			provoke: func(h *home) {
				listener(h.t, h.router, ":8443", onlyKnown(h.router))
				h.rules("chain in { type nat hook prerouting priority -101; iifname \"lan0\" tcp dport 443 redirect to :8443; }\nchain through { type filter hook forward priority -1; " + udpOff + "; }")
			}, relieve: (*home).clear},
		{name: "UDP is blocked, and the line is slow to answer", condition: protocol.EgressUDP, rule: "ended-slow", first: true, again: true, call: talks(6 * time.Second),
			provoke: func(h *home) { through(udpOff)(h); h.line.set(quality{delay: 260 * time.Millisecond}) },
			relieve: func(h *home) { h.clear(); h.line.set(quality{}) }},
		{name: "UDP stops in the call", goesOn: true, call: meanwhile(worse(quality{mediaOff: true}), 9*time.Second), relieve: worse(quality{})},
		{name: "the caller's UDP is blocked", rule: "path-caller-relay",
			before: func(h *home) {
				filter(h.t, h.w.caller, "table inet fault {\nchain out { type filter hook output priority 0; "+udpOff+"; }\nchain in { type filter hook input priority 0; "+udpOff+"; }\n}")
			},
			after: func(h *home) { filter(h.t, h.w.caller, "delete table inet fault") }},

		{name: "the caller's network lets no UDP out, and some in", rule: "path-caller-out",
			before: func(h *home) {
				filter(h.t, h.w.caller, "table inet fault {\nchain out { type filter hook output priority 0; "+udpOff+"; }\n}")
			},
			after: func(h *home) { filter(h.t, h.w.caller, "delete table inet fault") }},

		// IPv6.
		{name: "IPv6 only", often: true, six: true, early: true, condition: protocol.IPv6Only, rule: "hung-up", again: true, call: talks(2 * time.Second),
			provoke: func(h *home) { ip(h.t, h.room, "-4", "addr", "flush", "dev", "eth0") }, relieve: (*home).four},
		{name: "IPv6 only, and the clinic has none", six: true, early: true, condition: protocol.LinkUnreachable,
			provoke: func(h *home) { h.names.noSix(); ip(h.t, h.room, "-4", "addr", "flush", "dev", "eth0") }, relieve: (*home).four},
		{name: "IPv6 leads nowhere, and IPv4 works", six: true, early: true, rule: "hung-up", call: talks(2 * time.Second),
			provoke: func(h *home) { ip(h.t, h.w.internet, "route", "del", six(h)+":/64") }},

		// The line.
		{name: "the line is dead and nobody says so", often: true, condition: protocol.LinkUnreachable, rule: "no-reply-unreachable", later: true, first: true, before: worse(quality{silent: true}), relieve: worse(quality{})},
		{name: "the line is cut in the call", condition: protocol.LinkUnreachable, rule: "lost-path-deaf", first: true, later: true, call: meanwhile(worse(quality{silent: true}), 0), relieve: worse(quality{})},
		{name: "the line is cut for six seconds in the call", rule: "ended-gap", call: meanwhile(func(h *home) {
			h.line.set(quality{silent: true})
			h.talk(6 * time.Second)
			h.line.set(quality{})
		}, 5*time.Second)},
		{name: "the provider gives the home another address in the call", goesOn: true, call: meanwhile((*home).moves, 10*time.Second)},
		{name: "a third of what the home sends is lost", rule: "ended-lossy-up", call: talks(8 * time.Second), before: worse(quality{lossUp: 0.3}), relieve: worse(quality{})},
		{name: "a third of what the home gets is lost", rule: "ended-lossy-down", call: talks(8 * time.Second), before: worse(quality{lossDown: 0.3}), relieve: worse(quality{})},
		{name: "the line is slow to answer", rule: "ended-late", call: talks(6 * time.Second), provoke: worse(quality{delay: 260 * time.Millisecond}), relieve: worse(quality{})},
		{name: "a very slow line", condition: protocol.QualityPaused, goesOn: true, inCall: true, provoke: worse(quality{rate: 6_000}), relieve: worse(quality{}),
			call: func(h *home) func() {
				return func() {
					h.talk(0)
					h.hidden = h.shows(protocol.QualityPaused, time.Minute)
					h.w.hangUp(h.t)
				}
			}},
		{name: "the router maps each way anew (symmetric NAT)", rule: "hung-up", call: talks(2 * time.Second), provoke: func(h *home) {
			h.rules("chain out { type nat hook postrouting priority 99; oifname \"wan0\" masquerade random,fully-random; }")
		}},

		// The caller's network, and the clinic's certificate for the terminal.
		{name: "the caller's network is gone in the call", rule: "clinic-lost-caller", call: meanwhile(func(h *home) { ip(h.t, h.w.internet, "link", "set", "k0", "down") }, 0),
			after: func(h *home) { ip(h.t, h.w.internet, "link", "set", "k0", "up") }},
		{name: "the clinic refuses the terminal's certificate", early: true, stays: true, condition: protocol.LinkRefused, rule: "",
			provoke: func(h *home) {
				h.w.run(h.t, "vindu-clinic", "revoke", "-dir", h.w.path("clinic"), "-home", h.label, "-reason", "stolen")
			}},
	}
}
