package keyvault

import (
	"fmt"
	"io"
)

// The types with secrets inside answer for themselves to fmt. It asks their members too, as a rule, but not where a verb
// does not fit: "%s" of a []*Secret prints what the pointers point to, whatever the methods of its members say.

// Format keeps the text out of every verb, those for numbers too.
func (SecretValue) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// Format keeps the key out of whatever prints the parameters.
func (ImportKeyParams) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// Format keeps the value out of whatever prints the parameters.
func (SetSecretParams) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// Format names the version and keeps its value out of whatever prints it.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.Name+"/"+s.Version) }

// Format keeps the key of backups out of whatever prints the service.
func (s *Service) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "keyvault.Service") }
