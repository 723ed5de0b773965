package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"vindu/media/codec"
	"vindu/media/sound/alsa"
	"vindu/media/yuv"
)

// version is the release that this source will become.
const version = "0.1.0"

// commit is the source's commit, in full, with "-dirty" behind it if the source was changed since. The linker sets it (scripts/arm, the image's
// package), since Go's own stamp is left out where builds have to be the same from any folder.
var commit string

// software names this program and its version, as presence, health and answers carry it.
func software() string { return named(revision()) }

func named(revision string) string {
	if len(revision) < 12 {
		return "vindu-agent " + version
	}
	revision, changed := strings.CutSuffix(revision, "-dirty")
	name := "vindu-agent " + version + "+" + revision[:min(12, len(revision))]
	if changed {
		name += "-dirty"
	}
	return name
}

// revision is the commit that the linker or Go has stamped, or nothing.
func revision() string {
	if commit != "" {
		return commit
	}
	var revision, dirty string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "-dirty"
			}
		}
	}
	if revision == "" {
		return ""
	}
	return revision + dirty
}

// about is all that this program is made of, one thing to a line (R31).
func about() string {
	var b strings.Builder
	fmt.Fprintln(&b, software())
	if r := revision(); r != "" {
		fmt.Fprintln(&b, "commit", r)
	}
	fmt.Fprintln(&b, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
	for _, library := range append(append(codec.Libraries(), yuv.Libraries()...), alsa.Library()) {
		fmt.Fprintln(&b, library)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Replace != nil {
				module = module.Replace
			}
			fmt.Fprintln(&b, module.Path, module.Version)
		}
	}
	return b.String()
}
