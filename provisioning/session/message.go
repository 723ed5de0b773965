package session

import "vindu/protocol"

// Requests, by name.
const (
	opInfo         = "info"
	opPress        = "press"
	opSetNetwork   = "network.set"
	opNetwork      = "network.get"
	opScan         = "network.scan"
	opLanguage     = "language.set"
	opEnrol        = "enrol"
	opEnrolStatus  = "enrol.status"
	opCSR          = "csr"
	opInstall      = "certificate.install"
	opCheck        = "check.start"
	opCheckStatus  = "check.status"
	opHandOver     = "handover.sign"
	opHandOverDone = "handover.finish"
)

type pressRequest struct {
	Begin bool `cbor:"1,keyasint"` // ask anew; otherwise only say how it is
}

type pressStatus struct {
	Pressed bool `cbor:"1,keyasint"` // or not needed
}

type scanReply struct {
	Found []AccessPoint `cbor:"1,keyasint"`
}

type languageRequest struct {
	Tag string `cbor:"1,keyasint"`
}

type enrolRequest struct {
	Voucher protocol.Secret `cbor:"1,keyasint"` // as text
}

type csrReply struct {
	CSR []byte `cbor:"1,keyasint"`
}
