package health

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/pion/logging"
	"github.com/pion/turn/v5"
	"golang.org/x/net/dns/dnsmessage"

	"vindu/device/acceptance/reach"
	"vindu/device/network"
	"vindu/protocol"
	"vindu/protocol/faulttest"
)

// kernel is a file system as the kernel shows it.
type kernel fstest.MapFS

func (k kernel) Open(name string) (fs.File, error) { return fstest.MapFS(k).Open(name) }
func (k kernel) set(name, content string)          { k[name] = &fstest.MapFile{Data: []byte(content + "\n")} }
func (k kernel) delete(name string)                { delete(k, name) }

// memory is a Store.
type memory struct {
	b      []byte
	writes int
}

func (m *memory) Load() ([]byte, error) { return m.b, nil }
func (m *memory) Save(b []byte) error   { m.b, m.writes = slices.Clone(b), m.writes+1; return nil }

// fault is a condition that a test brings about and takes away again.
type fault struct {
	probe    Probe
	provoke  func()
	relieve  func()
	holds    time.Duration // it is over so long after relief
	again    int           // looks until it is found; 0: one
	loopback bool          // it has to do with real connections
	hides    protocol.Code // comes with it, and is hidden under it
}

var update = flag.Bool("update", false, "write what was provoked anew; read every line of it by eye before it is committed")

// plain is what is done to bring a condition about, in words.
var plain = map[protocol.Code]string{
	protocol.PowerLow: "the board's sensor tells of undervoltage", protocol.PowerCut: "another boot, of a terminal that was not stopped",
	protocol.PowerBootLoop: "the fifth short boot in a row", protocol.PowerWatchdog: "the watchdog says that it has restarted the system",
	protocol.PowerCrashed: "a record of the kernel's crash was left", protocol.StorageLow: "the storage is nearly full", protocol.StorageWorn: "the disk says that its life is used up",
	protocol.StorageSlow: "a small file takes seconds to reach the disk", protocol.StorageReadOnly: "the file system has become read-only",
	protocol.StorageFailing: "a block of the storage cannot be read",
	protocol.StorageDropped: "the outbox was full", protocol.TimeStale: "the clinic's time was not learnt for a day", protocol.HeatHot: "a fake thermal zone is at 85 °C",
	protocol.HeatThrottled: "the processor is slowed to cool it", protocol.MemoryLow: "less than 8 % of the memory is available", protocol.MemoryPressure: "something waits for memory a third of the time",
	protocol.IPNoCarrier: "the cable's carrier goes away", protocol.IPNone: "the interface has no address", protocol.IPWiFiUnheard: "the Wi-Fi that was set is not heard",
	protocol.IPWiFiRefused: "the Wi-Fi refuses the password", protocol.IPv6Only: "the interface has IPv6 addresses alone", protocol.IPNoGateway: "there is no route out",
	protocol.IPGatewaySilent: "the router does not answer ARP", protocol.IPWeak: "the Wi-Fi's signal is below -75 dBm", protocol.IPRoams: "the access point changes thirteen times in an hour",
	protocol.IPDNS: "the server of names answers with failure", protocol.IPPortal: "a portal answers plain HTTP", protocol.EgressUDP: "the relay's UDP port swallows all",
	protocol.EgressRelay: "the relay answers by no way", protocol.EgressNoUDP: "the clinic names no relay over UDP", protocol.EgressRefused: "the relay refuses the password",
	protocol.EgressIntercepted: "another authority's certificate is shown for the clinic's name", protocol.ClinicExpires: "the clinic's certificate ends in six days",
	protocol.RenewalOverdue: "the terminal's certificate ends in four days", protocol.SignalSilent: "no round trip was seen for more than a minute", protocol.SignalSlow: "the round trip takes three seconds",
}

// drive is a disk that is well, but for what it makes of being written to.
func drive(write func([]byte) error) Drive {
	return Drive{Write: write, Read: func() error { return nil }, ReadOnly: func() (bool, error) { return false, nil }, Waiting: never}
}

// eager is one to which something could not be written that waits: it is tried at each look.
func eager(write func([]byte) error) Drive {
	d := drive(write)
	d.Waiting = func() bool { return true }
	return d
}

// board returns a machine on which all is well.
func board() kernel {
	k := kernel{}
	k.set("proc/uptime", "40000.11 79999.00")
	k.set("proc/sys/kernel/random/boot_id", "6f1c0d4e-0000-4000-8000-000000000001")
	k.set("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0")
	k.set("sys/class/watchdog/watchdog0/bootstatus", "0")
	k.set("sys/class/thermal/thermal_zone0/temp", "51000")
	k.set("sys/class/thermal/thermal_zone0/trip_point_0_type", "critical")
	k.set("sys/class/thermal/thermal_zone0/trip_point_0_temp", "90000")
	k.set("sys/class/thermal/cooling_device0/type", "cpufreq-cpu0")
	k.set("sys/class/thermal/cooling_device0/cur_state", "0")
	k.set("sys/class/thermal/cooling_device1/type", "pwm-fan")
	k.set("sys/class/thermal/cooling_device1/cur_state", "3")
	k.set("proc/meminfo", "MemTotal:        1000000 kB\nMemFree:   10000 kB\nMemAvailable:     500000 kB")
	k.set("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0")
	k.set("sys/block/mmcblk0/device/life_time", "0x01 0x02")
	k.set("proc/net/route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"+
		"eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\neth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0")
	k.set("proc/net/ipv6_route", strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" ffffffff 00000001 00000000 00200200       lo")
	k.set("proc/net/arp", "IP address       HW type     Flags       HW address            Mask     Device\n192.168.2.1      0x1         0x2         52:54:00:12:35:02     *        eth0")
	return k
}

func wired() network.Interface {
	return network.Interface{Name: "eth0", Kind: network.Ethernet, Up: true, Addresses: []string{"192.168.2.15/24", "2001:db8::15/64"}}
}

func radio() network.Interface {
	return network.Interface{Name: "wlan0", Kind: network.WiFi, Up: true, Addresses: []string{"192.168.2.16/24"}, Signal: -55}
}

// faults are all conditions that probes find.
func faults(t *testing.T) map[protocol.Code]*fault {
	all := map[protocol.Code]*fault{}
	add := func(c protocol.Code, f fault) { all[c] = &f }

	// power
	sensor := board()
	add(protocol.PowerLow, fault{probe: (&Power{Files: sensor, Store: &memory{}}).Probe(), holds: lowPower,
		provoke: func() { sensor.set("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1") }, relieve: func() { sensor.set("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0") }})
	boot := func(c protocol.Code, limit time.Duration, before string, after func(kernel)) {
		k := board()
		store := &memory{b: []byte(before)}
		k.set("proc/uptime", "20.00 30.00")
		p := &Power{Files: k, Store: store}
		add(c, fault{
			probe: Probe{Name: "power", Run: func(ctx context.Context) ([]Finding, error) { return p.look(ctx) }},
			provoke: func() {
				k.set("proc/sys/kernel/random/boot_id", "another")
				after(k)
				*p = Power{Files: k, Store: store}
			},
			relieve: func() { k.set("proc/uptime", fmt.Sprintf("%.2f 0.00", limit.Seconds()+1)) },
		})
	}
	const id = "6f1c0d4e-0000-4000-8000-000000000001"
	nothing := func(kernel) {}
	boot(protocol.PowerCut, recent, "boot="+id+" short=0 lasted=true stopped=false crashes=0\n", nothing)
	boot(protocol.PowerBootLoop, settled, "boot="+id+" short=3 lasted=false stopped=true crashes=0\n", nothing)
	boot(protocol.PowerWatchdog, recent, "boot="+id+" short=0 lasted=true stopped=false crashes=0\n", func(k kernel) { k.set("sys/class/watchdog/watchdog0/bootstatus", "32") })
	boot(protocol.PowerCrashed, recent, "boot="+id+" short=0 lasted=true stopped=false crashes=0\n", func(k kernel) { k.set("sys/fs/pstore/dmesg-ramoops-0", "Oops") })

	// storage
	var free, total uint64 = 4 << 30, 8 << 30
	space := board()
	add(protocol.StorageLow, fault{probe: Space(space, func() (uint64, uint64, error) { return free, total, nil }),
		provoke: func() { free = 500 << 20 }, relieve: func() { free = 2 << 30 }})
	worn := board()
	add(protocol.StorageWorn, fault{probe: Space(worn, func() (uint64, uint64, error) { return 4 << 30, 8 << 30, nil }),
		provoke: func() { worn.set("sys/block/mmcblk0/device/life_time", "0x03 0x0a") }, relieve: func() { worn.set("sys/block/mmcblk0/device/life_time", "0x03 0x01") }})
	var took time.Duration
	add(protocol.StorageSlow, fault{probe: Disk(eager(func([]byte) error { <-time.After(took); return nil })),
		provoke: func() { took = 3 * time.Second }, relieve: func() { took = time.Millisecond }})
	var diskErr error
	add(protocol.StorageReadOnly, fault{probe: Disk(eager(func([]byte) error { return diskErr })), provoke: func() { diskErr = syscall.EROFS }, relieve: func() { diskErr = nil }})
	var readErr error
	fails := drive(func([]byte) error { return nil })
	fails.Read = func() error { return readErr }
	add(protocol.StorageFailing, fault{probe: Disk(fails), provoke: func() { readErr = fmt.Errorf("read lock: %w", syscall.EIO) }, relieve: func() { readErr = nil }})
	var dropped uint64
	add(protocol.StorageDropped, fault{probe: Outbox(func() uint64 { return dropped }), holds: tellLoss, provoke: func() { dropped = 4 }, relieve: func() {}})

	// time, heat, memory
	age := time.Hour
	add(protocol.TimeStale, fault{probe: Time(func() (time.Duration, bool) { return age, true }), provoke: func() { age = 25 * time.Hour }, relieve: func() { age = time.Minute }})
	hot := board()
	add(protocol.HeatHot, fault{probe: Heat(hot), hides: protocol.HeatThrottled,
		provoke: func() {
			hot.set("sys/class/thermal/thermal_zone0/temp", "85000")
			hot.set("sys/class/thermal/cooling_device0/cur_state", "2")
		},
		relieve: func() {
			hot.set("sys/class/thermal/thermal_zone0/temp", "79000")
			hot.set("sys/class/thermal/cooling_device0/cur_state", "0")
		}})
	slowed := board()
	add(protocol.HeatThrottled, fault{probe: Heat(slowed), provoke: func() { slowed.set("sys/class/thermal/cooling_device0/cur_state", "2") }, relieve: func() { slowed.set("sys/class/thermal/cooling_device0/cur_state", "0") }})
	tight := board()
	add(protocol.MemoryLow, fault{probe: Memory(tight), hides: protocol.MemoryPressure,
		provoke: func() {
			tight.set("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 79000 kB")
			tight.set("proc/pressure/memory", "some avg10=1.00 avg60=31.50 avg300=1.0 total=9")
		},
		relieve: func() {
			tight.set("proc/meminfo", "MemTotal: 1000000 kB\nMemAvailable: 121000 kB")
			tight.set("proc/pressure/memory", "some avg10=1.00 avg60=3.50 avg300=1.0 total=9")
		}})
	waits := board()
	add(protocol.MemoryPressure, fault{probe: Memory(waits), provoke: func() { waits.set("proc/pressure/memory", "some avg10=1.00 avg60=31.50 avg300=1.0 total=9") }, relieve: func() { waits.set("proc/pressure/memory", "some avg10=1.00 avg60=3.50 avg300=1.0 total=9") }})

	// network
	ways := func(c protocol.Code, change func(kernel, *network.Interface)) {
		k, i := board(), wired()
		add(c, fault{probe: Network(k, func(context.Context) ([]network.Interface, error) { return []network.Interface{i}, nil }, never),
			provoke: func() { change(k, &i) },
			relieve: func() {
				i = wired()
				for name, f := range board() {
					k[name] = f
				}
			}})
	}
	ways(protocol.IPNoCarrier, func(_ kernel, i *network.Interface) { i.Up = false }) // its address stays, as a static one does
	ways(protocol.IPNone, func(_ kernel, i *network.Interface) { i.Addresses, i.Code = nil, protocol.IPNone })
	ways(protocol.IPWiFiUnheard, func(_ kernel, i *network.Interface) {
		*i = radio()
		i.Up, i.Addresses, i.Code = false, nil, protocol.IPWiFiUnheard
	})
	ways(protocol.IPWiFiRefused, func(_ kernel, i *network.Interface) {
		*i = radio()
		i.Up, i.Addresses, i.Code = false, nil, protocol.IPWiFiRefused
	})
	ways(protocol.IPv6Only, func(k kernel, i *network.Interface) {
		i.Addresses = i.Addresses[1:]
		k.set("proc/net/route", "Iface")
		k.set("proc/net/ipv6_route", strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0")
	})
	ways(protocol.IPNoGateway, func(k kernel, _ *network.Interface) { k.set("proc/net/route", "Iface") })
	ways(protocol.IPGatewaySilent, func(k kernel, _ *network.Interface) {
		k.set("proc/net/arp", "IP address HW type Flags HW address Mask Device\n192.168.2.1 0x1 0x0 00:00:00:00:00:00 * eth0")
	})
	weak, access, turns := radio(), "02:00:00:00:00:00", 0
	wifi := func(i *network.Interface) Probe {
		return WiFi(func(context.Context) ([]network.Interface, error) { return []network.Interface{*i}, nil }, func(context.Context) string { return access })
	}
	add(protocol.IPWeak, fault{probe: wifi(&weak), provoke: func() { weak.Signal = -76 }, relieve: func() { weak.Signal = -69 }})
	strong := radio()
	roaming := wifi(&strong)
	roams := roaming.Run
	roaming.Run = func(ctx context.Context) ([]Finding, error) {
		if turns > 0 {
			turns--
			access = fmt.Sprintf("02:00:00:00:00:%02x", turns%2+1)
		}
		return roams(ctx)
	}
	add(protocol.IPRoams, fault{probe: roaming, again: roamsTooMany + 1, holds: time.Hour, provoke: func() { turns = roamsTooMany + 1 }, relieve: func() {}})

	// the way to the clinic
	names := newNames(t)
	add(protocol.IPDNS, fault{loopback: true, probe: Names("clinic.example", never, names.resolver().LookupHost), provoke: func() { names.answer.Store(false) }, relieve: func() { names.answer.Store(true) }})
	portal := newPortal(t)
	add(protocol.IPPortal, fault{loopback: true, probe: Portal(portal.Listener.Addr().String(), never, new(net.Dialer).DialContext), provoke: func() { portal.on.Store(true) }, relieve: func() { portal.on.Store(false) }})
	relays(t, add)
	certificates(t, add)
	trip := Trip{Up: true, From: time.Now().Add(time.Hour * 24 * 365 * 100), Took: 40 * time.Millisecond} // ahead of every test
	silent, slow := trip, trip
	add(protocol.SignalSilent, fault{probe: Link(func() Trip { return silent }), provoke: func() { silent.From = time.Now().Add(-silentTrip - time.Millisecond) }, relieve: func() { silent.From = time.Now() }})
	add(protocol.SignalSlow, fault{probe: Link(func() Trip { return slow }), provoke: func() { slow.Took = 3 * time.Second }, relieve: func() { slow.Took = time.Second }})
	return all
}

func never() bool { return false }

// TestEveryProbedCondition provokes each fault, asks that its probe finds it and nothing else, relieves it, and asks that it is over.
func TestEveryProbedCondition(t *testing.T) {
	list := faults(t)
	saw := faulttest.New(t, "probes", "device/health TestEveryProbedCondition", *update, slices.Collect(maps.Values(plain))...)
	for _, entry := range protocol.Register {
		if entry.Probe == "" {
			continue
		}
		f := list[entry.Code]
		if f == nil {
			t.Errorf("%s is provoked by nothing", entry.Code)
			continue
		}
		delete(list, entry.Code)
		if f.probe.Name != entry.Probe {
			t.Errorf("%s is found by %q, the register says %q", entry.Code, f.probe.Name, entry.Probe)
		}
		run := func(t *testing.T) {
			told := 0
			m := New(Config{Devices: func() Devices { return Devices{} }, Counters: func() Counters { return Counters{} }, Checks: func() []protocol.Code { return nil }, Now: time.Now,
				Log: slog.New(slog.DiscardHandler), Changed: func(protocol.ConditionChange) { told++ }})
			published := func() (codes []protocol.Code) {
				for _, c := range m.Health().Conditions {
					codes = append(codes, c.Code)
				}
				return codes
			}
			look := func() bool {
				found, err := f.probe.Run(t.Context())
				if err != nil {
					t.Error(err)
				}
				m.Find("probe."+f.probe.Name, found...)
				for _, x := range found {
					if allowed := x.Code == entry.Code || x.Code == f.hides || entry.Code == protocol.IPWiFiUnheard || entry.Code == protocol.IPWiFiRefused || x.Code == protocol.PowerCut; !allowed {
						t.Errorf("found %+v", x)
					}
				}
				return slices.ContainsFunc(found, func(x Finding) bool { return x.Code == entry.Code })
			}
			if look() {
				t.Error("found before it was provoked")
			}
			f.provoke()
			found := look()
			for range f.again {
				found = look()
			}
			if !found {
				t.Error("not found")
			}
			if wait := entry.Visible; wait > 0 { // as long as the register says, and no longer
				if <-time.After(wait - time.Millisecond); f.again == 0 && slices.Contains(published(), entry.Code) {
					t.Error("told too early")
				}
				longest := wait
				if f.hides != "" {
					longest = max(longest, protocol.Explain(f.hides).Visible)
				}
				<-time.After(longest - wait + time.Millisecond)
				m.settleNow()
			}
			all := published()
			shown := protocol.Showing(all)
			if !slices.Contains(shown, entry.Code) || f.hides != "" && !slices.Contains(all, f.hides) {
				t.Errorf("%q is published, %q shows", all, shown)
			}
			saw.Saw(t, faulttest.Fault{Fault: plain[entry.Code], Condition: entry.Code, Hidden: slices.DeleteFunc(all, func(c protocol.Code) bool { return slices.Contains(shown, c) })})
			f.relieve()
			if f.holds > 0 {
				<-time.After(f.holds - time.Second)
				if !look() {
					t.Error("over too early")
				}
				<-time.After(2 * time.Second)
			}
			if look() {
				t.Error("not over")
			}
			if slices.Contains(published(), entry.Code) || told < 2 {
				t.Errorf("after relief %q is published; told %d times", published(), told)
			}
		}
		t.Run(string(entry.Code), func(t *testing.T) {
			if f.loopback {
				t.Parallel()
				run(t)
			} else {
				synctest.Test(t, run)
			}
		})
	}
	for c := range list {
		t.Errorf("%s is provoked, and the register knows of no probe", c)
	}
}

// names is a server of names on loopback.
type names struct {
	conn   net.PacketConn
	answer atomic.Bool
}

func newNames(t *testing.T) *names {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &names{conn: conn}
	n.answer.Store(true)
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(raw)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(raw[:size]) != nil || len(m.Questions) == 0 {
				continue
			}
			m.Response, m.Additionals = true, nil
			m.RCode = dnsmessage.RCodeServerFailure
			if n.answer.Load() {
				m.RCode = dnsmessage.RCodeSuccess
				if q := m.Questions[0]; q.Type == dnsmessage.TypeA {
					m.Answers = []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}, Body: &dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
				}
			}
			if b, err := m.Pack(); err == nil {
				_, _ = conn.WriteTo(b, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return n
}

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", n.conn.LocalAddr().String())
	}}
}

type portal struct {
	*httptest.Server
	on atomic.Bool
}

func newPortal(t *testing.T) *portal {
	p := &portal{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.on.Load() {
			http.Redirect(w, r, "http://login.hotel.example/welcome", http.StatusFound)
			return
		}
		http.Redirect(w, r, "https://"+r.Host+"/", http.StatusMovedPermanently) // as a clinic may
	}))
	t.Cleanup(p.Close)
	return p
}

// relays provokes faults between the probe and a real TURN server.
func relays(t *testing.T, add func(protocol.Code, fault)) {
	const user, password = "1800000000:somebody", "secret"
	udp, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addresses := &turn.RelayAddressGeneratorStatic{RelayAddress: net.IPv4(127, 0, 0, 1), Address: "127.0.0.1"}
	quiet := logging.NewDefaultLoggerFactory()
	quiet.DefaultLogLevel = logging.LogLevelDisabled
	server, err := turn.NewServer(turn.ServerConfig{
		Realm: "test", LoggerFactory: quiet,
		AuthHandler: func(a *turn.RequestAttributes) (string, []byte, bool) {
			return a.Username, turn.GenerateAuthKey(a.Username, a.Realm, password), a.Username == user
		},
		PacketConnConfigs: []turn.PacketConnConfig{{PacketConn: udp, RelayAddressGenerator: addresses}},
		ListenerConfigs:   []turn.ListenerConfig{{Listener: tcp, RelayAddressGenerator: addresses}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	dead, err := net.ListenPacket("udp4", "127.0.0.1:0") // nobody reads from it, as behind a wall
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dead.Close() })
	overUDP, overTLS := "turn:"+udp.LocalAddr().String()+"?transport=udp", "turns:"+tcp.Addr().String()+"?transport=tcp"
	way := &reach.Network{Clinic: func() string { return "" }, Dial: func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address) // TLS is the relay's front door's
	}}
	walled := "turn:" + dead.LocalAddr().String() + "?transport=udp"
	both := []string{overUDP, overTLS}
	for c, x := range map[protocol.Code]struct {
		urls     []string
		password string
	}{
		protocol.EgressUDP:     {[]string{walled, overTLS}, password},
		protocol.EgressRelay:   {[]string{walled, "turns:127.0.0.1:1?transport=tcp"}, password},
		protocol.EgressNoUDP:   {[]string{overTLS}, password},
		protocol.EgressRefused: {both, "wrong"},
	} {
		urls, secret := both, password
		add(c, fault{loopback: true, provoke: func() { urls, secret = x.urls, x.password }, relieve: func() { urls, secret = both, password },
			probe: Egress(func() bool { return true }, Relay{
				Servers: func(context.Context) ([]protocol.ICEServer, error) {
					return []protocol.ICEServer{{URLs: urls, Username: user, Credential: protocol.Secret(secret)}}, nil
				},
				Echo:     func(ctx context.Context, url string) error { _, err := way.Echo(ctx, url); return err },
				Allocate: way.Allocate,
			})})
	}
}

// issuer is a certificate authority.
type issuer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(t *testing.T) *issuer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "clinic"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return &issuer{key, c}
}

func (i *issuer) issue(t *testing.T, until time.Time) tls.Certificate {
	c := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"clinic.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, c, i.cert, i.key.Public(), i.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key}
}

// certificates provokes faults between the probe and a real TLS server.
func certificates(t *testing.T, add func(protocol.Code, fault)) {
	ours, theirs := newIssuer(t), newIssuer(t)
	far := time.Now().Add(30 * 24 * time.Hour)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	shake := func(shown *tls.Certificate) func(context.Context) (*x509.Certificate, error) {
		return func(ctx context.Context) (*x509.Certificate, error) {
			near, away := net.Pipe()
			defer near.Close()
			defer away.Close()
			go func() {
				_ = tls.Server(away, &tls.Config{Certificates: []tls.Certificate{*shown}, MinVersion: tls.VersionTLS13}).HandshakeContext(ctx)
			}()
			c := tls.Client(near, &tls.Config{RootCAs: pool, ServerName: "clinic.example", MinVersion: tls.VersionTLS13})
			if err := c.HandshakeContext(ctx); err != nil {
				return nil, fmt.Errorf("shake hands: %w", err)
			}
			return c.ConnectionState().PeerCertificates[0], nil
		}
	}
	own := &x509.Certificate{NotAfter: far}
	ownIs := func() *x509.Certificate { return own }
	well := ours.issue(t, far)
	intercepted, ending, right := well, well, well
	add(protocol.EgressIntercepted, fault{loopback: true, probe: TLS(time.Now, func() *x509.Certificate { return nil }, shake(&intercepted)),
		provoke: func() { intercepted = theirs.issue(t, far) }, relieve: func() { intercepted = well }})
	add(protocol.ClinicExpires, fault{loopback: true, probe: TLS(time.Now, func() *x509.Certificate { return nil }, shake(&ending)),
		provoke: func() { ending = ours.issue(t, time.Now().Add(6*24*time.Hour)) }, relieve: func() { ending = well }})
	add(protocol.RenewalOverdue, fault{loopback: true, probe: TLS(time.Now, ownIs, shake(&right)),
		provoke: func() { own = &x509.Certificate{NotAfter: time.Now().Add(4 * 24 * time.Hour)} }, relieve: func() { own = &x509.Certificate{NotAfter: far} }})
}

// TestProbesAreQuietWhenAllIsWell asks that a machine without any of these files, as a container, is told to have no fault.
func TestProbesAreQuietWhenAllIsWell(t *testing.T) {
	bare := kernel{}
	bare.set("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 900 kB")
	asked := errors.New("somebody was asked")
	for _, p := range []Probe{
		(&Power{Files: bare, Store: &memory{}}).Probe(), Heat(bare), Memory(bare),
		Space(bare, func() (uint64, uint64, error) { return 1 << 40, 1 << 41, nil }),
		Network(bare, func(context.Context) ([]network.Interface, error) { return nil, nil }, never),
		Network(bare, func(context.Context) ([]network.Interface, error) { return []network.Interface{wired()}, nil }, func() bool { return true }),
		Names("clinic.example", func() bool { return true }, func(context.Context, string) ([]string, error) { return nil, asked }),
		Names("192.0.2.1", never, func(context.Context, string) ([]string, error) { return nil, asked }),
		Portal("clinic.example:80", func() bool { return true }, func(context.Context, string, string) (net.Conn, error) { t.Error(asked); return nil, asked }),
		Egress(never, Relay{Servers: func(context.Context) ([]protocol.ICEServer, error) { return nil, asked }}),
		Link(func() Trip { return Trip{From: time.Now().Add(-time.Hour)} }),
	} {
		if found, err := p.Run(t.Context()); err != nil || len(found) != 0 {
			t.Errorf("%s: %v, %v", p.Name, found, err)
		}
	}
}

func FuzzBoots(f *testing.F) {
	f.Add([]byte("boot=6f1c0d4e short=3 lasted=false stopped=true crashes=0\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if b, err := parseBoots(raw); err == nil && string(b.encode()) != string(raw) {
			t.Errorf("%q becomes %q", raw, b.encode())
		}
	})
}

// FuzzKernelFiles: whatever the kernel's files hold, nothing panics and nothing but numbers goes into a figure.
func FuzzKernelFiles(f *testing.F) {
	for _, file := range board() {
		f.Add(file.Data)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		k := board()
		for name := range k {
			k[name] = &fstest.MapFile{Data: content}
		}
		list := []network.Interface{wired()}
		for _, p := range []Probe{
			(&Power{Files: k, Store: &memory{b: content}}).Probe(), Heat(k), Memory(k),
			Space(k, func() (uint64, uint64, error) { return 1, 2, nil }),
			Network(k, func(context.Context) ([]network.Interface, error) { return list, nil }, never),
		} {
			found, _ := p.Run(t.Context())
			for _, x := range found {
				if len(x.Figure) > 64 || strings.ContainsAny(x.Figure, "\n\x00") {
					t.Errorf("%s: figure %q", p.Name, x.Figure)
				}
			}
		}
	})
}

// How much room is little: of a small disk a share, of any some megabytes; and a large disk's tenth is much.
func TestSpaceIsLow(t *testing.T) {
	for name, c := range map[string]struct {
		free, total uint64 // MiB
		low         bool
	}{
		"a tenth of a small partition":      {200, 2 << 10, true},
		"a fifth of it":                     {400, 2 << 10, false},
		"hardly anything, but a large part": {60, 100, true},
		"a tenth of a large disk":           {24 << 10, 252 << 10, false},
		"the last of a large disk":          {900, 252 << 10, true},
	} {
		probe := Space(fstest.MapFS{}, func() (uint64, uint64, error) { return c.free << 20, c.total << 20, nil })
		found, err := probe.Run(t.Context())
		if err != nil || (len(found) == 1) != c.low {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
}
