package web

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
)

// Strangers cannot fill the log, however often they ask.
func TestStrangersFillNoLog(t *testing.T) {
	c := newClinic(t)
	var log bytes.Buffer
	c.web.o.Log = slog.New(slog.NewTextHandler(&log, nil)) // written to while a request is answered, read when all are
	stranger := c.client()
	for range 200 {
		c.request(stranger, http.MethodPost, "/leave", "", map[string]string{"Sec-Fetch-Site": "cross-site"})
		c.request(stranger, http.MethodGet, "/enter/unknown", "", nil)
	}
	c.server.Close()
	if n := strings.Count(log.String(), "refused"); n == 0 || n > 100 {
		t.Errorf("%d lines of 400 requests", n)
	}
}
