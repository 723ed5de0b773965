package lab

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

//go:embed appliance
var applianceFiles embed.FS

// suite is the Debian whose systemd is new enough for the units: they use what systemd 254 brought (RestartMode, RestartSteps), and Debian 12 has 252.
const suite = "arm64/trixie"

// appliancePackages are what the image's defconfig selects, as Debian calls it, with all that those load.
var appliancePackages = strings.Fields(`linux-image-arm64
	systemd systemd-cryptsetup systemd-repart systemd-resolved udev libsystemd0 libsystemd-shared libudev1
	libc6 libcrypt1 libgcc-s1 libstdc++6 libmount1 libblkid1 libuuid1 libselinux1 libpcre2-8-0 libseccomp2 libcap2 libacl1 libattr1 libaudit1 libcap-ng0 libpam0g
	libkmod2 liblz4-1 libzstd1 liblzma5 libssl3t64 libcryptsetup12 libpopt0 libdevmapper1.02.1 libjson-c5 libargon2-1 libapparmor1 libfdisk1 cryptsetup-bin dmsetup
	nftables libnftables1 libnftnl11 libmnl0 libgmp10 libjansson4 libedit2 libtinfo6 libbsd0 libmd0 libxtables12
	e2fsprogs libext2fs2t64 libcom-err2 libss2 mount util-linux libsmartcols1 kmod busybox-static coreutils
	libubootenv-tool libubootenv0.1 libyaml-0-2 zlib1g libbpf1 libelf1t64 libip4tc2 libidn2-0 libunistring5 libgcrypt20 libgpg-error0
	libtss2-esys-3.0.2-0t64 libtss2-mu-4.0.1-0t64 libtss2-rc0t64 libtss2-sys1t64 libtss2-tcti-device0t64
	u-boot-qemu`)

// early are the modules that the root is found by; later those that the system loads, by udev, by name or by the kernel's own asking. Their dependencies come with them.
var (
	early = []string{"virtio_pci", "virtio_blk", "dm-mod", "dm-verity", "squashfs"}
	later = []string{
		"virtio_net", "virtio_gpu", "virtio_console", "virtio_rng", "virtio_input", "evdev", "i6300esb", "vivid", "snd-aloop", "tpm_vtpm_proxy", "ext4",
		"dm-crypt", "dm-flakey", "algif_skcipher", "algif_hash", "aes_ce_blk", "aes_neon_bs", "xts", "sha256_arm64", "loop",
		"nf_tables", "nft_ct", "nft_reject_inet", "nft_limit", "nf_conntrack", "autofs4", "crc32c_generic", "crc32_generic",
	}
)

// applianceSystem is what all appliances of this tree are made of: Debian's packages.
type applianceSystem struct {
	debian  string // unpacked
	version string // of the kernel
	libs    string // what the agent is linked with, unpacked
}

// firmware is U-Boot for QEMU's board, as Debian builds it.
func (s applianceSystem) firmware() string {
	return filepath.Join(s.debian, "usr/lib/u-boot/qemu_arm64/u-boot.bin")
}

func (s applianceSystem) kernel() string {
	return filepath.Join(s.debian, "boot", "vmlinuz-"+s.version)
}

func prepareAppliance(ctx context.Context) (s applianceSystem, err error) {
	root, err := repository()
	if err != nil {
		return s, err
	}
	cache, err := cacheDirectory()
	if err != nil {
		return s, err
	}
	libs, err := output(ctx, root, "scripts/arm", "arm64")
	if err != nil {
		return s, err
	}
	s.libs = strings.TrimSpace(libs)
	debian, err := output(ctx, root, "scripts/debs", append([]string{suite, filepath.Join(cache, "lab-appliance")}, appliancePackages...)...)
	if err != nil {
		return s, err
	}
	s.debian = strings.TrimSpace(debian)
	kernels, err := filepath.Glob(filepath.Join(s.debian, "boot", "vmlinuz-*"))
	if err != nil || len(kernels) != 1 {
		return s, fmt.Errorf("expected one kernel in %s/boot, found %v: delete %s and try again", s.debian, kernels, s.debian)
	}
	s.version = strings.TrimPrefix(filepath.Base(kernels[0]), "vmlinuz-")
	return s, nil
}

// makeRoot makes the root's folder as Buildroot would: packages, the agent and its units, the overlay, and then the project's own post-build.sh. Of the lab there is the test's
// hand and what stands in for hardware; docs/reliability.md says which lines differ.
func (s applianceSystem) makeRoot(ctx context.Context, target string, agent []byte) error {
	root, err := repository()
	if err != nil {
		return err
	}
	for _, folder := range []string{"dev", "proc", "sys", "run", "tmp", "var", "root", "data", "etc", "usr/lib/modules", "usr/lib/udev/rules.d"} {
		if err := os.MkdirAll(filepath.Join(target, folder), 0o755); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib"} {
		if err := os.Symlink(to, filepath.Join(target, link)); err != nil {
			return err
		}
	}
	// What people read is left out, and who could log in: Buildroot's packages bring neither.
	copied := []string{"usr/bin", "usr/sbin", "usr/lib/aarch64-linux-gnu", "usr/lib/systemd", "usr/lib/udev", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d", "usr/lib/sysctl.d",
		"usr/lib/modprobe.d", "usr/lib/ld-linux-aarch64.so.1", "etc/systemd", "etc/udev"}
	for _, name := range copied {
		if _, err := os.Lstat(filepath.Join(s.debian, name)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(target, name)), 0o755); err != nil {
			return err
		}
		if _, err := output(ctx, "/", "cp", "-a", "-T", filepath.Join(s.debian, name), filepath.Join(target, name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"usr/lib/aarch64-linux-gnu/gconv", "usr/lib/systemd/system-generators/systemd-ssh-generator"} {
		if err := os.RemoveAll(filepath.Join(target, name)); err != nil {
			return err
		}
	}
	if err := s.applets(ctx, target); err != nil {
		return err
	}
	if err := s.modules(ctx, target); err != nil {
		return err
	}
	if err := s.libraries(target, agent); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(target, "usr/bin/vindu-agent"), agent, 0o755); err != nil {
		return err
	}
	if err := install(root, target); err != nil {
		return err
	}
	if err := accounts(root, target); err != nil {
		return err
	}
	// Debian's kernel has no driver for the flash that U-Boot's environment is in (fw_env.config): the lab's copies it to a file and back.
	for _, name := range []string{"fw_printenv", "fw_setenv"} {
		real := filepath.Join(target, "usr/lib/lab", name)
		if err := copyFile(filepath.Join(s.debian, "usr/bin", name), real, 0o755); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(target, "usr/bin", name)); err != nil {
			return err
		}
		script := "#!/bin/sh\nset -e\nenv=/run/lab-env.$$\ntrap 'rm -f $env $env.config' EXIT\nlabguest flash read $env\necho $env 0 0x40000 >$env.config\n/usr/lib/lab/" + name + " -c $env.config \"$@\"\n"
		if name == "fw_setenv" {
			script += "labguest flash write $env\n"
		}
		if err := writeFile(filepath.Join(target, "usr/bin", name), []byte(script), 0o755); err != nil {
			return err
		}
	}
	config := filepath.Join(target, "..", "buildroot.config")
	if err := os.WriteFile(config, nil, 0o644); err != nil {
		return err
	}
	_, err = output(ctx, "/", "env", "BR2_CONFIG="+config, filepath.Join(root, "buildroot/board/common/post-build.sh"), target, "qemu-aarch64")
	return err
}

// applets links what Debian has no program for here to busybox, as Buildroot does.
func (s applianceSystem) applets(ctx context.Context, target string) error {
	for _, name := range []string{"sh", "grep", "sed", "awk", "find", "xargs", "netstat", "ip", "ping", "nc", "ps", "top", "vi", "cpio", "tar", "gzip", "hexdump", "diff", "clear", "reset"} {
		path := filepath.Join(target, "usr/bin", name)
		if _, err := os.Lstat(path); err == nil {
			continue
		}
		if err := os.Symlink("busybox", path); err != nil {
			return err
		}
	}
	return nil
}

// modules puts the later ones into the root, with the tables by which they are found.
func (s applianceSystem) modules(ctx context.Context, target string) error {
	files, err := s.closure(ctx, append(slices.Clone(early), later...))
	if err != nil {
		return err
	}
	folder := filepath.Join("usr/lib/modules", s.version)
	for _, name := range append(files, "modules.builtin", "modules.order", "modules.builtin.modinfo") {
		data, err := os.ReadFile(filepath.Join(s.debian, folder, name))
		if err != nil {
			return err
		}
		to := filepath.Join(target, folder, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
	}
	_, err = output(ctx, "/", "depmod", "-b", target, s.version)
	return err
}

// closure are the files of modules and of what they need, those first.
func (s applianceSystem) closure(ctx context.Context, names []string) ([]string, error) {
	folder := filepath.Join(s.debian, "usr/lib/modules", s.version)
	text, err := os.ReadFile(filepath.Join(folder, "modules.dep"))
	if errors.Is(err, fs.ErrNotExist) {
		// depmod looks in lib/modules; Debian 13 has that in usr.
		if err := os.Symlink("usr/lib", filepath.Join(s.debian, "lib")); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if _, err := output(ctx, "/", "depmod", "-b", s.debian, s.version); err != nil {
			return nil, err
		}
		text, err = os.ReadFile(filepath.Join(folder, "modules.dep"))
	}
	if err != nil {
		return nil, fmt.Errorf("read the kernel's module dependencies: %w", err)
	}
	byName := map[string][]string{} // the module's file, and then those that it needs, the nearest first
	for line := range strings.Lines(string(text)) {
		file, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		byName[moduleName(strings.TrimSuffix(file, ".xz"))] = append([]string{file}, strings.Fields(rest)...)
	}
	builtin, err := os.ReadFile(filepath.Join(folder, "modules.builtin"))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(builtin)) {
		byName[moduleName(strings.TrimSpace(line))] = nil
	}
	var files []string
	for _, name := range names {
		all, ok := byName[strings.ReplaceAll(name, "-", "_")]
		if !ok {
			return nil, fmt.Errorf("kernel %s has no module %s", s.version, name)
		}
		for _, file := range slices.Backward(all) {
			if !slices.Contains(files, file) {
				files = append(files, file)
			}
		}
	}
	return files, nil
}

// libraries adds what the agent is linked with and Debian's newer release, which the rest of the root is of, does not have there already.
func (s applianceSystem) libraries(target string, program []byte) error {
	a := newArchive()
	if err := addLibraries(a, s.libs, "vindu-agent", program); err != nil {
		return err
	}
	for name, file := range a.files {
		to := filepath.Join(target, "usr", name)
		if _, err := os.Stat(to); err == nil || file.mode.IsDir() {
			continue
		}
		if err := os.WriteFile(to, file.data, 0o755); err != nil {
			return err
		}
	}
	alsa := newArchive()
	if err := addTree(alsa, s.libs, "usr/share/alsa"); err != nil {
		return err
	}
	for name, file := range alsa.files {
		to := filepath.Join(target, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if file.mode.Type() == fs.ModeSymlink {
			if err := os.Symlink(file.target, to); err != nil {
				return err
			}
		} else if err := os.WriteFile(to, file.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// install does what vindu-agent.mk's installation does, adds the overlay, and the lab's own.
func install(root, target string) error {
	packaged := filepath.Join(root, "buildroot/package/vindu-agent")
	for pattern, folder := range map[string]string{"*.service": "usr/lib/systemd/system", "*.socket": "usr/lib/systemd/system", "*.rules": "usr/lib/udev/rules.d"} {
		files, err := filepath.Glob(filepath.Join(packaged, pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			if err := copyFile(file, filepath.Join(target, folder, filepath.Base(file)), 0o644); err != nil {
				return err
			}
		}
	}
	overlay := filepath.Join(root, "buildroot/board/common/overlay")
	err := filepath.WalkDir(overlay, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		return copyFile(path, filepath.Join(target, strings.TrimPrefix(path, overlay)), info.Mode().Perm())
	})
	if err != nil {
		return err
	}
	units := filepath.Join(target, "etc/systemd/system")
	for _, name := range []string{"lab-hand.service", "lab-tpm.service"} {
		text, err := applianceFiles.ReadFile("appliance/" + name)
		if err != nil {
			return err
		}
		if err := writeFile(filepath.Join(units, name), text, 0o644); err != nil {
			return err
		}
	}
	// What Buildroot enables for the services that its configuration has (systemctl preset-all), and the lab's own.
	for link, to := range map[string]string{
		"sysinit.target.wants/lab-hand.service":            "../lab-hand.service",
		"sysinit.target.wants/lab-tpm.service":             "../lab-tpm.service",
		"multi-user.target.wants/systemd-networkd.service": "/usr/lib/systemd/system/systemd-networkd.service",
		"sockets.target.wants/systemd-networkd.socket":     "/usr/lib/systemd/system/systemd-networkd.socket",
		"sysinit.target.wants/systemd-resolved.service":    "/usr/lib/systemd/system/systemd-resolved.service",
		"default.target":                       "/usr/lib/systemd/system/multi-user.target",
		"../../resolv.conf":                    "../run/systemd/resolve/stub-resolv.conf",
		"systemd-networkd-wait-online.service": "/dev/null",
		"ldconfig.service":                     "/dev/null",
		"proc-sys-fs-binfmt_misc.automount":    "/dev/null",
		"proc-sys-fs-binfmt_misc.mount":        "/dev/null",
		"systemd-remount-fs.service":           "/dev/null",
	} {
		path := filepath.Join(units, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.Symlink(to, path); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		"etc/fstab":         "# as Buildroot's skeleton has it: what is written is in memory\ntmpfs /var tmpfs mode=0755 0 0\n",
		"etc/hostname":      "vindu\n",
		"etc/os-release":    "ID=vindu\nNAME=vindu\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files resolve [!UNAVAIL=return] dns\n",
		"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 vindu\n",
		// The lab's camera and sound, which no bus announces.
		"etc/modules-load.d/lab.conf": "virtio_console\nvivid\nsnd-aloop\ntpm_vtpm_proxy\n",
		"etc/modprobe.d/lab.conf":     "options vivid n_devs=1 node_types=0x1 num_inputs=1 input_types=0x00\noptions snd-aloop index=0\n",
	} {
		if err := writeFile(filepath.Join(target, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// accounts writes the users and groups that Buildroot makes: systemd's, and the agent's by the line in its package.
func accounts(root, target string) error {
	recipe, err := os.ReadFile(filepath.Join(root, "buildroot/package/vindu-agent/vindu-agent.mk"))
	if err != nil {
		return err
	}
	found := regexp.MustCompile(`(?m)^\tvindu -1 vindu -1 \* - - (\S+) `).FindSubmatch(recipe)
	if found == nil {
		return errors.New("vindu-agent.mk makes no user vindu")
	}
	member := strings.Split(string(found[1]), ",")
	passwd := "root:x:0:0:root:/root:/bin/false\nsystemd-network:x:101:101::/:/bin/false\nsystemd-resolve:x:102:102::/:/bin/false\nvindu:x:1000:1000:The terminal's program:/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n"
	shadow := "root:*:::::::\nsystemd-network:*:::::::\nsystemd-resolve:*:::::::\nvindu:*:::::::\nnobody:*:::::::\n"
	group := "root:x:0:\nsystemd-network:x:101:\nsystemd-resolve:x:102:\nsystemd-journal:x:103:\nvindu:x:1000:\nnogroup:x:65534:\n"
	names := []string{"adm", "tty", "disk", "lp", "kmem", "wheel", "cdrom", "dialout", "audio", "video", "render", "input", "kvm", "sgx", "tape", "tss", "utmp", "users", "clock", "lock", "staff"}
	for n, name := range names {
		who := ""
		if slices.Contains(member, name) {
			who = "vindu"
		}
		group += fmt.Sprintf("%s:x:%d:%s\n", name, 200+n, who)
	}
	for _, name := range member {
		if !slices.Contains(names, name) {
			return fmt.Errorf("vindu-agent.mk puts its user into %s, a group that the lab's root has not", name)
		}
	}
	return errors.Join(
		writeFile(filepath.Join(target, "etc/passwd"), []byte(passwd), 0o644),
		writeFile(filepath.Join(target, "etc/shadow"), []byte(shadow), 0o600),
		writeFile(filepath.Join(target, "etc/group"), []byte(group), 0o644),
	)
}

func writeFile(name string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(name, data, mode); err != nil {
		return err
	}
	return os.Chmod(name, mode)
}

func copyFile(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return writeFile(to, data, mode)
}
