package diagnosis

import "vindu/protocol"

// end is a half.
func end(outcome protocol.Code, change ...func(*protocol.CallRecord)) *protocol.CallRecord {
	h := &protocol.CallRecord{Version: protocol.Version, Outcome: outcome, Camera: "v4l2", Sound: "alsa"}
	for _, c := range change {
		c(h)
	}
	return h
}

func reached(stages ...string) func(*protocol.CallRecord) {
	return func(h *protocol.CallRecord) {
		for i, s := range stages {
			h.Stages = append(h.Stages, protocol.StageTime{Stage: s, After: uint64(100 * i)})
		}
	}
}

// well is a connected half with good figures.
func well(h *protocol.CallRecord) {
	reached("ice", "dtls", "connected")(h)
	h.Duration, h.LocalPath, h.RemotePath, h.CameraOpen = 60_000, "host", "srflx", 1
	h.Quality = protocol.Quality{RTT: 30, PacketsReceived: 10_000, FramesSent: 1_500, FramesDecoded: 1_500, BytesSent: 1 << 20, BytesReceived: 1 << 20}
	series(20, 0, 1_000, 1_000)(h)
}

func series(n int, lossAtEnd, in, out uint64) func(*protocol.CallRecord) {
	return func(h *protocol.CallRecord) {
		var a protocol.Sampler
		for i := range n {
			s := protocol.Sample{RTT: 30, Jitter: 3, Out: out, In: 1_000, Frames: 25}
			if i >= n-8 {
				s.Loss, s.In = lossAtEnd, in
			}
			a.Add(s)
		}
		h.Series = a.Series()
	}
}

func figures(change func(*protocol.Quality)) func(*protocol.CallRecord) {
	return func(h *protocol.CallRecord) { change(&h.Quality) }
}

func noDevice(h *protocol.CallRecord) { h.Camera, h.CameraOpen = "none", 0 }

var (
	hostEnd  = protocol.PathEnd{Kind: "host", Network: "v4.private", Transport: "udp"}
	outerEnd = protocol.PathEnd{Kind: "srflx", Network: "v4.public", Transport: "udp"}
	relayEnd = protocol.PathEnd{Kind: "relay", Network: "v4.public", Transport: "tls"}
)

func tried(pairs ...protocol.Pair) func(*protocol.CallRecord) {
	return func(h *protocol.CallRecord) { h.Pairs = append(h.Pairs, pairs...) }
}

func pair(local, remote protocol.PathEnd, answered, heard uint64) protocol.Pair {
	return protocol.Pair{Local: local, Remote: remote, State: "failed", Asked: 7, Answered: answered, Heard: heard}
}

func gather(way string, code uint64) func(*protocol.CallRecord) {
	return func(h *protocol.CallRecord) { h.Gather = append(h.Gather, protocol.GatherError{Way: way, Code: code}) }
}

// silent is a half that tried everything, a relay too, and heard nothing.
func silent(h *protocol.CallRecord) {
	tried(pair(hostEnd, outerEnd, 0, 0), pair(relayEnd, relayEnd, 0, 0))(h)
}

// unrelayed is one that had no relay.
func unrelayed(h *protocol.CallRecord) { tried(pair(hostEnd, outerEnd, 0, 0))(h) }

func oneWay(h *protocol.CallRecord) {
	tried(pair(hostEnd, outerEnd, 0, 5), pair(relayEnd, relayEnd, 0, 0))(h)
}

// talked is a call that ran and that the caller hung up.
func talked(terminal, caller *protocol.CallRecord, held ...protocol.Code) Evidence {
	return Evidence{Outcome: protocol.EndCallerHungUp, Clinic: protocol.EndCallerHungUp, Rang: true, Talked: true, Terminal: terminal, Caller: caller, Held: held}
}

// noPath is a call for which no path was found.
func noPath(terminal, caller *protocol.CallRecord, held ...protocol.Code) Evidence {
	return Evidence{Outcome: protocol.ICEFailed, Clinic: protocol.ICEFailed, Rang: true, Terminal: terminal, Caller: caller, Held: held}
}

// lostPath is a call whose path was lost.
func lostPath(terminal, caller *protocol.CallRecord, held ...protocol.Code) Evidence {
	return Evidence{Outcome: protocol.ICELost, Clinic: protocol.ICELost, Rang: true, Talked: true, Terminal: terminal, Caller: caller, Held: held}
}

// told is a call of which the clinic knows the outcome alone.
func told(outcome protocol.Code, held ...protocol.Code) Evidence {
	return Evidence{Outcome: outcome, Clinic: outcome, Held: held}
}

// neverLeft is an attempt that ended in the page.
func neverLeft(outcome protocol.Code) Evidence {
	return Evidence{Outcome: outcome, NeverLeft: true, Caller: end(outcome)}
}

const (
	failed  = protocol.ICEFailed
	lost    = protocol.ICELost
	hungUp  = protocol.EndCallerHungUp
	noReply = protocol.SignalNoReply
	gone    = protocol.SignalLostTerminal
	reboot  = protocol.PowerRestarted
)

var cases = []struct {
	name     string
	rule     string
	evidence Evidence
}{
	{"Something else than the terminal answered", "proof-answer", told(protocol.ProofAnswer)},
	{"The certificate of the answer is another one", "proof-fingerprint", told(protocol.ProofFingerprint)},
	{"The signed end is not the terminal's", "proof-end", told(protocol.ProofEnd)},
	{"An end settled for weak encryption", "weak", told(protocol.DTLSWeak)},
	{"Call out of its time, the terminal's clock is off", "refused-clock", told(protocol.AuthExpired, protocol.TimeOff)},
	{"Call out of its time, the terminal has no time yet", "refused-clock-unknown", told(protocol.AuthExpired, protocol.TimeUnknown)},
	{"Call out of its time, all clocks are right", "refused-late", told(protocol.AuthExpired)},
	{"Authorisation over, the terminal's clock is off", "refused-lapsed-clock", told(protocol.AuthLapsed, protocol.TimeOff)},
	{"Authorisation over", "lapsed", told(protocol.AuthLapsed)},
	{"Passkey that does not prove the call", "passkey-alarm", told(protocol.AuthPasskey)},
	{"Passkey that may be a copy", "passkey-alarm", told(protocol.AuthCounter)},
	{"Call that was seen before", "passkey-alarm", told(protocol.AuthReplayed)},
	{"Person without a right to call this home", "not-authorised", told(protocol.AuthNone)},
	{"Passkey used without PIN", "user-not-verified", told(protocol.AuthUnverified)},
	{"Home that the authorisation does not name", "rights", told(protocol.AuthScope)},
	{"Browser permission denied", "page-permission", neverLeft(protocol.BrowserDenied)},
	{"Computer without camera", "page-no-devices", neverLeft(protocol.BrowserNoCamera)},
	{"Passkey dialogue closed", "page-cancelled", neverLeft(protocol.BrowserCancelled)},
	{"Passkey used after more than a minute", "page-late", neverLeft(protocol.BrowserSlow)},
	{"Computer with a wrong clock", "page-clock", told(protocol.BrowserClock)},
	{"Browser without passkeys", "page-no-passkey", neverLeft(protocol.BrowserNoPasskey)},
	{"Session over", "page-signed-out", neverLeft(protocol.BrowserSignedOut)},
	{"Passkey of somebody else", "page-passkey", told(protocol.BrowserOtherPasskey)},
	{"Clinic out of reach of the page", "page-clinic-gone", neverLeft(protocol.SignalLostClinic)},
	{"Caller changed the mind", "page-given-up", neverLeft(hungUp)},
	{"Page closed while the passkey was asked for", "page-closed-early", neverLeft(protocol.EndPageClosed)},
	{"Browser that cannot make an offer", "page-failed-early", neverLeft(protocol.BrowserFailed)},
	{"Browser that fails in the call", "page-failed", told(protocol.BrowserFailed)},
	{"Broker down", "broker", told(protocol.SignalBroker)},
	{"Terminal with a wrong Wi-Fi password", "offline-wifi-refused", told(protocol.SignalOffline, protocol.IPWiFiRefused, protocol.IPNone, protocol.LinkUnreachable)},
	{"Terminal out of reach of its Wi-Fi", "offline-wifi-unheard", told(protocol.SignalOffline, protocol.IPWiFiUnheard, protocol.IPNone, protocol.LinkUnreachable)},
	{"Terminal's cable unplugged", "offline-cable", told(protocol.SignalOffline, protocol.IPNoCarrier, protocol.IPDNS, protocol.LinkUnreachable)},
	{"Terminal without an address", "offline-address", told(protocol.SignalOffline, protocol.IPNone, protocol.IPDNS, protocol.LinkUnreachable)},
	{"Terminal without a way out", "offline-gateway", told(protocol.SignalOffline, protocol.IPNoGateway, protocol.LinkUnreachable)},
	{"The home's router hangs", "offline-router", told(protocol.SignalOffline, protocol.IPGatewaySilent, protocol.IPDNS, protocol.LinkUnreachable)},
	{"Terminal that cannot look up names", "offline-names", told(protocol.SignalOffline, protocol.IPDNS, protocol.LinkUnreachable)},
	{"Sign-in page in the home's network", "offline-portal", told(protocol.SignalOffline, protocol.IPPortal, protocol.EgressIntercepted, protocol.IdentityPin, protocol.LinkUnreachable)},
	{"Intercepted connection", "offline-intercepted", told(protocol.SignalOffline, protocol.EgressIntercepted, protocol.IdentityPin)},
	{"Terminal whose certificate has expired", "offline-expired", told(protocol.SignalOffline, protocol.IdentityExpired)},
	{"Power cut in the home", "offline-power-cut", told(protocol.SignalOffline, protocol.PowerCut)},
	{"Power cut, and then no way to the clinic at first", "offline-power-cut", told(protocol.SignalOffline, protocol.PowerCut, protocol.LinkUnreachable)},
	{"Power cut earlier, and the cable unplugged now", "offline-cable", told(protocol.SignalOffline, protocol.PowerCut, protocol.IPNoCarrier)},
	{"Terminal that is on and does not reach the clinic", "offline-unreachable", told(protocol.SignalOffline, protocol.LinkUnreachable)},
	{"Terminal unplugged", "offline", told(protocol.SignalOffline)},
	{"Terminal in safe mode", "no-reply-safe", told(noReply, protocol.PowerSafe)},
	{"Terminal out of memory", "no-reply-memory-low", told(noReply, protocol.MemoryLow, protocol.MemoryPressure)},
	{"Terminal that waits for memory", "no-reply-memory", told(noReply, protocol.MemoryPressure)},
	{"Terminal with storage that fails", "no-reply-failing", told(noReply, protocol.StorageFailing)},
	{"Terminal with storage that cannot be written", "no-reply-disk", told(noReply, protocol.StorageReadOnly)},
	{"Terminal with full storage", "no-reply-full", told(noReply, protocol.StorageFull)},
	{"Terminal on a very slow network", "no-reply-slow", told(noReply, protocol.SignalSlow)},
	{"Reply too late", "no-reply-later", Evidence{Outcome: noReply, Clinic: noReply, Terminal: end(hungUp)}},
	{"The line died just before the call", "no-reply-unreachable", told(noReply, protocol.LinkUnreachable)},
	{"No reply and no word of why", "no-reply", told(noReply)},
	{"Terminal lost, undervoltage", "lost-power-low", told(gone, protocol.PowerLow)},
	{"Terminal lost, overheated", "lost-heat", told(gone, protocol.HeatHot)},
	{"Terminal lost, weak Wi-Fi", "lost-wifi", told(gone, protocol.IPWeak)},
	{"Terminal lost, roaming", "lost-roaming", told(gone, protocol.IPRoams)},
	{"Terminal unplugged in the call", "lost-both", Evidence{Outcome: gone, Clinic: gone, Talked: true, Caller: end(lost, well, series(20, 0, 0, 1_000))}},
	{"Terminal lost and no word of why", "lost", told(gone)},
	{"Restart, undervoltage", "restarted-low-power", told(reboot, protocol.PowerLow)},
	{"Restart, power was cut", "restarted-cut", told(reboot, protocol.PowerCut)},
	{"Restart by the watchdog", "restarted-hung", told(reboot, protocol.PowerWatchdog)},
	{"Restart after a crash", "restarted-crashed", told(reboot, protocol.PowerCrashed)},
	{"Restart and no more is known", "restarted", told(reboot)},
	{"Clinic's server restarted", "clinic-stopped", told(protocol.SignalLostClinic)},
	{"Caller's network gone in the call", "clinic-lost-caller", Evidence{Outcome: protocol.SignalLostClinic, Clinic: protocol.EndPageClosed, Caller: end(protocol.SignalLostClinic)}},
	{"Terminal's way to the clinic gone in the call", "clinic-lost-terminal", Evidence{Outcome: protocol.SignalLostClinic, Terminal: end(protocol.SignalLostClinic)}},
	{"Clinic lost, nobody says by whom", "clinic-lost", Evidence{Outcome: protocol.SignalLostClinic}},
	{"Message of another version", "malformed", told(protocol.SignalMalformed)},
	{"UDP and 443 closed in the home", "path-nothing-out", noPath(nil, end(failed, silent), protocol.EgressUDP, protocol.EgressRelay)},
	{"Relay password wrong for the terminal, by its probe", "path-relay-refused", noPath(end(failed, silent), end(failed, silent), protocol.EgressRefused)},
	{"Relay password wrong for the browser", "path-relay-password", noPath(nil, end(failed, gather("udp", 401), unrelayed))},
	{"Relay full for the browser", "path-relay-full", noPath(nil, end(failed, gather("udp", 486), unrelayed))},
	{"Relay stopped", "path-relay-dead", noPath(nil, end(failed, gather("tls", 701), unrelayed), protocol.EgressRelay)},
	{"Port 443 to the relay closed in the home", "path-home-relay", noPath(nil, end(failed, silent), protocol.EgressRelay)},
	{"443 intercepted in the home", "path-intercepted", noPath(nil, end(failed, silent), protocol.EgressIntercepted)},
	{"UDP blocked in the home", "path-home-udp", noPath(nil, end(failed, silent), protocol.EgressUDP)},
	{"Relayed path asked for, an end gets none", "path-relay-none", Evidence{Outcome: failed, Clinic: failed, Rang: true, RelayOnly: true, Terminal: end(failed), Caller: end(failed)}},
	{"WebRTC blocked in the browser, or a terminal without addresses", "path-no-addresses", noPath(end(failed), end(failed))},
	{"Terminal's candidates do not arrive", "path-caller-untold", noPath(end(failed, silent), end(failed))},
	{"Caller's candidates do not arrive", "path-terminal-untold", noPath(end(failed), end(failed, silent))},
	{"UDP and relay blocked for the caller", "path-caller-relay", noPath(end(failed, silent), end(failed, unrelayed))},
	{"UDP and relay blocked for the terminal, not probed yet", "path-terminal-relay", noPath(end(failed, unrelayed), end(failed, silent))},
	{"Caller's network that lets no UDP out", "path-caller-out", noPath(end(failed, silent), end(failed, tried(pair(hostEnd, outerEnd, 0, 5))))},
	{"Firewall in the home that lets nothing in", "path-one-way-caller", noPath(end(failed, silent), end(failed, oneWay))},
	{"Firewall at the caller that lets nothing in", "path-one-way-terminal", noPath(end(failed, oneWay), end(failed, silent))},
	{"Relayed path asked for, relay fails", "path-relay-between", Evidence{Outcome: failed, Rang: true, RelayOnly: true, Caller: end(failed, silent)}},
	{"Neither end hears the other", "path-both-silent", noPath(end(failed, silent), end(failed, silent))},
	{"No path, the terminal's half never came", "path-half", noPath(nil, end(failed, silent))},
	{"No path, the caller's half never came", "path", noPath(end(failed, silent), nil)},
	{"No path though checks were answered", "path", noPath(end(failed, tried(pair(hostEnd, outerEnd, 3, 3))), end(failed, tried(pair(hostEnd, outerEnd, 3, 3))))},
	{"Path lost, weak Wi-Fi", "lost-path-wifi", lostPath(end(lost, well), end(lost, well), protocol.IPWeak)},
	{"Path lost, roaming", "lost-path-roaming", lostPath(end(lost, well), end(lost, well), protocol.IPRoams)},
	{"Network cable unplugged in the call", "lost-path-carrier", lostPath(end(lost, well), end(lost, well), protocol.IPNoCarrier)},
	{"Router switched off in the call", "lost-path-router", lostPath(end(lost, well), end(lost, well), protocol.IPGatewaySilent)},
	{"Path lost after growing losses", "lost-path-lossy", lostPath(nil, end(lost, well, series(20, 400, 300, 300)))},
	{"Path cut at once", "lost-path-suddenly", lostPath(end(lost, well, series(20, 0, 0, 1_000)), end(lost, well, series(20, 0, 0, 1_000)))},
	{"Path lost with the terminal's way to the clinic", "lost-path-deaf", lostPath(end(lost, well), end(lost, well, reached("restart")))},
	{"Path lost and no other found", "lost-path-none", lostPath(end(lost, well, reached("restart")), end(lost, well, reached("restart")))},
	{"Relayed path lost, nothing more is known", "lost-path", Evidence{Outcome: lost, Clinic: lost, Talked: true, RelayOnly: true}},
	{"Path lost, nothing more is known", "lost-path", lostPath(nil, nil)},
	{"Handshake fails on a path that works", "encryption-time", Evidence{Outcome: protocol.DTLSFailed, Rang: true, Terminal: end(protocol.DTLSFailed, reached("ice")), Caller: end(protocol.DTLSFailed)}},
	{"Handshake fails, one half", "encryption", told(protocol.DTLSFailed)},
	{"Panel's cable pulled, where calls end without it", "panel-lost", told(protocol.PanelMissing)},
	{"Camera busy ends the call", "capture", told(protocol.CaptureCameraBusy)},
	{"Sound device unplugged", "capture", told(protocol.CaptureSoundGone)},
	{"No picture, no camera", "picture-camera", told(protocol.MediaNoPicture, protocol.CaptureNoCamera)},
	{"Picture cannot be decoded", "media", told(protocol.MediaFailed)},
	{"Connected, and nothing arrives", "ended-no-packets", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.PacketsReceived, q.FramesDecoded = 0, 0 })))},
	{"Camera unplugged before the call", "ended-no-camera", talked(end(hungUp, well, noDevice), end(hungUp, well, figures(func(q *protocol.Quality) { q.FramesDecoded = 0 })), protocol.CaptureNoCamera)},
	{"Camera busy", "ended-camera-busy", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.FramesDecoded = 0 })), protocol.CaptureCameraBusy)},
	{"Camera of a kind that cannot be used", "ended-camera-format", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.FramesDecoded = 0 })), protocol.CaptureCameraFormat)},
	{"Camera unplugged in the call", "ended-camera-gone", talked(end(hungUp, well), end(hungUp, well), protocol.CaptureCameraGone)},
	{"Camera frozen", "ended-camera-stuck", talked(end(hungUp, well), end(hungUp, well), protocol.CaptureCameraStuck)},
	{"No microphone", "ended-no-microphone", talked(end(hungUp, well), end(hungUp, well), protocol.CaptureNoMicrophone)},
	{"Sound held by another program", "ended-sound-busy", talked(end(hungUp, well), end(hungUp, well), protocol.CaptureSoundBusy)},
	{"Sound device unplugged in the call", "ended-sound-gone", talked(end(hungUp, well), end(hungUp, well), protocol.CaptureSoundGone)},
	{"No loudspeaker", "ended-no-speaker", talked(end(hungUp, well), end(hungUp, well), protocol.CaptureNoSpeaker)},
	{"Terminal without sound", "ended-no-sound", talked(end(hungUp, well, func(h *protocol.CallRecord) { h.Sound = "none" }), end(hungUp, well))},
	{"Terminal sends no picture", "ended-no-picture", talked(end(hungUp, well, figures(func(q *protocol.Quality) { q.FramesSent = 0 })), end(hungUp, well, figures(func(q *protocol.Quality) { q.FramesDecoded = 0 })))},
	{"Picture sent and not shown", "ended-picture-on-the-way", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.FramesDecoded = 0 })))},
	{"No picture, the terminal's half never came", "ended-picture-unknown", talked(nil, end(hungUp, well, figures(func(q *protocol.Quality) { q.FramesDecoded = 0 })))},
	{"Another path again and again, weak Wi-Fi", "ended-moves-wifi", talked(end(hungUp, well, reached("restart", "restart", "restart")), end(hungUp, well), protocol.IPWeak)},
	{"Another path again and again, roaming", "ended-moves-roaming", talked(end(hungUp, well, reached("restart", "restart", "restart")), end(hungUp, well), protocol.IPRoams)},
	{"Another path again and again", "ended-moves", talked(end(hungUp, well, reached("restart", "restart", "restart")), end(hungUp, well))},
	{"Another path once", "hung-up", talked(end(hungUp, well, reached("restart")), end(hungUp, well, reached("restart")))},
	{"Terminal throttled", "ended-throttled", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.Freezes = 9 })), protocol.HeatThrottled)},
	{"Terminal very hot", "ended-hot", talked(end(hungUp, well, figures(func(q *protocol.Quality) { q.Heat = 91 })), end(hungUp, well, figures(func(q *protocol.Quality) { q.Freezes = 9 })))},
	{"Losses on weak Wi-Fi", "ended-wifi", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.PacketsLost = 2_000 })), protocol.IPWeak)},
	{"Path lost for some seconds", "ended-gap", talked(end(hungUp, well), end(hungUp, well, reached("restart"), figures(func(q *protocol.Quality) { q.PacketsLost = 2_000 })))},
	{"Losses both ways", "ended-lossy-both", talked(end(hungUp, well, figures(func(q *protocol.Quality) { q.PacketsLost = 2_000 })), end(hungUp, well, figures(func(q *protocol.Quality) { q.PacketsLost = 2_000 })))},
	{"Losses from the home to the caller", "ended-lossy-up", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.PacketsLost = 2_000 })))},
	{"Losses from the caller to the home", "ended-lossy-down", talked(end(hungUp, well, figures(func(q *protocol.Quality) { q.PacketsLost = 2_000 })), end(hungUp, well))},
	{"Delay over TLS", "ended-slow", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.RTT = 700 })), protocol.EgressUDP)},
	{"Delay", "ended-late", talked(end(hungUp, well), end(hungUp, well, figures(func(q *protocol.Quality) { q.RTT = 700 })))},
	{"Too much delay for a conversation", "quality", told(protocol.QualityDelay)},
	{"Good call that was over at once", "hung-up", talked(end(hungUp, reached("connected")), end(hungUp, reached("connected")))},
	{"Declined", "declined", told(protocol.AnswerDeclined)},
	{"In another call", "busy", told(protocol.AnswerBusy)},
	{"Quiet hours", "quiet", told(protocol.AnswerQuiet)},
	{"Shutter closed", "shutter", told(protocol.AnswerShutter)},
	{"Policy refuses", "policy", told(protocol.AnswerRefused)},
	{"Nobody said yes", "nobody", told(protocol.AnswerNobody)},
	{"Terminal that cannot ask", "no-key", Evidence{Outcome: protocol.AnswerRefused, Clinic: protocol.AnswerRefused, Terminal: end(protocol.AnswerNoKey)}},
	{"Terminal that cannot ask, whose record comes first", "no-key", Evidence{Outcome: protocol.AnswerNoKey, Clinic: protocol.AnswerNoKey, Terminal: end(protocol.AnswerNoKey)}},
	{"Rang, sound held by another program", "rang-media", told(protocol.AnswerTimeout, protocol.CaptureSoundBusy)},
	{"Rang and did not answer", "rang", told(protocol.AnswerTimeout)},
	{"Hung up while it rang", "hung-up-ringing", Evidence{Outcome: hungUp, Rang: true}},
	{"Hung up before it rang", "hung-up-calling", Evidence{Outcome: hungUp}},
	{"Good call", "hung-up", talked(end(hungUp, well), end(hungUp, well))},
	{"Ended in the home", "hung-up-home", told(protocol.EndPatientHungUp)},
	{"Longest duration", "longest", told(protocol.EndMaxDuration)},
	{"Page closed", "page-closed", told(protocol.EndPageClosed)},
	{"Authorisation ended in the call", "right-ended", told(protocol.EndLapsed)},
	{"Right withdrawn in the call", "right-withdrawn", told(protocol.EndWithdrawn)},
	{"Passkey removed in the call", "passkey-removed", told(protocol.EndPasskeyRemoved)},
	{"Terminal cut off in the call", "cut-off", told(protocol.EndCutOff)},
	{"Terminal taken out of use in the call", "out-of-use", told(protocol.EndOutOfUse)},
	{"Terminal's program stopped", "stopped", told(protocol.EndTerminalStopped)},
	{"Code of a newer terminal", "newer", told("ice.of_tomorrow")},
	{"Failed and nobody has told anything", "unknown-hang", told(protocol.Unknown)},
	{"Failed for an unknown cause", "unknown", Evidence{Outcome: protocol.Unknown, Terminal: end(protocol.Unknown)}},
	{"Clinic not to be reached from the home", "home-condition", told(protocol.LinkUnreachable)},
	{"Terminal without keys", "register", told(protocol.IdentityNone)},
	{"Terminal's disk full", "register", told(protocol.StorageFull)},
}
