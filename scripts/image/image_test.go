package main

import (
	"bytes"
	"context"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vindu/media/speech/speechtest"
)

const root = "../.."

var update = flag.Bool("update", false, "write configs/*_defconfig")

// TestDefconfigs: a board's defconfig is the common fragment and the board's. No line contradicts another.
func TestDefconfigs(t *testing.T) {
	external := filepath.Join(root, "buildroot")
	for _, board := range boards {
		want, err := defconfigOf(external, board)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(external, "configs", defconfigName(board))
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s is not what its fragments make (go test ./scripts/image -run Defconfigs -update): %v", name, err)
		}
		once(t, name, want)
		for _, fragment := range []string{"board/common/linux.fragment", filepath.Join("board", board, "linux.fragment")} {
			once(t, fragment, read(t, filepath.Join(external, fragment)))
		}
	}
}

func once(t *testing.T, name, text string) {
	t.Helper()
	settings, err := parse(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	seen := map[string]bool{}
	for _, s := range settings {
		if seen[s.symbol] {
			t.Errorf("%s: %s stands there twice", name, s.symbol)
		}
		seen[s.symbol] = true
	}
}

// TestSymbols: every symbol of Buildroot that is used anywhere in buildroot/ is one that its own files declare, by the list that
// was made of them (scripts/image -symbols). A misspelled one would vanish without a word.
func TestSymbols(t *testing.T) {
	known := map[string]string{}
	for line := range strings.Lines(read(t, "testdata/symbols.txt")) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		symbol, place, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || known[symbol] != "" {
			t.Errorf("symbols.txt: %q", line)
		}
		known[symbol] = place
	}
	ours, err := used(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(ours) < 50 {
		t.Fatalf("only %d symbols found: is the test in its place?", len(ours))
	}
	for _, symbol := range ours {
		if known[symbol] == "" {
			t.Errorf("%s is declared by nobody that testdata/symbols.txt knows", symbol)
		}
		delete(known, symbol)
	}
	for symbol := range known {
		t.Errorf("symbols.txt: %s is used nowhere", symbol)
	}
}

// TestSelected: every line of a board's fragments is one that the source's own Kconfig has been seen to keep (testdata/selected.txt, by scripts/image -selected). Kconfig drops what it does not
// know, and what something else keeps from being set, without a word.
func TestSelected(t *testing.T) {
	external := filepath.Join(root, "buildroot")
	kept := map[string]bool{}
	for line := range strings.Lines(read(t, "testdata/selected.txt")) {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(words) != 4 {
			t.Fatalf("selected.txt: %q", line)
		}
		kept[strings.Join(words[:3], " ")] = true
	}
	for _, board := range boards {
		for _, s := range sources {
			files, err := s.files(external, board)
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				settings, err := parse(read(t, file))
				if err != nil || len(settings) == 0 {
					t.Fatalf("%s: %d lines, %v", file, len(settings), err)
				}
				for _, line := range settings {
					want := board + " " + s.version(t, external, board) + " " + line.symbol + "=" + written(line.value)
					if !kept[want] {
						t.Errorf("%s: not seen to survive: %s", file, want)
					}
					delete(kept, want)
				}
			}
		}
	}
	for line := range kept {
		t.Errorf("selected.txt: no fragment says %s", line)
	}
}

// version is the source, with the version, that the list was made with.
func (s source) version(t *testing.T, external, board string) string {
	t.Helper()
	if s.name == "linux" {
		return "linux-6.12.117"
	}
	version, err := ubootOf(external, board)
	if err != nil {
		t.Fatal(err)
	}
	return s.name + "-" + version
}

// TestBootCommands: what U-Boot's script says, each board's U-Boot is configured to understand.
func TestBootCommands(t *testing.T) {
	external := filepath.Join(root, "buildroot")
	needs := map[string]string{
		"env import": "CMD_IMPORTENV", "setexpr": "CMD_SETEXPR", "saveenv": "CMD_SAVEENV", "booti": "CMD_BOOTI", "load": "CMD_FS_GENERIC", "test": "HUSH_PARSER", "for": "HUSH_PARSER", "if": "HUSH_PARSER",
		"elif": "HUSH_PARSER", "else": "HUSH_PARSER", "then": "HUSH_PARSER", "do": "HUSH_PARSER", "done": "HUSH_PARSER", "fi": "HUSH_PARSER", "true": "HUSH_PARSER", "setenv": "", "reset": "", // always there
	}
	said := map[string]bool{}
	for line := range strings.Lines(read(t, filepath.Join(external, "board/common/boot.cmd"))) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for _, command := range regexp.MustCompile(`&&|\|\||;|\b(?:then|else|do|if|elif)\b`).Split(line, -1) {
			words := strings.Fields(command)
			if len(words) == 0 {
				continue
			}
			name := words[0]
			if name == "env" && len(words) > 1 {
				name += " " + words[1]
			}
			if _, ok := needs[name]; !ok {
				t.Errorf("nobody has looked what U-Boot needs for %q", name)
			}
			said[needs[name]] = true
		}
	}
	for _, board := range boards {
		files, err := sources[1].files(external, board)
		if err != nil {
			t.Fatal(err)
		}
		set := map[string]string{}
		for _, file := range files {
			maps.Copy(set, valuesOf(t, read(t, file)))
		}
		for symbol := range said {
			if symbol != "" && set["CONFIG_"+symbol] != "y" {
				t.Errorf("%s: no fragment has CONFIG_%s, which the script needs", board, symbol)
			}
		}
	}
}

// TestRelease: what a terminal in a home must and must not have, by the lines that say so.
func TestRelease(t *testing.T) {
	for _, board := range boards {
		text, err := defconfigOf(filepath.Join(root, "buildroot"), board)
		if err != nil {
			t.Fatal(err)
		}
		values := valuesOf(t, text)
		for symbol, want := range map[string]string{
			"BR2_TARGET_ENABLE_ROOT_LOGIN": "", "BR2_TARGET_GENERIC_GETTY": "", "BR2_TARGET_GENERIC_REMOUNT_ROOTFS_RW": "",
			"BR2_INIT_SYSTEMD": "y", "BR2_TARGET_ROOTFS_SQUASHFS": "y", "BR2_PACKAGE_NFTABLES": "y", "BR2_PACKAGE_CRYPTSETUP": "y", "BR2_PACKAGE_UTIL_LINUX_BINARIES": "y",
			"BR2_PACKAGE_SYSTEMD_TIMESYNCD": "", "BR2_PACKAGE_RAUC": "y", "BR2_PACKAGE_VINDU_AGENT": "y", "BR2_DOWNLOAD_FORCE_CHECK_HASHES": "y",
		} {
			if got, ok := values[symbol]; !ok || got != want {
				t.Errorf("%s: %s is %q, want %q", board, symbol, got, want)
			}
		}
		for symbol := range values {
			for _, never := range []string{"OPENSSH", "DROPBEAR", "PACKAGE_GDB", "STRACE", "TCPDUMP", "ROOT_PASSWD"} {
				if strings.Contains(symbol, never) {
					t.Errorf("%s: %s is for the debug fragment only", board, symbol)
				}
			}
		}
		debug := valuesOf(t, merge(text, read(t, filepath.Join(root, "buildroot/board/common/debug.fragment"))))
		if debug["BR2_TARGET_ENABLE_ROOT_LOGIN"] != "y" || debug["BR2_PACKAGE_VINDU_AGENT"] != "y" || debug["BR2_TARGET_GENERIC_HOSTNAME"] != `"vindu-debug"` {
			t.Errorf("%s: the debug fragment has no effect", board)
		}
	}
	kernel := valuesOf(t, read(t, filepath.Join(root, "buildroot/board/common/linux.fragment")))
	for symbol, want := range map[string]string{
		"CONFIG_SWAP": "", "CONFIG_COREDUMP": "", "CONFIG_DEVMEM": "", "CONFIG_MAGIC_SYSRQ": "", "CONFIG_DM_VERITY": "y", "CONFIG_SECURITY_LANDLOCK": "y", "CONFIG_NF_TABLES": "y",
	} {
		if got, ok := kernel[symbol]; !ok || got != want {
			t.Errorf("the kernel: %s is %q, want %q", symbol, got, want)
		}
	}
}

func valuesOf(t *testing.T, text string) map[string]string {
	t.Helper()
	settings, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, s := range settings {
		values[s.symbol] = s.value
	}
	return values
}

// TestSlots: RAUC, the disk and U-Boot's script are of one mind about the partitions.
func TestSlots(t *testing.T) {
	rauc := read(t, filepath.Join(root, "buildroot/board/common/system.conf.in"))
	script := read(t, filepath.Join(root, "buildroot/board/common/boot.cmd"))
	for _, board := range boards {
		disk := read(t, filepath.Join(root, "buildroot/board", board, "genimage.cfg"))
		var partitions []string
		for line := range strings.Lines(disk) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "partition "); ok && name != "loader {" {
				partitions = append(partitions, strings.TrimSuffix(name, " {"))
			}
		}
		// The script counts: the kernel of slot a is in the second partition, of slot b in the fourth.
		if !slices.Equal(partitions, []string{"firmware", "boot-a", "root-a", "boot-b", "root-b", "data"}) {
			t.Errorf("%s: partitions %v", board, partitions)
		}
		// The tree that a slot brings replaces what the firmware made, overlays and all; one that is named has to be there.
		folder := filepath.Join(root, "buildroot/board", board)
		config, err := os.ReadFile(filepath.Join(folder, "config.txt"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		tree := slotOf(t, board, "dtb")
		_, slot, _ := strings.Cut(disk, "image slot.vfat {")
		slot, _, _ = strings.Cut(slot, "\n}")
		if tree != "" && strings.Contains(string(config), "dtoverlay=") {
			t.Errorf("%s: the slots' device tree %s is without the overlays of config.txt", board, tree)
		}
		if named := strings.Contains(slot, ".dtb"); named != (tree != "") || !strings.Contains(slot, tree) {
			t.Errorf("%s: the slots' device tree is %q, and in them is %s", board, tree, slot)
		}
	}
	for _, name := range []string{"boot-a", "root-a", "boot-b", "root-b"} {
		if !strings.Contains(rauc, "device=/dev/disk/by-partlabel/"+name+"\n") {
			t.Errorf("RAUC does not know %s", name)
		}
	}
	for _, words := range []string{"setenv number 2; else setenv number 4", "PARTLABEL=root-${slot}", "panic_on_corruption", "BOOT_A_LEFT", "BOOT_B_LEFT"} {
		if !strings.Contains(script, words) {
			t.Errorf("the boot script has no %q", words)
		}
	}
	image := read(t, filepath.Join(root, "buildroot/board/common/post-image.sh"))
	for _, name := range []string{"verity_sectors", "verity_blocks", "verity_start", "verity_hash", "verity_salt", "slot_dtb", "slot_args"} {
		if !strings.Contains(image, "\n"+name+"=") || !strings.Contains(script, "${"+name+"}") {
			t.Errorf("%s is not both written by the image and read by the boot script", name)
		}
	}
}

// slotOf returns a value of a board's slots.
func slotOf(t *testing.T, board, key string) string {
	t.Helper()
	for line := range strings.Lines(read(t, filepath.Join(root, "buildroot/board", board, "slot"))) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			return value
		}
	}
	t.Fatalf("%s: its slots have no %s", board, key)
	return ""
}

// TestScripts: shellcheck finds nothing, and none is longer than a person reads.
func TestScripts(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "grep", "-rlE", "^#!/bin/sh", filepath.Join(root, "buildroot")).Output()
	scripts := strings.Fields(string(out))
	if err != nil || len(scripts) < 3 {
		t.Fatalf("find the scripts: %v, %v", scripts, err)
	}
	if out, err := exec.CommandContext(t.Context(), "shellcheck", scripts...).CombinedOutput(); err != nil {
		t.Errorf("shellcheck: %v\n%s", err, out)
	}
	for _, script := range scripts {
		if lines := strings.Count(read(t, script), "\n"); lines >= 60 {
			t.Errorf("%s has %d lines, 60 or more", script, lines)
		}
		if info, err := os.Stat(script); err != nil || info.Mode()&0o111 == 0 {
			t.Errorf("%s cannot be run: %v", script, err)
		}
	}
}

// TestPackage: the package's makefile and this project agree on the module, the program and the linker's stamps, and what is linked is selected.
func TestPackage(t *testing.T) {
	makefile := read(t, filepath.Join(root, "buildroot/package/vindu-agent/vindu-agent.mk"))
	for _, line := range []string{"VINDU_AGENT_GOMOD = vindu", "VINDU_AGENT_BUILD_TARGETS = cmd/vindu-agent", "VINDU_AGENT_TAGS = webrtc1"} {
		if !strings.Contains(makefile, line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	arm := read(t, filepath.Join(root, "scripts/arm"))
	var flags string
	for line := range strings.Lines(makefile) {
		if value, ok := strings.CutPrefix(line, "VINDU_AGENT_LDFLAGS = "); ok {
			flags = strings.TrimSpace(value)
		}
	}
	shell := strings.NewReplacer("$(VINDU_COMMIT)", "$(commit)", "$(VINDU_COMMITTED)", "$(committed)").Replace(flags)
	if flags == "" || !strings.Contains(arm, `-ldflags "`+shell+`"`) {
		t.Errorf("the image and scripts/arm link differently: %q", flags)
	}
	config := read(t, filepath.Join(root, "buildroot/package/vindu-agent/Config.in"))
	for _, library := range []string{"ALSA_LIB", "JPEG", "LIBOPENH264", "LIBVPX", "LIBYUV", "OPUS", "WEBRTC_AUDIO_PROCESSING", "HOST_GO"} {
		if !strings.Contains(config, "\tselect BR2_PACKAGE_"+library) {
			t.Errorf("%s is not selected", library)
		}
	}
	if external := read(t, filepath.Join(root, "buildroot/external.mk")); !strings.Contains(external, "LIBVPX_CONF_ENV += toolchain=arm64-linux-gcc") {
		t.Error("libvpx comes without NEON")
	}
	// What the flags name exists: the linker would leave a misspelled variable out without a word.
	stamps := 0
	for _, word := range strings.Fields(flags) {
		name, _, ok := strings.Cut(word, "=")
		if !ok || name == "-buildid" {
			continue
		}
		stamps++
		folder, variable := "cmd/vindu-agent", strings.TrimPrefix(name, "main.")
		if variable == name {
			dot := strings.LastIndexByte(name, '.')
			folder, variable = strings.TrimPrefix(name[:dot], "vindu/"), name[dot+1:]
		}
		out, err := exec.CommandContext(t.Context(), "grep", "-rqE", "^var "+variable+" string$", filepath.Join(root, folder)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: no such variable in %s: %v %s", name, folder, err, out)
		}
	}
	if stamps != 2 {
		t.Errorf("%d stamps", stamps)
	}
}

func TestCompare(t *testing.T) {
	made := filepath.Join(t.TempDir(), ".config")
	if err := os.WriteFile(made, []byte("# Buildroot\nBR2_A=y\nBR2_B=\"text\"\n# BR2_C is not set\nBR2_D=m\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, wanted, lost string }{
		{"all survive", "BR2_A=y\n# words\n\nBR2_B=\"text\"\n# BR2_C is not set\n", ""},
		{"not wanted, and unknown", "# BR2_X is not set\n", ""},
		{"an empty text", "BR2_X=\"\"\n", ""},
		{"misspelled", "BR2_AA=y\n", "BR2_AA: wanted y, got nothing"},
		{"could not be selected", "BR2_C=y\n", "BR2_C: wanted y, got not set"},
		{"another text", "BR2_B=\"word\"\n", "BR2_B: wanted"},
		{"a module instead", "BR2_D=y\n", "got m"},
		{"selected by another", "# BR2_A is not set\n", "wanted not set, got y"},
		{"not a setting", "BR2_A\n", "sets nothing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := compare(test.wanted, made)
			if test.lost == "" && err != nil || test.lost != "" && (err == nil || !strings.Contains(err.Error(), test.lost)) {
				t.Errorf("got %v", err)
			}
		})
	}
	if err := compare("BR2_A=y\n", made+"none"); err == nil {
		t.Error("no error without a configuration")
	}
}

// TestRun drives make with a tree that stands in for Buildroot: it makes the configuration of all lines but those that it is told to forget.
func TestRun(t *testing.T) {
	tree := t.TempDir()
	makefile := "export BR2_VERSION := 2026.02.9\ndefconfig:\n\tgrep -v '$(FORGET)' $(BR2_DEFCONFIG) >$(O)/.config\n" +
		"%-configure:\n\tmkdir -p $(O)/build/$*-1\n\tcat $(BR2_EXTERNAL)/board/common/*.fragment $(BR2_EXTERNAL)/board/imx8mm/*.fragment | grep -v '$(FORGET)' >$(O)/build/$*-1/.config\n" +
		"all:\n\techo all is built\n"
	if err := os.WriteFile(filepath.Join(tree, "Makefile"), []byte(makefile), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	o := options{buildroot: tree, board: "imx8mm", out: filepath.Join(t.TempDir(), "out"), check: true}
	for _, test := range []struct {
		name, forget, says string
		change             func(*options)
	}{
		{"survives", "no such line", "survives", nil},
		{"a line is lost", "BR2_PACKAGE_RAUC", "BR2_PACKAGE_RAUC: wanted y", nil},
		{"the debug image's line is lost", "DROPBEAR", "BR2_PACKAGE_DROPBEAR: wanted y", func(o *options) { o.debug = true }},
		{"everything", "no such line", "all is built", func(o *options) { o.check = false }},
		{"a line of the kernel's is lost", "USB_VIDEO_CLASS", "CONFIG_USB_VIDEO_CLASS: wanted y", func(o *options) { o.check = false }},
		{"a line of U-Boot's is lost", "REDUNDAND", "CONFIG_SYS_REDUNDAND_ENVIRONMENT: wanted y", func(o *options) { o.check = false }},
		{"no such board", "-", "qemu-aarch64", func(o *options) { o.board = "pc" }},
		{"no tree", "-", "BUILDROOT=", func(o *options) { o.buildroot = "" }},
		{"not a tree", "-", "not a Buildroot tree", func(o *options) { o.buildroot = t.TempDir() }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("FORGET", test.forget)
			o := o
			if test.change != nil {
				test.change(&o)
			}
			var out bytes.Buffer
			err := run(t.Context(), o, &out)
			said := out.String()
			if err != nil {
				said = err.Error()
			}
			if (err == nil) != (test.says == "survives" || test.says == "all is built") || !strings.Contains(said, test.says) {
				t.Errorf("%v, %s", err, said)
			}
		})
	}
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, "Makefile"), []byte("export BR2_VERSION := 2025.02\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), options{buildroot: old, board: "imx8mm"}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "2025.02") {
		t.Errorf("an old tree: %v", err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestVoice: the image starts the synthesiser as the tests do, for the agent alone, with nothing.
func TestVoice(t *testing.T) {
	folder := filepath.Join(root, "buildroot/package/vindu-agent")
	unit, socket := read(t, filepath.Join(folder, "vindu-voice@.service")), read(t, filepath.Join(folder, "vindu-voice.socket"))
	for _, line := range []string{
		"ExecStart=/usr/bin/" + strings.Join(speechtest.Command, " "), "StandardInput=socket", "StandardOutput=socket", "DynamicUser=yes", "PrivateNetwork=yes", "PrivateDevices=yes",
		"ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=", "RestrictAddressFamilies=none", "MemoryMax=64M", "RuntimeMaxSec=10",
	} {
		if !strings.Contains(unit, "\n"+line+"\n") {
			t.Errorf("vindu-voice@.service has no line %q", line)
		}
	}
	for _, line := range []string{"Accept=yes", "SocketUser=vindu", "SocketMode=0600"} {
		if !strings.Contains(socket, "\n"+line+"\n") {
			t.Errorf("vindu-voice.socket has no line %q", line)
		}
	}
}
