package progress

import (
	"fmt"
	"net"
	"os"
	"time"
)

// Supervised tells whether a supervisor wants to be notified, as sd_notify(3) has it.
func Supervised() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// Notify tells the supervisor a state, such as "READY=1" or "WATCHDOG=1". It does nothing where there is none.
func Notify(state string) error {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify the supervisor: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("notify the supervisor: %w", err)
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify the supervisor: %w", err)
	}
	return nil
}
