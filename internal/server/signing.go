package server

import (
	"net/http"
	"time"

	"github.com/strongroom/strongroom/internal/identity"
)

// A signingKey is a key of the token service as the administration socket shows it.
type signingKey struct {
	KeyID     string    `json:"kid"`
	Created   time.Time `json:"created"`
	SignsFrom time.Time `json:"signsFrom"`
	Active    bool      `json:"active"` // signs now
}

// A rotation is the outcome of asking for the next key.
type rotation struct {
	KeyID     string    `json:"kid"`
	SignsFrom time.Time `json:"signsFrom"`
	Waiting   bool      `json:"waiting"` // it was published before, and no other was made
}

func (s *Server) listSigningKeys(r *http.Request) (any, error) {
	keys, err := s.authority.SigningKeys(r.Context())
	out := make([]signingKey, 0, len(keys))
	for _, k := range keys {
		out = append(out, signingKey(k))
	}
	return out, err
}

func (s *Server) rotateSigningKey(r *http.Request) (any, error) {
	var (
		next    identity.SigningKey
		waiting bool
	)
	err := s.operated(r.Context(), "TokenSigningKeyRotate", "", func() (err error) {
		next, waiting, err = s.authority.RotateSigningKey(r.Context())
		return err
	})
	return rotation{next.KeyID, next.SignsFrom, waiting}, err
}

func (s *Server) revokeSigningKey(r *http.Request) (any, error) {
	var in struct {
		KeyID string `json:"kid"`
	}
	if err := decodeAdmin(r, &in); err != nil {
		return nil, err
	}
	return nil, s.operated(r.Context(), "TokenSigningKeyRevoke", in.KeyID, func() error {
		return s.authority.RevokeSigningKey(r.Context(), in.KeyID)
	})
}
