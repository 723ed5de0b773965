// Package calls sets calls up between a clinician's browser and a home's terminal, and keeps a record of every attempt.
//
// It carries what the two ends prove to each other and can itself only drop a call: the invitation is signed by the
// clinic's authorisation key on behalf of the signed-in clinician, the answer by the terminal, and each end verifies the other.
//
// # A call at the clinic
//
//	Start ──terminal offline, unknown or revoked──────────────────────────────► ended (record)
//	  │ invite sent
//	calling ──signed answer: ringing──► ringing ──signed answer: answered──► talking ──► ended (record)
//	  │ no reply in 5 s, refusal            │ declined, busy, quiet, shutter      │ hang-up by either side,
//	  └───────────────────────────────────┴─────────────────────────────────────┘ terminal or page lost, revoked
//
// A terminal that is gone for longer than 5 s ends its call with signalling.terminal_lost; a page whose event stream is
// gone for longer than 6 s ends its call at the terminal with end.page_closed. A page names its calls itself: it can end one of which
// it never heard, because the reply was lost, also before its request has arrived.
//
// # Records
//
// A row is committed before the terminal is asked, so that no attempt goes without a record (R15), not even one that the
// clinic's server does not survive: such rows are closed with signalling.clinic_lost when the records are next opened.
// The terminal's half comes through its outbox, the browser's half from its page; Records joins them by call id.
package calls
