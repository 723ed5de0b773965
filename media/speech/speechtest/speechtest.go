// Package speechtest is a speech synthesiser at a socket, for tests, the lab and the demo: for each connection it starts espeak-ng as the terminal's image does by
// systemd (vindu-voice@.service), with the connection as its standard input and output. Here it has no sandbox.
package speechtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sync"
	"time"
)

// Command is what speaks, as in vindu-voice@.service.
var Command = []string{"espeak-ng", "-m", "-b", "1", "--stdin", "--stdout"}

// limit is how long one text may take.
const limit = 10 * time.Second

// Serve speaks what comes by l, until ctx ends; then it returns nil and l is closed.
func Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("wait for a text: %w", err)
		}
		wg.Go(func() {
			defer conn.Close()
			_ = speak(ctx, conn) // a text that cannot be said ends the connection
		})
	}
}

func speak(ctx context.Context, conn net.Conn) error {
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("no Unix socket")
	}
	file, err := unix.File()
	if err != nil {
		return err
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, Command[0], Command[1:]...)
	cmd.Stdin, cmd.Stdout = file, file
	return cmd.Run()
}
