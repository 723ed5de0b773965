package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// standIns are the programs that need a real disk. Each notes how it was called; cryptsetup writes what blkid knows a LUKS2 partition by.
var standIns = map[string]string{
	"cryptsetup": `
for last; do :; done
case $1 in
luksFormat) dd if="$BENCH/vindu-new" of="$last" conv=notrunc 2>/dev/null ;;
config) dd if="$BENCH/vindu-data" of="$last" conv=notrunc 2>/dev/null ;;
luksDump) [ ! -e "$BENCH/tpm" ] || echo "  0: systemd-tpm2" ;;
open) cat >/dev/null; : >"$BENCH/mapper/data" ;;
close) rm "$BENCH/mapper/data" ;;
esac`,
	"systemd-cryptsetup":  `: >"$BENCH/mapper/data"`,
	"systemd-cryptenroll": ``,
	"umount":              ``,
	"mkfs.ext4":           `[ ! -e "$BENCH/cut" ] || exit 137`,
	"e2fsck":              `if [ "$1" = -p ]; then exit "${PREEN:-0}"; else exit "${MEND:-0}"; fi`,
}

// luks is the binary header of LUKS2 (on-disk format 1.1, §2.1), as far as blkid looks at it.
func luks(label string) []byte {
	h := make([]byte, 4096)
	copy(h, "LUKS\xba\xbe")
	binary.BigEndian.PutUint16(h[6:], 2)
	binary.BigEndian.PutUint64(h[8:], 16<<10)
	copy(h[24:], label)
	copy(h[168:], "00000000-0000-4000-8000-000000000001")
	return h
}

// dataBench is a board on which the script runs.
type dataBench struct {
	t   *testing.T
	dir string
}

func newDataBench(t *testing.T) *dataBench {
	t.Helper()
	b := &dataBench{t, t.TempDir()}
	for _, name := range []string{"bin", "run", "mapper", "sys/devices/soc0"} {
		if err := os.MkdirAll(b.at(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, body := range standIns {
		b.write("bin/"+name, "#!/bin/sh\necho "+name+` "$@" >>"$BENCH/log"`+"\n"+body+"\n")
	}
	b.write("vindu-new", string(luks("vindu-new")))
	b.write("vindu-data", string(luks("vindu-data")))
	b.write("partition", strings.Repeat("\x00", 17<<20))
	b.write("sys/devices/soc0/serial_number", "1234")
	script := read(t, filepath.Join(root, "buildroot/board/common/overlay/usr/libexec/vindu/data"))
	b.write("data", strings.NewReplacer("/dev/disk/by-partlabel/data", b.at("partition"), "/run/", b.at("run")+"/", "/dev/mapper/", b.at("mapper")+"/",
		"/dev/tpmrm0", b.at("tpm"), "/sys/", b.at("sys")+"/").Replace(script))
	return b
}

func (b *dataBench) at(name string) string { return filepath.Join(b.dir, name) }

func (b *dataBench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(b.at(name), []byte(text), 0o700); err != nil {
		b.t.Fatal(err)
	}
}

// run runs the script and returns how the stand-ins were called.
func (b *dataBench) run(environment ...string) (calls string, err error) {
	b.t.Helper()
	command := exec.CommandContext(b.t.Context(), "/bin/sh", b.at("data"))
	command.Env = append([]string{"BENCH=" + b.dir, "PATH=" + b.at("bin") + ":/usr/sbin:/usr/bin:/sbin:/bin"}, environment...)
	out, err := command.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	log, readErr := os.ReadFile(b.at("log"))
	if readErr != nil && !errors.Is(readErr, os.ErrNotExist) {
		b.t.Fatal(readErr)
	}
	_ = os.Remove(b.at("log"))
	for _, left := range []string{"run/vindu-data-key", "run/vindu-data-head"} {
		if _, statErr := os.Stat(b.at(left)); statErr == nil && err == nil {
			b.t.Errorf("%s is left", left)
		}
	}
	return string(log), err
}

// TestDataMade: an empty partition is made at the first start, once, by the board's number or by its TPM. Whatever is cut before the end is begun anew, and what is made never is.
func TestDataMade(t *testing.T) {
	for _, tpm := range []bool{false, true} {
		t.Run(fmt.Sprint("TPM ", tpm), func(t *testing.T) {
			b := newDataBench(t)
			if tpm {
				b.write("tpm", "")
			}
			b.write("cut", "")
			if calls, err := b.run(); err == nil || strings.Contains(calls, "vindu-data "+b.at("partition")) {
				t.Fatalf("cut while its file system was made: %v\n%s", err, calls)
			}
			if err := os.Remove(b.at("cut")); err != nil {
				t.Fatal(err)
			}
			calls, err := b.run()
			if err != nil {
				t.Fatal(err)
			}
			kdf := "--pbkdf argon2id" // of a number that somebody may guess
			if tpm {
				kdf = "--pbkdf pbkdf2 --pbkdf-force-iterations 1000"
			}
			for _, want := range []string{"umount /data", "cryptsetup close data", "luksFormat", kdf, "--label vindu-new", "mkfs.ext4", "config --label vindu-data", "e2fsck -p"} {
				before, after, ok := strings.Cut(calls, want)
				if calls = after; !ok {
					t.Fatalf("no %q after\n%s", want, before)
				}
			}
			if calls, err = b.run(); err != nil || strings.Contains(calls, "luksFormat") || strings.Contains(calls, "mkfs") || !strings.Contains(calls, "e2fsck -p") {
				t.Errorf("the next start: %v\n%s", err, calls)
			}
			if got := strings.Contains(calls, "systemd-cryptsetup attach"); got != tpm {
				t.Errorf("opened by the TPM: %v\n%s", got, calls)
			}
		})
	}
}

// TestDataStays: what holds something, cannot be read, or cannot be told is not made anew, and not touched.
func TestDataStays(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(b *dataBench)
		opens bool
	}{
		{"ours", func(b *dataBench) { b.write("partition", string(luks("vindu-data"))+strings.Repeat("\x00", 17<<20)) }, true},
		{"another's, without a label", func(b *dataBench) {
			b.write("partition", string(luks(""))+strings.Repeat("\x00", 17<<20))
		}, false},
		{"another's", func(b *dataBench) { b.write("partition", string(luks("backup"))+strings.Repeat("\x00", 17<<20)) }, false},
		{"it cannot be read", func(b *dataBench) {
			if err := errors.Join(os.Remove(b.at("partition")), os.Mkdir(b.at("partition"), 0o700)); err != nil { // read: EISDIR
				b.t.Fatal(err)
			}
		}, false},
		{"a block of it cannot be read", func(b *dataBench) {
			b.write("bin/dd", "#!/bin/sh\n[ \"${1#if=$BENCH/partition}\" = \"$1\" ] && exec /bin/dd \"$@\"\necho 'dd: error reading: Input/output error' >&2\nexit 1\n")
		}, false},
		{"it is not there", func(b *dataBench) {
			if err := os.Remove(b.at("partition")); err != nil {
				b.t.Fatal(err)
			}
		}, false},
		{"two things at once", func(b *dataBench) { b.write("bin/blkid", "#!/bin/sh\nexit 8\n") }, false},
		{"blkid fails", func(b *dataBench) { b.write("bin/blkid", "#!/bin/sh\nexit 4\n") }, false},
		{"there is no blkid", func(b *dataBench) { b.write("bin/blkid", "#!/bin/sh\nexit 127\n") }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newDataBench(t)
			test.spoil(b)
			before, _ := os.ReadFile(b.at("partition"))
			calls, err := b.run()
			if (err == nil) != test.opens {
				t.Errorf("error %v", err)
			}
			if strings.Contains(calls, "luksFormat") || strings.Contains(calls, "mkfs") || strings.Contains(calls, "cryptenroll") || strings.Contains(calls, "open") != test.opens {
				t.Errorf("called:\n%s", calls)
			}
			if after, _ := os.ReadFile(b.at("partition")); !bytes.Equal(before, after) {
				t.Error("it is not what it was")
			}
		})
	}
}

// TestDataMended: what e2fsck does not dare by itself it is told to do. What nothing mends fails, and the unit tries again and begins the board anew; it is not made anew.
func TestDataMended(t *testing.T) {
	for _, test := range []struct {
		preen, mend string
		asked, ok   bool
	}{
		{"0", "16", false, true}, {"1", "16", false, true}, {"2", "16", false, true},
		{"4", "1", true, true}, {"4", "0", true, true}, {"8", "1", true, true}, {"12", "2", true, true}, {"4", "4", true, false}, {"8", "8", true, false}, {"8", "5", true, false},
	} {
		t.Run(test.preen+" then "+test.mend, func(t *testing.T) {
			b := newDataBench(t)
			b.write("partition", string(luks("vindu-data"))+strings.Repeat("\x00", 17<<20))
			calls, err := b.run("PREEN="+test.preen, "MEND="+test.mend)
			if (err == nil) != test.ok || strings.Contains(calls, "e2fsck -y") != test.asked || strings.Contains(calls, "mkfs") || strings.Contains(calls, "luksFormat") {
				t.Errorf("%v\n%s", err, calls)
			}
		})
	}
	unit := read(t, filepath.Join(root, "buildroot/package/vindu-agent/vindu-data.service"))
	for _, line := range []string{"Restart=on-failure", "RestartMode=direct", "StartLimitAction=reboot", "StartLimitBurst=5"} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("no %s: a terminal whose data fails once stays black", line)
		}
	}
	if strings.Contains(unit, "SuccessExitStatus") {
		t.Error("a script that fails with 1 counts as one that succeeds")
	}
}
