package main

import (
	"fmt"
	"strings"
)

// A variable is one to set in somebody's shell, or to remove from it.
type variable struct {
	name, value string
	unset       bool
}

// A shell writes variables in the syntax of one shell.
type shell struct {
	name       string
	set, unset string // formats
	quote      func(string) string
}

func shells() []shell {
	return []shell{
		{name: "sh", set: "export %s=%s\n", unset: "unset %s\n", quote: shellQuote},
		{name: "fish", set: "set -gx %s %s\n", unset: "set -e %s\n", quote: func(s string) string {
			return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
		}},
		{name: "powershell", set: "$env:%s = %s\n", unset: "Remove-Item -ErrorAction Ignore Env:%s\n", quote: func(s string) string {
			return "'" + strings.ReplaceAll(s, "'", "''") + "'"
		}},
	}
}

func (s shell) write(b *strings.Builder, vars []variable) {
	for _, v := range vars {
		if v.unset {
			fmt.Fprintf(b, s.unset, v.name)
			continue
		}
		fmt.Fprintf(b, s.set, v.name, s.quote(v.value))
	}
}

// shellQuote quotes one word for a POSIX shell.
func shellQuote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:@%+,=", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
