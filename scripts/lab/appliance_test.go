package lab

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vindu/scripts/lab/control"
)

var (
	longAppliance = flag.Bool("appliance", false, "have TestAppliance also hang, starve and break the terminal, and change its slots; make soak asks for it")
	systemCuts    = flag.Int("system-cuts", 10, "how often TestAppliance resets the terminal at moments that nobody chose, with -appliance; make soak takes 50")
	idleFor       = flag.Duration("idle", 10*time.Minute, "how long TestAppliance counts what an idle terminal writes, with -appliance")
)

// TestAppliance boots a terminal from its own disk: U-Boot with the project's script, the slot's verified root, systemd with the project's units, the data sealed to a TPM. What is
// Debian's instead of Buildroot's is said in docs/reliability.md.
func TestAppliance(t *testing.T) {
	t.Parallel() // how long things take is judged where the host had time to spare
	p := startAppliance(t)
	p.is("the slot", "a", `sed 's/.*rauc.slot=\([ab]\).*/\1/' /proc/cmdline`)
	p.is("the root", "squashfs ro", `awk '$2 == "/" { print $3, substr($4, 1, 2) }' /proc/mounts`)
	p.is("what the root is verified by", "verity", `dmsetup table root | cut -d' ' -f3`)
	p.is("units that failed", "", `systemctl --failed --plain --no-legend`)
	p.is("the hardware's watchdog", "i6300ESB timer", `cat /sys/class/watchdog/watchdog0/identity`)
	if grown, err := strconv.Atoi(p.sh(`cat /sys/class/block/vda6/size`)); err != nil || grown < 256<<11 {
		t.Errorf("the data has %d sectors: it did not grow into the disk; %v", grown, err)
	}
	p.is("the data's rights", "rw,nosuid,nodev,noexec,noatime,data=ordered crypto_LUKS", `echo $(awk '$2 == "/data" { print $4 }' /proc/mounts) $(blkid -p -o value -s TYPE /dev/vda6)`)
	p.is("who opens the data", "systemd-tpm2", `cryptsetup luksDump /dev/vda6 | grep -o systemd-tpm2`)
	p.is("the data's passwords", "", `cryptsetup luksDump /dev/vda6 --dump-json-metadata | grep -o argon2id || true`)
	first := p.enrol()
	if strings.Contains(p.journal(), "tpm_unused") {
		t.Error("there is a TPM, and the agent does not use it")
	}
	p.is("the agent's user, rights and filters", "1000 0000000000000000 1 2",
		`awk '/^(Uid|CapBnd|NoNewPrivs|Seccomp):/ { printf "%s ", $2 }' /proc/$(systemctl show -P MainPID vindu-agent)/status | sed 's/ $//'`)
	exposure := p.sh(`systemd-analyze security --no-pager vindu-agent | sed -n 's/.*Overall exposure level for vindu-agent.service: //p'`)
	t.Logf("systemd-analyze security vindu-agent: %s", exposure)
	if figure, err := strconv.ParseFloat(strings.Fields(exposure + " -")[0], 64); err != nil || figure > 2 {
		t.Errorf("its exposure is %q: more than 2", exposure)
	}
	p.closed()
	p.sandbox()

	p.first = first
	p.recovers("killed", restart, func() { p.sh(`systemctl kill -s KILL vindu-agent`) })
	p.recovers("stopped, ended by systemd's watchdog", restart, func() { p.sh(`systemctl kill -s STOP --kill-whom=main vindu-agent`) })
	if *longAppliance {
		p.faults()
		return
	}
	// The other slot, by a crash of the whole system.
	p.sh(`fw_setenv BOOT_ORDER "B A"`)
	p.recovers("crashed as a whole, the other slot", reset, p.crash)
	p.is("the slot after a crash", "b", `sed 's/.*rauc.slot=\([ab]\).*/\1/' /proc/cmdline`)
	p.is("tries of each slot", "2 2", `echo $(fw_printenv -n BOOT_A_LEFT) $(fw_printenv -n BOOT_B_LEFT)`)
}

// Within these a terminal is to be at its clinic again: after a restart of its program, and after one of its system.
const (
	restart = 30 * time.Second
	reset   = 60 * time.Second
)

// provenAppliance is a terminal of TestAppliance, and its clinic.
type provenAppliance struct {
	t      *testing.T
	guest  *Guest
	clinic *Clinic

	start string // the agent's that was ready last, as systemd names it
	first string // the key that it was set up with
}

func startAppliance(t *testing.T) *provenAppliance {
	t.Helper()
	program, err := Build(t.Context(), "./cmd/vindu-agent", false)
	if err != nil {
		t.Fatal(err)
	}
	hook, err := Build(t.Context(), "./cmd/vindu-agent", false, "-tags", "lab")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p := &provenAppliance{t: t, guest: Boot(t, Options{appliance: program, SetUp: true, Programs: map[string][]byte{hookProgram: hook}})}
	t.Cleanup(func() {
		if load, err := os.ReadFile("/proc/loadavg"); err == nil {
			p.guest.Log("the host's load: %s", load)
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.guest.Net.serveDHCP(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	p.clinic = startClinic(t, p.guest, "443")
	p.until("the agent to run", `systemctl is-active vindu-agent`)
	p.guest.Log("the agent runs %.1f s after the disk's making began", time.Since(began).Seconds())
	return p
}

const hookProgram = "/usr/lib/lab/vindu-agent"

// sh runs a script in the terminal, as root, and returns what it printed. It has to work.
func (p *provenAppliance) sh(script string) string {
	p.t.Helper()
	result, err := p.guest.Exec(p.t.Context(), control.Command{Args: []string{"sh", "-c", script}})
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.TrimSpace(string(result.Output))
}

func (p *provenAppliance) is(what, want, script string) {
	p.t.Helper()
	if got := p.sh(script); got != want {
		p.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// until waits until a script works.
func (p *provenAppliance) until(what, script string) {
	p.t.Helper()
	if err := p.guest.Until(p.t.Context(), 4*time.Minute, func() error {
		_, err := p.guest.Exec(p.t.Context(), control.Command{Args: []string{"sh", "-c", script}})
		return err
	}); err != nil {
		p.t.Fatalf("waiting for %s: %v", what, err)
	}
}

// journal is what the agent said since it began last.
func (p *provenAppliance) journal() string {
	p.t.Helper()
	return p.sh(`journalctl -b -o cat --no-pager _SYSTEMD_INVOCATION_ID=$(systemctl show -P InvocationID vindu-agent)`)
}

// ready waits until the agent, begun anew since it was ready last, has reached its clinic, and returns its key.
func (p *provenAppliance) ready() (key string) {
	p.t.Helper()
	if err := p.guest.Until(p.t.Context(), 4*time.Minute, func() error {
		start := p.sh(`systemctl show -P InvocationID vindu-agent`)
		if start == p.start {
			return errors.New("it was not begun anew")
		}
		text := p.sh(`journalctl -b -o cat --no-pager _SYSTEMD_INVOCATION_ID=` + start)
		for line := range strings.Lines(text) {
			var said struct{ Msg, Terminal string }
			if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "ready" {
				key, p.start = said.Terminal, start
				return nil
			}
		}
		return errors.New(text)
	}); err != nil {
		p.t.Fatalf("the agent is not ready: %v", err)
	}
	return key
}

// enrol sets the terminal up, as its own user, and returns its key.
func (p *provenAppliance) enrol() string {
	p.t.Helper()
	voucher, err := p.clinic.Voucher(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	p.sh(`systemctl stop vindu-agent`)
	if _, err := p.guest.Exec(p.t.Context(), control.Command{Args: []string{"setpriv", "--reuid=vindu", "--regid=vindu", "--init-groups",
		"vindu-agent", "enrol", "-config", "/etc/vindu/agent.toml", "-voucher-file", "-"}, Stdin: []byte(voucher)}); err != nil {
		p.t.Fatal(err)
	}
	p.sh(`systemctl start vindu-agent`)
	return p.ready()
}

// recovers does something to the terminal, waits until it is at its clinic again, as the one that it was, and holds how long that took, if the host had time to spare.
func (p *provenAppliance) recovers(what string, goal time.Duration, do func()) {
	p.t.Helper()
	before, err := ReadCPU()
	if err != nil {
		p.t.Fatal(err)
	}
	began := time.Now()
	do()
	if again := p.ready(); again != p.first {
		p.t.Errorf("%s: the terminal is %s, it was %s", what, again, p.first)
	}
	took := time.Since(began)
	after, err := ReadCPU()
	if err != nil {
		p.t.Fatal(err)
	}
	idle := after.IdleSince(before)
	p.guest.Log("%s: ready again after %.1f s", what, took.Seconds())
	switch {
	case took <= goal:
		p.t.Logf("%s: ready again after %.1f s (%s; %.1f of the host's cores idle)", what, took.Seconds(), goal, idle)
	case idle < LeastIdle:
		p.t.Logf("NOT JUDGED: %s: ready again after %.1f s (%s), and the host had %.1f cores to spare", what, took.Seconds(), goal, idle)
	default:
		p.t.Errorf("%s: ready again after %.1f s, want %s; %.1f of the host's cores were idle", what, took.Seconds(), goal, idle)
	}
}

// crash has the kernel panic and waits for the next start.
func (p *provenAppliance) crash() {
	p.t.Helper()
	if _, err := p.guest.Start(p.t.Context(), control.Command{Args: []string{"sh", "-c", "sync; echo c >/proc/sysrq-trigger"}}); err != nil {
		p.guest.Log("crash: %v", err) // its answer may be lost
	}
	p.boots(2 * time.Minute)
}

// boots waits for the next start of the system.
func (p *provenAppliance) boots(limit time.Duration) {
	p.t.Helper()
	if err := p.guest.again(p.t.Context(), limit); err != nil {
		p.t.Fatal(err)
	}
}

// closed: nobody reaches the terminal from outside, though somebody listens there; without the firewall he does.
func (p *provenAppliance) closed() {
	p.t.Helper()
	const port = "47"
	pid, err := p.guest.Start(p.t.Context(), control.Command{Args: []string{"labguest", "open", port}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.until("a port to be open", `netstat -ltn | grep -q ':`+port+` '`)
	reach := func() error {
		ctx, cancel := context.WithTimeout(p.t.Context(), 3*time.Second)
		defer cancel()
		conn, err := p.guest.Net.DialContext(ctx, "tcp", GuestAddr+":"+port)
		if err == nil {
			conn.Close()
		}
		return err
	}
	if err := reach(); err == nil {
		p.t.Error("the terminal is reached from outside")
	}
	p.sh(`nft flush ruleset`)
	if err := p.guest.Until(p.t.Context(), time.Minute, reach); err != nil {
		p.t.Errorf("without the firewall nobody reaches it either: %v", err)
	}
	p.sh(`nft -f /etc/nftables/vindu.nft; kill ` + strconv.Itoa(pid))
	p.is("who waits for connections", "127.0.0.53:53 127.0.0.54:53", `echo $(netstat -ltn | awk '$6 == "LISTEN" { print $4 }' | sort)`)
}

// works are the deeds that have to work from within the agent's sandbox. All others have to fail.
var works = []string{
	"write in /data/vindu", "write in /data/wifi", "write in /run/vindu", "read /etc/vindu/agent.toml", "read /dev/tpmrm0", "read /dev/dri/card0", "read /dev/video0", "bind a UDP port",
	"connect to 10.77.0.1:443",
}

// sandbox puts a program that tries everything into the agent's place, under its unit, unchanged, and compares what works.
func (p *provenAppliance) sandbox() {
	p.t.Helper()
	listener, err := p.guest.Net.Listen("tcp", HostAddr+":8443")
	if err != nil {
		p.t.Fatal(err)
	}
	defer listener.Close()
	p.hook("deeds")
	did := regexp.MustCompile(`(?m)^deed (true|false) "([^"]*)": (.*)$`)
	var text string
	if err := p.guest.Until(p.t.Context(), 4*time.Minute, func() error {
		if text = p.journal(); !strings.Contains(text, "deeds done") {
			return errors.New(text)
		}
		return nil
	}); err != nil {
		p.t.Fatalf("the deeds are not done: %v", err)
	}
	p.unhook()
	p.ready()
	tried := map[string]bool{}
	for _, m := range did.FindAllStringSubmatch(text, -1) {
		tried[m[2]] = true
		if want := slices.Contains(works, m[2]); (m[1] == "true") != want {
			p.t.Errorf("from within the sandbox: %s: %s; it should work: %v", m[2], m[3], want)
		}
	}
	for _, deed := range works {
		if !tried[deed] {
			p.t.Errorf("%s was not tried", deed)
		}
	}
	p.guest.Log("from within the sandbox:\n%s", text)
	if len(tried) < 50 {
		p.t.Errorf("only %d deeds were tried: %v", len(tried), slices.Sorted(maps.Keys(tried)))
	}
}

// hook starts the test's program in the agent's place: the unit, its sandbox and the path stay what they are.
func (p *provenAppliance) hook(what string) {
	p.t.Helper()
	p.sh(`systemctl stop vindu-agent && mount --bind ` + hookProgram + ` /usr/bin/vindu-agent && systemctl set-environment VINDU_LAB=` + what + ` && systemctl start vindu-agent`)
}

func (p *provenAppliance) unhook() {
	p.t.Helper()
	p.sh(`systemctl unset-environment VINDU_LAB && systemctl stop vindu-agent && umount /usr/bin/vindu-agent && systemctl start vindu-agent`)
}

// faults are what takes long.
func (p *provenAppliance) faults() {
	t := p.t
	t.Helper()
	p.hook("terminal")
	p.ready()
	for _, root := range []string{"screen", "lock", "health", "calls", "link"} {
		p.recovers(root+" hangs", restart, func() { p.sh(`echo ` + root + ` >/run/vindu/lab-hang`) })
		p.is("who asked for the end", "1", `journalctl -b -o cat --no-pager | grep -c '"late":\["`+root+`"\]'`)
		p.sh(`rm -f /run/vindu/starts`) // of each it is seen what comes of it alone
	}
	p.unhook()
	p.ready()

	p.hook("grow")
	p.until("the limit of memory", `journalctl -b --no-pager -u vindu-agent | grep -q "Failed with result 'oom-kill'"`)
	p.recovers("out of memory, from when that was seen", restart, func() {})
	p.unhook()
	p.ready()

	// What ends badly again and again.
	p.sh(`rm -f /run/vindu/starts`)
	for n := range 6 {
		p.recovers(fmt.Sprintf("killed %d times", n+1), restart, func() { p.sh(`systemctl kill -s KILL vindu-agent`) })
	}
	if text := p.journal(); !strings.Contains(text, "it begins in safe mode") || !strings.Contains(text, "power.safe_mode") {
		t.Errorf("after that many ends it is not in safe mode:\n%s", text)
	}

	// A full disk, from the start.
	p.sh(`dd if=/dev/zero of=/data/fill bs=64k 2>/dev/null; dd if=/dev/zero of=/data/rest bs=512 2>/dev/null; sync; rm -f /run/vindu/starts`)
	p.recovers("begun anew with a full disk", restart, func() { p.sh(`systemctl restart vindu-agent`) })
	p.tells("storage.full", time.Now())
	p.sh(`rm -f /data/fill /data/rest; sync`)
	p.recovers("begun anew with room again", restart, func() { p.sh(`systemctl restart vindu-agent`) })

	t.Logf("an idle terminal writes %s", p.idle())

	// The first process hangs: nothing feeds the hardware's watchdog. The other slot has one try.
	p.sh(`fw_setenv BOOT_ORDER "B A"; fw_setenv BOOT_B_LEFT 1`)
	p.recovers("hung as a whole, reset by the hardware's watchdog, the other slot", reset, func() {
		p.sh(`echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze`)
		p.boots(3 * time.Minute)
	})
	p.is("the slot after the watchdog", "b", `sed 's/.*rauc.slot=\([ab]\).*/\1/' /proc/cmdline`)
	p.is("tries of the other slot", "0", `fw_printenv -n BOOT_B_LEFT`)

	// It never became good: the next start is the first slot's again.
	p.recovers("crashed as a whole, back to the first slot", reset, p.crash)
	p.is("the slot after one that was never good", "a", `sed 's/.*rauc.slot=\([ab]\).*/\1/' /proc/cmdline`)
	p.until("the slot to be good", `[ "$(fw_printenv -n BOOT_A_LEFT)" = 3 ]`)

	// The disk gives errors to whoever reads or writes: it is told, and another start finds all as it was promised.
	began := time.Now()
	p.sh(`dmsetup suspend --nolockfs --noflush data && dmsetup load data --table "0 $(blockdev --getsz /dev/mapper/data) error" && dmsetup resume data`)
	p.tells("storage.failing", began)
	p.recovers("the disk that failed works again, and the system was begun anew", reset, p.crash)

	// Its supply is cut, also while it starts. Nobody asks how many tries a slot had: that both are used up in turn is a part of this.
	rng := rand.New(rand.NewPCG(uint64(*systemCuts), 1))
	for n := 0; n < *systemCuts; n += 2 {
		after := time.Duration(rng.IntN(12000)) * time.Millisecond
		p.cut()
		<-time.After(after)
		p.recovers(fmt.Sprintf("cut %d, %s after a start that a cut had brought", n+2, after), reset, p.cut)
	}
}

// cut resets the terminal without a word, and waits for the next start.
func (p *provenAppliance) cut() {
	p.t.Helper()
	if err := p.guest.qmp.do(p.t.Context(), "system_reset", nil, nil); err != nil {
		p.guest.Log("reset: %v", err) // it may have ended before it answered
	}
	p.boots(time.Minute)
}

// tells waits until the agent says that a condition holds.
func (p *provenAppliance) tells(code string, since time.Time) {
	p.t.Helper()
	p.until(code+" to be told", `journalctl -b --no-pager -o cat _SYSTEMD_INVOCATION_ID=`+p.start+` | grep -q '"code":"`+code+`"'`)
	p.t.Logf("%s is told after %.1f s", code, time.Since(since).Seconds())
}

// idle is what a terminal in nobody's call writes to its data, by the kernel's count of sectors, once what its start brought is written. It is held to what it may be in a day.
func (p *provenAppliance) idle() string {
	p.t.Helper()
	count := func() int {
		written, err := strconv.Atoi(p.sh(`sync; awk '{ print $7 }' /sys/class/block/$(basename $(readlink -f /dev/mapper/data))/stat`))
		if err != nil {
			p.t.Fatal(err)
		}
		return written * 512
	}
	<-time.After(settles)
	before, began := count(), time.Now()
	<-time.After(*idleFor)
	bytes, took := count()-before, time.Since(began)
	perDay := float64(bytes) / took.Seconds() * 86400 / 1e6
	if perDay > mostPerDay {
		p.t.Errorf("an idle terminal writes %.2f MB a day, want at most %d", perDay, mostPerDay)
	}
	return fmt.Sprintf("%d bytes in %s, %.2f MB a day", bytes, took.Round(time.Second), perDay)
}

const (
	settles    = 2 * time.Minute
	mostPerDay = 5 // MB
)
