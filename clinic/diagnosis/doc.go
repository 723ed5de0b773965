// Package diagnosis says of a call attempt, in one sentence, what happened, where, who acts, and how sure that is.
//
// It is a pure function: Evidence in, Diagnosis out. Evidence is what the clinic saw itself, the two halves of the call's record (either may
// never have come), and the conditions that held of the terminal meanwhile. Facts makes plain words of it, such as "outcome=ice.failed",
// "held=egress.udp_blocked" or "caller.heard=nothing"; Rules is a table whose first rule that fits gives the sentence: every word of If is a fact, and none
// of Unless is. What no rule has more to say about gets the sentence of protocol.Register.
//
// # How sure
//
//   - Certain: an end measured the cause itself, or decided it. Nothing else explains what was seen.
//   - Likely: what was seen fits this cause, and what would contradict it is absent.
//   - Unsure: something is missing, such as an end's half; the sentence says what is known and no more.
//
// A browser's half is what a page says of itself. It decides nothing but this sentence, and what bears on proof comes before all else: a half cannot
// talk an alarm away (see calls.Record). No rule names an address, a person or a home. All sentences, each with a case that leads to it, are in
// docs/diagnosis.md, which the package's test makes.
package diagnosis
