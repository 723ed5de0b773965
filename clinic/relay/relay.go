// Package relay is the clinic's TURN server (RFC 8656): it passes the encrypted media of a call on, unread, where no direct path is found.
//
// It serves UDP, and TCP or TLS on listeners that are handed to it, so that port 443 suffices. It relays UDP alone; TURN's TCP allocations
// (RFC 6062) are refused.
//
// # Credentials
//
// Credentials are of the form that draft-uberti-behave-turn-rest-00 describes, which a coturn fleet with the same secret accepts too: the
// user name is "<expiry in Unix seconds>:<user>", the password base64(HMAC-SHA-1(secret, user name)). A browser's user is random, a terminal's is made
// of its key and the secret, always the same, so that bounds and Revoke hold for the terminal. They say nothing about anybody to others and
// are good for Life, which is longer than any call: to keep what is allocated for it, and to allocate anew when its path is lost. SHA-1
// and MD5 are what TURN's long-term credentials (RFC 8489 §9.2) prescribe; media does not depend on them, it is encrypted end to end.
//
// # Where it relays to
//
// To the relay's own address, so that two ends that both use it meet, and to public addresses. To loopback, private, link-local,
// multicast and other special addresses only within prefixes that are configured: a stranger's way into the clinic's network it must not be.
//
// # Limits
//
// Allocations, of one user and of all, connections, and the silence of a connection are bounded.
package relay

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pion/turn/v5"
	"golang.org/x/time/rate"

	"vindu/protocol"
)

const (
	// Life is how long credentials are good. A policy lets nobody talk for more than four hours, and a page gets new ones every 20 minutes.
	Life = 5 * time.Hour
	// MinSecret is the shortest secret in bytes.
	MinSecret = 32

	realm = "vindu"
)

// Config says what a relay needs.
type Config struct {
	// Packets and Listeners are what it serves; either may be empty. Run closes them. Connections of Listeners are already
	// what TURN is spoken on: TLS is made by who made the listener.
	Packets   []net.PacketConn
	Listeners []net.Listener
	// Address is under which far ends reach what it relays from, Bind the local address for that; usually the same. A zero Bind means any.
	Address netip.Addr
	Bind    netip.Addr
	// MinPort and MaxPort bound the ports that it relays from. Zero: any.
	MinPort, MaxPort uint16
	// Permit are prefixes to relay to although they are not public.
	Permit []netip.Prefix
	// Secret is what credentials are made with.
	Secret []byte
	// Browsers and Terminals are the URLs (RFC 7065) by which each reach it.
	Browsers, Terminals []string
	// MaxAllocations bounds those of all users, DefaultMaxAllocations if zero.
	MaxAllocations int
}

// Bounds.
const (
	DefaultMaxAllocations = 4000
	maxPerUser            = 32 // each end allocates for each of its addresses and each URL, and what it left behind lasts ten minutes
	maxConnections        = 4000
	maxPerAddress         = maxConnections / 4 // of one IPv4 address or IPv6 /64: to say something now and then needs no credentials
	greeting              = 15 * time.Second   // in which a new connection has to say something
	readPause             = time.Second        // after a socket could not be read
	idle                  = 11 * time.Minute   // beyond the life of an allocation that is not refreshed
)

// Relay is a TURN server. Run owns it; the other methods are safe for concurrent use.
type Relay struct {
	config Config
	log    *slog.Logger
	now    func() time.Time

	mu          sync.Mutex
	users       map[string]map[*relayed]struct{} // allocations by user
	allocations int
	revoked     map[string]struct{} // users
	warned      rate.Sometimes
}

// New checks what it is given; Run serves.
func New(config Config, log *slog.Logger) (*Relay, error) {
	switch {
	case len(config.Packets) == 0 && len(config.Listeners) == 0:
		return nil, errors.New("relay: nothing to serve on")
	case !config.Address.IsValid() || config.Address.IsUnspecified():
		return nil, errors.New("relay: no address under which it is reached; configure relay.address")
	case len(config.Secret) < MinSecret:
		return nil, fmt.Errorf("relay: secret of %d bytes, has to have %d", len(config.Secret), MinSecret)
	case config.MinPort > config.MaxPort:
		return nil, fmt.Errorf("relay: ports from %d to %d", config.MinPort, config.MaxPort)
	}
	if !config.Bind.IsValid() {
		config.Bind = netip.IPv4Unspecified()
		if config.Address.Is6() && !config.Address.Is4In6() {
			config.Bind = netip.IPv6Unspecified()
		}
	}
	if config.MaxAllocations == 0 {
		config.MaxAllocations = DefaultMaxAllocations
	}
	return &Relay{config: config, log: log, now: time.Now, users: make(map[string]map[*relayed]struct{}), revoked: make(map[string]struct{}), warned: rate.Sometimes{Interval: time.Minute}}, nil
}

// Run serves until ctx is done.
func (r *Relay) Run(ctx context.Context) error {
	var wrapped []*listener
	server := turn.ServerConfig{
		Realm: realm, LoggerFactory: loggers{r.log}, AuthHandler: r.authenticate, QuotaHandler: r.quota,
		// Who asks over IPv6 and names no family is given an IPv4 address (RFC 8656 §7.2): the relay's own may be the only one that it has.
		StrictAddressFamily: true,
	}
	ports, err := r.ports()
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	for _, p := range r.config.Packets {
		server.PacketConnConfigs = append(server.PacketConnConfigs, turn.PacketConnConfig{
			PacketConn: steady{p, ctx.Done(), r.log}, RelayAddressGenerator: ports, PermissionHandler: r.permit,
		})
	}
	for _, l := range r.config.Listeners {
		w := newListener(l)
		wrapped = append(wrapped, w)
		server.ListenerConfigs = append(server.ListenerConfigs, turn.ListenerConfig{
			Listener: w, RelayAddressGenerator: ports, PermissionHandler: r.permit,
		})
	}
	s, err := turn.NewServer(server)
	if err != nil {
		return fmt.Errorf("start relay: %w", err)
	}
	r.log.Info("relay ready", "address", r.config.Address, "udp", len(r.config.Packets), "streams", len(r.config.Listeners))
	<-ctx.Done()
	err = s.Close()
	for _, w := range wrapped {
		w.closeAll()
	}
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close relay: %w", err)
	}
	return nil
}

// userSize is that of a user in bytes; in user names it is hexadecimal.
const userSize = 12

// Servers returns what a browser needs to reach the relay, with fresh credentials.
func (r *Relay) Servers() []protocol.ICEServer {
	var user [userSize]byte
	rand.Read(user[:]) // never fails: crypto/rand
	return r.servers(r.config.Browsers, hex.EncodeToString(user[:]))
}

// TerminalServers returns what a terminal needs to reach the relay, with fresh credentials.
func (r *Relay) TerminalServers(terminal protocol.KeyHash) []protocol.ICEServer {
	return r.servers(r.config.Terminals, r.user(terminal))
}

// TerminalURLs are those of all that TerminalServers returns.
func (r *Relay) TerminalURLs() []string { return slices.Clone(r.config.Terminals) }

// user returns the user that a terminal is, which nobody else can tell it by.
func (r *Relay) user(terminal protocol.KeyHash) string {
	mac := hmac.New(sha256.New, r.config.Secret)
	mac.Write(append([]byte("terminal "), terminal[:]...))
	return hex.EncodeToString(mac.Sum(nil)[:userSize])
}

// Revoke ends what is relayed for a terminal, and lets it allocate nothing any more.
func (r *Relay) Revoke(terminal protocol.KeyHash) {
	user := r.user(terminal)
	r.mu.Lock()
	r.revoked[user] = struct{}{}
	var open []*relayed
	for c := range r.users[user] {
		open = append(open, c)
	}
	r.mu.Unlock()
	for _, c := range open {
		_ = c.Close() // the server reads an error from it and deletes the allocation
	}
	if len(open) > 0 {
		r.log.Info("relaying ended by the clinic", "terminal", terminal, "allocations", len(open))
	}
}

func (r *Relay) servers(urls []string, unique string) []protocol.ICEServer {
	if len(urls) == 0 {
		return nil
	}
	user := strconv.FormatInt(r.now().Add(Life).Unix(), 10) + ":" + unique
	return []protocol.ICEServer{{URLs: append([]string(nil), urls...), Username: user, Credential: r.password(user)}}
}

func (r *Relay) password(user string) protocol.Secret {
	mac := hmac.New(sha1.New, r.config.Secret)
	mac.Write([]byte(user))
	return protocol.Secret(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}

// authenticate returns the user and the key that proves a user name (RFC 8489 §9.2.2). Whether the request was made with it is checked by the server.
func (r *Relay) authenticate(request *turn.RequestAttributes) (user string, key []byte, ok bool) {
	expiry, unique, found := strings.Cut(request.Username, ":")
	seconds, err := strconv.ParseInt(expiry, 10, 64)
	if !found || err != nil || len(unique) != 2*userSize || request.Realm != realm {
		return "", nil, false
	}
	r.mu.Lock()
	_, revoked := r.revoked[unique]
	r.mu.Unlock()
	if revoked {
		return "", nil, false
	}
	until := time.Unix(seconds, 0)
	if until.After(r.now().Add(Life + time.Minute)) {
		return "", nil, false // nobody was given this one; it only could be with the secret
	}
	if !r.now().Before(until) {
		r.log.Debug("expired credentials", "from", request.SrcAddr)
		return "", nil, false
	}
	return unique, turn.GenerateAuthKey(request.Username, realm, string(r.password(request.Username))), true
}

// permit says whether it may be relayed to an address.
func (r *Relay) permit(from net.Addr, ip net.IP) bool {
	if to, ok := netip.AddrFromSlice(ip); ok && r.Permits(to) {
		return true
	}
	r.log.Debug("not relayed to an address that is not public", "from", from)
	return false
}

// Permits reports whether something that the clinic runs may be made to send to an address: the relay's own, one that is public, or one that is
// configured.
func (r *Relay) Permits(to netip.Addr) bool {
	to = to.Unmap()
	if to == r.config.Address.Unmap() || public(to) {
		return true
	}
	for _, prefix := range r.config.Permit {
		if prefix.Contains(to) {
			return true
		}
	}
	return false
}

// special are the blocks of the IANA special-purpose registries (RFC 6890) that netip.Addr's methods do not tell.
var special = func() (list []netip.Prefix) {
	for _, s := range []string{
		"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fec0::/10",
	} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}()

func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || a.Zone() != "" {
		return false
	}
	for _, prefix := range special {
		if prefix.Contains(a) {
			return false
		}
	}
	return true
}

// Local are the prefixes to permit where far ends are on the same machine or network: for trying vindu out, and for a
// clinic whose network is the private one.
func Local() []netip.Prefix {
	var list []netip.Prefix
	for _, s := range []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"} {
		list = append(list, netip.MustParsePrefix(s))
	}
	return list
}

// quota says whether a user may allocate once more, so that the server can say why it may not. What holds is take.
func (r *Relay) quota(user, _ string, _ net.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.room(user)
}

// room is quota. r.mu is held.
func (r *Relay) room(user string) bool {
	if _, revoked := r.revoked[user]; revoked || len(r.users[user]) >= maxPerUser || r.allocations >= r.config.MaxAllocations {
		r.warned.Do(func() {
			r.log.Warn("allocation refused: too many, or the terminal is revoked", "of_this_user", len(r.users[user]), "of_all", r.allocations)
		})
		return false
	}
	return true
}

// take counts an allocation, if there is room for it.
func (r *Relay) take(user string) (*relayed, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.room(user) {
		return nil, errTooMany
	}
	c := &relayed{owner: r, user: user}
	if r.users[user] == nil {
		r.users[user] = make(map[*relayed]struct{})
	}
	r.users[user][c] = struct{}{}
	r.allocations++
	return c, nil
}

// free undoes take; doing it again changes nothing.
func (r *Relay) free(c *relayed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.users[c.user][c]; !taken {
		return
	}
	if delete(r.users[c.user], c); len(r.users[c.user]) == 0 {
		delete(r.users, c.user)
	}
	r.allocations--
}

// Allocations returns how many there are now.
func (r *Relay) Allocations() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allocations
}
