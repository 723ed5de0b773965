package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// logOf writes entries as the kernel does.
func logOf(entries ...entry) []byte {
	head := make([]byte, sectorSize)
	binary.LittleEndian.PutUint64(head, logMagic)
	binary.LittleEndian.PutUint64(head[8:], logVersion)
	binary.LittleEndian.PutUint64(head[16:], uint64(len(entries)))
	binary.LittleEndian.PutUint32(head[24:], sectorSize)
	for _, e := range entries {
		block := make([]byte, sectorSize)
		binary.LittleEndian.PutUint64(block, uint64(e.offset/sectorSize))
		binary.LittleEndian.PutUint64(block[16:], e.flags)
		switch {
		case e.flags&flagMark != 0:
			binary.LittleEndian.PutUint64(block[24:], uint64(len(e.data)))
			copy(block[32:], e.data)
			head = append(head, block...)
		case e.flags&flagDiscard != 0:
			binary.LittleEndian.PutUint64(block[8:], uint64(e.length/sectorSize))
			head = append(head, block...)
		default:
			binary.LittleEndian.PutUint64(block[8:], uint64(len(e.data)/sectorSize))
			head = append(append(head, block...), e.data...)
		}
	}
	return head
}

func sectors(n int, with byte) []byte { return bytes.Repeat([]byte{with}, n*sectorSize) }

func mark(text string) entry { return entry{flags: flagMark, data: []byte(text)} }

func TestReadLog(t *testing.T) {
	want := []entry{
		{offset: 3 * sectorSize, data: sectors(2, 'a')},
		{flags: flagFlush},
		{offset: sectorSize, data: sectors(1, 'b'), flags: flagFlush | flagFUA},
		mark("appended=7"),
		{offset: 0, length: 8 * sectorSize, flags: flagDiscard},
		{offset: 0, data: sectors(1, 'c')},
	}
	log := logOf(want...)
	got, err := readLog(bytes.NewReader(log))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got, want, func(a, b entry) bool {
		return a.offset == b.offset && a.flags == b.flags && a.length == b.length && bytes.Equal(a.data, b.data)
	}) {
		t.Errorf("got %v", got)
	}
	for name, log := range map[string][]byte{
		"nothing":           nil,
		"another file":      sectors(8, 'x'),
		"an entry missing":  log[:len(log)-2*sectorSize],
		"data cut":          log[:len(log)-1],
		"a head of one bit": log[:1],
	} {
		if _, err := readLog(bytes.NewReader(log)); !errors.Is(err, errLog) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(logOf())
	f.Add(logOf(mark("ready=x"), entry{data: sectors(1, 'a'), flags: flagFUA}, entry{length: sectorSize, flags: flagDiscard}))
	f.Fuzz(func(t *testing.T, log []byte) {
		entries, err := readLog(bytes.NewReader(log))
		if err != nil {
			return
		}
		m := &medium{entries: entries, durable: make([]byte, 4*sectorSize), rng: rand.New(rand.NewPCG(1, 1))}
		for p := range entries {
			if _, err := m.cut(p + 1); err != nil && !errors.Is(err, errLog) {
				t.Fatal(err)
			}
		}
	})
}

// What a cut may and may not leave.
func TestCut(t *testing.T) {
	one := func(at int64, with byte, flags uint64) entry {
		return entry{offset: at * sectorSize, data: sectors(1, with), flags: flags}
	}
	for name, c := range map[string]struct {
		entries []entry
		p       int
		may     string // each disk that is possible, a letter a sector
	}{
		"nothing flushed":            {[]entry{one(0, 'a', 0), one(1, 'b', 0)}, 2, ".. a. .b ab"},
		"flushed":                    {[]entry{one(0, 'a', 0), {flags: flagFlush}, one(1, 'b', 0)}, 3, "a. ab"},
		"the flush's own data":       {[]entry{one(0, 'a', 0), one(1, 'b', flagFlush)}, 2, "a. ab"},
		"before the flush":           {[]entry{one(0, 'a', 0), {flags: flagFlush}}, 1, ".. a."},
		"forced":                     {[]entry{one(0, 'a', 0), one(1, 'b', flagFUA)}, 2, ".b ab"},
		"flushed and forced":         {[]entry{one(0, 'a', 0), one(1, 'b', flagFlush|flagFUA)}, 2, "ab"},
		"written over after a flush": {[]entry{one(0, 'a', 0), {flags: flagFlush}, one(0, 'b', 0)}, 3, "a. b."},
		"torn":                       {[]entry{{data: sectors(2, 'a')}}, 1, ".. a. .a aa"},
		"discarded":                  {[]entry{one(0, 'a', flagFUA), {length: 2 * sectorSize, flags: flagDiscard | flagFUA}}, 2, "a."},
		"a mark":                     {[]entry{mark("xx")}, 1, ".."},
	} {
		t.Run(name, func(t *testing.T) {
			left := map[string]bool{}
			for seed := range uint64(300) {
				m := &medium{entries: c.entries, durable: sectors(2, '.'), rng: rand.New(rand.NewPCG(seed, 1))}
				image, err := m.cut(c.p)
				if err != nil {
					t.Fatal(err)
				}
				for at := 0; at < len(image); at += sectorSize {
					if !bytes.Equal(image[at:at+sectorSize], sectors(1, image[at])) {
						t.Fatalf("sector %d is neither old nor new", at/sectorSize)
					}
				}
				left[string(image[0])+string(image[sectorSize])] = true
			}
			may := strings.Fields(c.may)
			for _, want := range may {
				if !left[want] {
					t.Errorf("%q never came", want)
				}
				delete(left, want)
			}
			if len(left) > 0 {
				t.Errorf("left %v, may only leave %v", left, may)
			}
		})
	}
}

// Cuts at rising moments of one log are those of a log cut once.
func TestCutsFollow(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	var entries []entry
	for n := range 60 {
		e := entry{offset: int64(rng.IntN(8)) * sectorSize, data: sectors(1, byte('A'+n))}
		if n%5 == 4 {
			e.flags = flagFlush | flagFUA
		}
		entries = append(entries, e)
	}
	m := &medium{entries: entries, durable: sectors(8, '.'), rng: rng}
	for _, p := range moments(len(entries), 30, rng) {
		if _, err := m.cut(p); err != nil {
			t.Fatal(err)
		}
		want := sectors(8, '.')
		for _, e := range entries[:m.done] {
			copy(want[e.offset:], e.data)
		}
		if !bytes.Equal(m.durable, want) {
			t.Fatalf("after a cut at %d the durable part is not what the first %d writes make", p, m.done)
		}
		for i := m.done + 1; i < p; i++ {
			if entries[i].flags&flagFlush != 0 {
				t.Fatalf("a cut at %d counts only %d writes as durable, but %d is a flush", p, m.done, i)
			}
		}
	}
}
