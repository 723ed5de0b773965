package protocol

import "time"

// By what the entries of the register are found.
const (
	foundAnswer  = "the terminal, when it is called (device/call, device/policy)"
	foundProof   = "the terminal, when it verifies a call (device/call)"
	foundEnd     = "the signed end of a call"
	foundCaller  = "the caller's page"
	foundCalls   = "the clinic, which joins both ends' halves of a call's record (clinic/calls)"
	foundFleet   = "the clinic, by what comes from the terminal (clinic/fleet)"
	foundSetup   = "whoever sets the terminal up (provisioning, clinic/enrol)"
	foundCheck   = "the technician's check (device/acceptance)"
	foundSound   = "the technician's check (device/acceptance), and rehearsals (device/rehearsal)"
	foundRehears = "the last rehearsal; the next good one ends it (device/rehearsal)"
	foundMedia   = "the media of a call"
	foundDevices = "the inventory of devices, every 15 s; it opens none"
	foundVoice   = "each sentence that is made; where none is asked for, one in an hour (device/voice)"
	foundLink    = "each attempt to connect (device/link)"
	foundKey     = "the terminal's key and enrolment, at the start and every 15 s (device/identity)"
	foundClock   = "the terminal's clock, compared with the clinic's time (device/clock)"
	foundOutbox  = "each write to the outbox (device/outbox)"
	foundNetwork = "what the system says of each interface (device/network)"
)

// Register holds every code. It is data: what a person reads is the same on every page, screen and alert. The texts are in the folder
// conditions, a file for each language.
var Register = withTexts([]Failure{
	happens(EndCallerHungUp, Nobody, Note, foundEnd),
	happens(EndPatientHungUp, Nobody, Note, foundEnd),
	happens(EndMaxDuration, Nobody, Note, foundEnd),
	happens(EndPageClosed, Clinician, Warning, foundEnd),
	happens(EndTerminalStopped, Operator, Warning, foundEnd),
	happens(EndOutOfUse, Nobody, Note, foundEnd),
	happens(AnswerDeclined, Nobody, Note, foundAnswer),
	happens(AnswerBusy, Clinician, Warning, foundAnswer),
	happens(AnswerQuiet, Clinician, Warning, foundAnswer),
	happens(AnswerShutter, Clinician, Warning, foundAnswer),
	happens(AnswerRefused, Operator, Warning, foundAnswer),
	happens(AnswerTimeout, Operator, Serious, foundCalls),
	happens(SignalOffline, Technician, Serious, foundFleet),
	happens(SignalLostClinic, Operator, Serious, foundEnd),
	happens(SignalLostTerminal, Operator, Serious, foundCalls),
	happens(SignalMalformed, Operator, Warning, "each end, when it decodes a message"),
	happens(SignalNoReply, Operator, Serious, foundCalls),
	happens(SignalBroker, Operator, Serious, foundFleet),
	happens(AuthUnproven, Operator, Alarm, foundProof),
	happens(AuthOtherTerminal, Operator, Alarm, foundProof),
	happens(AuthExpired, Operator, Warning, foundProof),
	happens(AuthReplayed, Operator, Alarm, foundProof),
	happens(AuthFingerprint, Operator, Alarm, foundProof),
	happens(AuthRevoked, Operator, Warning, foundProof),
	happens(AuthNone, Clinician, Warning, "the clinic, before it passes a call on (clinic/calls)"),
	happens(AuthScope, Operator, Warning, foundProof),
	happens(AuthLapsed, Operator, Warning, foundProof),
	happens(AuthIssuer, Operator, Alarm, foundProof),
	happens(AuthPasskey, Operator, Alarm, foundProof),
	happens(AuthOrigin, Operator, Alarm, foundProof),
	happens(AuthUnverified, Clinician, Warning, foundProof),
	happens(AuthCounter, Operator, Alarm, foundProof),
	happens(AuthRoster, Operator, Alarm, foundProof),
	happens(AuthTrust, Operator, Alarm, "the terminal, when it fetches its settings (device/identity)"),
	happens(AuthRelay, Operator, Alarm, foundProof),
	happens(AuthPolicy, Operator, Alarm, "the terminal, when it fetches its settings (device/identity)"),
	happens(AuthLedger, Operator, Alarm, "the clinic, by the chain of openings (clinic/ledger)"),
	happens(AnswerNobody, Nobody, Note, foundAnswer),
	happens(AnswerNoKey, Technician, Warning, foundAnswer),
	happens(EndLapsed, Clinician, Warning, foundEnd),
	happens(BrowserNoPasskey, Clinician, Warning, foundCaller),
	happens(BrowserCancelled, Clinician, Warning, foundCaller),
	happens(BrowserClock, Clinician, Warning, "the clinic, before it passes a call on (clinic/calls)"),
	happens(BrowserSlow, Clinician, Warning, foundCaller),
	happens(BrowserOtherPasskey, Clinician, Warning, foundCaller),
	happens(BrowserUnverified, Clinician, Warning, foundCaller),
	happens(BrowserSignedOut, Clinician, Warning, foundCaller),
	happens(EndWithdrawn, Clinician, Warning, foundEnd),
	happens(EndPasskeyRemoved, Clinician, Warning, foundEnd),
	happens(EndCutOff, Technician, Warning, foundEnd),
	holds(CaptureNoCamera, Technician, Serious, 30*time.Second, foundDevices, "cmd/vindu-agent TestDevices"),
	holds(CaptureCameraBusy, Technician, Serious, 0, foundMedia, "cmd/vindu-agent TestCodes"),
	holds(CaptureCameraFormat, Technician, Serious, 0, foundMedia, "cmd/vindu-agent TestCodes"),
	holds(CaptureCameraGone, Technician, Serious, 0, foundMedia, "cmd/vindu-agent TestCodes"),
	holds(CaptureCameraStuck, Technician, Serious, 0, foundMedia, "cmd/vindu-agent TestCodes"),
	holds(CaptureNoMicrophone, Technician, Serious, 30*time.Second, foundDevices, "cmd/vindu-agent TestDevices"),
	holds(CaptureNoSpeaker, Technician, Serious, 30*time.Second, foundDevices, "cmd/vindu-agent TestDevices"),
	holds(CaptureNoVoice, Operator, Warning, time.Minute, foundVoice, "device/agent TestNoVoice", CaptureNoSpeaker),
	holds(CaptureSoundBusy, Technician, Serious, 0, foundMedia, "cmd/vindu-agent TestCodes"),
	holds(CaptureSoundGone, Technician, Serious, 0, foundMedia, "cmd/vindu-agent TestCodes"),
	holds(CaptureTestPicture, Nobody, Note, 0, foundDevices, "cmd/vindu-agent TestDevices"),
	holds(CaptureTestSound, Nobody, Note, 0, foundDevices, "cmd/vindu-agent TestDevices"),
	holds(ScreenNone, Technician, Serious, 0, foundDevices, "cmd/vindu-agent TestDevices"),
	happens(ScreenUnseen, Technician, Warning, foundCheck),
	happens(ICEFailed, Operator, Serious, foundMedia),
	happens(ICELost, Operator, Serious, foundMedia),
	happens(DTLSFailed, Operator, Serious, foundMedia),
	happens(DTLSWeak, Operator, Alarm, foundCalls),
	happens(ProofAnswer, Operator, Alarm, foundCaller),
	happens(ProofFingerprint, Operator, Alarm, foundCaller),
	happens(ProofEnd, Operator, Alarm, foundCaller),
	unproven("nothing raises it yet: it needs both halves of a call's record", happens(MediaNoPicture, Operator, Serious, foundCaller)),
	happens(MediaFailed, Operator, Serious, foundMedia),
	// A new connection after a break takes seconds, and is a normal event.
	holds(LinkUnreachable, Technician, Serious, 15*time.Second, foundLink, "device/link TestCauses", IPNone, IPNoCarrier, IPNoGateway, IPGatewaySilent, IPDNS, IPPortal, EgressIntercepted),
	holds(LinkRefused, Operator, Serious, 0, foundLink, "device/link TestCauses"),
	happens(LinkTooMany, Technician, Warning, foundSetup),
	happens(LinkClinicFailed, Operator, Serious, foundSetup),
	holds(IdentityPin, Technician, Serious, 0, foundLink, "device/link TestCauses", EgressIntercepted, IPPortal),
	holds(IdentityOtherClinic, Technician, Serious, 0, foundLink, "device/link TestCauses"),
	happens(IdentityVoucher, Technician, Warning, foundSetup),
	happens(IdentityVoucherOld, Technician, Warning, foundSetup),
	happens(IdentityVoucherUsed, Technician, Warning, foundSetup),
	happens(IdentityClone, Operator, Alarm, foundSetup),
	holds(IdentityNone, Technician, Serious, 0, foundKey, "device/link TestNotEnrolled"),
	holds(IdentityExpired, Operator, Serious, 0, foundKey, "device/identity TestExpired", TimeUnknown),
	holds(TimeOff, Operator, Warning, 0, foundClock, "device/clock TestCondition"),
	holds(StorageDamaged, Operator, Warning, 0, foundOutbox, "device/outbox TestDamagedDatabase"),
	holds(StorageFull, Technician, Serious, 0, foundOutbox, "device/outbox TestDiskFull"),
	happens(StorageUnreadable, Technician, Serious, "each use of the state folder (device/state)"),
	holds(PowerSafe, Operator, Serious, 0, "the terminal, at its start: it had ended five times in ten minutes (device/progress)", "device/agent TestSafe"),
	happens(PowerRestarted, Operator, Serious, "the terminal, at its start: a call had no end (device/call)"),
	unproven("the page calls with what there is, if it is nothing, too, and says what is missing", happens(BrowserNoCamera, Clinician, Warning, foundCaller)),
	happens(BrowserDenied, Clinician, Warning, foundCaller),
	happens(BrowserFailed, Clinician, Warning, foundCaller),
	holds(IdentityTPMGone, Technician, Serious, 0, foundKey, "device/agent TestKeyAway"),
	holds(IdentityTPMCleared, Technician, Serious, 0, foundKey, "device/agent TestKeyAway"),
	holds(IdentityTPMLocked, Operator, Serious, 0, foundKey, "device/identity/tpm TestLocked"),
	holds(IdentityTPMUnused, Technician, Warning, 0, foundKey, "device/identity/tpm TestUnused"),
	happens(IdentityTwice, Operator, Alarm, foundFleet),
	holds(IdentityReturned, Technician, Warning, 0, foundKey, "device/agent TestStartAnew"),
	holds(IdentityDamaged, Technician, Serious, 0, foundKey, "device/identity TestDamage"),
	happens(AuthTechnician, Technician, Warning, foundSetup),
	happens(AuthButton, Technician, Warning, foundSetup),
	happens(AuthWithdrawn, Technician, Warning, foundSetup),
	happens(AuthWithdrawnMany, Operator, Alarm, "the terminal, when it fetches its settings (device/identity)"),
	happens(AuthOrder, Operator, Alarm, "the terminal, when it is ordered out of use (device/agent)"),
	happens(AuthAck, Operator, Alarm, "the terminal, when what it has told is acknowledged (device/link, device/agent)"),
	happens(AuthOpening, Operator, Alarm, "the clinic, by the ledger of openings (clinic/ledger)"),
	holds(TimeUnknown, Technician, Serious, 30*time.Second, foundClock, "device/clock TestCondition", LinkUnreachable),
	holds(TimeZone, Operator, Serious, 0, "the policy's zone, looked up (device/policy)", "device/policy TestSigned"),
	happens(CaptureDark, Technician, Warning, foundCheck),
	happens(CaptureBright, Technician, Warning, foundCheck),
	happens(CaptureBlurred, Technician, Warning, foundCheck),
	happens(CaptureStill, Technician, Warning, foundCheck),
	holds(CaptureSilent, Technician, Warning, 0, foundSound, "device/rehearsal TestConditions"),
	holds(CaptureLoud, Technician, Warning, 0, foundSound, "device/rehearsal TestConditions"),
	holds(CaptureNoEcho, Technician, Warning, 0, foundSound, "device/rehearsal TestConditions", CaptureSilent), // a microphone that hears nothing does not hear the chirp
	holds(PanelMissing, Technician, Warning, 30*time.Second, foundDevices, "cmd/vindu-agent TestPanelAway"),
	probed(IPNone, Technician, Serious, 20*time.Second, "network", "an interface has a carrier, and none has an address (device/network)", IPNoCarrier, IPWiFiUnheard, IPWiFiRefused),
	probed(IPWeak, Technician, Warning, 5*time.Minute, "wifi", "the signal by the driver: below -75 dBm, until it is above -70 dBm"),
	happens(IPWired, Nobody, Note, foundCheck),
	happens(IPNoWiFi, Technician, Warning, foundNetwork),
	unproven("no test sets addresses on a terminal", happens(IPDHCPOnly, Technician, Warning, foundSetup)),
	probed(IPWiFiUnheard, Technician, Serious, time.Minute, "network", "the Wi-Fi that was set is not among those that are heard (device/network)"),
	probed(IPWiFiRefused, Technician, Serious, time.Minute, "network", "wpa_supplicant was turned away (device/network)"),
	happens(LinkCable, Technician, Warning, foundSetup),
	happens(LinkTerminalBusy, Technician, Warning, foundSetup),
	happens(CheckStopped, Technician, Warning, foundCheck),
	probed(EgressUDP, Operator, Warning, 0, "egress", "STUN over UDP to the clinic's relay (RFC 8489 §12) gets no answer, over TLS it does", LinkUnreachable, IPNone),
	probed(EgressRelay, Operator, Serious, 0, "egress", "the clinic's relay answers neither over UDP nor over TLS", LinkUnreachable, IPNone),
	probed(EgressNoUDP, Nobody, Note, 0, "egress", "no server that the clinic names is reached over UDP"),
	happens(QualityDelay, Technician, Warning, foundCheck),
	happens(QualityLoss, Technician, Warning, foundCheck),
	holds(QualityPaused, Technician, Warning, 0, foundMedia, "cmd/vindu-agent TestWeakLinePausesThePicture"),
	happens(MediaRobot, Operator, Serious, foundCheck),
	holds(MediaRehearsal, Operator, Serious, 0, foundRehears, "device/rehearsal TestConditions"),
	holds(ICENoRelayed, Operator, Warning, 0, foundRehears, "device/rehearsal TestConditions", EgressRelay, EgressRefused),

	// Found by the probes of package device/health.
	probed(PowerLow, Technician, Serious, 0, "power", "the board's sensor: in0_lcrit_alarm under /sys/class/hwmon"),
	probed(PowerCut, Operator, Warning, 0, "power", "another boot, and the program had not been stopped; it holds for an hour"),
	probed(PowerWatchdog, Operator, Serious, 0, "power", "bootstatus under /sys/class/watchdog; it holds for an hour"),
	probed(PowerCrashed, Operator, Serious, 0, "power", "a record of a crash under /sys/fs/pstore; it holds for an hour"),
	probed(PowerBootLoop, Technician, Serious, 0, "power", "five boots within half an hour"),
	probed(StorageLow, Operator, Warning, 0, "space", "less than 10 % or 64 MiB is free, until 15 % and 96 MiB are"),
	probed(StorageSlow, Operator, Warning, 0, "disk", "a small file takes more than 2 s to reach the disk, twice in a row", HeatThrottled, MemoryPressure),
	probed(StorageFailing, Technician, Serious, 0, "disk", "reading or writing the storage itself fails (EIO): a block of the state each minute past the cache, a small file each hour", StorageFull),
	probed(StorageReadOnly, Technician, Serious, 0, "disk", "the file system says that it is read-only, or a small file cannot be written to the state folder", StorageFull, StorageFailing),
	probed(StorageWorn, Operator, Warning, 0, "space", "the disk says that 90 % of its life is used: life_time (JEDEC JESD84-B51 §7.4.32)"),
	probed(StorageDropped, Operator, Warning, 0, "outbox", "the outbox was full and dropped something since a day", StorageFull),
	probed(TimeStale, Operator, Warning, 0, "time", "the clinic's time was not learnt for a day", LinkUnreachable),
	probed(HeatHot, Technician, Serious, time.Minute, "heat", "a zone of /sys/class/thermal is within 5 °C of its hot point, or above 80 °C if it names none, until 5 °C less"),
	probed(HeatThrottled, Technician, Warning, time.Minute, "heat", "a processor's cooling under /sys/class/thermal is at work", HeatHot),
	probed(MemoryLow, Operator, Serious, time.Minute, "memory", "less than 8 % of the memory is available, until 12 % is"),
	probed(MemoryPressure, Operator, Warning, 2*time.Minute, "memory", "something waited for memory in more than 20 % of the last minute (/proc/pressure/memory)", MemoryLow),
	probed(IPNoCarrier, Technician, Serious, 20*time.Second, "network", "no interface has a carrier"),
	probed(IPNoGateway, Technician, Serious, 20*time.Second, "network", "there is no route out (/proc/net/route, /proc/net/ipv6_route), and the clinic is out of reach", IPNone, IPNoCarrier),
	probed(IPGatewaySilent, Technician, Warning, time.Minute, "network", "the gateway does not answer ARP (/proc/net/arp), and the clinic is out of reach", IPNoCarrier),
	probed(IPDNS, Technician, Serious, 0, "names", "the clinic's name cannot be looked up", IPNone, IPNoCarrier, IPNoGateway, IPGatewaySilent),
	probed(IPPortal, Technician, Serious, 0, "portal", "somebody answers plain HTTP in the clinic's place; asked only while the clinic is out of reach", IPNone, IPNoCarrier, IPNoGateway, IPDNS),
	probed(IPv6Only, Nobody, Note, 0, "network", "there are IPv6 addresses and no IPv4 ones"),
	probed(IPRoams, Technician, Warning, 0, "wifi", "the access point changed more than 12 times within an hour", IPWeak),
	probed(EgressRefused, Operator, Serious, 0, "egress", "the relay answers, and allocates nothing (RFC 8656 §7)", EgressRelay),
	probed(EgressIntercepted, Operator, Alarm, 0, "tls", "another certificate than one of the pinned clinic's is shown for its name", IPPortal),
	probed(RenewalOverdue, Operator, Warning, 0, "tls", "the terminal's certificate ends within 5 days", LinkUnreachable, IdentityExpired),
	probed(ClinicExpires, Operator, Warning, 0, "tls", "the clinic's own certificate ends within 7 days"),
	probed(SignalSilent, Operator, Serious, 0, "link", "connected, and no message made the round trip through the broker to the clinic within 60 s", LinkUnreachable),
	probed(SignalSlow, Operator, Warning, 2*time.Minute, "link", "the round trip through the broker to the clinic takes more than 2 s", SignalSilent),
	holds(CheckHangs, Operator, Warning, 0, "a probe does not end within its time", "device/health TestProbeHangs"),
	holds(CheckFails, Operator, Warning, 0, "a probe cannot find out what it looks for", "device/health TestProbeFails", StorageFull, StorageReadOnly, StorageFailing),
	happens(Unknown, Operator, Warning, "nobody"),
})

// happens is an entry for what happens once.
func happens(code Code, who Who, severity Severity, found string) Failure {
	return Failure{Code: code, Who: who, Severity: severity, Found: found}
}

// holds is an entry for a condition that proof, a test of another package, raises and clears.
func holds(code Code, who Who, severity Severity, visible time.Duration, found, proof string, dependsOn ...Code) Failure {
	return Failure{Code: code, Who: who, Severity: severity, Lasts: true, Visible: visible, Found: found, Proof: proof, DependsOn: dependsOn}
}

// probed is an entry for a condition that a probe finds. The tests of package device/health raise and clear each of them.
func probed(code Code, who Who, severity Severity, visible time.Duration, probe, found string, dependsOn ...Code) Failure {
	return Failure{Code: code, Who: who, Severity: severity, Lasts: true, Visible: visible, Found: found, Probe: probe, DependsOn: dependsOn}
}

// notHere begins the Proof of an entry that no test raises, before why.
const notHere = "not here: "

// unproven is an entry that no test raises.
func unproven(why string, f Failure) Failure {
	f.Proof = notHere + why
	return f
}
