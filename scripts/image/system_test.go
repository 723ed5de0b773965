package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// opened returns the ports to which the firewall lets the agent's user, as it writes them.
func opened(t *testing.T, protocol string) (ports []string) {
	t.Helper()
	rule := regexp.MustCompile(`(?m)^\s*meta skuid "vindu" ` + protocol + ` dport (?:\{ ([^}]*) \}|([0-9-]+)) accept$`)
	for _, m := range rule.FindAllStringSubmatch(read(t, filepath.Join(root, "buildroot/board/common/overlay/etc/nftables/vindu.nft")), -1) {
		for _, port := range strings.Split(m[1]+m[2], ",") {
			ports = append(ports, strings.TrimSpace(port))
		}
	}
	return ports
}

// TestFirewall: what the terminal's programs ask for is let out, and nothing else is. Ports that stand in the source are found there: one more is one more rule, or one that does
// not work on the image, and says nothing.
func TestFirewall(t *testing.T) {
	tcp, udp := map[string]string{}, map[string]string{"123": "time servers (RFC 5905 §7.2)", "1024-65535": "media, wherever the clinician is", "443": "a relay beside the front door"}
	literal := regexp.MustCompile(`JoinHostPort\([^)]*?, "([0-9]+)"\)`)
	for _, folder := range []string{"device", "media", "provisioning", "cmd/vindu-agent"} {
		err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, m := range literal.FindAllStringSubmatch(read(t, path), -1) {
				tcp[m[1]] = path
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(tcp) == 0 {
		t.Error("no port stands in the source: is the test in its place?")
	}
	clinic := read(t, filepath.Join(root, "clinic/config/example.toml"))
	for place, ports := range map[string]map[string]string{`(?m)^address = "[^"]*:([0-9]+)"$`: tcp, `(?m)^listen = ":([0-9]+)"$`: udp} {
		for _, m := range regexp.MustCompile(place).FindAllStringSubmatch(clinic, -1) {
			ports[m[1]] = "the clinic's configuration"
		}
	}
	for protocol, want := range map[string]map[string]string{"tcp": tcp, "udp": udp} {
		got := opened(t, protocol)
		inside := func(port string) bool {
			return slices.ContainsFunc(got, func(rule string) bool {
				low, high, ok := strings.Cut(rule, "-")
				n, err := strconv.Atoi(port)
				l, lowErr := strconv.Atoi(low)
				h, highErr := strconv.Atoi(high)
				return rule == port || ok && err == nil && lowErr == nil && highErr == nil && l <= n && n <= h
			})
		}
		for _, port := range slices.Sorted(maps.Keys(want)) {
			if !inside(port) {
				t.Errorf("%s %s is not let out: %s", protocol, port, want[port])
			}
		}
		for _, port := range got {
			if want[port] == "" {
				t.Errorf("%s %s is let out, and nobody goes there", protocol, port)
			}
		}
	}
}

// TestRedirects: nobody on the same network turns the way of a connection: also on interfaces that come later, and on those that are there (ip-sysctl: accept_redirects).
func TestRedirects(t *testing.T) {
	lines := strings.Split(read(t, filepath.Join(root, "buildroot/board/common/overlay/etc/sysctl.d/vindu.conf")), "\n")
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, which := range []string{"all", "default", "*"} {
			if line := fmt.Sprintf("net.%s.conf.%s.accept_redirects=0", family, which); !slices.Contains(lines, line) {
				t.Errorf("no %s", line)
			}
		}
	}
}

// TestGood: the slot that runs gets its tries back, once; without a slot nothing is written. U-Boot's script takes one at each boot.
func TestGood(t *testing.T) {
	for _, test := range []struct{ name, cmdline, left, want string }{
		{"safe mode", "rauc.slot=a", "2", "fails"},
		{"slot a", "root=/dev/dm-0 ro rauc.slot=a panic=5", "2", "BOOT_A_LEFT 3"},
		{"slot b", "rauc.slot=b", "0", "BOOT_B_LEFT 3"},
		{"already", "x rauc.slot=b y", "3", ""},
		{"no slot", "root=/dev/dm-0 quiet", "2", "fails"},
		{"no such slot", "rauc.slot=ab", "2", "fails"},
		{"the environment cannot be read", "rauc.slot=a", "", "BOOT_A_LEFT 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			script := strings.ReplaceAll(read(t, filepath.Join(root, "buildroot/board/common/overlay/usr/libexec/vindu/good")), "/proc/cmdline", filepath.Join(dir, "cmdline"))
			script = strings.ReplaceAll(script, "/run/vindu/safe", filepath.Join(dir, "safe"))
			if test.name == "safe mode" {
				if err := os.WriteFile(filepath.Join(dir, "safe"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range map[string]string{
				"cmdline": test.cmdline + "\n", "good": script,
				"fw_printenv": "#!/bin/sh\n[ -z '" + test.left + "' ] && exit 1\necho '" + test.left + "'\n",
				"fw_setenv":   "#!/bin/sh\necho \"$@\" >>'" + filepath.Join(dir, "written") + "'\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.CommandContext(t.Context(), "/bin/sh", filepath.Join(dir, "good"))
			command.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
			out, err := command.CombinedOutput()
			written, _ := os.ReadFile(filepath.Join(dir, "written"))
			got := strings.TrimSpace(string(written))
			if err != nil && got == "" {
				got = "fails"
			}
			if got != test.want {
				t.Errorf("%q, want %q; %v %s", got, test.want, err, out)
			}
		})
	}
	unit := settings(t, "vindu-good.service")
	if !slices.Contains(unit["BindsTo"], "vindu-agent.service") || !slices.Contains(unit["After"], "vindu-agent.service") || len(unit["ExecStartPre"]) == 0 {
		t.Error("a slot is good before its agent has run")
	}
	if !strings.Contains(read(t, filepath.Join(root, "buildroot/board/common/post-build.sh")), `"$units/vindu-agent.service.wants/vindu-good.service"`) {
		t.Error("nobody begins it")
	}
}

// TestRepart: the partition that grows is the data's, and no other: systemd-repart knows partitions by their type alone. With the roots' type it took root-a for the data.
func TestRepart(t *testing.T) {
	kind := regexp.MustCompile(`(?m)^Type=(\S+)$`).FindStringSubmatch(read(t, filepath.Join(root, "buildroot/board/common/overlay/usr/lib/repart.d/50-data.conf")))
	if kind == nil {
		t.Fatal("50-data.conf names no type")
	}
	for _, board := range boards {
		disk := read(t, filepath.Join(root, "buildroot/board", board, "genimage.cfg"))
		types := regexp.MustCompile(`(?m)^\tpartition (\S+) \{\n(?:\t\t.*\n)*?\t\tpartition-type-uuid = "([^"]+)"$`).FindAllStringSubmatch(disk, -1)
		var grows []string
		for _, m := range types {
			if strings.EqualFold(m[2], kind[1]) {
				grows = append(grows, m[1])
			}
		}
		if len(types) != 6 || !slices.Equal(grows, []string{"data"}) {
			t.Errorf("%s: of %d partitions %v grow", board, len(types), grows)
		}
	}
}

// settings are a unit's lines by their keys, their words apart.
func settings(t *testing.T, unit string) map[string][]string {
	t.Helper()
	lines := map[string][]string{}
	for line := range strings.Lines(read(t, filepath.Join(root, "buildroot/package/vindu-agent", unit))) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			lines[key] = append(lines[key], strings.Fields(value)...)
		}
	}
	return lines
}

// TestSerial: a technician reaches every board. The serial port that its configuration names has its driver in the board's kernel, and the agent has leave for it.
func TestSerial(t *testing.T) {
	external := filepath.Join(root, "buildroot")
	unit := settings(t, "vindu-agent.service")["DeviceAllow"]
	for _, board := range boards {
		text, err := valueOf(external, board, "BR2_ROOTFS_OVERLAY")
		if err != nil {
			t.Fatal(err)
		}
		overlays := strings.Fields(strings.ReplaceAll(text, "$(BR2_EXTERNAL_VINDU_PATH)", external))
		var config string
		allowed := slices.Clone(unit)
		for _, overlay := range overlays { // the last one wins, as with Buildroot
			if text, err := os.ReadFile(filepath.Join(overlay, "etc/vindu/agent.toml")); err == nil {
				config = string(text)
			}
			if text, err := os.ReadFile(filepath.Join(overlay, "usr/lib/systemd/system/vindu-agent.service.d/serial.conf")); err == nil {
				for _, m := range regexp.MustCompile(`(?m)^DeviceAllow=(\S+) rw$`).FindAllStringSubmatch(string(text), -1) {
					allowed = append(allowed, m[1])
				}
			}
		}
		port := regexp.MustCompile(`(?m)^\[serial\]\n(?:#.*\n)*port = "([^"]+)"$`).FindStringSubmatch(config)
		if port == nil {
			t.Errorf("%s: nobody can set it up: it has no serial port", board)
			continue
		}
		kernel := map[string]string{}
		files, err := sources[0].files(external, board)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			maps.Copy(kernel, valuesOf(t, read(t, file)))
		}
		drivers, class := []string{"CONFIG_SERIAL_8250", "CONFIG_SERIAL_8250_PCI"}, port[1]
		if strings.HasPrefix(port[1], "/dev/ttyGS") {
			drivers, class = []string{"CONFIG_USB_GADGET", "CONFIG_USB_G_SERIAL"}, "char-ttyGS"
			firmware, _ := os.ReadFile(filepath.Join(external, "board", board, "config.txt"))
			peripheral := kernel["CONFIG_USB_DWC2"] != "" && strings.Contains(string(firmware), "\ndtoverlay=dwc2,dr_mode=peripheral\n")
			if !peripheral && kernel["CONFIG_USB_CHIPIDEA_UDC"] != "y" {
				t.Errorf("%s: nothing makes a USB port of it a device's", board)
			}
		}
		for _, driver := range drivers {
			if kernel[driver] != "y" {
				t.Errorf("%s: %s has no driver: %s is %q", board, port[1], driver, kernel[driver])
			}
		}
		if !slices.Contains(allowed, class) {
			t.Errorf("%s: the agent has no leave for %s: %v", board, class, allowed)
		}
	}
}

// TestSandboxes: what can reach the network runs nothing but itself, makes no code, and asks the kernel for what a service asks.
func TestSandboxes(t *testing.T) {
	for unit, program := range map[string]string{"vindu-agent.service": "/usr/bin/vindu-agent", "vindu-wifi.service": "/usr/sbin/wpa_supplicant"} {
		s := settings(t, unit)
		if !slices.Equal(s["ExecPaths"], []string{program, "/usr/lib"}) || !slices.Equal(s["NoExecPaths"], []string{"/"}) || s["ExecStart"][0] != program || len(s["ExecStartPre"]) > 0 {
			t.Errorf("%s may run %v, and not %v", unit, s["ExecPaths"], s["NoExecPaths"])
		}
		for _, key := range []string{"NoNewPrivileges", "MemoryDenyWriteExecute", "RestrictNamespaces", "RestrictSUIDSGID", "LockPersonality", "ProtectKernelModules", "ProtectHome"} {
			if !slices.Equal(s[key], []string{"yes"}) {
				t.Errorf("%s: %s=%v", unit, key, s[key])
			}
		}
		filter := s["SystemCallFilter"]
		if filter[0] != "@system-service" || !slices.Contains(filter, "~io_uring_setup") {
			t.Errorf("%s: SystemCallFilter=%v", unit, filter)
		}
		if s["ProtectSystem"][0] != "strict" || s["User"][0] != "vindu" || s["SystemCallArchitectures"][0] != "native" || s["LimitCORE"][0] != "0" {
			t.Errorf("%s is not as strict as it was", unit)
		}
	}
}
