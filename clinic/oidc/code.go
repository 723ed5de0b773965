package oidc

import "strings"

// asShown is a code as the person was shown it, however the administrator has typed what was read out: in small letters, with spaces or nothing for the dashes, and with a
// nought where there is none (RFC 4648 §6 has neither 0 nor 1).
func asShown(code string) string {
	code = strings.NewReplacer("0", "O", "-", "", "–", "").Replace(strings.ToUpper(strings.Join(strings.Fields(code), "")))
	for n := 4; n < len(code) && n <= 14; n += 5 {
		code = code[:n] + "-" + code[n:]
	}
	return code
}
