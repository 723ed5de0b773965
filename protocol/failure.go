package protocol

import (
	"regexp"
	"time"
)

// Code names what happened as stage.cause, from the register below. Codes are stable: pages, logs, metrics and
// documents refer to them.
type Code string

// Stages, in the order in which a call depends on them.
var Stages = []string{
	"power", "storage", "time", "heat", "memory", "link", "ip", "egress", "identity", "signalling", "authorisation", "answer",
	"capture", "ice", "dtls", "proof", "media", "quality", "browser", "end", "unknown",
}

// Who can act on a condition.
type Who string

const (
	Nobody     Who = "nobody" // it is as it should be
	Clinician  Who = "clinician"
	Technician Who = "technician"
	Operator   Who = "operator"
	Patient    Who = "patient"
)

// Severity says how bad a condition is for calls.
type Severity string

const (
	Note    Severity = "note"    // it is as it should be; nobody has to act
	Warning Severity = "warning" // calls work; or one did not, and the next may
	Serious Severity = "serious" // calls fail or suffer until somebody acts
	Alarm   Severity = "alarm"   // a security event, or what looks like one
)

// Failure is an entry of the register. Some entries name what happens, such as how a call ended; others a condition that holds from its beginning to its
// end. Its texts are English; In says them in other languages.
type Failure struct {
	Code     Code
	Who      Who
	Severity Severity
	Lasts    bool // it is a condition that begins and ends
	// DependsOn are conditions while one of which holds this one is not worth a word: it follows, or is not to be known. See Showing.
	DependsOn []Code
	Visible   time.Duration // for so long it holds before anybody is told: what passes by itself is no news
	Found     string        // how it is detected
	Probe     string        // the probe of package device/health that finds it, or ""
	Proof     string        // the package and test in which it is raised and cleared, where it is not a probe's; or that it is not, and why
	Text
}

// Text is what people read about an entry, in one language.
type Text struct {
	Title    string // a few words
	Sentence string // one plain sentence
	Next     string // what the one who can act does next; empty if nothing has to be done
	Screen   string // what the terminal's own screen says, small, for a helper
}

// The codes that code refers to.
const (
	EndCallerHungUp     Code = "end.caller_hung_up"
	EndPatientHungUp    Code = "end.patient_hung_up"
	EndMaxDuration      Code = "end.max_duration"
	EndPageClosed       Code = "end.page_closed"
	EndTerminalStopped  Code = "end.terminal_stopped"
	EndOutOfUse         Code = "end.out_of_use"
	AnswerDeclined      Code = "answer.declined"
	AnswerBusy          Code = "answer.busy"
	AnswerQuiet         Code = "answer.quiet_hours"
	AnswerShutter       Code = "answer.shutter_closed"
	AnswerRefused       Code = "answer.refused"
	AnswerTimeout       Code = "answer.timeout"
	SignalOffline       Code = "signalling.terminal_offline"
	SignalLostClinic    Code = "signalling.clinic_lost"
	SignalLostTerminal  Code = "signalling.terminal_lost"
	SignalMalformed     Code = "signalling.malformed"
	SignalNoReply       Code = "signalling.no_reply"
	SignalBroker        Code = "signalling.broker_unreachable"
	AuthUnproven        Code = "authorisation.not_proven"
	AuthOtherTerminal   Code = "authorisation.other_terminal"
	AuthExpired         Code = "authorisation.expired"
	AuthReplayed        Code = "authorisation.replayed"
	AuthFingerprint     Code = "authorisation.fingerprint"
	AuthRevoked         Code = "authorisation.revoked"
	AuthNone            Code = "authorisation.none"
	AuthScope           Code = "authorisation.scope"
	AuthLapsed          Code = "authorisation.lapsed"
	AuthIssuer          Code = "authorisation.issuer"
	AuthPasskey         Code = "authorisation.passkey"
	AuthOrigin          Code = "authorisation.origin"
	AuthUnverified      Code = "authorisation.user_not_verified"
	AuthCounter         Code = "authorisation.passkey_copied"
	AuthRoster          Code = "authorisation.roster"
	AuthTrust           Code = "authorisation.trust"
	AuthRelay           Code = "authorisation.relay"
	AuthPolicy          Code = "authorisation.policy"
	AuthLedger          Code = "authorisation.ledger"
	AnswerNobody        Code = "answer.nobody"
	AnswerNoKey         Code = "answer.no_key"
	EndLapsed           Code = "end.authorisation_over"
	BrowserNoPasskey    Code = "browser.no_passkey"
	BrowserCancelled    Code = "browser.passkey_cancelled"
	BrowserClock        Code = "browser.clock_off"
	BrowserSlow         Code = "browser.confirmed_late"
	BrowserOtherPasskey Code = "browser.no_such_passkey"
	BrowserUnverified   Code = "browser.passkey_unverified"
	BrowserSignedOut    Code = "browser.signed_out"
	EndWithdrawn        Code = "end.right_withdrawn"
	EndPasskeyRemoved   Code = "end.passkey_removed"
	EndCutOff           Code = "end.terminal_cut_off"
	CaptureNoCamera     Code = "capture.no_camera"
	CaptureCameraBusy   Code = "capture.camera_busy"
	CaptureCameraFormat Code = "capture.camera_format"
	CaptureCameraGone   Code = "capture.camera_gone"
	CaptureCameraStuck  Code = "capture.camera_stuck"
	CaptureNoMicrophone Code = "capture.no_microphone"
	CaptureNoSpeaker    Code = "capture.no_speaker"
	CaptureNoVoice      Code = "capture.no_voice"
	CaptureSoundBusy    Code = "capture.sound_busy"
	CaptureSoundGone    Code = "capture.sound_gone"
	CaptureTestPicture  Code = "capture.test_picture"
	CaptureTestSound    Code = "capture.test_sound"
	ScreenNone          Code = "capture.no_screen"
	ScreenUnseen        Code = "capture.screen_not_compared"
	ICEFailed           Code = "ice.failed"
	ICELost             Code = "ice.lost"
	DTLSFailed          Code = "dtls.failed"
	DTLSWeak            Code = "dtls.not_as_agreed"
	ProofAnswer         Code = "proof.answer"
	ProofFingerprint    Code = "proof.fingerprint"
	ProofEnd            Code = "proof.end"
	MediaNoPicture      Code = "media.no_picture"
	MediaFailed         Code = "media.failed"
	LinkUnreachable     Code = "link.clinic_unreachable"
	LinkRefused         Code = "link.refused"
	LinkTooMany         Code = "link.too_many_requests"
	LinkClinicFailed    Code = "link.clinic_failed"
	IdentityPin         Code = "identity.ca_mismatch"
	IdentityOtherClinic Code = "identity.other_clinic"
	IdentityVoucher     Code = "identity.voucher_wrong"
	IdentityVoucherOld  Code = "identity.voucher_expired"
	IdentityVoucherUsed Code = "identity.voucher_used"
	IdentityClone       Code = "identity.key_seen_before"
	IdentityNone        Code = "identity.not_enrolled"
	IdentityExpired     Code = "identity.certificate_expired"
	TimeOff             Code = "time.clock_off"
	StorageDamaged      Code = "storage.rebuilt"
	StorageFull         Code = "storage.full"
	StorageUnreadable   Code = "storage.unreadable"
	PowerRestarted      Code = "power.restarted_in_call"
	PowerSafe           Code = "power.safe_mode"
	BrowserNoCamera     Code = "browser.no_camera"
	BrowserDenied       Code = "browser.permission_denied"
	BrowserFailed       Code = "browser.failed"
	IdentityTPMGone     Code = "identity.tpm_gone"
	IdentityTPMCleared  Code = "identity.tpm_cleared"
	IdentityTPMLocked   Code = "identity.tpm_locked"
	IdentityTPMUnused   Code = "identity.tpm_unused"
	IdentityTwice       Code = "identity.two_connections"
	IdentityReturned    Code = "identity.decommissioned"
	IdentityDamaged     Code = "identity.damaged"
	AuthTechnician      Code = "authorisation.technician"
	AuthButton          Code = "authorisation.button"
	AuthWithdrawn       Code = "authorisation.withdrawn"
	AuthWithdrawnMany   Code = "authorisation.withdrawn_many"
	AuthOrder           Code = "authorisation.order"
	AuthOpening         Code = "authorisation.opening"
	AuthAck             Code = "authorisation.acknowledgement"
	TimeUnknown         Code = "time.unknown"
	TimeZone            Code = "time.zone_unknown"
	CaptureDark         Code = "capture.dark"
	CaptureBright       Code = "capture.bright"
	CaptureBlurred      Code = "capture.blurred"
	CaptureStill        Code = "capture.still"
	CaptureSilent       Code = "capture.silent"
	CaptureLoud         Code = "capture.loud"
	CaptureNoEcho       Code = "capture.loudspeaker_unheard"
	PanelMissing        Code = "capture.no_panel"
	IPNone              Code = "ip.no_address"
	IPWeak              Code = "ip.weak_wifi"
	IPWired             Code = "ip.wired"
	IPNoWiFi            Code = "ip.no_wifi"
	IPDHCPOnly          Code = "ip.dhcp_only"
	IPWiFiUnheard       Code = "ip.wifi_not_found"
	IPWiFiRefused       Code = "ip.wifi_refused"
	LinkCable           Code = "link.cable"
	LinkTerminalBusy    Code = "link.terminal_busy"
	CheckStopped        Code = "link.check_stopped"
	EgressUDP           Code = "egress.udp_blocked"
	EgressRelay         Code = "egress.relay_unreachable"
	EgressNoUDP         Code = "egress.no_udp_offered"
	PowerLow            Code = "power.undervoltage"
	PowerCut            Code = "power.cut"
	PowerWatchdog       Code = "power.watchdog"
	PowerCrashed        Code = "power.crashed"
	PowerBootLoop       Code = "power.boot_loop"
	StorageLow          Code = "storage.low"
	StorageSlow         Code = "storage.slow"
	StorageReadOnly     Code = "storage.read_only"
	StorageFailing      Code = "storage.failing"
	StorageWorn         Code = "storage.worn"
	StorageDropped      Code = "storage.dropped"
	TimeStale           Code = "time.stale"
	HeatHot             Code = "heat.hot"
	HeatThrottled       Code = "heat.throttled"
	MemoryLow           Code = "memory.low"
	MemoryPressure      Code = "memory.pressure"
	IPNoCarrier         Code = "ip.no_carrier"
	IPNoGateway         Code = "ip.no_gateway"
	IPGatewaySilent     Code = "ip.gateway_silent"
	IPDNS               Code = "ip.dns"
	IPPortal            Code = "ip.captive_portal"
	IPv6Only            Code = "ip.version_six_only"
	IPRoams             Code = "ip.wifi_roams"
	EgressRefused       Code = "egress.relay_refused"
	EgressIntercepted   Code = "egress.intercepted"
	RenewalOverdue      Code = "identity.renewal_overdue"
	ClinicExpires       Code = "link.clinic_certificate_ends"
	SignalSilent        Code = "signalling.clinic_silent"
	SignalSlow          Code = "signalling.slow"
	CheckHangs          Code = "unknown.check_hangs"
	CheckFails          Code = "unknown.check_fails"
	QualityDelay        Code = "quality.delay"
	QualityLoss         Code = "quality.loss"
	QualityPaused       Code = "quality.picture_paused"
	MediaRobot          Code = "media.test_call"
	MediaRehearsal      Code = "media.rehearsal"
	ICENoRelayed        Code = "ice.no_relayed_path"
	Unknown             Code = "unknown.unknown"
)

// Outcome returns the code that a decision other than Ringing and Answered ends a call with.
func (d Decision) Outcome() Code {
	switch d {
	case Declined:
		return AnswerDeclined
	case Busy:
		return AnswerBusy
	case Quiet:
		return AnswerQuiet
	case Shutter:
		return AnswerShutter
	case Refused:
		return AnswerRefused
	case Ringing, Answered:
	}
	return Unknown
}

var codePattern = regexp.MustCompile(`^[a-z]{1,20}\.[a-z_]{1,40}$`)

// valid accepts codes that this version does not know, so that a newer peer can be understood, but nothing that is not a code.
func (c Code) valid() error {
	if !codePattern.MatchString(string(c)) {
		return malformed("code is not stage.cause")
	}
	return nil
}
