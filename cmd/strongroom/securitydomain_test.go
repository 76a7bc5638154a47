package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/securitydomain"
)

// Who waits for an activation sees how it is, and how it ends.
func TestAwaitActivation(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for what, tt := range map[string]struct {
		states []securitydomain.OperationStatus // then gone
		want   string                           // of the error; empty: none
		notes  string
	}{
		"at once": {[]securitydomain.OperationStatus{{Status: "Success", StatusDetails: "done"}}, "", ""},
		"later": {
			[]securitydomain.OperationStatus{{Status: "InProgress", StatusDetails: "wait\x1b[2J."}, {Status: "Success", StatusDetails: "done"}}, "",
			"strongroom: activating: InProgress, wait [2J. Waiting for 0s\n",
		},
		"failed":  {[]securitydomain.OperationStatus{{Status: "Failed", StatusDetails: "broken"}}, "the activation failed: broken", ""},
		"refused": {nil, "gone", ""},
	} {
		var notes strings.Builder
		done, err := awaitActivation(t.Context(), func(context.Context) (securitydomain.OperationStatus, error) {
			if len(tt.states) == 0 {
				return securitydomain.OperationStatus{}, gone
			}
			next := tt.states[0]
			tt.states = tt.states[1:]
			return next, nil
		}, 0, &notes)
		switch {
		case tt.want == "" && (err != nil || done != activation{"Success", "done"}):
			t.Errorf("%s: %v, %v", what, done, err)
		case tt.want != "" && (err == nil || err.Error() != tt.want):
			t.Errorf("%s: %v, want %s", what, err, tt.want)
		case notes.String() != tt.notes:
			t.Errorf("%s: noted %q", what, notes.String())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err := awaitActivation(ctx, func(context.Context) (securitydomain.OperationStatus, error) {
		cancel()
		return securitydomain.OperationStatus{Status: "InProgress"}, nil
	}, time.Hour, new(strings.Builder))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
