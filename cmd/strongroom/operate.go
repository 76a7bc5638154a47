package main

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
)

// An operation is a command that asks the running server through its administration socket.
type operation struct {
	where place
	out   output
}

func (o *operation) register(cmd *cobra.Command) {
	o.where.register(cmd)
	o.out.register(cmd)
}

// ask sends in (nil for none), decodes the answer into answer and prints it. With a nil answer nothing is printed.
func (o *operation) ask(cmd *cobra.Command, method, path string, in, answer any, columns ...string) error {
	if err := o.out.check(); err != nil {
		return err
	}
	socket, err := o.where.socket()
	if err != nil {
		return err
	}
	if err := socket.Do(cmd.Context(), method, path, in, answer); err != nil || answer == nil {
		return err
	}
	return o.out.print(cmd.OutOrStdout(), answer, columns...)
}

func newTokenCommand() *cobra.Command {
	return group("token", "Manage the token service", newTokenKeys(), newTokenRotate(), newTokenRevoke())
}

func newTokenKeys() *cobra.Command {
	var o operation
	cmd := &cobra.Command{
		Use: "keys", Short: "List the keys that sign tokens, and from when each does", Example: "  strongroom token keys --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer any
			return o.ask(cmd, http.MethodGet, "/tokens/keys", nil, &answer, "kid", "created", "signsFrom", "active")
		},
	}
	o.register(cmd)
	return cmd
}

func newTokenRotate() *cobra.Command {
	var o operation
	cmd := &cobra.Command{
		Use:   "rotate-key",
		Short: "Make a new key for signing tokens; tokens of the old one stay valid until they expire",
		Long: `Rotate-key makes a new key for signing tokens and publishes it. It signs only from the time that is printed, so that whoever
keeps the published keys for a while knows it by then; if one waits already, that one is printed. The token service rotates its key by
itself from time to time.

Tokens that the old key has signed stay valid until they expire, and it signs until the new one does. If it may be known to
somebody, that is not enough: "strongroom token revoke-key" refuses what it has signed.`,
		Example: "  strongroom token rotate-key",
		RunE: func(cmd *cobra.Command, _ []string) error {
			var answer any
			return o.ask(cmd, http.MethodPost, "/tokens/rotate", nil, &answer, "kid", "signsFrom", "waiting")
		},
	}
	o.register(cmd)
	return cmd
}

func newTokenRevoke() *cobra.Command {
	var (
		o   operation
		kid string
	)
	cmd := &cobra.Command{
		Use:   "revoke-key --kid KID",
		Short: "Withdraw a key for signing tokens; its tokens are refused from then on",
		Long: `Revoke-key withdraws a key for signing tokens that may be known to somebody: tokens that it has signed are refused from then
on, and programs get new ones. If it is the one that signs, a new key takes over at once.`,
		Example: "  strongroom token keys\n  strongroom token revoke-key --kid 4f0c…",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if kid == "" {
				return usagef("--kid is missing: which key? (strongroom token keys lists them)")
			}
			return o.ask(cmd, http.MethodPost, "/tokens/revoke", map[string]string{"kid": kid}, nil)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&kid, "kid", "", "id of the key")
	return cmd
}

func newSealCommand() *cobra.Command {
	return group("seal", "Manage the keys that protect everything at rest", newSealStatus(), newSealRotate(), newSealReseal(),
		newSealChangeRoot(), newSealGenerateKey(), newSealKeyID())
}

func sealAction(use, short, long, method, path string) *cobra.Command {
	var o operation
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Example: "  strongroom seal " + use,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.ask(cmd, method, path, nil, new(admin.Seal), "rootKey", "primary")
		},
	}
	o.register(cmd)
	return cmd
}

func newSealStatus() *cobra.Command {
	return sealAction("status", "Show which keys protect the data", "", http.MethodGet, "/seal")
}

func newSealRotate() *cobra.Command {
	return sealAction("rotate", "Make a new data key; records move to it as they are written, and in the background",
		"", http.MethodPost, "/seal/rotate")
}

func newSealReseal() *cobra.Command {
	return sealAction("reseal", "Move every record to the newest data key now, and forget the old ones",
		"Reseal moves every record to the newest data key now. It may take long; requests are served meanwhile.",
		http.MethodPost, "/seal/reseal")
}
