package sts

import (
	"bytes"
	"net/http"
)

// Operations of an Event.
const (
	OpTokenIssue = "TokenIssue"
	OpPublic     = "TokenServiceGet" // what no token can come of: documents, unknown paths, challenges
)

// An answer is held back until its outcome is on record. What is answered here is small.
type answer struct {
	w        http.ResponseWriter
	status   int
	body     bytes.Buffer
	recorded bool // by whoever knew more of it
}

func (a *answer) Header() http.Header { return a.w.Header() }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// recorded lets serve answer and puts the outcome on record before the answer leaves, unless serve has done so itself.
func (s *Server) recorded(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
	a := &answer{w: w}
	serve(a)
	a.WriteHeader(http.StatusOK)
	if !a.recorded {
		event := s.newEvent(r, printable(r.URL.EscapedPath(), maxPath))
		event.Operation, event.Status = OpPublic, a.status
		if a.status >= http.StatusBadRequest {
			event.Result = ResultRefused
		}
		if err := s.cfg.Observe(r.Context(), event); err != nil {
			clear(w.Header())
			http.Error(w, "The request could not be put on record.", http.StatusServiceUnavailable)
			return
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body.Bytes()) // the client has gone, or there is nothing to say
}

// noteRecorded tells that the outcome of the answer that w takes is on record.
func noteRecorded(w http.ResponseWriter) {
	if a, ok := w.(*answer); ok {
		a.recorded = true
	}
}
