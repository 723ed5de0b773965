package calls

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"vindu/protocol"
)

// encrypted looks at what an end reports of a call's encryption, and raises an alarm where it was not as it has to be (R8): another suite or profile
// than protocol.CryptoPolicy has, none at all though the call was answered, or a far end that is not the one which the caller's invitation names.
func (r *Records) encrypted(ctx context.Context, tx *sql.Tx, half *protocol.CallRecord, terminal []byte) error {
	flaw := half.Crypto.Flaw()
	if flaw == "" && half.By == protocol.SideTerminal {
		var err error
		if flaw, err = r.farEnd(ctx, tx, half); err != nil {
			return err
		}
	}
	if flaw == "" || r.Alarm == nil || len(terminal) != len(protocol.KeyHash{}) {
		return nil
	}
	_, err := r.Alarm(ctx, tx, protocol.DTLSWeak, protocol.KeyHash(terminal), fmt.Sprintf("call %s, as the %s tells: %s", half.Call, half.By, flaw))
	return err
}

func (r *Records) farEnd(ctx context.Context, tx *sql.Tx, half *protocol.CallRecord) (flaw string, err error) {
	if half.CameraOpen == 0 && half.MicOpen == 0 {
		return "", nil // nothing was sent
	}
	if half.Crypto.Suite == "" || half.Crypto.SRTP == "" {
		return "camera or microphone were open, and no encryption is told", nil
	}
	var proof []byte
	err = tx.QueryRowContext(ctx, "SELECT proof FROM calls WHERE call = ?", half.Call[:]).Scan(&proof)
	if errors.Is(err, sql.ErrNoRows) || err == nil && proof == nil {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	p, inv := new(protocol.CallProof), new(protocol.Invitation)
	if err := protocol.Decode(proof, p); err != nil {
		return "", err
	}
	if p.Assertion == nil {
		return "", nil // the robot's
	}
	if err := protocol.Decode(p.Invitation, inv); err != nil {
		return "", err
	}
	if half.Crypto.Remote != inv.Caller {
		return "the terminal spoke with another certificate than the caller's", nil
	}
	return "", nil
}
