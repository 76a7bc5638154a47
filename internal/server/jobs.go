package server

import (
	"context"
	"errors"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/jobs"
	"github.com/strongroom/strongroom/internal/keyvault"
)

// jobs is the work that no request stands behind.
func (s *Server) jobs() []jobs.Job {
	return []jobs.Job{
		{Name: "due", Every: time.Minute, Do: s.dueJob},
		{Name: "rotation", Every: time.Minute, Do: s.rotationJob},
		{Name: "signing keys", Every: 10 * time.Minute, Do: func(ctx context.Context) (time.Time, error) {
			return time.Time{}, s.authority.Tick(ctx, s.now())
		}},
		// After a rotation of the data keys, records move to the new one while nobody waits for them.
		{Name: "reseal", Every: 10 * time.Minute, Do: func(ctx context.Context) (time.Time, error) {
			return time.Time{}, s.db.Reseal(ctx, nil)
		}},
	}
}

// dueJob purges and gives notice of what is due, and removes what purges and dead restores left behind.
func (s *Server) dueJob(ctx context.Context) (time.Time, error) {
	_, acting := s.vaults.ActOnDue(ctx, keyvault.DueOthers)
	collecting := s.vaults.CollectGarbage(ctx)
	next, _, err := s.vaults.NextDue(ctx, keyvault.DueOthers)
	return next, errors.Join(acting, collecting, err)
}

// rotationJob rotates the keys whose policies say so.
func (s *Server) rotationJob(ctx context.Context) (time.Time, error) {
	_, acting := s.vaults.ActOnDue(ctx, keyvault.DueRotations)
	next, _, err := s.vaults.NextDue(ctx, keyvault.DueRotations)
	return next, errors.Join(acting, err)
}

func newRequestID() string { return uuid.NewString() }

// Version is the program's version, from the build.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
