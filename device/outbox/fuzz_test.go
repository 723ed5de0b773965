package outbox

import (
	"bytes"
	"testing"

	"vindu/protocol"
)

// FuzzStored: whatever an entry of the database has become, it is either unsound or exactly an event of this epoch.
func FuzzStored(f *testing.F) {
	o := &Outbox{epoch: protocol.Nonce{1}}
	for i, kind := range []string{protocol.EventOpening, protocol.EventNotice, protocol.EventEnd, protocol.EventCall} {
		b, err := protocol.Encode(&protocol.Event{Version: 1, Epoch: o.epoch, Seq: uint64(i + 1), At: 1, Kind: kind, Body: encode(f, kind, i)})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seqKey(uint64(i+1)), b)
		f.Add(seqKey(9), b)
		f.Add([]byte{1}, b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		seq, ok := o.sound(key, value)
		if !ok {
			return
		}
		var e protocol.Event
		if err := protocol.Decode(value, &e); err != nil || e.Seq != seq || e.Epoch != o.epoch || !bytes.Equal(seqKey(seq), key) {
			t.Errorf("entry %x is taken for event %d: %+v, %v", key, seq, e, err)
		}
	})
}
