package diagnosis

import (
	"slices"

	"vindu/protocol"
)

// What sentences rest on, where several do.
const (
	byTerminal = "what the terminal found itself: the condition held during the call"
	byPairs    = "the pairs of candidates that an end tried, with the answers that came"
	byBoth     = "both ends told the same"
	byProof    = "a signature or certificate that was checked and is not right"
	bySeries   = "the figures of the connection, second by second"
	byCheck    = "the check of the call's signatures and rights"
	byClinic   = "what the clinic's server saw itself"
	byPage     = "what the caller's page told"
	byAnswer   = "the answer that the terminal signed"
	byEnd      = "the end that an end of the call signed"
	byAbsence  = "an end has told nothing, so that part is a guess"
	byCode     = "what was told, and no more"
)

func all(facts ...string) []string { return facts }

// Rules are read from above: the first one that fits speaks. What bears on proof comes first, then what the terminal's probes found, then what the
// two ends saw, then what one of them saw, then what is merely known of the outcome.
var Rules = slices.Concat(proofs, pages, unreachable, paths, running, answers, good, rest)

var proofs = []Rule{
	{Name: "proof-answer", If: all("outcome=proof.answer"), Where: Between, Sure: Certain, Because: byProof},
	{Name: "proof-fingerprint", If: all("outcome=proof.fingerprint"), Where: Between, Sure: Certain, Because: byProof},
	{Name: "proof-end", If: all("outcome=proof.end"), Where: Between, Sure: Certain, Because: byProof},
	{Name: "weak", If: all("outcome=dtls.not_as_agreed"), Where: Between, Sure: Certain, Because: byProof},
	{Name: "refused-clock", If: all("outcome=authorisation.expired", "held=time.clock_off"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal took the call for one out of its time: its clock is wrong", Now: "Telephone the home.", Because: byTerminal},
	{Name: "refused-clock-unknown", If: all("outcome=authorisation.expired", "held=time.unknown"), Where: Terminal, Who: protocol.Operator, Sure: Certain,
		What: "The terminal does not know the time yet, so it could not judge the call", Now: "Ring again in a minute.",
		Next: "See on its page whether it has learnt the time from the clinic.", Because: byTerminal},
	{Name: "refused-lapsed-clock", If: all("outcome=authorisation.lapsed", "held=time.clock_off"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal took the caller's authorisation for one that is over: its clock is wrong", Now: "Telephone the home.", Because: byTerminal},
	{Name: "refused-late", If: all("outcome=authorisation.expired"), Where: OnTheWay, Sure: Likely,
		What: "The call reached the terminal outside the time for which it was signed", Now: "Ring again; telephone if it is refused again.",
		Next: "Compare the clocks of the clinic, the terminal and the caller's computer.", Because: byCheck},
	{Name: "lapsed", If: all("outcome=authorisation.lapsed"), Where: Rights, Sure: Certain, Now: "Ask the clinic's administrator; telephone the home meanwhile.", Because: byCheck},
	{Name: "passkey-alarm", If: all("outcome:authorisation", "alarm"), Where: OnTheWay, Sure: Certain, Because: byCheck},
	{Name: "not-authorised", If: all("outcome=authorisation.none"), Where: Rights, Sure: Certain,
		What: "The caller is not authorised to call this home, or no longer", Now: "Ask the clinic's administrator; telephone the home meanwhile.", Because: byClinic},
	{Name: "user-not-verified", If: all("outcome=authorisation.user_not_verified"), Where: CallerPC, Sure: Certain, Because: byCheck},
	{Name: "rights", If: all("outcome:authorisation"), Where: Rights, Sure: Certain, Now: "Ask the clinic's administrator; telephone the home meanwhile.", Because: byCheck},
}

// pages are attempts that came to their end in the caller's browser or because of it.
var pages = []Rule{
	{Name: "page-permission", If: all("outcome=browser.permission_denied"), Where: CallerPC, Sure: Certain, Because: byPage},
	{Name: "page-no-devices", If: all("outcome=browser.no_camera"), Where: CallerPC, Sure: Certain, Because: byPage},
	{Name: "page-cancelled", If: all("outcome=browser.passkey_cancelled"), Where: Caller, Sure: Certain, Because: byPage},
	{Name: "page-late", If: all("outcome=browser.confirmed_late"), Where: Caller, Sure: Certain, Because: byPage},
	{Name: "page-clock", If: all("outcome=browser.clock_off"), Where: CallerPC, Sure: Certain, Because: byClinic},
	{Name: "page-no-passkey", If: all("outcome=browser.no_passkey"), Where: CallerPC, Sure: Certain, Because: byPage},
	{Name: "page-signed-out", If: all("outcome=browser.signed_out"), Where: Caller, Sure: Certain, Because: byClinic},
	{Name: "page-passkey", If: all("outcome:browser"), Unless: all("outcome=browser.failed"), Where: Caller, Sure: Certain, Because: byClinic},
	{Name: "page-clinic-gone", If: all("never left", "outcome=signalling.clinic_lost"), Where: CallerNetwork, Who: protocol.Clinician, Sure: Likely,
		What: "The caller's page did not reach the clinic; nobody was called", Now: "Check this computer's network, reload the page and ring again.",
		Next: "Check the network of the caller's computer; if other pages do not reach the clinic either, its server.", Because: byPage},
	{Name: "page-given-up", If: all("never left", "outcome=end.caller_hung_up"), Where: Caller, Who: protocol.Nobody, Sure: Certain,
		What: "The caller gave up before anybody was called", Because: byPage},
	{Name: "page-closed-early", If: all("never left", "outcome=end.page_closed"), Where: Caller, Who: protocol.Clinician, Sure: Certain,
		What: "The caller's page was closed before anybody was called", Now: "Open the page and ring again.", Because: byPage},
	{Name: "page-failed-early", If: all("never left", "outcome=browser.failed"), Where: CallerPC, Sure: Likely,
		What: "The caller's browser could not prepare the call; nobody was called", Because: byPage},
	{Name: "page-failed", If: all("outcome=browser.failed"), Where: CallerPC, Sure: Likely, Because: byPage},
}

// unreachable are calls that the terminal did not take up, or lost with its connection to the clinic.
var unreachable = []Rule{
	{Name: "broker", If: all("outcome=signalling.broker_unreachable"), Where: Clinic, Sure: Certain, Now: "Telephone the home; no terminal can be rung until the server is mended.",
		Because: byClinic},
	{Name: "offline", If: all("outcome=signalling.terminal_offline"), Where: Home, Sure: Unsure,
		What: "The terminal is not connected to the clinic: its power or its network is gone", Now: "Telephone the home and ask whether the terminal is on.",
		Next: "Check its power supply and its network.", Because: byClinic},
	{Name: "no-reply-safe", If: all("outcome=signalling.no_reply", "held=power.safe_mode"), Where: Terminal, Who: protocol.Operator, Sure: Certain,
		What: "The terminal takes no calls: its program has stopped again and again, so it is in safe mode", Now: "Telephone the home; ring again in half an hour.",
		Next: "Send the supplier the time.", Because: byTerminal},
	{Name: "no-reply-memory", If: all("outcome=signalling.no_reply", "held=memory.pressure"), Where: Terminal, Who: protocol.Operator, Sure: Likely,
		What: "The terminal was too short of memory to take the call up", Now: "Ring again in two minutes.", Next: "Restart the terminal; send the supplier the time.", Because: byTerminal},
	{Name: "no-reply-disk", If: all("outcome=signalling.no_reply", "held=storage.read_only"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal could not take the call up: nothing can be written to its storage", Now: "Telephone the home.", Next: "Restart the terminal; replace its storage if this stays.", Because: byTerminal},
	{Name: "no-reply-full", If: all("outcome=signalling.no_reply", "held=storage.full"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal could not take the call up: its storage is full", Now: "Telephone the home.", Next: "Free space on the terminal or replace its storage.", Because: byTerminal},
	{Name: "no-reply-slow", If: all("outcome=signalling.no_reply", "held=signalling.slow"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "The terminal's reply did not come in time: its connection to the clinic is very slow", Next: "Use a cable, or another network.", Because: byTerminal},
	{Name: "no-reply-later", If: all("outcome=signalling.no_reply"), Unless: all("terminal=missing"), Where: Between, Who: protocol.Operator, Sure: Likely,
		What: "The terminal took the call up, but its reply did not come in time", Next: "Look at how long messages take between the terminal and the clinic.", Because: "its half of the record came later"},
	{Name: "no-reply", If: all("outcome=signalling.no_reply"), Where: Terminal, Sure: Unsure, Because: byAbsence},
	{Name: "lost-power-low", If: all("outcome=signalling.terminal_lost", "held=power.undervoltage"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal was lost in the call: it gets too little power", Next: "Use the power supply and cable that came with it.", Because: byTerminal},
	{Name: "lost-heat", If: all("outcome=signalling.terminal_lost", "held=heat.hot"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal was lost in the call: it was too hot", Next: "Let air to it, away from sun and heaters.", Because: byTerminal},
	{Name: "lost-wifi", If: all("outcome=signalling.terminal_lost", "held=ip.weak_wifi"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "The terminal was lost in the call: its Wi-Fi is too weak", Next: "Move the terminal or the access point, or use a cable.", Because: byTerminal},
	{Name: "lost-roaming", If: all("outcome=signalling.terminal_lost", "held=ip.wifi_roams"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "The terminal was lost in the call: it changes between Wi-Fi access points again and again", Next: "Move the terminal closer to one access point, or use a cable.", Because: byTerminal},
	{Name: "lost-both", If: all("outcome=signalling.terminal_lost", "caller.end=silent"), Where: Home, Who: protocol.Technician, Sure: Likely,
		What: "Terminal and picture were lost at the same moment: the terminal lost its network or its power", Now: "Telephone the home and ask whether the terminal is on.",
		Next: "Check its power supply and its network.", Because: bySeries},
	{Name: "lost", If: all("outcome=signalling.terminal_lost"), Where: Home, Sure: Unsure, Because: byAbsence},
	{Name: "restarted-low-power", If: all("outcome=power.restarted_in_call", "held=power.undervoltage"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal restarted in the call: it gets too little power", Next: "Use the power supply and cable that came with it.", Because: byTerminal},
	{Name: "restarted-cut", If: all("outcome=power.restarted_in_call", "held=power.cut"), Where: Home, Who: protocol.Operator, Sure: Certain,
		What: "The terminal lost its power in the call", Next: "Ask the home not to unplug it; look for a loose plug if it happens again.", Because: byTerminal},
	{Name: "restarted-hung", If: all("outcome=power.restarted_in_call", "held=power.watchdog"), Where: Terminal, Who: protocol.Operator, Sure: Certain,
		What: "The terminal hung in the call and was restarted by its watchdog", Next: "Send the supplier the time; replace the terminal if it happens again.", Because: byTerminal},
	{Name: "restarted-crashed", If: all("outcome=power.restarted_in_call", "held=power.crashed"), Where: Terminal, Who: protocol.Operator, Sure: Certain,
		What: "The terminal's operating system crashed in the call", Next: "Send the supplier the time; replace the terminal if it happens again.", Because: byTerminal},
	{Name: "restarted", If: all("outcome=power.restarted_in_call"), Where: Terminal, Sure: Certain, Because: byTerminal},
	{Name: "clinic-stopped", If: all("outcome=signalling.clinic_lost", "clinic=signalling.clinic_lost"), Where: Clinic, Sure: Certain,
		What: "The clinic's server stopped during the call", Next: "Look at the server's log for why it stopped.", Because: byClinic},
	{Name: "clinic-lost-caller", If: all("outcome=signalling.clinic_lost", "caller=signalling.clinic_lost"), Where: CallerNetwork, Who: protocol.Clinician, Sure: Likely,
		What: "The caller's page lost the clinic during the call", Now: "Check this computer's network and ring again.", Next: "Check the network of the caller's computer.", Because: byPage},
	{Name: "clinic-lost-terminal", If: all("outcome=signalling.clinic_lost", "terminal=signalling.clinic_lost"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "The terminal lost the clinic during the call", Next: "Check the home's network, and the terminal's cable or Wi-Fi.", Because: "the terminal's half of the record"},
	{Name: "clinic-lost", If: all("outcome=signalling.clinic_lost"), Where: Somewhere, Sure: Unsure, Because: byAbsence},
	{Name: "malformed", If: all("outcome=signalling.malformed"), Where: Between, Sure: Certain, Because: byCode},
}

// paths are calls for which no path was found, or none stayed, or on which no encryption came about.
var paths = []Rule{
	{Name: "path-nothing-out", If: all("outcome=ice.failed", "held=egress.udp_blocked", "held=egress.relay_unreachable"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "There was no path: the home's network lets no UDP out, and the terminal does not reach the relay", Now: "Telephone the home.",
		Next: "Ask the network's owner to open UDP, or port 443, to the clinic.", Because: byTerminal},
	{Name: "path-relay-refused", If: all("outcome=ice.failed", "held=egress.relay_refused"), Where: Relay, Who: protocol.Operator, Sure: Likely,
		What: "There was no path: the clinic's relay does not serve the terminal", Now: "Telephone the home; other homes may fail as well.",
		Next: "Look at the relay's log, and at the clocks of the relay and the clinic.", Because: byTerminal},
	{Name: "path-relay-password", If: all("outcome=ice.failed", "caller.relay=refused"), Where: Relay, Who: protocol.Operator, Sure: Certain,
		What: "There was no path: the clinic's relay refused the caller's password", Now: "Reload the page and ring again; other homes may fail as well.",
		Next: "Look at the relay's log, and at the clocks of the relay and the clinic.", Because: "the relay's own answer to the caller's browser"},
	{Name: "path-relay-full", If: all("outcome=ice.failed", "caller.relay=full"), Where: Relay, Who: protocol.Operator, Sure: Certain,
		What: "There was no path: the clinic's relay is full", Now: "Ring again in a minute.", Next: "Look at how many calls the relay carries, and at its limits.",
		Because: "the relay's own answer to the caller's browser"},
	{Name: "path-relay-dead", If: all("outcome=ice.failed", "held=egress.relay_unreachable", "caller.relay=none"), Where: Relay, Who: protocol.Operator, Sure: Likely,
		What: "There was no path: neither end reaches the clinic's relay", Now: "Telephone the home; other homes may fail as well.",
		Next: "Check that the relay runs and is open on port 443.", Because: byPairs},
	{Name: "path-home-relay", If: all("outcome=ice.failed", "held=egress.relay_unreachable"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "There was no path: the terminal does not reach the clinic's relay, and no direct way led through", Now: "Telephone the home.",
		Next: "Check that port 443 to the clinic is open in the home's network.", Because: byTerminal},
	{Name: "path-intercepted", If: all("outcome=ice.failed", "held=egress.intercepted"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "There was no path: something in the home's network opens encrypted connections, and the terminal does not use them", Now: "Telephone the home.",
		Next: "Have the clinic's address exempted from inspection.", Because: byTerminal},
	{Name: "path-home-udp", If: all("outcome=ice.failed", "held=egress.udp_blocked"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "There was no path: the home's network lets no UDP out, and the way through the relay did not come about", Now: "Ring again with the relayed path.",
		Next: "Ask the network's owner to open UDP to the clinic; look at the relay's log.", Because: byTerminal},
	{Name: "path-relay-none", If: all("outcome=ice.failed", "relay only", "caller.pairs=none", "terminal.pairs=none"), Where: Relay, Who: protocol.Operator, Sure: Likely,
		What: "There was no path: the caller asked for the relayed path alone, and an end got none from the clinic's relay", Now: "Ring again without the relayed path.",
		Next: "Look at the relay's log, and at the clocks of the relay and the clinic.", Because: byPairs},
	{Name: "path-no-addresses", If: all("outcome=ice.failed", "caller.pairs=none", "terminal.pairs=none"), Where: Somewhere, Who: protocol.Operator, Sure: Unsure,
		What: "There was no path: an end had no address to offer", Now: "Check this computer's network, and any blocker of WebRTC in the browser, and ring again.",
		Next: "Look at the network of the terminal on its page, then at the caller's computer.", Because: byPairs},
	{Name: "path-caller-untold", If: all("outcome=ice.failed", "caller.pairs=none"), Unless: all("terminal=missing"), Where: OnTheWay, Who: protocol.Operator, Sure: Likely,
		What: "There was no path: the terminal's addresses did not reach the caller's page", Now: "Reload the page and ring again.",
		Next: "Look at the connection between the caller's page and the clinic.", Because: byPairs},
	{Name: "path-terminal-untold", If: all("outcome=ice.failed", "terminal.pairs=none"), Unless: all("caller=missing"), Where: Between, Who: protocol.Operator, Sure: Likely,
		What: "There was no path: the caller's addresses did not reach the terminal", Now: "Ring again; telephone if it fails again.",
		Next: "Look at the connection between the terminal and the clinic.", Because: byPairs},
	{Name: "path-caller-relay", If: all("outcome=ice.failed", "caller.heard=nothing", "caller.relay=none"), Where: CallerNetwork, Who: protocol.Operator, Sure: Likely,
		What: "There was no path: the caller's browser reaches neither the terminal nor the relay", Now: "Use another network, such as a mobile telephone's, and ring again.",
		Next: "Open UDP, or port 443 to the clinic's relay, in the caller's network.", Because: byPairs},
	{Name: "path-terminal-relay", If: all("outcome=ice.failed", "terminal.heard=nothing", "terminal.relay=none"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "There was no path: the terminal reaches neither the caller nor the relay", Now: "Telephone the home.", Next: "Check that UDP, or port 443, to the clinic is open in the home's network; look at the relay's log for this terminal.", Because: byPairs},
	{Name: "path-one-way-caller", If: all("outcome=ice.failed", "caller.heard=one way"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "There was no path: the caller hears the terminal's checks, but nothing gets back to it", Now: "Ring again with the relayed path.",
		Next: "Look for a firewall in the home that drops what comes from outside.", Because: byPairs},
	{Name: "path-one-way-terminal", If: all("outcome=ice.failed", "terminal.heard=one way"), Where: CallerNetwork, Who: protocol.Operator, Sure: Likely,
		What: "There was no path: the terminal hears the caller's checks, but nothing gets back to the caller", Now: "Ring again with the relayed path.",
		Next: "Look for a firewall in the caller's network that drops what comes from outside.", Because: byPairs},
	{Name: "path-relay-between", If: all("outcome=ice.failed", "relay only"), Where: Relay, Who: protocol.Operator, Sure: Likely,
		What: "There was no path through the relay, and the caller asked for no other", Now: "Ring again without the relayed path.", Next: "Look at the relay's log.", Because: byCode},
	{Name: "path-both-silent", If: all("outcome=ice.failed", "caller.heard=nothing", "terminal.heard=nothing"), Where: Between, Sure: Likely,
		What: "There was no path: neither end hears the other, by any address that they tried", Because: byPairs},
	{Name: "path-half", If: all("outcome=ice.failed", "terminal=missing"), Where: Somewhere, Sure: Unsure,
		What: "There was no path for picture and sound, and the terminal has not told what it saw", Because: byAbsence},
	{Name: "path", If: all("outcome=ice.failed"), Where: Between, Sure: Unsure, Because: byCode},
	{Name: "lost-path-wifi", If: all("outcome=ice.lost", "held=ip.weak_wifi"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "Picture and sound were lost: the Wi-Fi is too weak where the terminal stands", Next: "Move the terminal or the access point, or use a cable.", Because: byTerminal},
	{Name: "lost-path-roaming", If: all("outcome=ice.lost", "held=ip.wifi_roams"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "Picture and sound were lost: the terminal changed from one Wi-Fi access point to another", Next: "Move the terminal closer to one access point, or use a cable.", Because: byTerminal},
	{Name: "lost-path-carrier", If: all("outcome=ice.lost", "held=ip.no_carrier"), Where: Home, Who: protocol.Technician, Sure: Certain,
		What: "Picture and sound were lost: the terminal's cable or Wi-Fi was gone", Now: "Telephone the home and ask whether the cable is in place.", Next: "Connect the cable, or set the Wi-Fi.", Because: byTerminal},
	{Name: "lost-path-router", If: all("outcome=ice.lost", "held=ip.gateway_silent"), Where: HomeNetwork, Who: protocol.Technician, Sure: Certain,
		What: "Picture and sound were lost: the home's router did not answer", Now: "Telephone the home and ask whether the router is on.", Next: "Restart the home's router.", Because: byTerminal},
	{Name: "lost-path-lossy", If: all("outcome=ice.lost", "caller.end=lossy"), Where: Between, Sure: Likely,
		What: "Picture and sound were lost after more and more packets went missing", Next: "Compare with other calls of this home and of this caller: where they fail as well, that network is at fault.", Because: bySeries},
	{Name: "lost-path-suddenly", If: all("outcome=ice.lost", "caller.end=silent", "terminal.end=silent"), Where: Between, Sure: Likely,
		What: "Picture and sound stopped at both ends at once, with no sign before", Next: "Look at the relay and at the network between; ask whether a network was changed at that moment.", Because: bySeries},
	{Name: "lost-path", If: all("outcome=ice.lost"), Where: Between, Sure: Unsure, Because: byCode},
	{Name: "encryption-time", If: all("outcome=dtls.failed", "terminal.reached=ice", "caller=dtls.failed"), Where: Between, Sure: Likely,
		What: "A path was found, but the encryption of picture and sound could not be set up on it", Now: "Ring again; telephone if it fails again.", Because: byBoth},
	{Name: "encryption", If: all("outcome=dtls.failed"), Where: Between, Sure: Unsure, Now: "Ring again; telephone if it fails again.", Because: byCode},
}

// running are calls that were answered, and in which something was missing.
var running = []Rule{
	{Name: "capture", If: all("outcome:capture"), Where: Terminal, Sure: Certain, Because: byTerminal},
	{Name: "picture-camera", If: all("outcome:media", "held=capture.no_camera"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "There was no picture: the terminal has no camera", Next: "Connect the camera; it is used as soon as it appears.", Because: byTerminal},
	{Name: "media", If: all("outcome:media"), Where: Terminal, Sure: Likely, Because: byCode},
	{Name: "ended-no-packets", If: all("outcome:end", "talked", "caller.received=nothing"), Where: Between, Who: protocol.Operator, Sure: Likely,
		What: "The two were connected, but nothing came from the terminal", Now: "Ring again with the relayed path.", Next: "Look at the terminal's half of the record: what it sent, and by which path.", Because: bySeries},
	{Name: "ended-no-camera", If: all("outcome:end", "talked", "caller.picture=none", "held=capture.no_camera"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The call had no picture: the terminal has no camera", Next: "Connect the camera; it is used as soon as it appears.", Because: byTerminal},
	{Name: "ended-camera-busy", If: all("outcome:end", "talked", "caller.picture=none", "held=capture.camera_busy"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The call had no picture: another program held the terminal's camera", Next: "Restart the terminal; nothing else should use its camera.", Because: byTerminal},
	{Name: "ended-camera-format", If: all("outcome:end", "talked", "caller.picture=none", "held=capture.camera_format"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The call had no picture: the terminal's camera offers no format that can be used", Next: "Replace the camera by one that offers YUYV, NV12, I420 or MJPEG.", Because: byTerminal},
	{Name: "ended-camera-gone", If: all("outcome:end", "talked", "held=capture.camera_gone"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The picture was lost in the call: the terminal's camera was unplugged", Next: "Connect the camera; the picture returns by itself.", Because: byTerminal},
	{Name: "ended-camera-stuck", If: all("outcome:end", "talked", "held=capture.camera_stuck"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The picture stood still in the call: the terminal's camera stopped delivering", Next: "Unplug the camera and connect it again.", Because: byTerminal},
	{Name: "ended-no-microphone", If: all("outcome:end", "talked", "held=capture.no_microphone"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The call had no sound from the home: the terminal has no microphone", Next: "Connect a microphone; it is used from the next call.", Because: byTerminal},
	{Name: "ended-sound-busy", If: all("outcome:end", "talked", "held=capture.sound_busy"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The call had no sound: another program held the terminal's sound", Next: "Restart the terminal; nothing else should use its sound.", Because: byTerminal},
	{Name: "ended-sound-gone", If: all("outcome:end", "talked", "held=capture.sound_gone"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The sound was lost in the call: the terminal's sound device was unplugged", Next: "Connect it again; the sound returns by itself.", Because: byTerminal},
	{Name: "ended-no-speaker", If: all("outcome:end", "talked", "held=capture.no_speaker"), Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The caller was not heard in the home: the terminal has no loudspeaker", Next: "Connect a loudspeaker; it is used from the next call.", Because: byTerminal},
	{Name: "ended-no-sound", If: all("outcome:end", "talked", "terminal.sound=none"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The call had no sound: the terminal could open neither microphone nor loudspeaker", Next: "Check its sound device and the cable; nothing else should use it.", Because: "the terminal's half of the record"},
	{Name: "ended-no-picture", If: all("outcome:end", "talked", "caller.picture=none", "terminal.sent=no picture"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The call had no picture: the terminal sent none", Next: "Check the terminal's camera and its cable.", Because: byBoth},
	{Name: "ended-picture-on-the-way", If: all("outcome:end", "talked", "caller.picture=none"), Unless: all("terminal=missing"), Where: Between, Who: protocol.Operator, Sure: Likely,
		What: "The terminal sent a picture, but the caller's browser could show none of it", Next: "Compare the losses of both halves; try another browser.", Because: byBoth},
	{Name: "ended-picture-unknown", If: all("outcome:end", "talked", "caller.picture=none"), Where: Somewhere, Who: protocol.Operator, Sure: Unsure,
		What: "The call had no picture from the home, and the terminal has not told why", Next: "Look at the camera's condition on the terminal's page.", Because: byAbsence},
	{Name: "ended-throttled", If: all("outcome:end", "talked", "caller.picture=stops", "held=heat.throttled"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The picture stopped again and again: the terminal slows down because it is hot", Next: "Let air to it, away from sun and heaters.", Because: byTerminal},
	{Name: "ended-hot", If: all("outcome:end", "talked", "caller.picture=stops", "terminal.heat=much"), Where: Terminal, Who: protocol.Technician, Sure: Unsure,
		What: "The picture stopped again and again, and the terminal was very hot", Next: "Let air to it, away from sun and heaters.", Because: bySeries},
	{Name: "ended-wifi", If: all("outcome:end", "talked", "caller.loss=much", "held=ip.weak_wifi"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "The call was bad: much got lost, and the Wi-Fi is weak where the terminal stands", Next: "Move the terminal or the access point, or use a cable.", Because: byTerminal},
	{Name: "ended-lossy-both", If: all("outcome:end", "talked", "caller.loss=much", "terminal.loss=much"), Where: Between, Who: protocol.Operator, Sure: Likely,
		What: "The call was bad: much got lost both ways", Next: "Compare with other calls of this home and of this caller: where they are bad as well, that network is at fault.", Because: bySeries},
	{Name: "ended-lossy-up", If: all("outcome:end", "talked", "caller.loss=much"), Unless: all("terminal=missing"), Where: Between, Who: protocol.Technician, Sure: Unsure,
		What: "The call was bad: much of what the terminal sent got lost, but little of what the caller sent", Next: "Look at the upload of the home's network first.", Because: bySeries},
	{Name: "ended-lossy-down", If: all("outcome:end", "talked", "terminal.loss=much"), Unless: all("caller=missing"), Where: Between, Who: protocol.Operator, Sure: Unsure,
		What: "The call was bad: much of what the caller sent got lost, but little of what the terminal sent", Next: "Look at the caller's network first, then at the download of the home's.", Because: bySeries},
	{Name: "ended-slow", If: all("outcome:end", "talked", "caller.delay=long", "held=egress.udp_blocked"), Where: HomeNetwork, Who: protocol.Technician, Sure: Likely,
		What: "The call was late: the home's network lets no UDP out, so it went over TLS", Next: "Ask the network's owner to open UDP to the clinic.", Because: byTerminal},
	{Name: "ended-late", If: all("outcome:end", "talked", "caller.delay=long"), Where: Between, Who: protocol.Operator, Sure: Unsure,
		What: "The call was late: what was said took long to arrive", Next: "Compare with other calls of this home and of this caller.", Because: bySeries},
	{Name: "quality", If: all("outcome:quality"), Where: Between, Sure: Likely, Because: byCode},
}

var answers = []Rule{
	{Name: "declined", If: all("outcome=answer.declined"), Where: Home, Sure: Certain, Because: byAnswer},
	{Name: "busy", If: all("outcome=answer.busy"), Where: Terminal, Sure: Certain, Because: byAnswer},
	{Name: "quiet", If: all("outcome=answer.quiet_hours"), Where: Home, Sure: Certain, Now: "Ring as urgent if you may and it is, or try again after the quiet hours.", Because: byAnswer},
	{Name: "shutter", If: all("outcome=answer.shutter_closed"), Where: Home, Sure: Certain, Because: byAnswer},
	{Name: "no-key", If: all("outcome:answer", "terminal=answer.no_key"), // the outcome is either's: its answer and its record come by two ways
		Where: Terminal, Who: protocol.Technician, Sure: Certain,
		What: "The home's policy asks the person at the terminal, and the terminal has no key to take calls by",
		Next: "Connect one and name it in the terminal's configuration, or have an administrator change the policy.", Because: "the terminal's half of the record"},
	{Name: "policy", If: all("outcome=answer.refused"), Where: Rights, Sure: Certain, Because: byAnswer},
	{Name: "nobody", If: all("outcome=answer.nobody"), Where: Home, Sure: Certain, Now: "Try again later, or telephone.", Because: byAnswer},
	{Name: "rang-media", If: all("outcome=answer.timeout", "held=capture.sound_busy"), Where: Terminal, Who: protocol.Technician, Sure: Likely,
		What: "The terminal rang but did not answer: another program holds its sound", Next: "Restart the terminal; nothing else should use its sound.", Because: byTerminal},
	{Name: "rang", If: all("outcome=answer.timeout"), Where: Terminal, Sure: Unsure, Because: byAbsence},
}

// good are ends that are as they should be.
var good = []Rule{
	{Name: "hung-up-ringing", If: all("outcome=end.caller_hung_up", "rang"), Unless: all("talked"), Where: Caller, Who: protocol.Nobody, Sure: Certain,
		What: "The caller hung up while it rang", Because: byEnd},
	{Name: "hung-up-calling", If: all("outcome=end.caller_hung_up"), Unless: all("talked"), Where: Caller, Who: protocol.Nobody, Sure: Certain,
		What: "The caller hung up before it rang", Because: byEnd},
	{Name: "hung-up", If: all("outcome=end.caller_hung_up"), Where: Caller, Sure: Certain, Because: byEnd},
	{Name: "hung-up-home", If: all("outcome=end.patient_hung_up"), Where: Home, Sure: Certain, Because: byEnd},
	{Name: "longest", If: all("outcome=end.max_duration"), Where: Rights, Sure: Certain, Because: byEnd},
	{Name: "page-closed", If: all("outcome=end.page_closed"), Where: CallerPC, Sure: Certain, Because: byClinic},
	{Name: "right-ended", If: all("outcome=end.authorisation_over"), Where: Rights, Sure: Certain, Because: byEnd},
	{Name: "right-withdrawn", If: all("outcome=end.right_withdrawn"), Where: Rights, Sure: Certain, Because: byClinic},
	{Name: "passkey-removed", If: all("outcome=end.passkey_removed"), Where: Rights, Sure: Certain, Because: byClinic},
	{Name: "cut-off", If: all("outcome=end.terminal_cut_off"), Where: Rights, Sure: Certain, Now: "Telephone the home; a technician sets a terminal up there anew.", Because: byClinic},
	{Name: "out-of-use", If: all("outcome=end.out_of_use"), Where: Rights, Sure: Certain, Now: "Telephone the home if the conversation was not over.", Because: byEnd},
	{Name: "stopped", If: all("outcome=end.terminal_stopped"), Where: Terminal, Sure: Certain, Now: "Ring again when the terminal is back.", Next: "See on its page whether it comes back by itself; if not, have it restarted.", Because: byEnd},
}

// rest is what remains: the register's sentence, or that the cause is not known.
var rest = []Rule{
	{Name: "newer", If: all("unheard of"), Where: Somewhere, Who: protocol.Operator, Sure: Unsure,
		What: "The call ended for a reason that this version of the clinic's server does not know", Next: "Bring the clinic's server to the version of the terminals.", Because: byCode},
	{Name: "unknown-hang", If: all("outcome:unknown", "terminal=missing", "caller=missing"), Where: Somewhere, Who: protocol.Operator, Sure: Unsure,
		What: "The call failed, and neither end has told anything", Next: "Send the supplier the time, and the call's number.", Because: byAbsence},
	{Name: "unknown", If: all("outcome:unknown"), Where: Somewhere, Sure: Unsure, What: "The call failed, and the cause is not known", Next: "Send the supplier the time, and the call's number.", Because: byCode},
	{Name: "home-condition", If: all("outcome:link"), Where: HomeNetwork, Sure: Likely, Because: byCode},
	{Name: "register", Where: Terminal, Sure: Likely, Because: byCode},
}
