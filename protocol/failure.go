package protocol

import "regexp"

// Code names what happened as stage.cause, from the register below. Codes are stable: pages, logs, metrics and
// documents refer to them.
type Code string

// Stages, in the order in which a call depends on them.
var Stages = []string{
	"power", "storage", "time", "heat", "link", "ip", "egress", "identity", "signalling", "authorisation", "answer",
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

// Failure is an entry of the register: one plain sentence, and what the one who can act does next.
type Failure struct {
	Code     Code
	Who      Who
	Sentence string // English; the terminal's own languages are with its screen
	Next     string // empty if nothing has to be done
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
	AuthPolicy          Code = "authorisation.policy"
	AuthLedger          Code = "authorisation.ledger"
	AnswerNobody        Code = "answer.nobody"
	AnswerNoKey         Code = "answer.no_key"
	EndLapsed           Code = "end.authorisation_over"
	BrowserNoPasskey    Code = "browser.no_passkey"
	BrowserCancelled    Code = "browser.passkey_cancelled"
	BrowserClock        Code = "browser.clock_off"
	CaptureNoCamera     Code = "capture.no_camera"
	CaptureCameraBusy   Code = "capture.camera_busy"
	CaptureCameraFormat Code = "capture.camera_format"
	CaptureCameraGone   Code = "capture.camera_gone"
	CaptureCameraStuck  Code = "capture.camera_stuck"
	CaptureNoMicrophone Code = "capture.no_microphone"
	CaptureNoSpeaker    Code = "capture.no_speaker"
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
	AuthOrder           Code = "authorisation.order"
	AuthOpening         Code = "authorisation.opening"
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
	QualityDelay        Code = "quality.delay"
	QualityLoss         Code = "quality.loss"
	MediaRobot          Code = "media.test_call"
	Unknown             Code = "unknown.unknown"
)

// Register holds every code. It is data: what a person reads is the same on every page, screen and alert.
var Register = []Failure{
	{EndCallerHungUp, Nobody, "The caller hung up.", ""},
	{EndPatientHungUp, Nobody, "The call was ended at the terminal.", ""},
	{EndMaxDuration, Nobody, "The call reached its longest permitted duration.", "Ring again if more time is needed."},
	{EndPageClosed, Clinician, "The caller's page was closed or lost its connection to the clinic.", "Open the page and ring again."},
	{EndTerminalStopped, Operator, "The terminal's program was stopped during the call.", "Ring again when the terminal is back; if it stays away, restart it."},
	{EndOutOfUse, Nobody, "The clinic took the terminal out of use during the call.", "Telephone the home if the conversation was not over."},
	{AnswerDeclined, Nobody, "The person at the terminal said no.", "Try at another time, or telephone."},
	{AnswerBusy, Clinician, "The terminal is in another call.", "Try again when that call has ended."},
	{AnswerQuiet, Clinician, "The terminal is in its quiet hours.", "Try again after the quiet hours."},
	{AnswerShutter, Clinician, "The camera's shutter is closed at the terminal.", "Telephone and ask that it be opened."},
	{AnswerRefused, Operator, "The terminal's policy does not let this caller in.", "Ask an administrator to check the policy for this home."},
	{AnswerTimeout, Operator, "The terminal rang but did not answer in time.", "Look at the terminal's health before the next call."},
	{SignalOffline, Technician, "The terminal is not connected to the clinic.", "Check that it has power and network; see since when on its page."},
	{SignalLostClinic, Operator, "The connection to the clinic's server was lost during the call.", "Check the clinic's server and the network between."},
	{SignalLostTerminal, Operator, "The terminal stopped responding during the call.", "See on its page whether it has come back; if not, check its power and network."},
	{SignalMalformed, Operator, "A message was refused because it was malformed.", "Check that terminal and clinic run matching versions."},
	{SignalNoReply, Operator, "The terminal did not reply to the call.", "Look at the terminal's health; restart it if this persists."},
	{SignalBroker, Operator, "The clinic's server cannot reach its message broker.", "Look at the server's log; the terminals themselves may be well."},
	{AuthUnproven, Operator, "The terminal refused a call whose proof did not verify.", "Treat this as a security event: find out who made the call."},
	{AuthOtherTerminal, Operator, "The terminal refused a call meant for another terminal.", "Treat this as a security event: find out who made the call."},
	{AuthExpired, Operator, "The terminal refused a call outside its time of validity.", "Compare the clocks of the clinic and the terminal."},
	{AuthReplayed, Operator, "The terminal refused a call that it had seen before.", "Treat this as a security event: somebody repeats recorded calls."},
	{AuthFingerprint, Operator, "The terminal refused a call whose keys were exchanged on the way.", "Treat this as a security event: somebody may be in the middle."},
	{AuthRevoked, Operator, "The right to make this call was withdrawn.", "Ask an administrator."},
	{AuthNone, Clinician, "You are not authorised to call this home, or your authorisation is over.", "Ask the clinic's administrator."},
	{AuthScope, Operator, "The terminal refused a caller who is not authorised for this home.", "Ask an administrator whether the caller should be; if not, treat this as a security event."},
	{AuthLapsed, Operator, "The terminal refused a caller whose authorisation is not valid at this time.", "Ask an administrator to renew it; compare the clocks of the clinic and the terminal."},
	{AuthIssuer, Operator, "The terminal refused an authorisation that its clinic has not signed.", "Treat this as a security event: find out who made it."},
	{AuthPasskey, Operator, "The terminal refused a call whose passkey does not prove it.", "Treat this as a security event: find out who made the call."},
	{AuthOrigin, Operator, "The terminal refused a call whose passkey was used on another site.", "Treat this as a security event: somebody may imitate the clinic's pages."},
	{AuthUnverified, Clinician, "The terminal refused a call whose passkey was used without PIN, finger or face.", "Use a passkey that asks for one of these."},
	{AuthCounter, Operator, "A passkey was refused that may be a copy.", "Treat this as a security event: have the person's passkeys replaced."},
	{AuthRoster, Operator, "The terminal refused a call whose list of participants is not that of the proven persons.", "Treat this as a security event: find out who made the call."},
	{AuthTrust, Operator, "The terminal refused new keys of the clinic that the keys it knows have not signed.", "Treat this as a security event, unless the clinic's keys were changed just now: then sign the change with the key before."},
	{AuthPolicy, Operator, "The terminal refused a policy that is older than its own, or that its clinic has not signed for it.", "Treat this as a security event, unless the clinic's server was restored from a backup: then issue the policy anew."},
	{AuthLedger, Operator, "The terminal's record of when its camera and microphone were open has a gap, or was changed.", "Treat this as a security event, unless the terminal's storage was replaced or rebuilt just now."},
	{AnswerNobody, Nobody, "Nobody at the terminal took the call.", "Try at another time, or telephone."},
	{AnswerNoKey, Technician, "The home's policy asks the person at the terminal, and the terminal has no key to take calls by.", "Connect one and name it in the terminal's configuration, or have an administrator change the policy."},
	{EndLapsed, Clinician, "The caller's authorisation ended during the call.", "Ask the clinic's administrator to renew it and ring again."},
	{BrowserNoPasskey, Clinician, "This browser or computer cannot use passkeys.", "Use a current browser, and a computer with a PIN, fingerprint or security key."},
	{BrowserCancelled, Clinician, "The call was not confirmed with a passkey; nobody was called.", "Press Ring again and confirm with your passkey."},
	{BrowserClock, Clinician, "The passkey was used too late: the call's proof had run out.", "Ring again and confirm within a minute."},
	{CaptureNoCamera, Technician, "The terminal has no camera; sound goes on.", "Connect the camera; it is used as soon as it appears."},
	{CaptureCameraBusy, Technician, "Another program on the terminal holds the camera; sound goes on.", "Restart the terminal; nothing else should use its camera."},
	{CaptureCameraFormat, Technician, "The terminal's camera offers no picture format that can be used; sound goes on.", "Replace the camera by one that offers YUYV, NV12, I420 or MJPEG."},
	{CaptureCameraGone, Technician, "The terminal's camera was unplugged; sound goes on.", "Connect the camera; the picture returns by itself."},
	{CaptureCameraStuck, Technician, "The terminal's camera stopped delivering pictures; sound goes on.", "Unplug the camera and connect it again."},
	{CaptureNoMicrophone, Technician, "The terminal has no microphone.", "Connect a microphone; it is used from the next call."},
	{CaptureNoSpeaker, Technician, "The terminal has no loudspeaker.", "Connect a loudspeaker; it is used from the next call."},
	{CaptureSoundBusy, Technician, "Another program on the terminal holds the sound device.", "Restart the terminal; nothing else should use its sound."},
	{CaptureSoundGone, Technician, "The terminal's sound device was unplugged.", "Connect it again; it is used from the next call."},
	{CaptureTestPicture, Nobody, "The terminal uses no camera: its picture is a moving test picture.", ""},
	{CaptureTestSound, Nobody, "The terminal uses no microphone: its sound is generated.", ""},
	{ScreenNone, Technician, "The terminal has no screen.", "Connect a screen and restart the terminal."},
	{ScreenUnseen, Technician, "Nobody was asked whether the code on the terminal's screen can be read.", "Check again with somebody at the terminal who compares it."},
	{ICEFailed, Operator, "No path for picture and sound was found between the caller and the terminal.", "Check that UDP, or the relay on port 443, is open on both sides."},
	{ICELost, Operator, "The path for picture and sound was lost.", "Check the network at both ends and ring again."},
	{DTLSFailed, Operator, "The encryption of picture and sound could not be set up.", "Check that nothing between the ends alters the traffic, and that versions match."},
	{DTLSWeak, Operator, "A call's picture and sound were not encrypted as they have to be.", "Treat this as a security event: keep the call's record, and find out which of its ends is not what it should be."},
	{ProofAnswer, Operator, "The answer did not come from the terminal of this home; nothing was shown or sent.", "Treat this as a security event: find out what answered."},
	{ProofFingerprint, Operator, "The answer's keys were exchanged on the way; nothing was shown or sent.", "Treat this as a security event: somebody may be in the middle."},
	{MediaNoPicture, Operator, "Connected, but no picture arrived.", "Look at the camera's condition on the terminal's page."},
	{MediaFailed, Operator, "Picture or sound could not be processed.", "Look at the log of the terminal with this call's number."},
	{LinkUnreachable, Technician, "The terminal cannot reach the clinic.", "Check the network at the terminal and that the clinic's server runs."},
	{LinkRefused, Operator, "The clinic refused the terminal's connection.", "Check in the register whether the terminal was revoked."},
	{LinkTooMany, Technician, "The clinic's server had too many requests from this address.", "Wait a minute before the next attempt."},
	{LinkClinicFailed, Operator, "The clinic's server could not do what the terminal asked.", "Look at the server's log."},
	{IdentityPin, Technician, "The server is not the clinic that the voucher names.", "Check the clinic's address and get a new voucher."},
	{IdentityOtherClinic, Technician, "The certificate belongs to another clinic.", "Set the terminal up anew with a voucher of this clinic."},
	{IdentityVoucher, Technician, "The voucher is not known to the clinic.", "Get a new voucher and copy all of it."},
	{IdentityVoucherOld, Technician, "The voucher has expired.", "Get a new voucher."},
	{IdentityVoucherUsed, Technician, "The voucher was used before.", "Get a new voucher; if you did not use it, tell the clinic's operator."},
	{IdentityClone, Operator, "The terminal's key was seen before: this may be a copy of another terminal.", "Find out where the terminal comes from before it is set up again."},
	{IdentityNone, Technician, "The terminal has not been set up.", "Set it up with a voucher from the clinic."},
	{IdentityExpired, Operator, "The terminal's certificate has expired; it renews it as soon as it reaches the clinic.", "Check that the terminal reaches the clinic."},
	{TimeOff, Operator, "The terminal's own clock is far off.", "Nothing has to be done for calls: the terminal goes by the clinic's time. Replace its clock's battery if it has one."},
	{StorageDamaged, Operator, "The terminal's database was damaged; it was set aside and made anew. The identity is unharmed.", "Replace the storage if this happens again."},
	{StorageFull, Technician, "The terminal's storage is full.", "Free space on the terminal or replace its storage."},
	{StorageUnreadable, Technician, "The terminal's state folder cannot be read or written.", "Check that the folder exists and belongs to the agent's user."},
	{PowerRestarted, Operator, "The terminal restarted during a call.", "Check its power supply if this happens again."},
	{BrowserNoCamera, Clinician, "This computer has no camera or microphone that the browser can use.", "Connect one, or allow its use, and ring again."},
	{BrowserDenied, Clinician, "The browser was not allowed to use camera and microphone.", "Allow it beside the address and ring again."},
	{BrowserFailed, Clinician, "The browser could not make the call.", "Reload the page and ring again; use a current browser if this persists."},
	{IdentityTPMGone, Technician, "The terminal's security chip does not answer; its key is in it.", "Restart the terminal; if this stays, run vindu-provision reset, or replace the terminal."},
	{IdentityTPMCleared, Technician, "The terminal's security chip was cleared: its key is lost.", "Find out who cleared it, then run vindu-provision reset, or hold the terminal's button for three seconds, and set it up anew with a new voucher."},
	{IdentityTPMLocked, Operator, "The terminal's security chip is locked after too many wrong attempts.", "Wait until it opens again by itself; find out who tried."},
	{IdentityTPMUnused, Technician, "The terminal has a security chip, but its key is in a file: the chip did not work when the key was made.", "If the chip works, run vindu-provision reset and set the terminal up anew with a new voucher; if this stays, replace the terminal."},
	{IdentityTwice, Operator, "Two terminals are connected with the same identity: one of them is a copy.", "Revoke the terminal, find both, and set one up anew."},
	{IdentityReturned, Technician, "The terminal was taken out of use: its keys and state are destroyed.", "Return it to the clinic."},
	{IdentityDamaged, Technician, "The terminal's key or enrolment is damaged, or belongs to another device.", "Put the storage back into its own terminal if it was moved; otherwise run vindu-provision reset, then set the terminal up anew with a new voucher."},
	{AuthTechnician, Technician, "The authorisation for this laptop is missing, expired or of another clinic.", "Get a new authorisation from the clinic's page."},
	{AuthWithdrawn, Technician, "The clinic has withdrawn the authorisation for this laptop.", "Get a new authorisation from the clinic's page, if you are to go on."},
	{AuthButton, Technician, "Nobody pressed the terminal's button in time.", "Start again and press the button when the screen asks for it."},
	{AuthOrder, Operator, "The terminal refused an order whose signature or time does not hold.", "Treat this as a security event: find out who gave the order."},
	{AuthOpening, Operator, "The terminal opened its camera or microphone for nobody that the clinic knows.", "Treat this as a security event: somebody may have the clinic's keys. Cut the terminal off and find out who it was."},
	{TimeUnknown, Technician, "The terminal has not learnt the time yet.", "Check that it reaches the clinic, which tells it."},
	{TimeZone, Operator, "The terminal does not know the time zone of its policy; it answers nobody.", "Have an administrator correct the policy, or update the terminal."},
	{CaptureDark, Technician, "The camera's picture is too dark.", "Open the shutter, turn on a light, or move the terminal."},
	{CaptureBright, Technician, "The camera's picture is too bright.", "Turn the terminal away from the window or lamp."},
	{CaptureBlurred, Technician, "The camera's picture is not sharp.", "Clean the lens and remove its protective film."},
	{CaptureStill, Technician, "The camera's picture does not move.", "Move in front of the camera; if it stays still, replace it."},
	{CaptureSilent, Technician, "The microphone hears nothing.", "Check that it is not covered or muted; replace it if this stays."},
	{CaptureLoud, Technician, "The microphone is overdriven or the room is loud.", "Lower its gain or the noise around it."},
	{CaptureNoEcho, Technician, "The microphone does not hear the loudspeaker.", "Turn the volume up and check both; the room may be loud."},
	{PanelMissing, Technician, "The terminal has no panel with lamp, buttons and shutter.", "Connect the panel if this terminal should have one."},
	{IPNone, Technician, "The terminal has no network address.", "Check the cable or the Wi-Fi's name and password."},
	{IPWeak, Technician, "The Wi-Fi is too weak where the terminal stands.", "Move the terminal or the access point, or use a cable."},
	{IPWired, Nobody, "The terminal is connected by cable.", ""},
	{IPNoWiFi, Technician, "The terminal has no Wi-Fi, or it cannot be used.", "Use a network cable, or connect a Wi-Fi adapter and try again."},
	{IPDHCPOnly, Technician, "This terminal gets its addresses by DHCP only.", "Ask the network's owner to reserve an address for it by DHCP."},
	{IPWiFiUnheard, Technician, "The terminal does not hear a Wi-Fi of this name.", "Compare the name letter by letter, or move the terminal or the access point."},
	{IPWiFiRefused, Technician, "The Wi-Fi did not let the terminal in.", "Check the password and how the Wi-Fi is secured."},
	{LinkCable, Technician, "The terminal does not answer over the cable.", "Check the cable and that the terminal is on, then start again: it goes on where it stopped."},
	{LinkTerminalBusy, Technician, "The terminal is still busy with something else.", "Wait a moment and try again."},
	{CheckStopped, Technician, "The check was stopped before its end; camera and microphone are closed.", "Start it again when you are ready."},
	{EgressUDP, Operator, "The network lets no UDP out; calls go over TLS on port 443, with more delay.", "Ask the network's owner to open UDP to the clinic."},
	{EgressRelay, Operator, "The terminal cannot reach the clinic's relay.", "Check that port 443 to the clinic is open and the relay runs."},
	{EgressNoUDP, Nobody, "The clinic's relay is not offered over UDP; what is relayed goes over TLS.", ""},
	{QualityDelay, Technician, "The way to the clinic is too slow for a conversation.", "Use a cable, or another network."},
	{QualityLoss, Technician, "Too many packets get lost on the way to the clinic.", "Use a cable, move the terminal, or use another network."},
	{MediaRobot, Operator, "The test call to the clinic failed.", "Look at the test call's record."},
	{Unknown, Operator, "It failed, and the cause is not known.", "Send the supplier the time, and the call's number if it was a call."},
}

var byCode = func() map[Code]Failure {
	m := make(map[Code]Failure, len(Register))
	for _, f := range Register {
		m[f.Code] = f
	}
	return m
}()

// Explain returns the register's entry for c; an unknown code gets the entry of Unknown with c kept.
func Explain(c Code) Failure {
	if f, ok := byCode[c]; ok {
		return f
	}
	f := byCode[Unknown]
	f.Code = c
	return f
}

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
