package register

import (
	"context"

	"vindu/protocol"
)

// ByVoucher returns the terminal that a voucher let in, to who knows its secret: a technician's laptop that enrolled a terminal without a
// network. A refusal carries a code: protocol.IdentityVoucher if the voucher is not known or was not used yet, IdentityVoucherUsed if that was long ago or the
// terminal has used another since, LinkRefused with ErrRevoked.
func (r *Register) ByVoucher(ctx context.Context, id protocol.Nonce, secret []byte) (Terminal, error) {
	v, err := proven(ctx, r.store.Read(), id, secret)
	if err != nil {
		return Terminal{}, err
	}
	if v.usedKey == nil {
		return Terminal{}, refuse(protocol.IdentityVoucher, "the voucher has let no terminal in yet")
	}
	if v.spent(r.now()) {
		return Terminal{}, refuse(protocol.IdentityVoucherUsed, "the voucher was used long ago")
	}
	t, err := r.ByTerminal(ctx, protocol.KeyHash(v.usedKey)) // not Admit: who asks has not proven the key
	if err == nil && !t.Revoked.IsZero() {
		err = revokedError(t.Key)
	}
	if err != nil {
		return Terminal{}, err
	}
	return t, nil
}
