package fleet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"vindu/clinic/audit"
	"vindu/clinic/store"
	"vindu/protocol"
)

const (
	silenceCheck  = 5 * time.Second  // how often silent terminals are looked for
	saveInterval  = 10 * time.Second // how often states are stored
	heardInterval = time.Minute      // how exactly it is stored when a terminal was last heard
	auditInterval = time.Minute      // at most one entry per terminal for refused messages in this time
	sendTimeout   = 5 * time.Second

	workQueue    = 4096 // events and refusals that wait to be stored; what does not fit comes again
	messageQueue = 1024 // call messages that wait for Messages' reader; what does not fit is dropped and counted
	watchQueue   = 64   // changes that wait for one watcher
	reportQueue  = 4096 // terminals that wait to be asked for their health; what does not fit reports by itself
)

// ErrDown is wrapped when the broker cannot be reached. Its code is protocol.SignalBroker.
var ErrDown = errors.New("not connected to the message broker")

// Sink derives something from events.
type Sink interface {
	// Store is called for each event in the transaction that stores it; an event that came before is not passed again. body is
	// what event.Open returns. It returns an error only where the store fails.
	Store(ctx context.Context, tx *sql.Tx, terminal protocol.KeyHash, event *protocol.Event, body any) error
	// Committed is called after the transaction. It must not block.
	Committed(terminal protocol.KeyHash, event *protocol.Event, body any)
}

// Auditor is the part of the audit log that is written to.
type Auditor interface {
	AppendTx(ctx context.Context, tx *sql.Tx, e audit.Entry) error
}

// Config says what a fleet needs.
type Config struct {
	// Address returns host:port of the broker's TLS listener.
	Address func() string
	// ServerName is the name in the broker's certificate, Roots what it is verified against.
	ServerName string
	Roots      *x509.CertPool
	// Certificate returns the clinic's own certificate. Its key's name is the client id.
	Certificate func() (*tls.Certificate, error)
	Store       *store.Store
	Audit       Auditor
	Sinks       []Sink
	// SignAck signs acknowledgements by the clinic's service key: without it terminals forget nothing.
	SignAck func(*protocol.Ack) ([]byte, error)
	// Twice is told when two devices seem to be connected in turn with one terminal's identity, and from what that follows. It may be nil,
	// and must not block.
	Twice func(terminal protocol.KeyHash, why string)
}

// CallMessage is a call message from a terminal.
type CallMessage struct {
	Terminal protocol.KeyHash
	Message  *protocol.CallOut
}

// Fleet is the clinic's view of its terminals. Run owns its goroutines; the methods are safe for concurrent use.
type Fleet struct {
	config Config
	log    *slog.Logger
	board  *board
	events *events

	work     chan work
	messages chan CallMessage
	reports  chan protocol.KeyHash
	replies  chan reply

	shares *shares

	// unbroken counts the times at which something of every terminal may have been missed; see unbrokenOf.
	unbroken  atomic.Uint64
	malformed atomic.Uint64
	dropped   atomic.Uint64

	mu     sync.Mutex
	client mqtt.Client // nil while there is no connection
}

// work is for the goroutine that stores: an event, a refusal to be audited, or a health message to compare with the conditions that are kept.
type work struct {
	terminal protocol.KeyHash
	event    *protocol.Event
	health   *protocol.Health
	unbroken uint64
	reported bool // it came by HTTPS
	refusal  *audit.Entry
}

// New brings the fleet's tables up and loads what was last known.
func New(ctx context.Context, config Config, log *slog.Logger) (*Fleet, error) {
	f := &Fleet{
		config: config, log: log, board: newBoard(),
		events:   &events{store: config.Store, sinks: config.Sinks, log: log, gaps: make(map[protocol.KeyHash]gap)},
		work:     make(chan work, workQueue),
		messages: make(chan CallMessage, messageQueue),
		reports:  make(chan protocol.KeyHash, reportQueue),
		replies:  make(chan reply, replyQueue),
		shares:   newShares(),
	}
	if config.Twice != nil {
		f.board.twice = config.Twice
	}
	if err := config.Store.Migrate(ctx, "fleet", steps); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	states, err := loadStates(ctx, config.Store)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	f.board.load(states)
	return f, nil
}

// Run connects to the broker, and again whenever the connection is lost, until ctx is done. Then it stores what is not stored yet.
func (f *Fleet) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { f.connect(ctx) })
	group.Go(func() { f.storeWork(ctx) })
	group.Go(func() { f.askForReports(ctx) })
	group.Go(func() { f.sendReplies(ctx) })
	group.Go(func() { f.keepTime(ctx) })
	group.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), sendTimeout)
	defer cancel()
	return f.saveStates(last)
}

// State returns what is known of one terminal.
func (f *Fleet) State(key protocol.KeyHash) State { return f.board.state(key, time.Now()) }

// States returns what is known of every terminal that was ever seen.
func (f *Fleet) States() map[protocol.KeyHash]State { return f.board.states(time.Now()) }

// Watch returns a channel of the terminals whose State has changed, in what people see: not for each time that one is heard.
// The zero KeyHash says that Up has changed. When the channel is full, changes are dropped; as long as something is in it, all has to be looked at.
// The function ends it; the channel is never closed.
func (f *Fleet) Watch() (<-chan protocol.KeyHash, func()) { return f.board.watch() }

// Messages returns the call messages of all terminals, for one reader.
func (f *Fleet) Messages() <-chan CallMessage { return f.messages }

// Counters are since the clinic started.
type Counters struct {
	Malformed uint64 // messages that were refused
	Dropped   uint64 // messages that a full queue cost: call messages are lost, events come again
	Committed uint64 // events that were stored
	Repeated  uint64 // events that came again after they had been stored: they were recognised
	Reported  uint64 // of Committed: events that came by HTTPS
	Lost      uint64 // events that terminals dropped before they came here, as they tell
}

// Counters returns what was counted so far.
func (f *Fleet) Counters() Counters {
	return Counters{Malformed: f.malformed.Load(), Dropped: f.dropped.Load(), Committed: f.events.committed.Load(), Repeated: f.events.repeated.Load(), Reported: f.events.reported.Load(), Lost: f.board.dropped()}
}

// Replaced is for a broker in the same process to tell that it let a terminal in while a connection of it was open. It does not block.
func (f *Fleet) Replaced(key protocol.KeyHash) { f.board.replaced(key, time.Now()) }

// Up reports whether the broker is connected.
func (f *Fleet) Up() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.client != nil
}

// Send tells a terminal something about a call. It returns when the message is on its way to the broker; the error wraps
// ErrDown if there is no connection to it.
func (f *Fleet) Send(ctx context.Context, key protocol.KeyHash, m *protocol.CallIn) error {
	payload, err := protocol.Encode(m)
	if err != nil {
		return fmt.Errorf("send %s to terminal %s: %w", m.Kind, key.Code(), err)
	}
	if err := f.publish(ctx, protocol.InTopic(key, protocol.InCall), payload); err != nil {
		return fmt.Errorf("send %s to terminal %s: %w", m.Kind, key.Code(), err)
	}
	return nil
}

// Command asks a terminal for something harmless, a protocol.CommandReport, CommandRenew or CommandSettings.
func (f *Fleet) Command(ctx context.Context, key protocol.KeyHash, kind string) error {
	payload, err := protocol.Encode(&protocol.Command{Version: protocol.Version, Kind: kind})
	if err != nil {
		return fmt.Errorf("command terminal %s: %w", key.Code(), err)
	}
	if err := f.publish(ctx, protocol.InTopic(key, protocol.InCommand), payload); err != nil {
		return fmt.Errorf("command terminal %s to %s: %w", key.Code(), kind, err)
	}
	return nil
}

// Order sends a terminal a signed order to take itself out of use; the terminal judges it. It returns when the message is on its way to the broker.
func (f *Fleet) Order(ctx context.Context, key protocol.KeyHash, signed []byte) error {
	payload, err := protocol.Encode(&protocol.Command{Version: protocol.Version, Kind: protocol.CommandDecommission, Order: signed})
	if err != nil {
		return fmt.Errorf("order terminal %s: %w", key.Code(), err)
	}
	if err := f.publish(ctx, protocol.InTopic(key, protocol.InCommand), payload); err != nil {
		return fmt.Errorf("order terminal %s: %w", key.Code(), err)
	}
	return nil
}

// Commit stores events of one terminal that came another way than through the broker, and returns the signed protocol.Acks that may go to it. It is idempotent.
func (f *Fleet) Commit(ctx context.Context, key protocol.KeyHash, list ...*protocol.Event) ([][]byte, error) {
	batch := make([]work, len(list))
	for i, e := range list {
		if err := storable(e); err != nil {
			return nil, err
		}
		batch[i] = work{terminal: key, event: e, unbroken: f.unbrokenOf(key), reported: true}
	}
	acks, err := f.events.commit(ctx, batch)
	if err != nil {
		return nil, fmt.Errorf("commit events of terminal %s: %w", key.Code(), err)
	}
	signed := make([][]byte, len(acks))
	for i := range acks {
		if signed[i], err = f.config.SignAck(&acks[i]); err != nil {
			return nil, fmt.Errorf("acknowledge events of terminal %s: %w", key.Code(), err)
		}
	}
	return signed, nil
}

// receive takes a message of the broker. It does not block: it runs on the goroutine that reads from the connection.
func (f *Fleet) receive(topic string, payload []byte, retained bool) {
	now := time.Now()
	key, channel, err := protocol.ParseOutTopic(topic)
	if err != nil {
		f.malformed.Add(1)
		f.log.Warn("message on an unknown topic refused", "error", err)
		return
	}
	if len(payload) == 0 && retained {
		return // the broker forgets
	}
	switch channel {
	case protocol.OutPresence:
		p := new(protocol.Presence)
		if err = protocol.Decode(payload, p); err == nil {
			if f.board.presence(key, p, retained, now) {
				select {
				case f.reports <- key:
				default:
				}
			}
			if !retained {
				f.reply(key, p)
			}
		}
	case protocol.OutHealth:
		h := new(protocol.Health)
		if err = protocol.Decode(payload, h); err == nil {
			f.board.health(key, h, retained, now)
			if !retained { // one that the broker kept may be older than the events that came since
				select {
				case f.work <- work{terminal: key, health: h}:
				default: // the next comes within a minute
				}
			}
		}
	case protocol.OutEvent:
		e := new(protocol.Event)
		if err = protocol.Decode(payload, e); err == nil {
			err = storable(e)
		}
		if err == nil && !retained { // a retained one says nothing about now, and an honest terminal retains none
			f.board.heard(key, now)
			f.enqueue(work{terminal: key, event: e, unbroken: f.unbrokenOf(key)})
		}
	case protocol.OutCall:
		m := new(protocol.CallOut)
		if err = protocol.Decode(payload, m); err == nil && !retained {
			f.board.heard(key, now)
			if !f.shares.speak(key) {
				f.drop("call message dropped: its terminal sends too many", key, "call", m.Call)
				return
			}
			select {
			case f.messages <- CallMessage{key, m}:
			default:
				f.drop("call message dropped: too many wait", key, "call", m.Call)
			}
		}
	}
	if err != nil {
		f.refuse(key, channel, len(payload), err, now)
	}
}

// storable refuses what a terminal cannot have come to by counting.
func storable(e *protocol.Event) error {
	if e.Seq > math.MaxInt64 {
		return fmt.Errorf("sequence number of an event: %w", protocol.ErrMalformed)
	}
	return nil
}

// refuse counts a message that was not understood. It says nothing about whether the terminal is there: it is.
func (f *Fleet) refuse(key protocol.KeyHash, channel string, size int, err error, now time.Time) {
	f.malformed.Add(1)
	count, due := f.board.refused(key, now)
	level := slog.LevelWarn
	if !due {
		level = slog.LevelDebug // of them there can be as many as the terminal likes
	}
	f.log.Log(context.Background(), level, "malformed message refused", "count", count, "terminal", key, "channel", channel, "bytes", size, "error", err, "code", protocol.SignalMalformed)
	if !due {
		return
	}
	f.enqueue(work{terminal: key, refusal: &audit.Entry{
		At: protocol.At(now), Who: "terminal " + key.Name(), What: audit.MessageRefused, Subject: key.Name(),
		Detail: map[string]string{"channel": channel, "bytes": fmt.Sprint(size), "count": fmt.Sprint(count), "code": string(protocol.SignalMalformed)},
	}})
}

func (f *Fleet) enqueue(w work) {
	if w.event != nil && !f.shares.take(w.terminal) {
		f.shares.miss(w.terminal)
		f.drop("event dropped: too many of its terminal wait to be stored; it is not acknowledged and comes again", w.terminal)
		return
	}
	select {
	case f.work <- w:
	default:
		if w.event != nil {
			f.shares.give(w.terminal)
			f.shares.miss(w.terminal)
		}
		f.drop("too much waits to be stored; what does not fit is not acknowledged and comes again", w.terminal)
	}
}

// storeWork stores what receive has put in the queue, as much at a time as waits, and acknowledges what is committed.
func (f *Fleet) storeWork(ctx context.Context) {
	for {
		var batch []work
		select {
		case <-ctx.Done():
			return
		case w := <-f.work:
			batch = append(batch, w)
		}
		for more := true; more && len(batch) < maxBatch; {
			select {
			case w := <-f.work:
				batch = append(batch, w)
			default:
				more = false
			}
		}
		f.storeBatch(ctx, batch)
		f.settle(ctx, batch) // after the events that came with it
	}
}

func (f *Fleet) storeBatch(ctx context.Context, batch []work) {
	events := batch[:0:0]
	for _, w := range batch {
		if w.health != nil {
			continue
		}
		if w.refusal == nil {
			defer f.shares.give(w.terminal)
			events = append(events, w)
			continue
		}
		err := f.config.Store.Write(ctx, func(tx *sql.Tx) error { return f.config.Audit.AppendTx(ctx, tx, *w.refusal) })
		if err != nil && ctx.Err() == nil {
			f.log.Error("refusal could not be written to the audit log", "error", err)
		}
	}
	if len(events) == 0 {
		return
	}
	acks, err := f.events.commit(ctx, events)
	if err != nil && len(events) > 1 && ctx.Err() == nil {
		// One of them may be the cause: the others must not wait for it.
		err = nil
		for _, w := range events {
			more, oneErr := f.events.commit(ctx, []work{w})
			acks, err = append(acks, more...), errors.Join(err, oneErr)
		}
	}
	if err != nil && ctx.Err() == nil {
		f.log.Error("events could not be stored; they are not acknowledged and come again", "error", err)
	}
	for _, a := range acks {
		signed, err := f.config.SignAck(&a)
		if err == nil {
			err = f.publish(ctx, protocol.InTopic(a.Terminal, protocol.InAck), signed)
		}
		if err != nil && ctx.Err() == nil {
			f.log.Warn("acknowledgement not sent; the terminal repeats its events", "terminal", a.Terminal, "error", err)
		}
	}
}

// keepTime looks for silent terminals and stores states.
func (f *Fleet) keepTime(ctx context.Context) {
	silent, save := time.NewTicker(silenceCheck), time.NewTicker(saveInterval)
	defer silent.Stop()
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-silent.C:
			f.board.silence(now)
		case <-save.C:
			if err := f.saveStates(ctx); err != nil && ctx.Err() == nil {
				f.log.Error("terminals' states could not be stored", "error", err)
			}
		}
	}
}
