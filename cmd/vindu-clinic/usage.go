package main

import (
	"fmt"
	"strings"
)

// synopses say how each command is written. What is not a flag is said nowhere else.
var synopses = map[string]string{
	"init":           `-dir D -organisation "Vestby kommune" -address host:port`,
	"serve":          "-config D/clinic.toml",
	"voucher":        `-dir D -home "Home 17, Storgata"`,
	"person":         `-dir D -person "Anne Berg" -role nurse -duty clinician [-invite]`,
	"sign-in-link":   `-dir D -person "Anne Berg" -role nurse`,
	"revoke":         `-dir D -home "Home 17, Storgata" -reason stolen`,
	"mandate":        `-dir D -person "Kari Nes" -laptop vindu-laptop-1.… [-withdraw]`,
	"decommission":   `-dir D -home "Home 17, Storgata" -reason returned [-withdraw]`,
	"renew-ca":       "-dir D [-root]",
	"audit list":     "-dir D [-n 100]",
	"audit head":     "-dir D > HEAD",
	"audit verify":   "-dir D [HEAD, or the log of a server]",
	"replace-keys":   "-dir D [-before 2026-11-22T10:00:00Z]",
	"grant give":     `-dir D -person "Anne Berg" -role nurse -homes "Home 17, Storgata; Home 18" -reason "on the team"`,
	"grant renew":    `-dir D -person "Anne Berg" -role nurse -reason "still on the team"`,
	"grant withdraw": `-dir D -person "Anne Berg" -role nurse -reason "left the team"`,
	"grant list":     `-dir D [-review, or -person "Anne Berg" -role nurse]`,
	"groups":         `-dir D [-home "Home 17, Storgata" -in "north; ward 3"]`,
	"provider":       `-dir D [-home "Home 17, Storgata" -is "Vestnett"|-none]`,
	"policy show":    `-dir D [-home "Home 17, Storgata"] > RULES`,
	"policy set":     `-dir D [-home "Home 17, Storgata"] RULES`,
	"roll-over":      "-dir D [-public FILE], and then -dir D -finish",
	"waiting":        "-dir D > WAITING",
	"support":        "-dir D > FILE",
	"authorise":      "-key KEY WAITING > SIGNED, or -token COMMAND -public PUBLIC WAITING > SIGNED, or -new KEY > PUBLIC",
	"accept":         "-dir D SIGNED",
}

// usage explains a command: how it is written, what it does, and its flags.
func (c *call) usage(name string) {
	fmt.Fprintln(c.stderr, strings.TrimSpace(c.flags.Name()+" "+synopses[name]))
	if c.summary != "" {
		fmt.Fprintf(c.stderr, "  %s\n", c.summary)
	}
	c.flags.PrintDefaults()
}
