package setup

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"vindu/clinic/audit"
	"vindu/clinic/authority"
	"vindu/clinic/fleet"
	"vindu/clinic/signing"
	"vindu/protocol"
)

const (
	// orderLife is how long an order waits for a terminal that is away.
	orderLife = 180 * 24 * time.Hour
	// orderPoll is how often orders are looked for: they may come from another process.
	orderPoll = time.Second
	// sendAgain is how long a terminal that is there may leave an order without a receipt before it is sent again.
	sendAgain = 10 * time.Second
	// An order that is older than settledIn is sent to a terminal that stays connected every sendRarely: it does not want to, or cannot.
	settledIn  = time.Hour
	sendRarely = 10 * time.Minute
	// grace is how long a terminal is left connected after its receipt was committed, so that its acknowledgement reaches it.
	grace = 3 * time.Second
)

// reasonReturned is the reason for which a terminal that has sent its receipt is revoked.
const reasonReturned = "taken out of use: it has signed that it destroys its keys and state"

var (
	// ErrRevoked is wrapped when an order is given for a terminal that is revoked: it cannot be reached any more.
	ErrRevoked = errors.New("the terminal is revoked")
	// ErrNoOrder is wrapped when there is no order that could be withdrawn: none waits.
	ErrNoOrder = errors.New("no order waits for the terminal")
	// ErrReason is wrapped when an order lacks a reason, or has one that cannot be shown.
	ErrReason = errors.New("reason cannot be used")
)

// States of an Order.
const (
	OrderWaiting   = "waiting"   // for the terminal, or for its receipt
	OrderDone      = "done"      // the receipt is here
	OrderVoid      = "void"      // the terminal was revoked before its receipt came
	OrderExpired   = "expired"   // before its receipt came
	OrderWithdrawn = "withdrawn" // and nothing came of what may have been sent before
)

// Order is an order to take a terminal out of use.
type Order struct {
	Terminal  protocol.KeyHash
	Signed    []byte // protocol.Decommission; empty while it waits for the authorisation key
	By        string // as audit entries name who gave it
	Reason    string
	Issued    time.Time
	Expires   time.Time
	Sent      time.Time // when last; zero if the terminal was not there since
	Received  time.Time // when the receipt came; zero if it did not
	Receipt   []byte    // signed protocol.Decommissioned
	Grade     string    // of the key that was destroyed, by the receipt
	Destroyed time.Time // by the receipt
	Withdrawn time.Time // zero if it was not
	Withdrew  string    // as audit entries name who withdrew it
	State     string    // OrderWaiting …
	hash      []byte
}

// Decommission orders a terminal to destroy its keys and its state. If an order waits for it already, that one is returned. If the authorisation key is elsewhere the
// order waits for it first (Order.Signed is empty). The error wraps register.ErrNotFound, ErrRevoked or ErrReason.
func (s *Service) Decommission(ctx context.Context, who string, terminal protocol.KeyHash, reason string) (Order, error) {
	if reason == "" || len(reason) > protocol.MaxText || protocol.Printable(reason) != reason {
		return Order{}, fmt.Errorf("take terminal %s out of use: %w: it has to be a line of at most %d bytes", terminal.Code(), ErrReason, protocol.MaxText)
	}
	t, err := s.Register.ByTerminal(ctx, terminal)
	if err != nil {
		return Order{}, fmt.Errorf("take terminal out of use: %w", err)
	}
	if !t.Revoked.IsZero() {
		return Order{}, fmt.Errorf("take terminal %s out of use: %w: it cannot be reached any more; destroy its key by hand", terminal.Code(), ErrRevoked)
	}
	now := s.now()
	d := protocol.Decommission{
		Version: protocol.Version, Terminal: terminal, Nonce: protocol.NewNonce(), Issued: protocol.At(now), Expires: protocol.At(now.Add(orderLife)),
	}
	signed, err := s.Authority.SignDecommission(&d)
	waits := errors.Is(err, authority.ErrKeyElsewhere) && s.Requests != nil
	if err != nil && !waits {
		return Order{}, fmt.Errorf("take terminal %s out of use: %w", terminal.Code(), err)
	}
	body, err := protocol.Encode(&d)
	if err != nil {
		return Order{}, fmt.Errorf("take terminal %s out of use: %w", terminal.Code(), err)
	}
	hash := protocol.HashOf(signed)
	if waits { // until it is signed it is called by what it says
		signed, hash = []byte{}, protocol.HashOf(body)
	}
	err = s.Config.Store.Write(ctx, func(tx *sql.Tx) error {
		var waiting int
		err := tx.QueryRowContext(ctx, "SELECT count(*) FROM setup_orders WHERE terminal = ? AND (receipt IS NOT NULL OR (expires > ? AND withdrawn IS NULL))", terminal[:], now.UnixMilli()).Scan(&waiting)
		if err != nil || waiting > 0 {
			return err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO setup_orders (terminal, signed, hash, ordered_by, reason, issued, expires) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			terminal[:], signed, hash[:], who, reason, int64(d.Issued), int64(d.Expires)); err != nil {
			return err
		}
		if waits {
			if err := s.Requests.Want(ctx, tx, signing.Decommission, hex.EncodeToString(hash[:]), body, s.Authority.Authorities()[0]); err != nil {
				return err
			}
		}
		return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.DecommissionOrder, Subject: terminal.Name(), Detail: map[string]string{"reason": reason}})
	})
	if err != nil {
		return Order{}, fmt.Errorf("take terminal %s out of use: %w", terminal.Code(), err)
	}
	orders, err := s.Orders(ctx, terminal)
	if err != nil {
		return Order{}, err
	}
	return orders[0], nil
}

// WithdrawOrder takes an order back that waits for its terminal: it is not sent any more. A terminal that has it already carries it out; what then comes
// is stored all the same. The error wraps ErrNoOrder.
func (s *Service) WithdrawOrder(ctx context.Context, who string, terminal protocol.KeyHash) (Order, error) {
	now := s.now().UnixMilli()
	err := s.Config.Store.Write(ctx, func(tx *sql.Tx) error {
		if err := s.dropUnsigned(ctx, tx, terminal); err != nil {
			return err
		}
		var sent bool
		err := tx.QueryRowContext(ctx, `UPDATE setup_orders SET withdrawn = ?1, withdrawn_by = ?2
			WHERE terminal = ?3 AND receipt IS NULL AND withdrawn IS NULL AND expires > ?1 RETURNING sent IS NOT NULL`, now, who, terminal[:]).Scan(&sent)
		if errors.Is(err, sql.ErrNoRows) {
			return ErrNoOrder
		}
		if err != nil {
			return err
		}
		return s.Audit.AppendTx(ctx, tx, audit.Entry{Who: who, What: audit.DecommissionWithdrawn, Subject: terminal.Name(), Detail: map[string]string{"was_sent": fmt.Sprint(sent)}})
	})
	if err != nil {
		return Order{}, fmt.Errorf("withdraw the order for terminal %s: %w", terminal.Code(), err)
	}
	orders, err := s.Orders(ctx, terminal)
	if err != nil {
		return Order{}, err
	}
	return orders[0], nil
}

// dropUnsigned takes back the request for a signature of a terminal's order.
func (s *Service) dropUnsigned(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash) error {
	if s.Requests == nil {
		return nil
	}
	var hash []byte
	err := tx.QueryRowContext(ctx, "SELECT hash FROM setup_orders WHERE terminal = ? AND signed = x'' AND withdrawn IS NULL ORDER BY n DESC LIMIT 1", terminal[:]).Scan(&hash)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.Requests.Drop(ctx, tx, signing.Decommission, hex.EncodeToString(hash))
}

// takeSigned takes over the signatures that orders waited for.
func (s *Service) takeSigned(ctx context.Context) error {
	if s.Requests == nil {
		return nil
	}
	waiting, err := s.orders(ctx, "o.signed = x'' AND o.withdrawn IS NULL AND o.expires > ?", s.now().UnixMilli())
	if err != nil {
		return err
	}
	for _, o := range waiting {
		signed, err := s.signedOrder(ctx, hex.EncodeToString(o.hash))
		if err != nil {
			return err
		}
		if signed == nil {
			continue
		}
		hash := protocol.HashOf(signed)
		if err := s.Config.Store.Write(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "UPDATE setup_orders SET signed = ?, hash = ? WHERE hash = ? AND signed = x'' AND withdrawn IS NULL", signed, hash[:], o.hash)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// signedOrder returns the signed order with this name; nil while it waits. It is signed here if the key is here again, and asked of the key that signs now if another has followed.
func (s *Service) signedOrder(ctx context.Context, name string) ([]byte, error) {
	body, err := s.Requests.Body(ctx, signing.Decommission, name)
	if err != nil || body == nil {
		return nil, err
	}
	d := new(protocol.Decommission)
	if err := protocol.Decode(body, d); err != nil {
		return nil, fmt.Errorf("order that waits to be signed: %w", err)
	}
	signed, err := s.Authority.SignDecommission(d)
	if !errors.Is(err, authority.ErrKeyElsewhere) {
		return signed, err
	}
	return s.Requests.Ask(ctx, signing.Decommission, name, body, s.Authority.Authorities()[0])
}

const selectOrder = `SELECT o.terminal, o.signed, o.ordered_by, o.reason, o.issued, o.expires, coalesce(o.sent, 0), coalesce(o.received, 0),
	o.receipt, coalesce(o.grade, ''), coalesce(o.destroyed, 0), coalesce(o.withdrawn, 0), coalesce(o.withdrawn_by, ''), terminals.revoked IS NOT NULL, o.hash
	FROM setup_orders AS o JOIN terminals ON terminals.key = o.terminal`

func (s *Service) orders(ctx context.Context, where string, args ...any) ([]Order, error) {
	rows, err := s.Config.Store.Read().QueryContext(ctx, selectOrder+" WHERE "+where, args...)
	if err != nil {
		return nil, fmt.Errorf("read orders: %w", err)
	}
	defer rows.Close()
	instant := func(ms int64) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return time.UnixMilli(ms)
	}
	var list []Order
	for rows.Next() {
		var o Order
		var key []byte
		var issued, expires, sent, received, destroyed, withdrawn int64
		var revoked bool
		if err := rows.Scan(&key, &o.Signed, &o.By, &o.Reason, &issued, &expires, &sent, &received, &o.Receipt, &o.Grade, &destroyed, &withdrawn, &o.Withdrew, &revoked, &o.hash); err != nil {
			return nil, fmt.Errorf("read orders: %w", err)
		}
		copy(o.Terminal[:], key)
		o.Withdrawn = instant(withdrawn)
		o.Issued, o.Expires, o.Sent, o.Received, o.Destroyed = instant(issued), instant(expires), instant(sent), instant(received), instant(destroyed)
		switch {
		case o.Receipt != nil:
			o.State = OrderDone
		case withdrawn != 0:
			o.State = OrderWithdrawn
		case revoked:
			o.State = OrderVoid
		case !s.now().Before(o.Expires):
			o.State = OrderExpired
		default:
			o.State = OrderWaiting
		}
		list = append(list, o)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read orders: %w", err)
	}
	return list, nil
}

// Orders returns the orders that were given for a terminal, the latest first.
func (s *Service) Orders(ctx context.Context, terminal protocol.KeyHash) ([]Order, error) {
	return s.orders(ctx, "o.terminal = ? ORDER BY n DESC", terminal[:])
}

// Latest returns, of every terminal that was ever ordered to end, the latest order.
func (s *Service) Latest(ctx context.Context) (map[protocol.KeyHash]Order, error) {
	list, err := s.orders(ctx, "n IN (SELECT max(n) FROM setup_orders GROUP BY terminal)")
	if err != nil {
		return nil, err
	}
	latest := make(map[protocol.KeyHash]Order, len(list))
	for _, o := range list {
		latest[o.Terminal] = o
	}
	return latest, nil
}

// Leaving tells whether an order for a terminal waits: it names the terminal's key, which has to stay until then.
func (s *Service) Leaving(ctx context.Context, terminal protocol.KeyHash) (bool, error) {
	orders, err := s.Orders(ctx, terminal)
	return len(orders) > 0 && orders[0].State == OrderWaiting, err
}

// followSuccessor gives the orders that a terminal did not get before it had a new key anew, to the new one.
func (s *Service) followSuccessor(ctx context.Context) error {
	void, err := s.orders(ctx, "o.receipt IS NULL AND o.withdrawn IS NULL AND o.expires > ? AND terminals.revoked IS NOT NULL AND terminals.revoked >= o.issued", s.now().UnixMilli())
	if err != nil {
		return err
	}
	for _, o := range void {
		next, succeeded, err := s.Register.Successor(ctx, o.Terminal)
		if err != nil {
			return err
		}
		if !succeeded {
			continue
		}
		given, err := s.Orders(ctx, next)
		if err != nil {
			return err
		}
		if len(given) > 0 {
			continue
		}
		if _, err := s.Decommission(ctx, o.By, next, o.Reason); err != nil && !errors.Is(err, ErrRevoked) {
			return err
		}
		s.Log.Info("order to take the terminal out of use given anew: it has another key by now", "terminal", next)
	}
	return nil
}

func (s *Service) storeReceipt(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, e *protocol.ReceiptEvent) error {
	receipt, err := s.receipt(ctx, tx, terminal, e.Receipt)
	switch {
	case errors.Is(err, errFlaw):
		return s.refused(ctx, tx, terminal, protocol.EventReceipt, err)
	case err != nil:
		return err
	}
	result, err := tx.ExecContext(ctx, "UPDATE setup_orders SET receipt = ?, received = ?, grade = ?, destroyed = ? WHERE hash = ? AND receipt IS NULL",
		e.Receipt, s.now().UnixMilli(), receipt.KeyGrade, int64(receipt.At), receipt.Order[:])
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 { // it came before
		return err
	}
	return s.Audit.AppendTx(ctx, tx, audit.Entry{
		Who: "terminal " + terminal.Name(), What: audit.Decommissioned, Subject: terminal.Name(), Detail: map[string]string{"key_grade": receipt.KeyGrade},
	})
}

func (s *Service) receipt(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, signed []byte) (*protocol.Decommissioned, error) {
	var spki []byte
	err := tx.QueryRowContext(ctx, "SELECT spki FROM terminals WHERE key = ?", terminal[:]).Scan(&spki)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, flawed("the terminal is not in the register", nil)
	}
	if err != nil {
		return nil, err
	}
	key, err := ecdsaKey(spki)
	if err != nil {
		return nil, flawed("the terminal's key", err)
	}
	receipt := new(protocol.Decommissioned)
	if err := protocol.Verify(signed, key, receipt); err != nil {
		return nil, flawed("the terminal's signature", err)
	}
	var about []byte
	err = tx.QueryRowContext(ctx, "SELECT terminal FROM setup_orders WHERE hash = ?", receipt.Order[:]).Scan(&about)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, flawed("no such order was given", nil)
	case err != nil:
		return nil, err
	case receipt.Terminal != terminal || string(about) != string(terminal[:]):
		return nil, flawed("it is about another terminal", nil)
	}
	return receipt, nil
}

// Fleet reaches terminals; fleet.Fleet is one.
type Fleet interface {
	State(terminal protocol.KeyHash) fleet.State
	// Order sends a signed order; nil means that it is on its way, not that it arrived.
	Order(ctx context.Context, terminal protocol.KeyHash, signed []byte) error
	Watch() (changes <-chan protocol.KeyHash, cancel func())
}

// Deliver sends waiting orders to terminals that are there, again on each connection and every sendAgain, later sendRarely, and revokes those whose receipts
// have come, until ctx ends. It returns nil.
func (s *Service) Deliver(ctx context.Context, f Fleet) error {
	changes, cancel := f.Watch()
	defer cancel()
	tick := time.NewTicker(orderPoll)
	defer tick.Stop()
	for {
		for range len(changes) { // one look is for all of them
			<-changes
		}
		if err := s.deliver(ctx, f); err != nil && ctx.Err() == nil {
			s.Log.Error("orders for terminals cannot be carried out; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-tick.C:
		}
	}
}

func (s *Service) deliver(ctx context.Context, f Fleet) error {
	if err := s.followSuccessor(ctx); err != nil {
		return err
	}
	if err := s.takeSigned(ctx); err != nil {
		return err
	}
	now := s.now()
	waiting, err := s.orders(ctx, "o.signed <> x'' AND o.receipt IS NULL AND o.withdrawn IS NULL AND o.expires > ? AND terminals.revoked IS NULL", now.UnixMilli())
	if err != nil {
		return err
	}
	var errs []error
	for _, o := range waiting {
		state, again := f.State(o.Terminal), sendAgain
		if now.Sub(o.Issued) > settledIn {
			again = sendRarely
		}
		if !state.Online || (now.Sub(o.Sent) < again && o.Sent.After(state.Since)) {
			continue
		}
		// Written down first: one that was withdrawn meanwhile is not sent, and one that may have been sent is never said not to have been.
		hash, waits := protocol.HashOf(o.Signed), false
		if err := s.Config.Store.Write(ctx, func(tx *sql.Tx) error {
			result, err := tx.ExecContext(ctx, "UPDATE setup_orders SET sent = ? WHERE hash = ? AND withdrawn IS NULL", now.UnixMilli(), hash[:])
			if err != nil {
				return err
			}
			n, err := result.RowsAffected()
			waits = n > 0
			return err
		}); err != nil || !waits {
			errs = append(errs, err)
			continue
		}
		if err := f.Order(ctx, o.Terminal, o.Signed); err != nil {
			errs = append(errs, err)
			continue
		}
		s.Log.Info("order to take the terminal out of use sent", "terminal", o.Terminal)
	}
	done, err := s.orders(ctx, "o.receipt IS NOT NULL AND o.received <= ? AND terminals.revoked IS NULL", now.Add(-grace).UnixMilli())
	errs = append(errs, err)
	for _, o := range done {
		errs = append(errs, s.Register.Revoke(ctx, o.By, o.Terminal, reasonReturned))
	}
	return errors.Join(errs...)
}
