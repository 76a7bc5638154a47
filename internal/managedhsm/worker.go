package managedhsm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// Times of leases. A server that has died loses its jobs to others, or to itself after its restart, when the lease is over.
const (
	leaseTime  = 45 * time.Second
	renewEvery = 15 * time.Second
	lookEvery  = 10 * time.Second
	stageTime  = time.Hour        // for which a content that is being made is safe from the collector
	retryAfter = 15 * time.Second // times the number of attempts
	sweepEvery = time.Hour
)

// maxWorkers is how many jobs one server runs at a time. Most of their time they wait for storage.
const maxWorkers = 8

// maxJobTime is how long a job may take until it has changed something. What takes longer has storage that keeps it waiting, and others
// wait for its place.
const maxJobTime = 24 * time.Hour

// Run runs jobs until ctx ends: those that are started here at once, those of servers that died when their leases are over. Failures
// of the store go to report, and are tried again.
func (s *Service) Run(ctx context.Context, report func(error)) {
	var wg sync.WaitGroup
	defer wg.Wait()
	places := make(chan struct{}, maxWorkers)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var swept time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.woken:
		}
		timer.Reset(lookEvery)
		if time.Since(swept) >= sweepEvery {
			swept = time.Now()
			if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
				report(err)
			}
		}
		for places <- struct{}{}; ; places <- struct{}{} {
			l, err := s.take(ctx)
			if err != nil && ctx.Err() == nil {
				report(err)
			}
			if l == nil {
				<-places
				break
			}
			wg.Go(func() {
				defer func() { <-places; s.wake() }()
				if err := l.run(ctx); err != nil && ctx.Err() == nil {
					report(fmt.Errorf("job %s of the managed HSM %s: %w", l.job, l.hsm, err))
				}
			})
		}
	}
}

// wake has Run look for jobs now.
func (s *Service) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// A lease is the right to work on a job.
type lease struct {
	s                 *Service
	hsm, vaultID, job string
	owner             string
}

// errLeaseLost ends the work on a job that somebody else has, or that is over.
var errLeaseLost = errors.New("managedhsm: the job is another server's by now")

// take takes the oldest job that nobody works on, nil if there is none.
func (s *Service) take(ctx context.Context) (*lease, error) {
	var waiting []*lease
	started := make(map[string]int64) // by job
	err := s.db.View(ctx, func(r store.Reader) error {
		waiting = nil
		return record.Good(r, runningPrefix, store.PrefixEnd(runningPrefix), func(e store.Entry) error {
			running, err := record.Decode[runningRecord](e.Value)
			if err != nil {
				return nil // verify tells
			}
			vaultID := strings.TrimPrefix(e.Key, runningPrefix)
			rec, err := record.Get[jobRecord](r, jobKey(vaultID, running.Job))
			if err == nil && rec.Work != nil && rec.Work.Until <= s.now().Unix() {
				waiting = append(waiting, &lease{s: s, hsm: rec.HSM, vaultID: vaultID, job: rec.ID, owner: record.NewID()})
				started[rec.ID] = rec.Started
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(waiting, func(a, b *lease) int { return cmp.Compare(started[a.job], started[b.job]) })
	for _, l := range waiting {
		err := s.db.Update(ctx, func(tx store.Tx) error {
			rec, err := record.Get[jobRecord](tx, jobKey(l.vaultID, l.job))
			if err != nil {
				return err
			}
			if rec.Work == nil || rec.Work.Until > s.now().Unix() {
				return errLeaseLost
			}
			rec.Work.Owner, rec.Work.Until = l.owner, s.now().Add(leaseTime).Unix()
			return record.Put(tx, jobKey(l.vaultID, l.job), rec)
		})
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, errLeaseLost) && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	return nil, nil
}

// update changes a job in a transaction, as long as it is this lease's. v is the HSM as it is now.
func (l *lease) update(ctx context.Context, fn func(tx store.Tx, rec *jobRecord, v *resource.Vault) error) error {
	return l.updateAny(ctx, func(tx store.Tx, rec *jobRecord, v *resource.Vault) error {
		if err := l.checkLive(v); err != nil {
			return err
		}
		return fn(tx, rec, v)
	})
}

// updateAny is update for an HSM that may be deleted; v is nil if it is gone for good.
func (l *lease) updateAny(ctx context.Context, fn func(tx store.Tx, rec *jobRecord, v *resource.Vault) error) error {
	return l.s.db.Update(ctx, func(tx store.Tx) error {
		rec, v, err := l.load(tx)
		if err != nil {
			return err
		}
		rec.Work.Until = l.s.now().Add(leaseTime).Unix()
		if err := fn(tx, rec, v); err != nil {
			return err
		}
		return record.Put(tx, jobKey(l.vaultID, l.job), rec)
	})
}

// load returns the job, if it is this lease's, and its HSM, which may be deleted, and is nil if it is gone for good.
func (l *lease) load(r store.Reader) (*jobRecord, *resource.Vault, error) {
	rec, err := record.Get[jobRecord](r, jobKey(l.vaultID, l.job))
	if errors.Is(err, store.ErrNotFound) || err == nil && (rec.Work == nil || rec.Work.Owner != l.owner) {
		return nil, nil, errLeaseLost
	}
	if err != nil {
		return nil, nil, err
	}
	v, err := l.s.resources.LoadAnyHSM(r, l.hsm)
	if errors.Is(err, resource.ErrVaultNotFound) || err == nil && v.ID != l.vaultID {
		return rec, nil, nil
	}
	return rec, v, err
}

// loadLive is load for an HSM that has to be there.
func (l *lease) loadLive(r store.Reader) (*jobRecord, *resource.Vault, error) {
	rec, v, err := l.load(r)
	if err == nil {
		err = l.checkLive(v)
	}
	return rec, v, err
}

func (l *lease) checkLive(v *resource.Vault) error {
	if v == nil || v.Deleted != 0 {
		return &keyvault.Error{Kind: keyvault.VaultNotFound, Message: fmt.Sprintf("The managed HSM %s was deleted in the meantime.", l.hsm)}
	}
	return nil
}

// errTooLong ends a job that takes too long.
var errTooLong = &backup.Error{Code: backup.Timeout, Message: "The job took longer than a day and was given up. Look why the storage keeps it waiting."}

func (s *Service) overdue(rec *jobRecord) bool {
	return !rec.Work.Swapped && s.now().Sub(time.Unix(rec.Started, 0)) > maxJobTime
}

// errNotRecorded is a job that has ended, and whose end could not be put on record.
var errNotRecorded = errors.New("managedhsm: the end of the job could not be put on record")

// run does the job's work while it keeps the lease, and puts its end on record.
func (l *lease) run(ctx context.Context) error {
	working, stop := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.renew(working, stop) })
	err := safely(func() error { return l.work(audit.WithCorrelationID(working, l.job)) })
	stop(nil)
	wg.Wait()
	switch {
	case err == nil, errors.Is(err, errNotRecorded):
		return err
	case errors.Is(err, errLeaseLost), errors.Is(context.Cause(working), errLeaseLost):
		return nil
	case errors.Is(context.Cause(working), errTooLong):
		err = errTooLong
	case ctx.Err() != nil:
		return l.giveBack(context.WithoutCancel(ctx))
	}
	return l.failed(ctx, err)
}

// safely makes a panic a failure of the job, and not the end of a server that would take the job again after its restart.
func safely(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value of a panic may hold anything, so it is not told; the stack names the place.
			err = fmt.Errorf("a panic of type %T at %s", p, debug.Stack())
		}
	}()
	return do()
}

// renew keeps the lease until ctx ends, or ends the work when it is lost.
func (l *lease) renew(ctx context.Context, stop context.CancelCauseFunc) {
	ticker := time.NewTicker(renewEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := l.update(ctx, func(tx store.Tx, rec *jobRecord, _ *resource.Vault) error {
			if l.s.overdue(rec) {
				return errTooLong
			}
			return l.keepContent(tx, rec)
		})
		if errors.Is(err, errLeaseLost) || errors.Is(err, errTooLong) {
			stop(err)
			return
		}
	}
}

// keepContent keeps what a full restore has written so far from the collector.
func (l *lease) keepContent(tx store.Tx, rec *jobRecord) error {
	if rec.Kind != FullRestore || rec.Work.Swapped {
		return nil
	}
	return keyvault.KeepContent(tx, rec.Work.Content, l.s.now().Add(stageTime))
}

// giveBack lets the next server, or this one after its restart, go on at once.
func (l *lease) giveBack(ctx context.Context) error {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := l.updateAny(ctx, func(_ store.Tx, rec *jobRecord, _ *resource.Vault) error {
		rec.Work.Owner, rec.Work.Until = "", 0
		return nil
	})
	if errors.Is(err, errLeaseLost) {
		return nil
	}
	return err
}

// failed ends a job that cannot be done, or leaves it for another attempt. It returns what is a fault of this server's.
func (l *lease) failed(ctx context.Context, cause error) error {
	code, text, again := reason(cause)
	var (
		work  jobWork
		v     *resource.Vault
		ended bool
	)
	err := l.updateAny(ctx, func(tx store.Tx, rec *jobRecord, now *resource.Vault) error {
		work, v = *rec.Work, now
		if ended = !rec.goesOn(v, again); ended {
			return l.giveUp(tx, rec, v, code, text)
		}
		rec.Work.Attempts++
		rec.Details = text + " It will be tried again."
		rec.Work.Owner, rec.Work.Until = "", l.s.now().Add(time.Duration(min(rec.Work.Attempts, maxAttempts))*retryAfter).Unix()
		return nil
	})
	switch {
	case errors.Is(err, errLeaseLost):
		return nil
	case err != nil:
		return errors.Join(cause, err)
	case !ended:
		return fault(cause)
	}
	l.tidy(ctx, work)
	return errors.Join(fault(cause), l.put(ctx, v, audit.Failure, text))
}

// goesOn tells whether a job that could not be done now may be done later. After the exchange of contents nothing leads back, so a
// restore waits even for a deleted HSM, until that is recovered or purged.
func (r *jobRecord) goesOn(v *resource.Vault, again bool) bool {
	if v == nil {
		return false
	}
	return r.Work.Swapped || again && !r.Kind.checks() && r.Work.Attempts+1 < maxAttempts
}

// giveUp ends a job that has failed, and leaves the HSM as it was before.
func (l *lease) giveUp(tx store.Tx, rec *jobRecord, v *resource.Vault, code, text string) error {
	var err error
	if rec.Kind == FullRestore && !rec.Work.Swapped {
		err = l.dropContent(tx, rec)
		if v != nil && v.Restoring == rec.ID {
			err = errors.Join(err, v.SetRestoring(tx, ""))
		}
	}
	rec.Code, rec.Details = code, text
	return errors.Join(err, l.end(tx, rec, Failed))
}

// dropContent leaves to the collector what a full restore has written so far, if that has not taken it already.
func (l *lease) dropContent(tx store.Tx, rec *jobRecord) error {
	err := keyvault.KeepContent(tx, rec.Work.Content, l.s.now())
	var taken *keyvault.Error
	if errors.As(err, &taken) {
		return nil
	}
	return err
}

// tidy removes what a failed backup left in the container, as far as that can be done.
func (l *lease) tidy(ctx context.Context, work jobWork) {
	if work.Writer == nil {
		return
	}
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_ = safely(func() error { // nobody takes what is left for a backup
		c, err := l.s.container(&work)
		if err == nil {
			err = c.Discard(ctx, *work.Writer)
		}
		return err
	})
}

// reason is what people are told of a failure, and whether the same may succeed later.
func reason(err error) (code, text string, again bool) {
	var (
		storage *backup.Error
		refused *keyvault.Error
		other   *resource.Error
	)
	switch {
	case errors.As(err, &storage):
		return storage.Code, storage.Message, storage.Temporary
	case errors.As(err, &refused):
		return codeOf(refused.Kind), refused.Message, false
	case errors.As(err, &other):
		return backup.Conflict, other.Message, false
	}
	return "InternalError", "The server failed. Its log says how.", true
}

func codeOf(kind keyvault.Kind) string {
	switch kind {
	case keyvault.Conflict:
		return backup.Conflict
	case keyvault.VaultNotFound:
		return backup.NotFound
	}
	return backup.BadParameter
}

// fault returns err if it is none that people are told of.
func fault(err error) error {
	if code, _, _ := reason(err); code == "InternalError" {
		return err
	}
	return nil
}

// end ends a job, for the caller to store. What it needed is gone with that.
func (l *lease) end(tx store.Tx, rec *jobRecord, state JobState) error {
	rec.State, rec.Ended, rec.Work = state, l.s.now().Unix(), nil
	return tx.Delete(runningKey(l.vaultID))
}

// put puts the end of a job on record, although the server may be stopping. The error is an errNotRecorded.
func (l *lease) put(ctx context.Context, v *resource.Vault, result, text string) error {
	if err := l.write(context.WithoutCancel(ctx), v, result, text); err != nil {
		return fmt.Errorf("%w: %w", errNotRecorded, err)
	}
	return nil
}

func (l *lease) write(ctx context.Context, v *resource.Vault, result, text string) error {
	var rec *jobRecord
	err := l.s.db.View(ctx, func(r store.Reader) (err error) {
		rec, err = record.Get[jobRecord](r, jobKey(l.vaultID, l.job))
		return err
	})
	if err != nil {
		return err
	}
	line := audit.Record{
		Time: l.s.now(), Category: audit.Event, Operation: operations[rec.Kind].Name, ObjectID: rec.ObjectID, UPN: rec.UPN, AppID: rec.AppID,
		CorrelationID: rec.Correlation, ID: rec.ID, ResultType: result, ResultSignature: "OK", Detail: rec.Address,
	}
	if v != nil {
		line.ResourceID = v.Resource()
	}
	if result != audit.Success {
		line.ResultSignature, line.ResultDescription = "Failed", text
	}
	return l.s.audit.Write(ctx, &line)
}

// sweep drops jobs that ended long ago.
func (s *Service) sweep(ctx context.Context) error {
	var old []string
	err := s.db.View(ctx, func(r store.Reader) error {
		old = nil
		return record.Good(r, jobRecordPrefix, store.PrefixEnd(jobRecordPrefix), func(e store.Entry) error {
			rec, err := record.Decode[jobRecord](e.Value)
			if err == nil && rec.Ended != 0 && rec.Ended < s.now().Add(-keepJobs).Unix() {
				old = append(old, e.Key)
			}
			return nil
		})
	})
	const batch = 50
	for ; err == nil && len(old) > 0; old = old[min(batch, len(old)):] {
		err = s.db.Update(ctx, func(tx store.Tx) error {
			for _, key := range old[:min(batch, len(old))] {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}
