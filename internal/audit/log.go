package audit

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Config says where the log goes. Exactly one of Path and Writer is set.
type Config struct {
	// Path is the log's file. It is created with mode 0600, and an existing one is brought to that mode; a symbolic link
	// is refused, and so is a file that another process has open as its log (both on Linux). Rotation is the business of
	// others: rename the file, then call Reopen. A device or named pipe may be named too; it is written as a stream.
	Path string

	// Writer takes the log instead of a file, such as os.Stdout. It is used by one goroutine and is not closed.
	Writer io.Writer

	// SyncEvery is how long written records may stay out of stable storage. Zero: Write returns only after fdatasync, one
	// for all records that wait. Otherwise fdatasync runs in the background at this interval, at most a minute, whenever
	// something new was written: a killed process loses nothing, a power loss at most this much. Streams are not synced.
	SyncEvery time.Duration

	// Timeout bounds each call of Write, Reopen and Close; 5 s if zero. After a write has hung for so long the sink
	// counts as blocked: records are refused at once until the write returns.
	Timeout time.Duration

	// QueueBytes bounds the records that wait to be written; 8 MiB if zero, at least MaxLine.
	QueueBytes int

	// Anchor is the newest head that the caller remembers from OnSync. If it is set and the file does not hold its
	// line, the log says so in an OpGap record and in Warning, and goes on from the later of the two heads, so that no
	// number is given twice and the missing lines still fit if they are found. On a Writer the chain goes on from it.
	Anchor *Head

	// OnSync is told the newest durable head: after each background fdatasync; at most every second if SyncEvery is zero;
	// on a stream, at the same pace, the newest head written; and at Close. Calls never overlap. Writing goes on while it
	// runs, but Close waits for it. It must not call the log's methods other than Err, Head, Warning and Write.
	OnSync func(Head)

	// OnWarning is told what Warning says each time the log has found that changed by itself, and not by Open or Reopen.
	// Calls never overlap. Of the log's methods it may call those that OnSync may.
	OnWarning func(text string)

	// ResourceID is the resource that the log's records about itself name.
	ResourceID string

	// Now is the clock of the records; time.Now if nil.
	Now func() time.Time
}

// Reasons to refuse that need no detail.
var (
	errClosed  = fmt.Errorf("%w: the log is closed", ErrUnavailable)
	errBlocked = fmt.Errorf("%w: the sink is blocked", ErrUnavailable)
)

// A Log writes records. Its methods may be called concurrently.
//
// One goroutine, the writer, owns the sink and the chain. Callers encode their own records and queue them; the writer
// takes the whole queue, numbers and hashes the lines, writes them in few calls and tells each caller. A second
// goroutine, the syncer, runs the background fdatasync and OnSync. A timer, the watchdog, gives up on behalf of all
// waiting callers when the writer hangs. The guard looks whether the file is still where it belongs.
type Log struct {
	cfg   Config
	pace  time.Duration // of the syncer
	pool  sync.Pool     // of *entry
	wake  chan struct{} // capacity 1; sent to by whoever takes idle from true to false
	dirty chan struct{} // capacity 1; tells the syncer that there is something to do

	warning  string        // set by Open only
	beyond   Beyond        // set by Open only
	drained  chan struct{} // closed when the writer has ended
	guarded  chan struct{} // closed when the guard has ended, after the writer
	finished chan struct{} // closed when the syncer has ended, after the guard

	out chunk // the writer's own
	// sink is the writer's own; its file field is also read under mu by the syncer, and replaced under mu.
	sink *sink

	mu         sync.Mutex // guards everything below; never held during a system call
	queue      []*entry   // records that wait for the writer, oldest first
	queueBytes int        // length of the bodies in queue
	queueSince time.Time  // when the oldest of queue came
	spare      []*entry   // storage for the next queue
	inflight   []*entry   // what the writer is about to write and has not answered; nil once given up on
	busySince  time.Time  // since when the writer owes an answer; zero while it is idle
	armed      bool       // the watchdog's timer runs
	watchdog   *time.Timer
	space      chan struct{} // closed when the queue gets room; nil while nobody waits for that
	idle       bool          // the writer sleeps
	blocked    bool          // the writer hangs in the sink
	closed     bool
	retry      bool       // the syncer asks the writer to try again although nobody waits
	calls      []call     // what else the writer is asked to do
	old        []*os.File // rotated away, for the syncer to sync and close
	head       position   // of the last line written
	synced     uint64     // seq of the last line known to be durable
	notes      []Record   // records about ourselves, to be written before all others
	refused    uint64     // records refused since the last OpResumed
	since      time.Time  // of the first of them, by cfg.Now
	err        error      // why the last attempt to write failed
	lost       error      // a failed background sync: records that were acknowledged may not be durable
	moved      bool       // the path does not lead to the file that is written
}

// An entry is a record on its way. Whoever holds its answer may reuse it; an entry whose caller left is garbage.
type entry struct {
	body []byte
	done chan error // capacity 1, so that the answer never waits for the caller
}

// A call asks the writer to write the notes that there are, after opening the file anew if reopen is set.
type call struct {
	reopen bool
	done   chan error // capacity 1
}

// keepBody is the largest body that goes back to the pool.
const keepBody = 4 << 10

// Open opens the log and continues its chain from the last whole line. A torn end is moved to a file beside it. Errors
// are those of opening; that the log cannot be written now is told by Err.
func Open(cfg Config) (*Log, error) {
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	cfg.QueueBytes = cmp.Or(cfg.QueueBytes, 8<<20)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	l := &Log{
		cfg:      cfg,
		pace:     cmp.Or(cfg.SyncEvery, time.Second),
		wake:     make(chan struct{}, 1),
		dirty:    make(chan struct{}, 1),
		drained:  make(chan struct{}),
		guarded:  make(chan struct{}),
		finished: make(chan struct{}),
		sink:     &sink{w: cfg.Writer},
	}
	l.pool.New = func() any { return &entry{body: make([]byte, 0, 1<<10), done: make(chan error, 1)} }
	if cfg.Path != "" {
		s, err := openSink(cfg.Path)
		if err != nil {
			return nil, err
		}
		l.sink = s
	}
	if err := l.resume(); err != nil {
		if l.sink.file != nil {
			l.sink.close()
		}
		return nil, fmt.Errorf("audit: %s: %w", cfg.Path, err)
	}
	l.start()
	return l, nil
}

// check refuses a configuration that cannot be meant.
func (c *Config) check() error {
	switch {
	case (c.Path == "") == (c.Writer == nil):
		return errors.New("audit: either a path or a writer is needed")
	case c.SyncEvery < 0 || c.SyncEvery > time.Minute:
		return errors.New("audit: the sync interval must be between 0 and a minute")
	case c.Timeout < 0:
		return errors.New("audit: the timeout is negative")
	case c.QueueBytes < MaxLine:
		return fmt.Errorf("audit: the queue must hold at least %d bytes", MaxLine)
	}
	if c.Anchor != nil {
		_, err := c.Anchor.sum()
		return err
	}
	return nil
}

// resume finds the place in the chain where the log goes on.
func (l *Log) resume() error {
	anchor := position{}
	if a := l.cfg.Anchor; a != nil {
		s, err := a.sum()
		if err != nil {
			return err
		}
		anchor = position{a.Seq, s}
	}
	if !l.sink.regular { // what a stream has carried cannot be looked at
		l.head = anchor
		return nil
	}
	t, err := readTail(l.sink.file)
	if err != nil {
		return err
	}
	if t.end < t.size {
		saved, err := cutTorn(l.sink, l.cfg.Path, t, l.cfg.Now())
		if err != nil {
			return err
		}
		l.note(OpRecovered, Success, fmt.Sprintf("%d bytes after line %s were no whole record; they were moved to %q",
			t.size-t.end, t.head.head(), saved))
	}
	l.head = t.head
	if l.beyond, err = beyond(l.sink.file, t, anchor); err != nil {
		return err
	}
	return l.checkAnchor(t, anchor)
}

// checkAnchor compares the file with what the caller remembers.
func (l *Log) checkAnchor(t tail, anchor position) error {
	if anchor.seq == 0 {
		return nil
	}
	found, err := reaches(l.sink.file, t.end, anchor)
	if err != nil || found {
		return err
	}
	l.warning = fmt.Sprintf("the log ends at line %s and does not hold line %s, which was written before: "+
		"lines were removed or changed, or the file was moved away", t.head.head(), anchor.head())
	l.note(OpGap, Failure, l.warning)
	if anchor.seq > l.head.seq {
		l.head = anchor
	}
	return nil
}

// start runs the goroutines and writes what Open has to record. It does not insist: what stays unwritten now comes
// before the first record that can be written.
func (l *Log) start() {
	l.mu.Lock()
	l.watchdog = time.AfterFunc(l.cfg.Timeout, l.watch)
	l.armed = true
	l.synced = l.head.seq
	told, notes := l.head.seq, len(l.notes)
	l.mu.Unlock()
	go l.run()
	go l.guard()
	go l.syncer(told)
	if notes > 0 {
		l.ask(call{}) //nolint:errcheck // Err tells
	}
}

// ask has the writer do c, and waits no longer than the timeout.
func (l *Log) ask(c call) error {
	c.done = make(chan error, 1)
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errClosed
	}
	l.calls = append(l.calls, c)
	wake := l.takeIdle()
	l.mu.Unlock()
	if wake {
		l.wake <- struct{}{}
	}
	select {
	case err := <-c.done:
		return err
	case <-time.After(l.cfg.Timeout):
		return errBlocked
	}
}

// Write records r. It returns nil once the line has been handed to the operating system, or is durable if
// Config.SyncEvery is zero. Any error wraps ErrUnavailable. The end of ctx ends the wait but does not take the record
// back; a caller whose client may hang up passes a context without that cancellation. r is not kept.
func (l *Log) Write(ctx context.Context, r *Record) error {
	e := l.pool.Get().(*entry)
	at := r.Time
	if at.IsZero() {
		at = l.cfg.Now()
	}
	e.body = appendRecord(e.body[:0], r, at)
	expired, err := l.enqueue(ctx, e)
	if err != nil {
		return err
	}
	if err := l.await(ctx, e, expired); err != nil {
		return err
	}
	if cap(e.body) <= keepBody {
		l.pool.Put(e)
	}
	return nil
}

// await returns e's answer. Only after a nil may e be used again. expired is nil where the watchdog bounds the wait.
func (l *Log) await(ctx context.Context, e *entry, expired <-chan time.Time) error {
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	case <-expired:
		return l.refuse(errors.New("the queue moves too slowly"))
	}
}

// enqueue hands e to the writer. When it had to wait for room it returns a timer for what is left of the time.
func (l *Log) enqueue(ctx context.Context, e *entry) (expired <-chan time.Time, err error) {
	for {
		space, err := l.tryEnqueue(e)
		if space == nil || err != nil {
			return expired, err
		}
		if expired == nil {
			expired = time.After(l.cfg.Timeout)
		}
		select {
		case <-space:
		case <-ctx.Done():
			return nil, l.refuse(context.Cause(ctx))
		case <-expired:
			return nil, l.refuse(errors.New("the queue is full"))
		}
	}
}

// tryEnqueue queues e, or returns a channel that is closed when there may be room.
func (l *Log) tryEnqueue(e *entry) (<-chan struct{}, error) {
	l.mu.Lock()
	if err := l.down(); err != nil {
		l.countRefused(1)
		l.mu.Unlock()
		return nil, err
	}
	if l.queueBytes+len(e.body) > l.cfg.QueueBytes {
		defer l.mu.Unlock()
		if l.space == nil {
			l.space = make(chan struct{})
		}
		return l.space, nil
	}
	if len(l.queue) == 0 {
		l.queueSince = time.Now()
	}
	l.queue = append(l.queue, e)
	l.queueBytes += len(e.body)
	l.arm()
	wake := l.takeIdle()
	l.mu.Unlock()
	if wake {
		l.wake <- struct{}{}
	}
	return nil, nil
}

// down says why no record is accepted at all, if so. The caller holds mu.
func (l *Log) down() error {
	switch {
	case l.closed:
		return errClosed
	case l.blocked:
		return errBlocked
	case l.lost != nil:
		return fmt.Errorf("%w: records may be lost: %w", ErrUnavailable, l.lost)
	}
	return nil
}

// refuse counts a record that was not taken and makes its error.
func (l *Log) refuse(why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.countRefused(1)
	return fmt.Errorf("%w: %w", ErrUnavailable, why)
}

// countRefused adds to what the next OpResumed record tells. The caller holds mu.
func (l *Log) countRefused(n int) {
	if n > 0 && l.refused == 0 {
		l.since = l.cfg.Now()
	}
	l.refused += uint64(n)
}

// takeIdle reports whether the caller, who holds mu, has to wake the writer after releasing mu.
func (l *Log) takeIdle() bool {
	was := l.idle
	l.idle = false
	return was
}

// note queues a record of the log about itself. The caller holds mu, or is Open.
func (l *Log) note(operation, result, text string) {
	l.notes = append(l.notes, Record{
		Time: l.cfg.Now(), ResourceID: l.cfg.ResourceID, Operation: operation, ResultType: result, ResultDescription: text,
	})
}

// Err is the log's health: nil, or why records cannot be written now, wrapping ErrUnavailable.
func (l *Log) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.down(); err != nil {
		return err
	}
	return l.err
}

// Head is the last line that was written.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head.head()
}

// movedWarning is what Warning says of a file that is not where it belongs.
const movedWarning = "the audit log's file was removed or renamed and records still go to it: send SIGHUP after rotation"

// Warning says what Open found missing with regard to Config.Anchor, and that the file is not at its path any more since
// it was removed or renamed, until Reopen; empty if nothing.
func (l *Log) Warning() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.moved:
		return l.warning
	case l.warning == "":
		return movedWarning
	}
	return l.warning + "; " + movedWarning
}

// Beyond says what Open found in the file after the line that Config.Anchor names; without an anchor, all of it. Of a
// stream it knows nothing.
func (l *Log) Beyond() Beyond { return l.beyond }

// Reopen opens Config.Path anew, after the file was renamed; the chain continues in the new file, whose first line is an
// OpContinued record. The path must lead to no file or to an empty one, or still to the same. If it fails the log stays
// in the old file. It also clears the failure of a background sync. A Writer has nothing to reopen.
func (l *Log) Reopen() error {
	if l.cfg.Path == "" {
		return nil
	}
	return l.ask(call{reopen: true})
}

// Close writes what is queued, syncs, calls OnSync a last time and closes the file. It waits no longer than
// Config.Timeout; what could not be written by then is lost, and its callers have been told so.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	wake := l.takeIdle()
	l.makeRoom()
	l.mu.Unlock()
	if wake {
		l.wake <- struct{}{}
	}
	select {
	case <-l.finished:
	case <-time.After(l.cfg.Timeout):
		l.abandon()
		return errBlocked
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchdog.Stop()
	if l.lost != nil {
		return fmt.Errorf("%w: records may be lost: %w", ErrUnavailable, l.lost)
	}
	return l.err
}

// abandon closes the file under a writer that hangs. That frees it if it hangs in a pipe.
func (l *Log) abandon() {
	l.mu.Lock()
	f := l.sink.file
	l.mu.Unlock()
	if f != nil {
		f.Close()
	}
}
