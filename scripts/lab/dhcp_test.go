package lab

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// question is a client's message of a kind (RFC 2131 §2; options in RFC 2132).
func question(kind byte, options ...byte) []byte {
	q := make([]byte, 236)
	q[0], q[1], q[2] = 1, 1, 6
	copy(q[4:], "xidx")
	copy(q[28:], "\x52\x54\x00\x12\x34\x56")
	q = binary.BigEndian.AppendUint32(q, 0x63825363)
	q = append(q, options...)
	return append(q, 53, 1, kind, 255)
}

func TestDHCPAnswer(t *testing.T) {
	for _, test := range []struct {
		name     string
		question []byte
		kind     byte // of the answer; 0 is none
	}{
		{"discover", question(1), 2},
		{"request", question(3), 5},
		{"behind padding and another option", question(1, 0, 0, 12, 2, 'a', 'b'), 2},
		{"release", question(7), 0},
		{"an option that is cut off", question(1, 12, 200), 0},
		{"too short", question(1)[:200], 0},
		{"another cookie", bytes.Replace(question(1), []byte{0x63, 0x82}, []byte{0, 0}, 1), 0},
		{"an answer", append([]byte{2}, question(1)[1:]...), 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := dhcpAnswer(test.question)
			if test.kind == 0 {
				if answer != nil {
					t.Errorf("answered %x", answer)
				}
				return
			}
			if len(answer) < 243 || answer[0] != 2 || !bytes.Equal(answer[4:8], []byte("xidx")) || !bytes.Equal(answer[240:243], []byte{53, 1, test.kind}) {
				t.Fatalf("answered %x", answer)
			}
			if !bytes.Equal(answer[16:20], []byte{10, 77, 0, 2}) || !bytes.Equal(answer[28:34], test.question[28:34]) {
				t.Errorf("gave %v to %x", answer[16:20], answer[28:34])
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	want := map[string]string{"BOOT_ORDER": "B A", "BOOT_A_LEFT": "2"}
	written := environment(want)
	got, err := readEnvironment(written)
	if err != nil || len(got) != 2 || got["BOOT_ORDER"] != "B A" || got["BOOT_A_LEFT"] != "2" {
		t.Fatalf("%v, %v", got, err)
	}
	lost := bytes.Clone(written)
	for n := 2 << 10; n < len(lost); n++ {
		lost[n] = 0xff
	}
	if _, err := readEnvironment(lost); err == nil {
		t.Error("what QEMU lost is not missed")
	}
	if !mend(lost) || !bytes.Equal(lost, written) {
		t.Error("what QEMU lost is not put back")
	}
	if _, err := readEnvironment(environment(nil)); err == nil {
		t.Error("erased flash is an environment")
	}
	if empty := environment(nil); mend(empty) || empty[0] != 0xff {
		t.Error("erased flash was changed")
	}
	if other := bytes.Clone(written); func() bool { other[5] ^= 1; return mend(other) }() {
		t.Error("a damaged environment was mended")
	}
}
