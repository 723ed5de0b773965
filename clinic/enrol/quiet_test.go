package enrol

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"vindu/protocol"
)

// Who hangs up before the register has answered has done nothing for which somebody at the clinic has to act.
func TestHungUp(t *testing.T) {
	c := start(t)
	v := c.voucher(t)
	ctx, hangUp := context.WithCancel(t.Context())
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, c.url+protocol.PathEnroll, bytes.NewReader(csr(t, newKey(t))))
	r.Header.Set("Content-Type", typeRequest)
	user, password := (&protocol.Voucher{ID: v.ID, Secret: v.Secret}).Credentials()
	r.SetBasicAuth(user, string(password))
	hangUp()
	w := httptest.NewRecorder()
	if c.ServeHTTP(w, r); w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", w.Code)
	}
	if strings.Contains(c.log.String(), "level=ERROR") {
		t.Errorf("log: %s", c.log)
	}
}
