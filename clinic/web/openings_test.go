package web

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"vindu/clinic/web/webtest"
	"vindu/protocol"
)

// Operators see each opening of a home's camera and microphone and for whom it was, hear of one that was for nobody, and callers are warned.
func TestOpeningsPage(t *testing.T) {
	d := newDesk(t)
	v, err := d.setup.Voucher(t.Context(), "administrator", "Home 17, Storgata", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	_, terminal, err := d.enrol(string(v.Text))
	if err != nil {
		t.Fatal(err)
	}
	d.fleet.Set(online(terminal))
	person := protocol.Party{Name: "Kari Nes", Role: "technician", Organisation: "Solvik clinic"}
	spki, _ := webtest.Public(webtest.NewKey())
	_, mandate, err := d.setup.IssueMandate(t.Context(), "test", person, spki, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	opening := func(open bool, o protocol.Opening) {
		o.Version, o.Open, o.At = 1, open, protocol.At(time.Now())
		d.commit(terminal, protocol.EventOpening, &o)
	}
	check := protocol.Opening{Device: "camera", Reason: protocol.OpeningCheck, Mandate: mandate.ID[:]}
	opening(true, check)
	opening(false, check)
	nurse, operator := d.signedIn("nurse"), d.signedIn("operator")
	const warned, sentence = "Somebody may have tried to misuse", "opened its camera or microphone for nobody that the clinic knows"
	if _, page := d.get(nurse, "/"); strings.Contains(page, warned) {
		t.Error("callers are warned of a check")
	}
	if _, page := d.get(operator, "/operator"); strings.Contains(page, sentence) {
		t.Error("a check is an alarm")
	}
	opening(true, protocol.Opening{Device: "microphone", Call: protocol.CallID{9}})
	d.commit(terminal, protocol.EventNotice, &protocol.Notice{Version: 1, Code: protocol.AuthOrder, At: protocol.At(time.Now())})
	if _, page := d.get(nurse, "/"); !strings.Contains(page, warned) || strings.Contains(page, "There may be a copy") {
		t.Error("callers are not warned")
	}
	_, page := d.get(operator, "/operator")
	for _, want := range []string{sentence, "refused an order", "has not placed"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q among the alarms", want)
		}
	}
	homes, err := d.register.Homes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	status, page := d.get(operator, "/operator/homes/"+homes[0].ID)
	for _, want := range []string{"Openings of camera and microphone", "for a check by Kari Nes", "It must not have been opened: a call", "to a time not reported"} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("%d: no %q on the home's page", status, want)
		}
	}
}
