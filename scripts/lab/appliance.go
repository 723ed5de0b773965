package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// preparedAppliance is made once for a test process.
var preparedAppliance = sync.OnceValues(func() (applianceSystem, error) { return prepareAppliance(context.Background()) })

// appliance is a terminal's whole disk instead of the initramfs that other guests of the lab run in.
type appliance struct {
	firmware, disk, flash, initrd string
}

// makeAppliance packs the disk of a terminal with this agent, in a folder of the test's.
func makeAppliance(ctx context.Context, work string, options Options, log func(string, ...any)) (*appliance, error) {
	s, err := preparedAppliance()
	if err != nil {
		return nil, err
	}
	log("packages at hand")
	target := filepath.Join(work, "target")
	if err := s.makeRoot(ctx, target, options.appliance); err != nil {
		return nil, fmt.Errorf("make the root: %w", err)
	}
	labguest, err := Build(ctx, "./scripts/lab/labguest", false)
	if err != nil {
		return nil, err
	}
	if err := writeFile(filepath.Join(target, "usr/bin/labguest"), labguest, 0o755); err != nil {
		return nil, err
	}
	for name, program := range options.Programs {
		if err := writeFile(filepath.Join(target, name), program, 0o755); err != nil {
			return nil, err
		}
	}
	log("root's folder made")
	a := &appliance{firmware: s.firmware(), flash: filepath.Join(work, "flash"), initrd: filepath.Join(work, "initrd")}
	if err := s.initramfs(ctx, a.initrd); err != nil {
		return nil, fmt.Errorf("make the initramfs: %w", err)
	}
	info, err := os.Stat(a.initrd)
	if err != nil {
		return nil, err
	}
	arguments := fmt.Sprintf("initrd=%#x,%#x nokaslr kpti=off mitigations=off systemd.journald.forward_to_console=1 systemd.journald.max_level_console=info", initrdAt, info.Size())
	if a.disk, err = s.pack(ctx, target, work, arguments); err != nil {
		return nil, fmt.Errorf("pack the disk: %w", err)
	}
	if err := os.WriteFile(a.flash, environment(nil), 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(a.flash, flashSize); err != nil {
		return nil, err
	}
	log("disk packed")
	return a, os.RemoveAll(target)
}

// arguments are QEMU's, for what the disk begins with.
func (a *appliance) arguments() []string {
	return []string{
		"-bios", a.firmware,
		"-drive", "if=pflash,format=raw,index=1,file=" + a.flash,
		"-device", fmt.Sprintf("loader,file=%s,addr=%#x,force-raw=on", a.initrd, initrdAt),
		"-drive", "if=none,id=disk,format=raw,file=" + a.disk, "-device", "virtio-blk-pci,drive=disk",
		"-device", "i6300esb", "-action", "watchdog=reset", "-action", "reboot=shutdown",
	}
}

// again waits until the machine is reset, by itself, by its watchdog or by [Guest.powerCut], starts it anew and returns when it answers. QEMU ends at a reset instead of going on,
// because its flash has to be mended in between.
func (g *Guest) again(ctx context.Context, limit time.Duration) error {
	select {
	case <-g.ended:
	case <-time.After(limit):
		return fmt.Errorf("the machine was not reset within %s", limit)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	// U-Boot itself resets the machine where the tries of both slots are used up, and gives each three again.
	for resets := 0; ; resets++ {
		g.Log("the machine was reset")
		g.Client.Close() // it has ended, too
		if g.qmp != nil {
			g.qmp.close()
			g.qmp = nil
		}
		if err := g.mendFlash(); err != nil {
			return err
		}
		g.TPM.Restart()
		g.ended = make(chan struct{})
		if err := g.start(system{}, "", g.options); err != nil {
			return err
		}
		err := g.connect(ctx)
		if err == nil {
			g.Log("guest answers")
			return g.SetTime(ctx, time.Now())
		}
		if resets > 0 {
			return err
		}
		select {
		case <-g.ended:
		case <-time.After(5 * time.Second): // QEMU's end comes after that of its connections
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// mendFlash mends the environment in the flash of a machine that does not run.
func (g *Guest) mendFlash() error {
	flash, err := os.OpenFile(g.appliance.flash, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer flash.Close()
	sector := make([]byte, environmentSize)
	if _, err := flash.ReadAt(sector, 0); err != nil {
		return err
	}
	if mend(sector) {
		if _, err := flash.WriteAt(sector, 0); err != nil {
			return err
		}
	}
	return nil
}

// mend puts back what Debian 12's QEMU loses of an environment that U-Boot writes: all but the first 2 KiB, which are zeros (QEMU issue 2343). What has another checksum then
// is left as it is.
func mend(flash []byte) bool {
	mended := slices.Clone(flash)
	clear(mended[2<<10:])
	if _, err := readEnvironment(mended); err != nil {
		return false
	}
	copy(flash, mended)
	return true
}
