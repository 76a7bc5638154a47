package server

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sts"
	"github.com/strongroom/strongroom/internal/wire"
)

// observeRequest puts the outcome of a request on record. The answer leaves only after it has returned without error.
func (s *Server) observeRequest(ctx context.Context, o *wire.Outcome) error {
	// A client that has gone away does not keep its request out of the log.
	ctx = context.WithoutCancel(ctx)
	resource := o.Resource
	if resource == "" {
		var err error
		vaults := s.vaults
		if o.HSM {
			vaults = vaults.ManagedHSMs()
		}
		if resource, err = vaults.VaultResource(ctx, o.Vault); err != nil {
			// The record is worth more than the resource's id in it.
			s.log.ErrorContext(ctx, "the vault of a request could not be read for the audit log", "vault", o.Vault, "error", err)
		}
	}
	rec := audit.Record{
		Time:            o.Start,
		Category:        audit.Event,
		ResourceID:      resource,
		Operation:       o.Operation,
		APIVersion:      o.APIVersion,
		ResultType:      audit.Success,
		ResultSignature: http.StatusText(o.Status),
		Duration:        s.now().Sub(o.Start),
		CallerIP:        o.Address,
		CorrelationID:   audit.CorrelationID(ctx),
		ClientInfo:      o.UserAgent,
		RequestURI:      o.URI,
		ID:              o.Object,
		HTTPStatus:      o.Status,
		Detail:          o.Detail,
	}
	if o.Status >= 400 {
		rec.ResultType = audit.Failure
	}
	if o.Err != nil {
		rec.ResultDescription = o.Err.Error()
	}
	if o.Caller != nil {
		rec.ObjectID, rec.UPN, rec.AppID = o.Caller.ObjectID, o.Caller.UPN, o.Caller.AppID
	}
	if o.Status >= 400 {
		// Who is refused does not decide how much is written about it.
		rec.ClientInfo, rec.RequestURI, rec.ID = cutRefused(rec.ClientInfo), cutRefused(rec.RequestURI), cutRefused(rec.ID)
		rec.Detail = cutRefused(rec.Detail)
	}
	if o.Caller == nil && o.Status < 500 {
		bound := s.flood
		var forged *identity.TokenError
		if errors.As(o.Err, &forged) {
			bound = s.forgeries
		}
		if !bound.refused(o.Address, s.now()) {
			s.metrics.observe(o.Operation, o.Status, rec.Duration)
			return s.audit.Err()
		}
	}
	if err := s.audit.Write(ctx, &rec); err != nil {
		return err
	}
	s.metrics.observe(o.Operation, o.Status, rec.Duration)
	if *s.cfg.Log.Requests && s.log.Enabled(ctx, slog.LevelInfo) {
		attrs := []slog.Attr{
			slog.String("request", rec.CorrelationID), slog.String("operation", o.Operation), slog.String("vault", o.Vault),
			slog.Int("status", o.Status), milliseconds(rec.Duration), slog.String("address", o.Address),
			slog.String("caller", rec.ObjectID),
		}
		if o.Err != nil {
			attrs = append(attrs, slog.String("error", o.Err.Error()))
		}
		if reason := reasonOf(o.Err); reason != "" {
			attrs = append(attrs, slog.String("reason", reason))
		}
		s.log.LogAttrs(ctx, slog.LevelInfo, "request", attrs...)
	}
	return nil
}

// reasonOf is what a refusal says to the log alone.
func reasonOf(err error) string {
	var object *keyvault.Error
	var managed *resource.Error
	switch {
	case errors.As(err, &object):
		return object.Reason
	case errors.As(err, &managed):
		return managed.Reason
	}
	return ""
}

// milliseconds is a duration in the operational log: its unit is in its name, since it is a bare number.
func milliseconds(d time.Duration) slog.Attr {
	return slog.Float64("duration_ms", float64(d.Microseconds())/1000)
}

// observeToken is observeRequest for attempts to get a token.
func (s *Server) observeToken(ctx context.Context, e sts.Event) error {
	ctx = context.WithoutCancel(ctx)
	status := map[string]int{
		sts.ResultSuccess: http.StatusOK, sts.ResultRefused: http.StatusUnauthorized,
		sts.ResultThrottled: http.StatusTooManyRequests,
	}[e.Result]
	if e.Status != 0 {
		status = e.Status
	} else if status == 0 {
		status = http.StatusServiceUnavailable
	}
	rec := audit.Record{
		Time:              e.Time,
		Category:          audit.Event,
		ResourceID:        "/tenants/" + s.directory.TenantID(),
		Operation:         e.Operation,
		APIVersion:        e.Endpoint,
		ResultType:        audit.Success,
		ResultSignature:   http.StatusText(status),
		ResultDescription: describeToken(e),
		Duration:          s.now().Sub(e.Time),
		CorrelationID:     audit.CorrelationID(ctx),
		ObjectID:          e.ObjectID,
		AppID:             e.ClientID,
		ClientInfo:        e.UserAgent,
		ID:                e.Resource,
		HTTPStatus:        status,
	}
	if e.Address.IsValid() {
		rec.CallerIP = e.Address.String()
	}
	if e.Result != sts.ResultSuccess {
		rec.ResultType = audit.Failure
		rec.ClientInfo = cutRefused(rec.ClientInfo)
	}
	if bound := s.boundOf(e); bound != nil && !bound.refused(rec.CallerIP, s.now()) {
		s.metrics.observe(e.Operation, status, rec.Duration)
		return s.audit.Err()
	}
	if err := s.audit.Write(ctx, &rec); err != nil {
		return err
	}
	s.metrics.observe(e.Operation, status, rec.Duration)
	if *s.cfg.Log.Requests {
		attrs := []slog.Attr{
			slog.String("request", rec.CorrelationID), slog.String("operation", e.Operation), slog.String("endpoint", e.Endpoint),
			slog.String("result", e.Result), slog.String("client", e.ClientID), milliseconds(rec.Duration), slog.String("address", rec.CallerIP),
		}
		if e.Reason != "" {
			attrs = append(attrs, slog.String("reason", e.Reason))
		}
		if e.Err != nil {
			attrs = append(attrs, slog.Any("error", e.Err))
		}
		s.log.LogAttrs(ctx, slog.LevelInfo, "token", attrs...)
	}
	return nil
}

// boundOf is what bounds the records of a request to the token service: nothing for tokens that were issued and for faults
// of the server, the bound of forged tokens for sign-ins that failed, and that of requests without a token for the rest.
func (s *Server) boundOf(e sts.Event) *flood {
	switch {
	case e.Operation != sts.OpTokenIssue:
		return s.flood
	case e.Result == sts.ResultRefused, e.Result == sts.ResultThrottled:
		return s.forgeries
	}
	return nil
}

// describeToken tells which credential brought which token, or why none was issued.
func describeToken(e sts.Event) string {
	if e.TokenID == "" {
		return e.Reason
	}
	return "token " + e.TokenID + " for credential " + e.CredentialID
}
