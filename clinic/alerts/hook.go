package alerts

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"vindu/protocol"
)

// minSecret is what a secret has to be at least: 16 bytes in hexadecimal.
const minSecret = 32

// Hook is where alerts are told. For one Service.
type Hook struct {
	url      string
	secret   []byte
	site     string
	client   *http.Client
	failures int // in a row
}

// NewHook makes a Hook. The address has to be https, or http on this machine itself; site is the address of the clinic's pages. TLS is 1.3, no redirect is followed, and no proxy asked.
func NewHook(address, secret, site string) (*Hook, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return nil, errors.New("the webhook is no address such as https://alerts.example/vindu")
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && !(u.Scheme == "http" && ip != nil && ip.IsLoopback()) {
		return nil, fmt.Errorf("the webhook at %q has to be https; http only to this machine, such as http://127.0.0.1:9000/", u.Hostname())
	}
	if secret = strings.TrimSpace(secret); len(secret) < minSecret {
		return nil, fmt.Errorf("the webhook's secret has %d characters, at least %d are needed; openssl rand -hex 32 makes one", len(secret), minSecret)
	}
	return &Hook{
		url: address, secret: []byte(secret), site: strings.TrimSuffix(site, "/"),
		client: &http.Client{
			Timeout:   patience,
			Transport: &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS13}, MaxIdleConns: 1, IdleConnTimeout: time.Minute},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return errors.New("the webhook leads elsewhere; name the address itself")
			},
		},
	}, nil
}

// told is what the webhook reads.
type told struct {
	Version  int               `json:"version"`
	ID       string            `json:"id"`
	Event    string            `json:"event"` // "raised" or "cleared"
	Code     protocol.Code     `json:"code"`
	Severity protocol.Severity `json:"severity"`
	Title    string            `json:"title"`
	Home     string            `json:"home"` // "": the clinic's server
	Since    string            `json:"since"`
	Until    string            `json:"until,omitempty"` // of "cleared": when that was seen
	Address  string            `json:"address"`
}

func (h *Hook) post(ctx context.Context, a alert, now time.Time) error {
	f := protocol.Explain(a.code)
	t := told{
		Version: 1, Event: "raised", Code: a.code, Severity: f.Severity, Title: f.Title, Home: a.home, Since: a.since.UTC().Format(time.RFC3339),
		Address: h.site + "/operator/homes/" + a.home,
	}
	if a.home == "" || a.happened() { // alarms are settled there
		t.Address = h.site + "/operator"
	}
	if a.over {
		t.Event, t.Until = "cleared", a.at.UTC().Format(time.RFC3339)
	}
	t.ID = strconv.FormatInt(a.n, 10) + "-" + t.Event
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "vindu-clinic")
	request.Header.Set("Vindu-Signature", Sign(h.secret, now, body))
	response, err := h.client.Do(request)
	if failed, ok := errors.AsType[*url.Error](err); ok { // it has the whole address, which may be a secret itself
		err = failed.Err
	}
	if err != nil {
		return fmt.Errorf("webhook: %w", err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10)); err != nil {
		return fmt.Errorf("webhook: read the answer: %w", err)
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("webhook answers %s", response.Status)
	}
	return nil
}

// Sign returns the header Vindu-Signature of a body.
func Sign(secret []byte, at time.Time, body []byte) string {
	seconds := strconv.FormatInt(at.Unix(), 10)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}
