// Package web is what a clinic's people see: server-rendered pages, and small TypeScript modules that make a call from the
// browser. Nothing is installed there.
//
//	GET  /                     the homes that this person may call, the panel of a call, this person's recent calls
//	GET  /calls/{id}           the record of one call: what was proven, both halves joined
//	/technician…, /operator…   vouchers and authorisations of laptops; alarms, terminals and their history
//	/administrator…            persons, passkeys, who may ring which homes, rules for calls, what waits to be signed
//	GET  /enter/{token}        signs in by a link that works once; POST /leave signs out; POST /language {language} has this browser be answered in another
//	GET  /sign-in/with, /back  to the identity provider, if there is one, and back
//	GET  /events               server-sent events: rights, homes, recent calls, updates of this page's calls
//	POST /api/homes/{id}/…     announcement, rehearsal; POST /api/calls {call, home, terminal, page, offer, relay_only} → {call, invitation}
//	POST /api/calls/{id}/…     candidates, restart, curtain, present, hang-up, record (the browser's half); GET /api/ice, /api/session
//
// A person has one duty (register.Duty) and sees its pages alone.
//
// A refusal carries protocol.FailureHeader and, in the body, the register's sentence and what to do next.
//
// # What is kept safe
//
// The browser, not this server, verifies that an answer comes from the home's terminal (ts/proof.ts); until then no
// track is attached to its connection. Pages run under a Content-Security-Policy without inline script, eval or foreign
// origins and with Trusted Types. Other sites' requests are refused (http.CrossOriginProtection), foreign names of the host too.
// Sessions and links are random; the database holds their hashes alone. Plain HTTP is served to loopback only.
//
// assets/page.js is made from ts/ by TestPageScript -update and committed, so that what browsers run can be read and compared.
package web
