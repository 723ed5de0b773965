package lab

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
)

const (
	// initrdAt is where QEMU puts the lab's initramfs, in the middle of the memory, where neither U-Boot nor the kernel's image is.
	initrdAt = 0x50000000
	// diskSize is what a terminal's storage might have; the image itself has some 1.3 GiB, nearly all of it holes, and its data partition grows into the rest.
	diskSize = 1536 << 20
	// environmentSize is U-Boot's for this board (CONFIG_ENV_SIZE), and a sector of its flash; flashSize is the bank's.
	environmentSize = 256 << 10
	flashSize       = 64 << 20
)

// pack makes the disk from a root's folder, by the project's own post-image.sh, its genimage.cfg and its boot.cmd, with Debian's kernel. work is a folder to work in.
// slotArgs is added to the kernel's command line, which is the only thing that differs.
func (s applianceSystem) pack(ctx context.Context, target, work, slotArgs string) (disk string, err error) {
	root, err := repository()
	if err != nil {
		return "", err
	}
	images, host, board := filepath.Join(work, "images"), filepath.Join(work, "host"), filepath.Join(work, "board")
	for _, folder := range []string{images, filepath.Join(host, "sbin"), filepath.Join(host, "bin")} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return "", err
		}
	}
	for _, tool := range []string{"sbin/veritysetup", "bin/genimage"} {
		path, err := exec.LookPath(filepath.Base(tool))
		if err != nil {
			path = "/usr/sbin/" + filepath.Base(tool)
		}
		if err := os.Symlink(path, filepath.Join(host, tool)); err != nil {
			return "", err
		}
	}
	if _, err := output(ctx, "/", "cp", "-a", filepath.Join(root, "buildroot/board"), board); err != nil {
		return "", err
	}
	slot := filepath.Join(board, "qemu-aarch64", "slot")
	text, err := os.ReadFile(slot)
	if err != nil {
		return "", err
	}
	changed := strings.Replace(string(text), "args=", "args="+slotArgs+" ", 1)
	if err := os.WriteFile(slot, []byte(changed), 0o644); err != nil {
		return "", err
	}
	if _, err := output(ctx, "/", "mksquashfs", target, filepath.Join(images, "rootfs.squashfs"), "-noappend", "-all-root", "-no-progress", "-quiet",
		"-comp", "zstd", "-Xcompression-level", "1"); err != nil {
		return "", err
	}
	if err := os.Link(s.kernel(), filepath.Join(images, "Image")); err != nil {
		if err := copyFile(s.kernel(), filepath.Join(images, "Image"), 0o644); err != nil {
			return "", err
		}
	}
	if _, err := output(ctx, "/", "mkimage", "-A", "arm64", "-T", "script", "-C", "none", "-d", filepath.Join(root, "buildroot/board/common/boot.cmd"), filepath.Join(images, "boot.scr")); err != nil {
		return "", err
	}
	config := filepath.Join(work, "buildroot.config")
	if err := os.WriteFile(config, nil, 0o644); err != nil {
		return "", err
	}
	if _, err := output(ctx, "/", "env", "HOST_DIR="+host, "BR2_CONFIG="+config, filepath.Join(board, "common/post-image.sh"), images, "qemu-aarch64"); err != nil {
		return "", err
	}
	disk = filepath.Join(images, "vindu.img")
	return disk, os.Truncate(disk, diskSize)
}

// initramfs writes what Debian's kernel needs before it has a root.
func (s applianceSystem) initramfs(ctx context.Context, name string) error {
	a := newArchive()
	for _, directory := range []string{"proc", "sys", "dev", "run"} {
		a.directory(directory)
	}
	script, err := applianceFiles.ReadFile("appliance/init.sh")
	if err != nil {
		return err
	}
	a.file("init", 0o755, script)
	busybox, err := os.ReadFile(filepath.Join(s.debian, "usr/bin/busybox"))
	if err != nil {
		return err
	}
	a.file("bin/busybox", 0o755, busybox)
	dmsetup, err := os.ReadFile(filepath.Join(s.debian, "usr/sbin/dmsetup"))
	if err != nil {
		return err
	}
	if err := addProgram(a, s.debian, "sbin/dmsetup", dmsetup); err != nil {
		return err
	}
	files, err := s.closure(ctx, early)
	if err != nil {
		return err
	}
	var order strings.Builder
	for _, file := range files {
		short := strings.TrimSuffix(filepath.Base(file), ".xz")
		plain := exec.CommandContext(ctx, "xz", "-dc", filepath.Join(s.debian, "usr/lib/modules", s.version, file))
		data, err := plain.Output()
		if err != nil {
			return fmt.Errorf("unpack %s: %w", file, err)
		}
		a.file("modules/"+short, 0o644, data)
		order.WriteString(short + "\n")
	}
	a.file("modules/order", 0o644, []byte(order.String()))
	var packed bytes.Buffer
	if err := a.write(&packed); err != nil {
		return err
	}
	return os.WriteFile(name, packed.Bytes(), 0o600)
}

// environment is U-Boot's, as it is in flash: a checksum, and the variables by a zero byte each. Without variables it is what erased flash reads, and U-Boot takes its defaults.
func environment(variables map[string]string) []byte {
	flash := bytes.Repeat([]byte{0xff}, environmentSize)
	if variables == nil {
		return flash
	}
	clear(flash)
	names := make([]string, 0, len(variables))
	for name := range variables {
		names = append(names, name)
	}
	sort.Strings(names)
	at := 4
	for _, name := range names {
		at += copy(flash[at:], name+"="+variables[name]) + 1
	}
	binary.LittleEndian.PutUint32(flash, crc32.ChecksumIEEE(flash[4:]))
	return flash
}

// readEnvironment is the other way round.
func readEnvironment(flash []byte) (map[string]string, error) {
	if len(flash) < environmentSize || binary.LittleEndian.Uint32(flash) != crc32.ChecksumIEEE(flash[4:environmentSize]) {
		return nil, fmt.Errorf("the flash has no environment of U-Boot's")
	}
	variables := map[string]string{}
	for _, entry := range bytes.Split(flash[4:environmentSize], []byte{0}) {
		if len(entry) == 0 {
			break
		}
		name, value, _ := strings.Cut(string(entry), "=")
		variables[name] = value
	}
	return variables, nil
}
