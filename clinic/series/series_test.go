package series

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vindu/clinic/fleet"
	"vindu/clinic/store"
	"vindu/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	_ Fleet = (*fleet.Fleet)(nil)
	_ Fleet = (*terminals)(nil)
)

// terminals are what a test says they are.
type terminals struct {
	mu     sync.Mutex
	states map[protocol.KeyHash]fleet.State
}

func (f *terminals) States() map[protocol.KeyHash]fleet.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make(map[protocol.KeyHash]fleet.State, len(f.states))
	for k, s := range f.states {
		out[k] = s
	}
	return out
}

func (f *terminals) tell(key protocol.KeyHash, at time.Time, pending uint64, figures *protocol.Figures) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.states == nil {
		f.states = map[protocol.KeyHash]fleet.State{}
	}
	f.states[key] = fleet.State{Terminal: key, Health: &protocol.Health{At: protocol.At(at), Pending: pending, Figures: figures}}
}

func keyOf(n int) protocol.KeyHash { return sha256.Sum256(fmt.Append(nil, n)) }

func open(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "clinic.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func keeper(t *testing.T, s *store.Store, f Fleet) *Keeper {
	t.Helper()
	k, err := New(t.Context(), s, f, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// figuresAt is how a test's terminal n is at a time: some figures are not known at some times.
func figuresAt(n int, at time.Time) (uint64, *protocol.Figures) {
	x := uint64(at.Unix()/300) * uint64(n+3)
	f := &protocol.Figures{Signal: 40 + x%50, Trip: 10 + x%700, Heat: x % 3 * (30 + x%20), Memory: 1 + x%100}
	if n == 1 {
		f.Signal = 0 // it has a cable
	}
	return x % 40, f
}

// TestThreeDays: what terminals told in three days comes out as it went in: each sample of the last two days, and of each hour the least, the mean and the most; what is
// older is gone. It is worked out a second time here, from the beginning.
func TestThreeDays(t *testing.T) {
	s, f := open(t), new(terminals)
	k := keeper(t, s, f)
	const count = 3
	end := time.Now().Truncate(Step)
	begin := end.Add(-72 * time.Hour)
	fine := map[int][]Sample{}
	for at := begin.Add(Step); !at.After(end); at = at.Add(Step) {
		for n := range count {
			if n == 2 && at.Sub(begin)%(5*time.Hour) > 3*time.Hour {
				continue // it is away: what it said last is no news
			}
			pending, figures := figuresAt(n, at)
			f.tell(keyOf(n), at, pending, figures)
			v := Values{Unknown, int64(figures.Trip), Unknown, int64(figures.Memory), int64(pending)}
			if figures.Signal > 0 {
				v[Signal] = int64(figures.Signal)
			}
			if figures.Heat > 0 {
				v[Heat] = int64(figures.Heat)
			}
			fine[n] = append(fine[n], Sample{at.Add(-Step), v})
		}
		k.look(t.Context(), at)
	}
	for n := range count {
		var want []Sample
		hours := map[int64][]Sample{}
		for _, x := range fine[n] {
			if !x.At.Before(end.Add(-KeepFine)) {
				want = append(want, x)
			}
			hours[x.At.Unix()/3600] = append(hours[x.At.Unix()/3600], x)
		}
		got, err := k.Fine(t.Context(), keyOf(n), end.Add(-KeepFine), end)
		if err != nil || len(got) != len(want) || len(got) == 0 {
			t.Fatalf("terminal %d: %v, %d samples, want %d", n, err, len(got), len(want))
		}
		for i := range got {
			if !got[i].At.Equal(want[i].At) || got[i].Values != want[i].Values {
				t.Fatalf("terminal %d, sample %d: %v, want %v", n, i, got[i], want[i])
			}
		}
		list, err := k.Hours(t.Context(), keyOf(n), begin, end)
		if err != nil || len(list) != len(hours) {
			t.Fatalf("terminal %d: %v, %d hours, want %d", n, err, len(list), len(hours))
		}
		for _, h := range list {
			for kind := range Kinds {
				least, most, total, known := Unknown, Unknown, 0.0, 0.0
				for _, x := range hours[h.At.Unix()/3600] {
					if v := x.Values[kind]; v != Unknown {
						if known == 0 || v < least {
							least = v
						}
						most, total, known = max(most, v), total+float64(v), known+1
					}
				}
				if h.Least[kind] != least || h.Most[kind] != most || known > 0 && (float64(h.Mean[kind]) < total/known-0.51 || float64(h.Mean[kind]) > total/known+0.51) || known == 0 && h.Mean[kind] != Unknown {
					t.Fatalf("terminal %d, %v, kind %d: %d %d %d, want %d %.1f %d", n, h.At, kind, h.Least[kind], h.Mean[kind], h.Most[kind], least, total/max(known, 1), most)
				}
			}
		}
	}
	for table, most := range map[string]int{"series_fine": 50 * count, "series_hours": 74 * count} {
		var n int
		if err := s.Read().QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n == 0 || n > most {
			t.Errorf("%s: %v, %d rows, at most %d", table, err, n, most)
		}
	}
	if got, err := k.Fine(t.Context(), keyOf(99), begin, end); err != nil || got != nil {
		t.Errorf("of a terminal that nobody knows: %v, %v", got, err)
	}
	// A month on nothing of it is left.
	k.look(t.Context(), end.Add(31*24*time.Hour+2*time.Hour))
	var n int
	if err := s.Read().QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM series_fine) + (SELECT count(*) FROM series_hours)").Scan(&n); err != nil || n != 0 {
		t.Errorf("a month on: %v, %d rows", err, n)
	}
}

// TestRestart: what was gathered of an hour outlives a restart, and what a terminal had told before one is no sample of after it.
func TestRestart(t *testing.T) {
	s, f := open(t), new(terminals)
	at := time.Now().Truncate(time.Hour).Add(30 * time.Minute)
	k := keeper(t, s, f)
	k.began = hourOf(at)
	f.tell(keyOf(0), at, 7, &protocol.Figures{Heat: 51})
	k.look(t.Context(), at)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again: an hour is one row
		k = keeper(t, s, f)
		k.began = hourOf(at)
		k.prime()
		k.look(t.Context(), at.Add(Step))
		if got, err := k.Fine(t.Context(), keyOf(0), at.Add(-time.Hour), at.Add(time.Hour)); err != nil || len(got) != 1 || got[0].Values != (Values{Unknown, Unknown, 51, Unknown, 7}) {
			t.Fatalf("%v %v", got, err)
		}
		if err := k.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	f.tell(keyOf(0), at.Add(2*Step), 9, nil)
	k.look(t.Context(), at.Add(2*Step))
	list, err := k.Hours(t.Context(), keyOf(0), at.Add(-time.Hour), at)
	if err != nil || len(list) != 1 || !reflect.DeepEqual(list[0].Most, Values{Unknown, Unknown, 51, Unknown, 9}) || list[0].Mean[Outbox] != 8 {
		t.Errorf("%v %v", list, err)
	}
}

// TestTenThousand writes an hour of a fleet, tells how long that took and how much it is, and that a terminal's month is found in it. Other writers come in between.
func TestTenThousand(t *testing.T) {
	const count = 10_000
	s, f := open(t), new(terminals)
	k := keeper(t, s, f)
	at := time.Now().Truncate(time.Hour)
	k.began = hourOf(at)
	for slot := range slots {
		now := at.Add(time.Duration(slot+1) * Step)
		for n := range count {
			pending, figures := figuresAt(n, now)
			f.tell(keyOf(n), now, pending, figures)
		}
		began := time.Now()
		k.look(t.Context(), now)
		t.Logf("a look at %d terminals took %v", count, time.Since(began).Round(time.Millisecond))
	}
	began := time.Now()
	k.look(t.Context(), at.Add(time.Hour+Step))
	t.Logf("to write an hour of %d terminals took %v", count, time.Since(began).Round(time.Millisecond))
	var fine, hours, size int64
	err := s.Read().QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM series_fine), (SELECT count(*) FROM series_hours), (SELECT sum(length(samples)) FROM series_fine) + (SELECT sum(length(figures)) FROM series_hours)").Scan(&fine, &hours, &size)
	if err != nil || fine != count || hours != count {
		t.Fatalf("%v, %d and %d rows", err, fine, hours)
	}
	info, err := os.Stat(s.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes of blobs, %d of the database's file", size, info.Size())
	// A month of one terminal, in a table in which a month of others lies between its rows.
	if err := s.Write(t.Context(), func(tx *sql.Tx) error {
		_, err := tx.ExecContext(t.Context(), `WITH RECURSIVE h (hour) AS (VALUES (?1) UNION ALL SELECT hour + 1 FROM h WHERE hour < ?2)
			INSERT OR REPLACE INTO series_hours SELECT h.hour, s.terminal, s.figures FROM h, (SELECT * FROM series_hours WHERE hour = ?2 LIMIT 100) s`, hourOf(at.Add(-KeepHours)), hourOf(at))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	var key []byte
	if err := s.Read().QueryRowContext(t.Context(), "SELECT t.terminal FROM series_terminals t JOIN series_hours s ON s.terminal = t.id WHERE s.hour = ? LIMIT 1", hourOf(at.Add(-time.Hour))).Scan(&key); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	list, err := k.Hours(t.Context(), protocol.KeyHash(key), at.Add(-KeepHours), at)
	t.Logf("to read a month of one took %v", time.Since(began).Round(time.Microsecond))
	if err != nil || len(list) != int(KeepHours/time.Hour)+1 {
		t.Errorf("%v, %d hours", err, len(list))
	}
}

// FuzzDecode: a blob is read as what it says, or left out, whatever is in it.
func FuzzDecode(f *testing.F) {
	v := Values{61, 34, 52, 41, 3}
	f.Add(encodeFine([]Sample{{time.Unix(7200, 0), v}, {time.Unix(7500, 0), Values{Unknown, Unknown, Unknown, Unknown, 0}}}))
	f.Add(encodeHour(sum([]Sample{{time.Unix(0, 0), v}})))
	f.Add([]byte{version, 12})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		check := func(values Values) {
			for _, v := range values {
				if v < Unknown || v > maxFigure {
					t.Fatalf("%d", v)
				}
			}
		}
		for slot, v := range decodeFine(b) {
			if slot < 0 || slot >= slots {
				t.Fatal(slot)
			}
			check(v)
		}
		if h, ok := decodeHour(b); ok {
			check(h.Least)
			check(h.Mean)
			check(h.Most)
		}
	})
}
