package register

import "strings"

// Duty is what a person does here, and so which pages are the person's: a person has exactly one.
type Duty string

const (
	Clinician  Duty = "clinician"  // rings homes
	Technician Duty = "technician" // sets terminals up
	Operator   Duty = "operator"   // sees to terminals and alarms
)

// Duty follows from the role, which patients see: "technician" and "operator" are duties, whatever else one is called is a clinician.
func (p Person) Duty() Duty {
	switch Duty(strings.ToLower(p.Party.Role)) {
	case Technician:
		return Technician
	case Operator:
		return Operator
	}
	return Clinician
}
