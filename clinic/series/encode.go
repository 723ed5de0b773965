package series

import (
	"encoding/binary"
	"iter"
	"time"
)

// version is the first byte of a blob.
const version = 1

func appendFigure(b []byte, v int64) []byte { return binary.AppendUvarint(b, uint64(v+1)) }

// figure reads one; ok is false where there is none, or it cannot be one.
func figure(b []byte) (v int64, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > maxFigure+1 {
		return 0, nil, false
	}
	return int64(n) - 1, b[size:], true
}

func encodeFine(samples []Sample) []byte {
	b := []byte{version}
	for _, s := range samples {
		b = append(b, byte(int(s.At.Unix()%3600)/int(Step/time.Second)))
		for _, v := range s.Values {
			b = appendFigure(b, v)
		}
	}
	return b
}

// decodeFine returns the samples by their slot. What is of a newer version, or damaged, is left out.
func decodeFine(b []byte) map[int]Values {
	if len(b) == 0 || b[0] != version {
		return nil
	}
	found := map[int]Values{}
	for b = b[1:]; len(b) > 0; {
		slot := int(b[0])
		b = b[1:]
		var v Values
		ok := slot < slots
		for kind := 0; ok && kind < int(Kinds); kind++ {
			v[kind], b, ok = figure(b)
		}
		if !ok {
			return found
		}
		found[slot] = v
	}
	return found
}

func ordered(found map[int]Values) iter.Seq2[int, Values] {
	return func(yield func(int, Values) bool) {
		for slot := range slots {
			if v, ok := found[slot]; ok && !yield(slot, v) {
				return
			}
		}
	}
}

// sum is what samples of an hour come to.
func sum(samples []Sample) Hour {
	var h Hour
	for kind := range Kinds {
		total, n := int64(0), int64(0)
		h.Least[kind], h.Mean[kind], h.Most[kind] = Unknown, Unknown, Unknown
		for _, s := range samples {
			v := s.Values[kind]
			if v == Unknown {
				continue
			}
			if n == 0 {
				h.Least[kind], h.Most[kind] = v, v
			}
			h.Least[kind], h.Most[kind] = min(h.Least[kind], v), max(h.Most[kind], v)
			total, n = total+v, n+1
		}
		if n > 0 {
			h.Mean[kind] = (total + n/2) / n
		}
	}
	return h
}

func encodeHour(h Hour) []byte {
	b := []byte{version}
	for kind := range Kinds {
		if b = appendFigure(b, h.Least[kind]); h.Least[kind] != Unknown {
			b = appendFigure(appendFigure(b, h.Mean[kind]), h.Most[kind])
		}
	}
	return b
}

func decodeHour(b []byte) (h Hour, ok bool) {
	if len(b) == 0 || b[0] != version {
		return h, false
	}
	b = b[1:]
	for kind := range Kinds {
		h.Mean[kind], h.Most[kind] = Unknown, Unknown
		if h.Least[kind], b, ok = figure(b); ok && h.Least[kind] != Unknown {
			if h.Mean[kind], b, ok = figure(b); ok {
				h.Most[kind], b, ok = figure(b)
			}
		}
		if !ok {
			return Hour{}, false
		}
	}
	return h, true
}
