package oidc

import "testing"

func TestCodeHoweverTyped(t *testing.T) {
	const shown = "23IP-FBMK-Q2OB-5BIZ"
	for name, typed := range map[string]string{
		"as shown": shown, "small": "23ip-fbmk-q2ob-5biz", "spaces": " 23IP FBMK  Q2OB 5BIZ\n", "together": "23ipfbmkq2ob5biz", "a nought": "23IP-FBMK-Q20B-5BIZ", "dashes of print": "23IP–FBMK–Q2OB–5BIZ",
	} {
		if got := asShown(typed); got != shown {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, typed := range map[string]string{"nothing": "", "short": "23I", "long": shown + "-AAAA", "letters of elsewhere": "ÆØÅ-ÆØÅ"} {
		if got := asShown(typed); got == shown {
			t.Errorf("%s: %q", name, got)
		}
	}
}
