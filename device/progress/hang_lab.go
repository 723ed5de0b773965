//go:build lab

package progress

import (
	"os"
	"path/filepath"
	"strings"
)

// hang has a Root hang for ever, with whatever it holds, whose name is in the file "lab-hang" of the folder that systemd keeps for the program. The file is used up.
func hang(name string) {
	file := filepath.Join(os.Getenv("RUNTIME_DIRECTORY"), "lab-hang")
	if text, err := os.ReadFile(file); err != nil || strings.TrimSpace(string(text)) != name || os.Remove(file) != nil {
		return
	}
	select {}
}
